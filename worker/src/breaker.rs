//! A circuit breaker: a server or account in trouble gets no tasks for a while, then one to try, then all.
//!
//! PURE: time and chance are arguments. It must not know what a server is asked, nor what the trouble is.

use std::time::Duration;

use qa_shared::backoff::Backoff;

/// The first pause; each one that follows without a success between is twice as long.
const FIRST: Duration = Duration::from_secs(1);
/// The longest pause that nobody asked for.
const LONGEST: Duration = Duration::from_secs(60);
/// A trial that came to nothing, because there was no task, may be repeated after this long: a slot waits for a
/// task for five seconds.
const TRIAL: Duration = Duration::from_secs(6);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Tasks flow.
    Closed,
    /// None may be taken before this moment.
    Open { until: Duration },
    /// One is being tried.
    HalfOpen { next_trial: Duration },
}

/// What a slot that wants a task may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Take one.
    Go,
    /// Ask again at this moment.
    Wait {
        /// In the time that the caller counts.
        until: Duration,
    },
}

/// The breaker of one server or account. All times are durations since any fixed moment.
#[derive(Debug, Clone)]
pub struct Breaker {
    state: State,
    backoff: Backoff,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { state: State::Closed, backoff: Backoff::new(FIRST, LONGEST) }
    }
}

impl Breaker {
    /// Whether a task may be taken. Of the first slots that ask after a pause, one gets through.
    pub fn gate(&mut self, now: Duration) -> Gate {
        match self.state {
            State::Closed => Gate::Go,
            State::Open { until } if now < until => Gate::Wait { until },
            State::HalfOpen { next_trial } if now < next_trial => Gate::Wait { until: next_trial },
            State::Open { .. } | State::HalfOpen { .. } => {
                self.state = State::HalfOpen { next_trial: now + TRIAL };
                Gate::Go
            }
        }
    }

    /// Whether no task may be taken at the moment.
    pub fn is_open(&self, now: Duration) -> bool {
        matches!(self.state, State::Open { until } if now < until)
    }

    /// The trial goes on: a model call takes its time, and nobody else shall try meanwhile.
    pub fn trial_runs(&mut self, now: Duration, at_most: Duration) {
        if let State::HalfOpen { next_trial } = &mut self.state {
            *next_trial = now + at_most;
        }
    }

    /// An answer came: everything flows again.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// There was trouble: opens for `asked_for` or the back-off's next pause, whichever is longer, of which
    /// `chance` (0 to 1) takes a part, so that many workers do not return at once. Returns for how long;
    /// nothing if it was open already for about as long.
    pub fn trip(&mut self, now: Duration, asked_for: Option<Duration>, chance: f64) -> Option<Duration> {
        if let State::Open { until } = self.state
            && now < until
        {
            let longer = asked_for.filter(|asked| *asked > until.saturating_sub(now) * 2)?;
            self.state = State::Open { until: now + longer };
            return Some(longer);
        }
        let pause = self.backoff.next().unwrap_or(LONGEST).mul_f64(1.0 - chance.clamp(0.0, 1.0) / 2.0);
        let pause = pause.max(asked_for.unwrap_or_default());
        self.state = State::Open { until: now + pause };
        Some(pause)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn after_a_pause_one_slot_tries_and_its_success_lets_all_in() {
        let mut breaker = Breaker::default();
        assert_eq!(breaker.gate(s(0)), Gate::Go);
        assert_eq!(breaker.trip(s(0), Some(s(10)), 0.0), Some(s(10)));
        assert_eq!(breaker.trip(s(1), None, 0.0), None, "it is open already");
        assert_eq!(breaker.gate(s(9)), Gate::Wait { until: s(10) });
        assert_eq!(breaker.gate(s(10)), Gate::Go);
        breaker.trial_runs(s(10), s(600));
        assert_eq!(breaker.gate(s(11)), Gate::Wait { until: s(610) });
        breaker.succeeded();
        assert_eq!(breaker.gate(s(12)), Gate::Go);
    }

    #[test]
    fn worse_news_keep_it_open_for_longer() {
        let mut breaker = Breaker::default();
        assert_eq!(breaker.trip(s(0), None, 0.0), Some(s(1)));
        assert_eq!(breaker.trip(s(0), Some(s(300)), 0.0), Some(s(300)));
        assert_eq!(breaker.trip(s(1), Some(s(300)), 0.0), None, "the other slots meet the same");
        assert_eq!(breaker.gate(s(299)), Gate::Wait { until: s(300) });
    }

    #[test]
    fn a_trial_without_a_task_is_repeated() {
        let mut breaker = Breaker::default();
        breaker.trip(s(0), None, 0.0);
        assert_eq!(breaker.gate(s(5)), Gate::Go);
        assert_eq!(breaker.gate(s(5)), Gate::Wait { until: s(11) });
        assert_eq!(breaker.gate(s(11)), Gate::Go);
    }

    #[test]
    fn pauses_grow_until_something_succeeds() {
        let mut breaker = Breaker::default();
        let mut now = s(0);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let pause = breaker.trip(now, None, 0.0).unwrap();
            pauses.push(pause.as_secs());
            now += pause;
            assert_eq!(breaker.gate(now), Gate::Go);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        breaker.succeeded();
        assert_eq!(breaker.trip(now, None, 1.0), Some(Duration::from_millis(500)));
    }

    proptest! {
        #[test]
        fn it_always_lets_somebody_in_again(
            events in proptest::collection::vec((0_u8..4, 0_u64..100), 0..60),
        ) {
            let (mut breaker, mut now) = (Breaker::default(), s(0));
            for (event, seconds) in events {
                now += s(seconds);
                match event {
                    0 => drop(breaker.trip(now, None, 0.5)),
                    1 => drop(breaker.trip(now, Some(s(seconds)), 0.5)),
                    2 => breaker.succeeded(),
                    _ => drop(breaker.gate(now)),
                }
            }
            prop_assert_eq!(breaker.gate(now + s(200)), Gate::Go);
        }
    }
}
