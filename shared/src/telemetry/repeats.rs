//! Which repeating warnings are shown: the first few of a minute; the rest are counted.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lines of one kind that a window shows.
const SHOWN: u32 = 10;
/// A window.
const WINDOW: Duration = Duration::from_secs(60);
/// Kinds that are told apart; beyond that all are shown.
const KINDS: usize = 1000;

/// What becomes of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is shown, together with how many of its kind were left out before it.
    Show { left_out: u64 },
    /// It is counted only.
    LeaveOut,
}

#[derive(Debug)]
struct Kind {
    began: Duration,
    shown: u32,
    left_out: u64,
}

/// The kinds of lines of the last window. Times are counted from any fixed moment.
#[derive(Debug, Default)]
struct Repeats(HashMap<u64, Kind>);

impl Repeats {
    fn judge(&mut self, kind: u64, now: Duration) -> Verdict {
        if self.0.len() >= KINDS && !self.0.contains_key(&kind) {
            self.0.retain(|_, kind| kind.left_out > 0 || now.saturating_sub(kind.began) < WINDOW);
            if self.0.len() >= KINDS {
                return Verdict::Show { left_out: 0 };
            }
        }
        let kind = self.0.entry(kind).or_insert(Kind { began: now, shown: 0, left_out: 0 });
        if now.saturating_sub(kind.began) >= WINDOW {
            let left_out = kind.left_out;
            *kind = Kind { began: now, shown: 1, left_out: 0 };
            return Verdict::Show { left_out };
        }
        if kind.shown == SHOWN {
            kind.left_out += 1;
            return Verdict::LeaveOut;
        }
        kind.shown += 1;
        Verdict::Show { left_out: 0 }
    }

    fn left_out(&mut self) -> u64 {
        self.0.values_mut().map(|kind| std::mem::take(&mut kind.left_out)).sum()
    }
}

static REPEATS: LazyLock<(Instant, Mutex<Repeats>)> =
    LazyLock::new(|| (Instant::now(), Mutex::new(Repeats::default())));

/// What becomes of a line of this process. Lines of one kind are those with one place in the code and one
/// message; what else they hold may differ.
pub(super) fn judge(place: &impl Hash, message: &str) -> Verdict {
    let mut hasher = DefaultHasher::new();
    place.hash(&mut hasher);
    message.hash(&mut hasher);
    let (began, repeats) = &*REPEATS;
    repeats.lock().unwrap_or_else(PoisonError::into_inner).judge(hasher.finish(), began.elapsed())
}

/// How many lines of this process were left out and not told yet.
pub(super) fn left_out() -> u64 {
    REPEATS.1.lock().unwrap_or_else(PoisonError::into_inner).left_out()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOW: Verdict = Verdict::Show { left_out: 0 };

    #[test]
    fn a_window_shows_the_first_few_of_a_kind_and_the_next_one_tells_of_the_rest() {
        let mut repeats = Repeats::default();
        let at = Duration::from_secs;
        for second in 0..u64::from(SHOWN) {
            assert_eq!(repeats.judge(1, at(second)), SHOW);
        }
        for second in 10..25 {
            assert_eq!(repeats.judge(1, at(second)), Verdict::LeaveOut);
        }
        assert_eq!(repeats.judge(2, at(25)), SHOW, "another kind is not touched");
        assert_eq!(repeats.judge(1, at(60)), Verdict::Show { left_out: 15 });
        assert_eq!(repeats.judge(1, at(61)), SHOW);
        assert_eq!(repeats.left_out(), 0);
    }

    #[test]
    fn what_was_left_out_last_is_told_once() {
        let mut repeats = Repeats::default();
        for _ in 0..SHOWN + 3 {
            repeats.judge(1, Duration::ZERO);
        }
        assert_eq!((repeats.left_out(), repeats.left_out()), (3, 0));
    }

    #[test]
    fn so_many_kinds_that_they_are_not_told_apart_are_all_shown() {
        let mut repeats = Repeats::default();
        for kind in 0..10_000 {
            assert_eq!(repeats.judge(kind, Duration::ZERO), SHOW);
        }
        assert!(repeats.0.len() <= KINDS);
        assert_eq!(repeats.judge(20_000, WINDOW), SHOW);
        assert_eq!(repeats.0.len(), 1, "old windows make room");
    }
}
