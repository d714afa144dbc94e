//! Finds the number of slots by tokens per second alone, for servers whose answers do not tell their waits.
//!
//! Tries more slots while that brings more, then whether fewer do as well, and rests. While it rests it looks
//! for a better number now and then, and at once when the speed changes. PURE.

use super::rounded;

/// Answers per slot that a comparison takes: speeds of single answers differ.
pub(super) const ANSWERS_PER_SLOT: u32 = 4;
/// At least so many are needed.
pub(super) const LEAST_ANSWERS: u32 = 16;
/// More slots must bring at least this much of what they would bring if nobody had to wait for anybody.
const WORTH: f64 = 0.2;
/// Fewer slots may cost at most this much of the speed.
const CHEAP: f64 = 0.03;
/// Fewer slots are tried in this proportion.
const FEWER: f64 = 0.8;
/// The speed is another one when it differs by this much.
const CHANGED: f64 = 0.25;
/// It rests for so many windows at first, twice as long each time that nothing better was found,
const SHORTEST_REST: u32 = 4;
/// up to this many.
const LONGEST_REST: u32 = 32;

/// What it is doing.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    /// Keeps the number for so many windows more.
    Resting { windows: u32 },
    /// Tries more slots than the best number so far.
    More,
    /// Tries fewer.
    Fewer,
}

/// The search.
#[derive(Debug, Clone)]
pub(super) struct Climb {
    phase: Phase,
    /// The best number so far, and its tokens per second.
    best: Option<(u32, f64)>,
    /// So much of the best number is added to try more.
    stride: f64,
    rest: u32,
}

impl Default for Climb {
    fn default() -> Self {
        let phase = Phase::Resting { windows: 0 };
        Self { phase, best: None, stride: 1.0, rest: SHORTEST_REST }
    }
}

impl Climb {
    /// The number was changed from outside: leaves it alone for a while.
    pub(super) fn rest(&mut self) {
        (self.best, self.rest) = (None, SHORTEST_REST);
        self.phase = Phase::Resting { windows: self.rest };
    }

    /// Takes what a window with this many slots gave; says with how many to go on.
    pub(super) fn next(&mut self, slots: u32, most: u32, speed: f64) -> u32 {
        let Some((best, best_speed)) = self.best else {
            self.best = Some((slots, speed));
            return if self.phase == (Phase::Resting { windows: 0 }) { self.more(most) } else { slots };
        };
        let ratio = f64::from(slots) / f64::from(best.max(1));
        match self.phase {
            Phase::More if speed >= best_speed * (1.0 + WORTH * (ratio - 1.0)) => {
                self.accept(slots, speed);
                self.stride = (self.stride * 2.0).min(1.0);
                self.more(most)
            }
            Phase::More => {
                self.stride /= 2.0;
                self.more(most)
            }
            Phase::Fewer if speed >= best_speed * (1.0 - CHEAP) => {
                self.accept(slots, speed);
                self.fewer()
            }
            Phase::Fewer => self.settle(),
            Phase::Resting { windows } => {
                let change = speed / best_speed.max(f64::EPSILON);
                if (change - 1.0).abs() > CHANGED {
                    self.best = Some((slots, speed));
                    self.rest = SHORTEST_REST;
                    self.stride = 1.0;
                    return if change < 1.0 { self.fewer() } else { self.more(most) };
                }
                self.best = Some((slots, best_speed + (speed - best_speed) / 4.0));
                self.phase = Phase::Resting { windows: windows.saturating_sub(1) };
                if windows > 1 { slots } else { self.more(most) }
            }
        }
    }

    fn accept(&mut self, slots: u32, speed: f64) {
        self.best = Some((slots, speed));
        self.rest = SHORTEST_REST;
    }

    fn number(&self) -> u32 {
        self.best.map_or(1, |(slots, _)| slots)
    }

    fn more(&mut self, most: u32) -> u32 {
        let best = self.number();
        let more = rounded(f64::from(best) * (1.0 + self.stride)).min(most);
        if self.stride < 0.5 || more <= best {
            return self.fewer();
        }
        self.phase = Phase::More;
        more
    }

    fn fewer(&mut self) -> u32 {
        let best = self.number();
        let fewer = rounded(f64::from(best) * FEWER).min(best.saturating_sub(1));
        if fewer == 0 {
            return self.settle();
        }
        self.phase = Phase::Fewer;
        fewer
    }

    fn settle(&mut self) -> u32 {
        self.phase = Phase::Resting { windows: self.rest };
        self.rest = (self.rest * 2).min(LONGEST_REST);
        self.stride = 0.5;
        self.number()
    }
}
