//! The wall clock as messages and files show it: the only place that asks for it. Nothing that waits does: a
//! wall clock jumps.

use jiff::{SignedDuration, Timestamp};

use crate::failpoint;

/// This moment.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn now() -> Timestamp {
    let offset = failpoint::clock_offset().unwrap_or(SignedDuration::ZERO);
    Timestamp::now().saturating_add(offset).unwrap_or(Timestamp::MAX)
}

/// Milliseconds since 1970 UTC.
pub fn unix_millis() -> u64 {
    u64::try_from(now().as_millisecond()).unwrap_or_default()
}
