//! How long to wait before trying again: an iterator of durations, so that tests compare lists.

use std::time::Duration;

use rand::RngExt;

/// Exponential back-off: each duration is at most twice the one before, never over the limit. It never ends.
#[derive(Debug, Clone)]
pub struct Backoff {
    next: Duration,
    limit: Duration,
}

impl Backoff {
    /// Starts with `first` and doubles up to `limit`.
    pub fn new(first: Duration, limit: Duration) -> Self {
        Self { next: first.min(limit), limit }
    }
}

impl Iterator for Backoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let current = self.next;
        self.next = (current * 2).min(self.limit);
        Some(current)
    }
}

/// Spreads a wait over `[wait / 2, wait]`, so that many processes do not return at the same moment.
pub fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(rand::rng().random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit() {
        let waits: Vec<_> =
            Backoff::new(Duration::from_millis(100), Duration::from_millis(500)).take(5).collect();
        assert_eq!(waits, [100, 200, 400, 500, 500].map(Duration::from_millis));
    }

    #[test]
    fn jitter_stays_within_half() {
        for _ in 0..100 {
            let wait = jittered(Duration::from_secs(1));
            assert!((Duration::from_millis(500)..=Duration::from_secs(1)).contains(&wait));
        }
    }
}
