//! Times as the Python program writes them: local, without a zone, with microseconds.

use jiff::Zoned;
use jiff::tz::TimeZone;
use qa_shared::clock;

/// This moment, see [`naive_local`].
pub fn now() -> String {
    naive_local(&clock::now().to_zoned(TimeZone::system()))
}

/// What Python's `datetime.now().isoformat()` gives, such as `2026-11-23T03:11:32.979477`.
pub fn naive_local(now: &Zoned) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%S%.6f").to_string()
}

/// A time in milliseconds since 1970 UTC, see [`naive_local`]; empty where it is none.
pub fn local_time(unix_ms: u64) -> String {
    let time = i64::try_from(unix_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    time.map(|time| naive_local(&time.to_zoned(TimeZone::system()))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_time_has_no_zone_and_six_decimals() {
        let time: jiff::Zoned = "2026-11-23T03:11:32.97[Europe/Berlin]".parse().unwrap();
        assert_eq!(super::naive_local(&time), "2026-11-23T03:11:32.970000");
    }
}
