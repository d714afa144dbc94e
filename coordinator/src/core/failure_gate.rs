//! `--max-failure-rate`: when a run burns money on failures, stop it.

use std::collections::VecDeque;

/// A run stops when its first `first` results all failed, or when more than `percent` of the last `last`
/// results failed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FailureLimits {
    /// This many failures from the very start are enough.
    pub first: usize,
    /// How many results the rate looks back on.
    pub last: usize,
    /// The highest share of failures that is allowed, in percent.
    pub percent: f64,
}

impl Default for FailureLimits {
    fn default() -> Self {
        Self { first: 10, last: 100, percent: 20.0 }
    }
}

/// Watches the results of one run.
#[derive(Debug, Clone)]
pub(super) struct FailureGate {
    limits: Option<FailureLimits>,
    recent: VecDeque<bool>,
    failed_recently: usize,
    seen: usize,
}

impl FailureGate {
    pub(super) fn new(limits: Option<FailureLimits>) -> Self {
        Self { limits, recent: VecDeque::new(), failed_recently: 0, seen: 0 }
    }

    /// Takes one result; tells the figures when the run must stop.
    pub(super) fn observe(&mut self, failed: bool) -> Option<String> {
        let limits = self.limits?;
        self.seen += 1;
        self.recent.push_back(failed);
        self.failed_recently += usize::from(failed);
        if self.recent.len() > limits.last && self.recent.pop_front() == Some(true) {
            self.failed_recently -= 1;
        }
        if self.seen == limits.first && self.failed_recently == limits.first {
            return Some(format!("the first {} chunks all failed", limits.first));
        }
        let rate = self.failed_recently as f64 / limits.last as f64 * 100.0;
        if self.recent.len() == limits.last && rate > limits.percent {
            return Some(format!(
                "{} of the last {} chunks failed, {} % are allowed",
                self.failed_recently, limits.last, limits.percent
            ));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_failures_at_the_start_stop_the_run() {
        let mut gate = FailureGate::new(Some(FailureLimits::default()));
        for _ in 0..9 {
            assert_eq!(gate.observe(true), None);
        }
        assert!(gate.observe(true).unwrap().contains("first 10"));
    }

    #[test]
    fn a_success_among_the_first_ten_lets_the_run_go_on() {
        let mut gate = FailureGate::new(Some(FailureLimits::default()));
        assert_eq!(gate.observe(false), None);
        for _ in 0..50 {
            assert_eq!(gate.observe(true), None);
        }
    }

    #[test]
    fn the_rate_looks_back_on_the_last_hundred_only() {
        let mut gate = FailureGate::new(Some(FailureLimits::default()));
        for _ in 0..1000 {
            assert_eq!(gate.observe(false), None);
        }
        for _ in 0..20 {
            assert_eq!(gate.observe(true), None);
        }
        assert!(gate.observe(true).unwrap().contains("21 of the last 100"));
    }

    #[test]
    fn without_limits_nothing_stops() {
        let mut gate = FailureGate::new(None);
        assert!((0..500).all(|_| gate.observe(true).is_none()));
    }
}
