//! Places with a name where a test may end this process as a crash would, mistakes that a test may switch on to
//! see whether it finds them, and a wall clock that a test may set. A release build has none of it: every
//! function here is empty there.
//!
//! What is armed comes from [`crate::settings::failpoints`]. It must not know what the programs do.

use std::path::Path;

macro_rules! crash_points {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// Where a process may die. The order is that of a chunk's way through the fleet.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum CrashPoint {
            $($(#[doc = $doc])+ $name,)+
        }

        impl CrashPoint {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)+];
        }
    };
}

crash_points! {
    /// Coordinator: the job is its own (lease, consumer); nothing is announced.
    JobTaken,
    /// Coordinator: the workers know of the job; nothing is published.
    JobAnnounced,
    /// Coordinator: begun rounds are in the journal, not yet synced.
    RoundsAppended,
    /// Coordinator: begun rounds are durable; nothing of them is published.
    RoundsSynced,
    /// Coordinator: the queue has a task; this process does not know it yet.
    TaskPublished,
    /// Worker: a task was delivered; no model was called.
    TaskDelivered,
    /// Worker: the model has answered; the result is not stored.
    ModelAnswered,
    /// Worker: the result is stored; the task is not acknowledged.
    ResultStored,
    /// Worker: the task is acknowledged, and that is confirmed.
    TaskAcked,
    /// Coordinator: results were delivered; the core has not seen them.
    ResultsReceived,
    /// Coordinator: the core has accepted a result; the journal has nothing of it.
    ResultApplied,
    /// Coordinator: a journal segment has its header and nothing else.
    SegmentBegun,
    /// Coordinator: half of an entry's bytes are in the journal.
    EntryTorn,
    /// Coordinator: an entry is in the journal, not yet synced.
    EntryAppended,
    /// Coordinator: the job's account is saved; the results that it counts are not synced.
    SpentSaved,
    /// Coordinator: a new segment's entries are synced, its name in the directory is not.
    SegmentSynced,
    /// Coordinator: the journal is synced; no result is acknowledged.
    JournalSynced,
    /// Coordinator: results are acknowledged, and that is confirmed.
    ResultsAcked,
    /// Coordinator: a file that is about to be replaced was copied; the new one does not stand there.
    PreviousKept,
    /// Coordinator: a temporary file was made; nothing is in it.
    FileBegun,
    /// Coordinator: a temporary file is written, not yet synced.
    FileWritten,
    /// Coordinator: a temporary file is synced; the old file still stands at the target.
    FileSynced,
    /// Coordinator: the new file stands at the target; the directory is not synced.
    FileRenamed,
    /// Coordinator: the new file and its name are durable; nobody was told.
    FileDurable,
    /// Coordinator: a Q&A file is replaced; the journal still holds what it covers.
    SnapshotWritten,
    /// Coordinator: a journal segment that nothing needs was removed; others may still be there.
    SegmentRemoved,
    /// Coordinator: at a stop, queued tasks were taken back; the core does not know it yet.
    TasksTakenBack,
    /// Coordinator: every chunk is accounted for; queue and combined file are as they were.
    RunEnded,
    /// Coordinator: the job's entry is gone from the queue; its tasks and results are not.
    JobForgotten,
    /// Coordinator: nothing of the job is in the queue any more; nothing is combined.
    QueueTidied,
    /// Coordinator: the combined file stands; there is no summary.
    Combined,
    /// Coordinator: at a restart, the old files are copied and still stand.
    OldFilesKept,
    /// Coordinator: at a restart, one of the old files is removed.
    OldFileRemoved,
}

/// A deliberate mistake, for the tests of the tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mistake {
    /// Results are acknowledged as they are received, while the disk is slow.
    AckBeforeJournal,
    /// The queue is never compared with what was published.
    NoReconciliation,
    /// The pairs of a result are journalled twice.
    PairsTwice,
    /// A part of the queue that vanished in the middle of a run is not made again.
    NoUpkeep,
}

/// Ends this process as SIGKILL does if that is armed for this place.
pub fn crash(point: CrashPoint) {
    crash_at(point, Path::new(""));
}

/// The same for a place where files pass by: only one of the armed name counts.
pub fn crash_at(point: CrashPoint, file: &Path) {
    if is_due(point, file) {
        die();
    }
}

/// The same for a place where half a thing can be done: does it before.
pub fn crash_halfway(point: CrashPoint, halfway: impl FnOnce()) {
    if is_due(point, Path::new("")) {
        halfway();
        die();
    }
}

#[cfg(not(debug_assertions))]
mod armed {
    use jiff::SignedDuration;

    use super::{CrashPoint, Mistake, Path};

    pub(super) fn is_due(_: CrashPoint, _: &Path) -> bool {
        false
    }

    pub(super) fn die() {}

    /// Whether this mistake is to be made: never.
    pub fn is_made(_: Mistake) -> bool {
        false
    }

    /// Nothing.
    pub fn lag_if(_: Mistake) {}

    /// The wall clock is right.
    pub fn clock_offset() -> Option<SignedDuration> {
        None
    }
}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use jiff::SignedDuration;
    use rustix::process::{Signal, getpid, kill_process};

    use super::{CrashPoint, Mistake, Path};
    use crate::settings::failpoints::{Failpoints, read_clock_offset, read_failpoints};

    fn failpoints() -> &'static Failpoints {
        static FAILPOINTS: OnceLock<Failpoints> = OnceLock::new();
        FAILPOINTS.get_or_init(read_failpoints)
    }

    pub(super) fn is_due(point: CrashPoint, file: &Path) -> bool {
        static PASSED: AtomicU64 = AtomicU64::new(0);
        let Some(armed) = &failpoints().crash else { return false };
        let is_this = armed.point == point
            && armed
                .file
                .as_ref()
                .is_none_or(|name| file.file_name().is_some_and(|found| found == &name[..]));
        is_this && PASSED.fetch_add(1, Ordering::Relaxed) + 1 == armed.passage
    }

    /// No destructor runs, no buffer is flushed, nobody is told.
    pub(super) fn die() {
        kill_process(getpid(), Signal::KILL).ok();
        loop {
            std::thread::park();
        }
    }

    /// Whether this mistake is to be made.
    pub fn is_made(mistake: Mistake) -> bool {
        failpoints().mistake == Some(mistake)
    }

    /// Takes a while where this mistake is made, so that a kill finds something between two steps.
    pub fn lag_if(mistake: Mistake) {
        if is_made(mistake) {
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }

    /// By how much the wall clock is wrong now.
    pub fn clock_offset() -> Option<SignedDuration> {
        failpoints().clock.as_deref().and_then(read_clock_offset).map(SignedDuration::from_millis)
    }
}

pub use armed::{clock_offset, is_made, lag_if};
use armed::{die, is_due};
