//! How fast results come, for the rate, the ETA and the window.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use qa_shared::model::Usage;

/// The rate looks back this far.
const WINDOW: Duration = Duration::from_secs(300);
/// A rate over less than this says little.
const LEAST: Duration = Duration::from_secs(2);

/// Counts results by the second, from the moment on at which somebody could work.
#[derive(Debug, Clone)]
pub(crate) struct Speed {
    begun: Option<Instant>,
    seconds: VecDeque<(Instant, u64, u64)>,
}

impl Speed {
    pub(crate) fn new() -> Self {
        Self { begun: None, seconds: VecDeque::new() }
    }

    /// A worker serves the job: time counts from the first such moment on.
    pub(crate) fn worker_is_there(&mut self) {
        self.worker_is_there_at(Instant::now());
    }

    fn worker_is_there_at(&mut self, now: Instant) {
        self.begun.get_or_insert(now);
    }

    /// A result came.
    pub(crate) fn finished(&mut self, usage: Usage) {
        self.finished_at(Instant::now(), usage.output_tokens);
    }

    fn finished_at(&mut self, now: Instant, tokens: u64) {
        // Its worker may have come and gone without being seen.
        self.worker_is_there_at(now);
        match self.seconds.back_mut() {
            Some((second, chunks, sum)) if now.duration_since(*second) < Duration::from_secs(1) => {
                *chunks += 1;
                *sum += tokens;
            }
            _ => self.seconds.push_back((now, 1, tokens)),
        }
        while self.seconds.front().is_some_and(|(second, ..)| now.duration_since(*second) > WINDOW) {
            self.seconds.pop_front();
        }
    }

    /// Results per second over the last minutes.
    pub(crate) fn chunks_per_second(&self) -> f64 {
        self.rates_at(Instant::now()).0
    }

    /// Generated tokens per second over the last minutes.
    pub(crate) fn tokens_per_second(&self) -> f64 {
        self.rates_at(Instant::now()).1
    }

    fn rates_at(&self, now: Instant) -> (f64, f64) {
        let Some(begun) = self.begun else { return (0.0, 0.0) };
        let horizon = now.checked_sub(WINDOW).unwrap_or(begun).max(begun);
        let elapsed = now.duration_since(horizon).max(LEAST).as_secs_f64();
        let recent = self.seconds.iter().filter(|(second, ..)| *second >= horizon);
        let (chunks, tokens) = recent.fold((0, 0), |(c, t), (_, chunks, tokens)| (c + chunks, t + tokens));
        (chunks as f64 / elapsed, tokens as f64 / elapsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_minutes() {
        let begun = Instant::now();
        let mut speed = Speed::new();
        speed.worker_is_there_at(begun);
        for second in 0..600 {
            speed.finished_at(begun + Duration::from_secs(second), if second < 300 { 0 } else { 50 });
        }
        let (chunks, tokens) = speed.rates_at(begun + Duration::from_secs(600));
        assert!((chunks - 1.0).abs() < 0.02, "{chunks}");
        assert!((tokens - 50.0).abs() < 1.0, "{tokens}");
    }

    #[test]
    fn time_before_the_first_worker_does_not_count() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut speed = Speed::new();
        assert!(speed.rates_at(at(200)).0 < f64::EPSILON);
        speed.worker_is_there_at(at(200));
        for second in 201..=210 {
            speed.finished_at(at(second), 50);
            speed.worker_is_there_at(at(second));
        }
        let (chunks, tokens) = speed.rates_at(at(210));
        assert!((chunks - 1.0).abs() < 0.01 && (tokens - 50.0).abs() < 0.5, "{chunks} {tokens}");
    }

    #[test]
    fn a_stall_lowers_the_rate() {
        let begun = Instant::now();
        let mut speed = Speed::new();
        speed.worker_is_there_at(begun);
        speed.finished_at(begun + Duration::from_secs(1), 10);
        assert!(speed.rates_at(begun + Duration::from_secs(100)).0 < 0.011);
        assert!(speed.rates_at(begun + Duration::from_secs(1000)).0 < f64::EPSILON);
    }
}
