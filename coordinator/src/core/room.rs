//! How many bytes of tasks may be out, once the queue server had no room for more.
//!
//! Nothing is assumed about the server's limits: others use the same store. The first refusal halves what is
//! out; tasks that no worker has are taken back, so that results find room. Later it grows again, slowly.

use std::time::Duration;

/// Nothing is published for so long after a refusal: results and what is taken back make room meanwhile.
const PAUSE: Duration = Duration::from_secs(2);
/// Refusals within this time are about the same tasks: the bytes are halved once for all of them.
const SETTLE: Duration = Duration::from_secs(5);
/// The bytes grow when there was no refusal for this long.
const GROW_AFTER: Duration = Duration::from_secs(300);
/// The least that may be out: small tasks must not go out one by one.
const LEAST: u64 = 16 * 1024;

/// What is known about the room in the queue server's store. Times count from the run's begin.
#[derive(Debug, Clone, Default)]
pub struct Room {
    /// Bytes that may be out; none before the first refusal.
    most: Option<u64>,
    full: Option<Full>,
    refused_at: Duration,
    shrunk_at: Option<Duration>,
    grown_at: Duration,
}

#[derive(Debug, Clone)]
struct Full {
    since: Duration,
    /// The server's words.
    reason: String,
    /// Whether the last try to take tasks back found none.
    is_nothing_left: bool,
}

impl Room {
    /// The store refused a message while so many bytes of tasks were out. Whether tasks are to be taken back
    /// now, until [`Self::most_bytes`] are out.
    pub fn refused(&mut self, now: Duration, reason: &str, out: u64) -> bool {
        let full =
            self.full.get_or_insert(Full { since: now, reason: String::new(), is_nothing_left: false });
        reason.clone_into(&mut full.reason);
        self.refused_at = now;
        if self.shrunk_at.is_some_and(|shrunk| now < shrunk + SETTLE) {
            return false;
        }
        (self.shrunk_at, self.grown_at) = (Some(now), now);
        self.most = Some((self.most.unwrap_or(u64::MAX).min(out) / 2).max(LEAST));
        true
    }

    /// So many tasks were taken back.
    pub fn taken_back(&mut self, tasks: usize) {
        if let Some(full) = &mut self.full {
            full.is_nothing_left = tasks == 0;
        }
    }

    /// Something was stored, or a result came: there is room. Whether the store counted as full until now.
    pub fn moved(&mut self) -> bool {
        self.full.take().is_some()
    }

    /// Since when the store is full, and why, in the server's words.
    pub fn full_since(&self) -> Option<(Duration, &str)> {
        self.full.as_ref().map(|full| (full.since, full.reason.as_str()))
    }

    /// How many tasks may be out, of those that the fleet could use.
    pub fn window(&self, now: Duration, tasks: u32) -> u32 {
        if self.full.is_some() && now < self.refused_at + PAUSE { 0 } else { tasks }
    }

    /// How many bytes of tasks may be out.
    pub fn most_bytes(&mut self, now: Duration) -> u64 {
        if self.full.is_none() && now >= self.grown_at + GROW_AFTER {
            self.grown_at = now;
            self.most = self.most.map(|most| most.saturating_add(most / 4));
        }
        self.most.unwrap_or(u64::MAX)
    }

    /// The server's words, when the store has been full for so long and no task is left to be taken back.
    pub fn gives_up(&self, now: Duration, patience: Duration) -> Option<&str> {
        let full = self.full.as_ref()?;
        (full.is_nothing_left && now >= full.since + patience).then_some(full.reason.as_str())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn refusals_at_one_time_halve_what_is_out_once() {
        let mut room = Room::default();
        assert_eq!(room.most_bytes(at(0)), u64::MAX);
        assert!(room.refused(at(10), "full", 1_000_000));
        assert!(!room.refused(at(11), "full", 980_000));
        assert_eq!((room.most_bytes(at(11)), room.window(at(12), 32)), (500_000, 0));
        assert_eq!(room.window(at(13), 32), 32);
        assert!(room.refused(at(16), "full", 400_000));
        assert_eq!(room.most_bytes(at(16)), 200_000);
    }

    #[test]
    fn what_may_be_out_grows_slowly_after_a_while_without_a_refusal() {
        let mut room = Room::default();
        room.refused(at(10), "full", 1_000_000);
        assert!(room.moved() && !room.moved());
        assert_eq!(room.most_bytes(at(309)), 500_000);
        assert_eq!((room.most_bytes(at(310)), room.most_bytes(at(311))), (625_000, 625_000));
        assert_eq!(room.most_bytes(at(610)), 781_250);
    }

    #[test]
    fn a_run_gives_up_when_nothing_of_its_own_is_left_and_the_store_stays_full() {
        let mut room = Room::default();
        room.refused(at(10), "no room", 1_000_000);
        room.taken_back(7);
        assert_eq!(room.gives_up(at(1000), at(60)), None, "tasks were taken back: there is room to come");
        room.refused(at(20), "no room", 0);
        room.taken_back(0);
        assert_eq!((room.gives_up(at(69), at(60)), room.gives_up(at(70), at(60))), (None, Some("no room")));
        room.moved();
        assert_eq!((room.gives_up(at(1000), at(60)), room.full_since()), (None, None));
    }

    proptest! {
        #[test]
        fn something_may_always_be_out_again(
            happenings in prop::collection::vec((0..4_u8, 0..600_u64, 0..2_000_000_u64), 1..60),
        ) {
            let (mut room, mut now) = (Room::default(), Duration::ZERO);
            for (what, seconds, bytes) in happenings {
                now += at(seconds);
                let before = room.most_bytes(now);
                match what {
                    0 => prop_assert!(!room.refused(now, "full", bytes) || room.most_bytes(now) <= before.max(LEAST)),
                    1 => room.taken_back(usize::try_from(bytes).unwrap_or_default()),
                    2 => drop(room.moved()),
                    _ => prop_assert!(room.most_bytes(now) >= before),
                }
                prop_assert!(room.most_bytes(now) >= LEAST);
                prop_assert_eq!(room.window(now + PAUSE, 8), 8);
            }
        }
    }
}
