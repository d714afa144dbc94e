//! Whether the queue server has room for tasks and results, with the clock and the words for people.

use std::time::{Duration, Instant};

use crate::core::Room;
use crate::format::count;

/// How often a full store is told again.
const REPEAT: Duration = Duration::from_secs(300);

/// What was seen of the queue server's store.
#[derive(Debug)]
pub(crate) struct StoreWatch {
    pub(crate) room: Room,
    begun: Instant,
    /// How long a store may stay full that nothing of this job's fills.
    patience: Duration,
    /// Tasks that the queue had confirmed at the last look.
    stored: u64,
    told: Option<Instant>,
}

impl StoreWatch {
    pub(crate) fn new(patience: Duration) -> Self {
        Self { room: Room::default(), begun: Instant::now(), patience, stored: 0, told: None }
    }

    /// A message was refused while so many bytes were out. How many may be out from now on, if tasks are to be
    /// taken back.
    pub(crate) fn refused(&mut self, reason: &str, out: u64) -> Option<u64> {
        let now = self.begun.elapsed();
        let is_due = self.room.refused(now, reason, out);
        if self.told.is_none_or(|told| told.elapsed() >= REPEAT) {
            self.told = Some(Instant::now());
            tracing::warn!(
                queued_bytes = out,
                "the queue server's store is full, taking queued tasks back and going on with fewer: {reason}"
            );
        }
        is_due.then(|| self.room.most_bytes(now))
    }

    /// A result came, or a message was stored.
    pub(crate) fn moved(&mut self) {
        if self.room.moved() {
            tracing::debug!("the queue server's store has room again");
        }
    }

    /// How many tasks may be out.
    pub(crate) fn window(&self, tasks: u32) -> u32 {
        self.room.window(self.begun.elapsed(), tasks)
    }

    /// How many bytes of tasks may be out.
    pub(crate) fn most_bytes(&mut self) -> u64 {
        self.room.most_bytes(self.begun.elapsed())
    }

    /// Why the run cannot go on, when nothing helps. `stored` is how many tasks the queue has confirmed.
    pub(crate) fn gives_up(&mut self, stored: u64) -> Option<String> {
        if std::mem::replace(&mut self.stored, stored) != stored {
            self.moved();
        }
        let now = self.begun.elapsed();
        let (since, reason) = (self.room.full_since()?.0, self.room.gives_up(now, self.patience)?);
        Some(format!(
            "the queue server's store has been full for {} s, and no queued task of this job is left to be taken back: \
             {reason}; make room there or raise its limit",
            count(now.saturating_sub(since).as_secs())
        ))
    }
}
