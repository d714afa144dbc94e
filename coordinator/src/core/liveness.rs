//! Whether a run moves, whatever keeps it from it: tasks are out and slots are free, and yet nothing is delivered
//! and no result comes.

use std::time::Duration;

/// What lasts is told again at longer and longer intervals, up to this.
const LONGEST: Duration = Duration::from_secs(3600);

/// A run at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Sign {
    /// Results that have come so far, whatever became of them.
    pub results: u64,
    /// Tasks that are out.
    pub out: u64,
    /// Those that a living worker says it works on.
    pub in_work: u64,
    /// Whether the queue server can be reached and slots serve the job: what is wrong otherwise is told elsewhere.
    pub could_move: bool,
}

/// What is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tell {
    /// Nothing has moved for so long.
    Stalled(Duration),
    /// It moves again after so long.
    Moves(Duration),
}

/// Watches over a run. Times count from its begin.
#[derive(Debug, Clone)]
pub struct Liveness {
    patience: Duration,
    results: u64,
    /// The last sign of life.
    moved_at: Duration,
    /// When a stall is told next, once it was told.
    next: Option<Duration>,
    now: Duration,
}

impl Liveness {
    /// Of a run that begins: what takes longer than `patience` is a stall.
    pub fn new(patience: Duration) -> Self {
        Self { patience, results: 0, moved_at: Duration::ZERO, next: None, now: Duration::ZERO }
    }

    /// Takes the run as it is now.
    pub fn look(&mut self, now: Duration, sign: &Sign) -> Option<Tell> {
        self.now = now;
        let moves = sign.results != self.results || sign.in_work > 0 || sign.out == 0;
        self.results = sign.results;
        if moves {
            let since = std::mem::replace(&mut self.moved_at, now);
            return self.next.take().map(|_| Tell::Moves(now.saturating_sub(since)));
        }
        let quiet = now.saturating_sub(self.moved_at);
        if quiet < self.patience || !sign.could_move || self.next.is_some_and(|next| now < next) {
            return None;
        }
        self.next = Some(now + quiet.min(LONGEST));
        Some(Tell::Stalled(quiet))
    }

    /// How long nothing has moved, when that is too long for figures of the time before to mean anything.
    pub fn quiet(&self) -> Option<Duration> {
        let quiet = self.now.saturating_sub(self.moved_at);
        (quiet >= self.patience).then_some(quiet)
    }

    /// How long the run has been stalled, if that was told.
    pub fn stalled(&self) -> Option<Duration> {
        self.next.and_then(|_| self.quiet())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STILL: Sign = Sign { results: 3, out: 2, in_work: 0, could_move: true };

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn watch() -> Liveness {
        let mut watch = Liveness::new(at(90));
        assert_eq!(watch.look(at(10), &STILL), None, "results came since the begin");
        watch
    }

    #[test]
    fn a_stall_is_told_after_a_while_and_then_more_and_more_seldom_until_it_ends() {
        let mut watch = watch();
        assert_eq!((watch.look(at(99), &STILL), watch.stalled()), (None, None));
        let told: Vec<_> = (100..10_000).filter(|second| watch.look(at(*second), &STILL).is_some()).collect();
        assert_eq!(told[..5], [100, 190, 370, 730, 1450]);
        assert!(told.windows(2).all(|pair| pair[1] - pair[0] <= LONGEST.as_secs()));
        assert_eq!(watch.stalled(), Some(at(9_989)));
        assert_eq!(watch.look(at(10_000), &Sign { results: 4, ..STILL }), Some(Tell::Moves(at(9_990))));
        assert_eq!((watch.look(at(10_001), &Sign { results: 4, ..STILL }), watch.quiet()), (None, None));
    }

    #[test]
    fn what_a_living_worker_works_on_is_no_stall_however_long_it_takes() {
        let mut watch = watch();
        let works = Sign { in_work: 1, ..STILL };
        assert!((11..10_000).all(|second| watch.look(at(second), &works).is_none()));
        assert_eq!(watch.quiet(), None);
    }

    #[test]
    fn what_is_told_elsewhere_is_no_stall_but_old_figures_mean_nothing() {
        let mut watch = watch();
        let away = Sign { could_move: false, ..STILL };
        assert!((11..200).all(|second| watch.look(at(second), &away).is_none()));
        assert_eq!((watch.stalled(), watch.quiet()), (None, Some(at(189))));
        let nothing = Sign { out: 0, ..STILL };
        assert_eq!((watch.look(at(200), &nothing), watch.quiet()), (None, None));
    }

    proptest! {
        #[test]
        fn every_stall_is_told_within_the_patience_and_every_end_of_one_once(
            signs in prop::collection::vec((1..40_u64, 0..3_u64, 0..2_u64, 0..2_u64), 1..80),
        ) {
            let (mut watch, mut now, mut results) = (Liveness::new(at(90)), Duration::ZERO, 0);
            let (mut quiet_since, mut is_told) = (Duration::ZERO, false);
            for (seconds, came, in_work, out) in signs {
                now += at(seconds);
                results += came / 2;
                let moves = came / 2 > 0 || in_work > 0 || out == 0;
                match watch.look(now, &Sign { results, out, in_work, could_move: true }) {
                    Some(Tell::Stalled(_)) => {
                        prop_assert!(!moves && now.saturating_sub(quiet_since) >= at(90));
                        is_told = true;
                    }
                    Some(Tell::Moves(_)) => {
                        prop_assert!(moves && is_told);
                        is_told = false;
                    }
                    None => {
                        let is_silence_right = !moves && (is_told || now.saturating_sub(quiet_since) < at(90));
                        prop_assert!(is_silence_right || moves && !is_told);
                    }
                }
                if moves {
                    quiet_since = now;
                }
            }
        }
    }
}
