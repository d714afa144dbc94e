//! What the fake servers have in common: a life on a port that can end and begin again, connections that
//! can be broken, a script of faults, notes for the test, and what fake models say.
//!
//! It must not know any service's API: bodies and errors are made where the service is.

pub(crate) mod answer;
pub(crate) mod life;
pub(crate) mod notes;
pub(crate) mod script;
pub(crate) mod socket;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long tests wait for something before they are called hung.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Passes the time. `tokio::time::sleep` of no time takes a millisecond all the same, for each line of an answer.
pub(crate) async fn pause(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}
