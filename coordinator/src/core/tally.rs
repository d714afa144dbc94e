//! Figures for people: of the job, and of this run.

use std::collections::BTreeMap;

use qa_shared::model::{FailureReason, Usage};

use super::Applied;

/// Where the whole job stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Documents, unreadable ones included.
    pub documents: u32,
    /// Documents with nothing left to ask for and no error.
    pub documents_settled: u32,
    /// Documents that cannot be processed.
    pub documents_broken: u32,
    /// Chunks.
    pub chunks: u64,
    /// Chunks with pairs.
    pub completed: u64,
    /// Chunks that failed.
    pub failed: u64,
    /// Pairs.
    pub pairs: u64,
    /// Chunks that are out: queued, running or answered.
    pub published: u64,
}

impl Totals {
    /// Chunks not accounted for.
    pub fn outstanding(&self) -> u64 {
        self.chunks - self.completed - self.failed
    }
}

/// What this run did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Results that gave a chunk its pairs.
    pub completed: u64,
    /// Results that made a chunk fail.
    pub failed: u64,
    /// Pairs got.
    pub pairs: u64,
    /// Pairs asked for, of all chunks with a result: failed ones were asked too.
    pub asked: u64,
    /// Chunks completed with fewer pairs than asked for.
    pub short: u64,
    /// Model calls.
    pub calls: u64,
    /// Tokens and time of all model calls.
    pub usage: Usage,
    /// Results for chunks that were accounted for already.
    pub duplicates: u64,
    /// Results of old rounds, of other texts, or of unknown chunks.
    pub ignored: u64,
    /// Tasks that the queue lost and that were published again.
    pub republished: u64,
    /// Second rounds beside tasks that seemed stuck.
    pub speculation: Speculation,
    /// Failures by kind.
    pub reasons: BTreeMap<FailureReason, u64>,
}

/// Second rounds beside tasks that seemed stuck.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Speculation {
    /// Published.
    pub started: u64,
    /// Those that brought the pairs first.
    pub won: u64,
    /// Those that were for nothing: the older task brought the pairs first.
    pub lost: u64,
}

impl Tally {
    /// Tokens of all model calls, the useless ones included, per pair got; nothing without one.
    pub fn tokens_per_pair(&self) -> Option<f64> {
        (self.pairs > 0).then(|| self.usage.tokens() as f64 / self.pairs as f64)
    }

    pub(super) fn count_ignored(&mut self, applied: Applied) {
        match applied {
            Applied::Accepted => {}
            Applied::Duplicate => self.duplicates += 1,
            Applied::OldRound | Applied::OtherText | Applied::Unknown => self.ignored += 1,
        }
    }
}
