//! Where a chunk's outcome comes from when a Q&A file is written: nowhere yet, the file's previous version,
//! or the journal.
//!
//! It holds places, never questions or texts.

use qa_shared::model::FailureReason;

use super::record::count;
use super::{EntryLocation, Span};

/// Where a chunk's outcome stands.
#[derive(Debug, Clone, PartialEq)]
pub enum ChunkSource {
    /// There is none.
    Outstanding,
    /// In the Q&A file as it is on disk.
    Previous(FinishedChunk),
    /// In the journal: a result entry for this chunk.
    Journal(EntryLocation),
}

/// A finished chunk in a Q&A file.
#[derive(Debug, Clone, PartialEq)]
pub struct FinishedChunk {
    /// Its record; the Python program wrote none.
    pub record: Option<RecordPlace>,
    /// The round that gave it; 0 where it was made before this program counted.
    pub round: u32,
    /// Pairs asked for; 0 if unknown.
    pub asked: u32,
    /// How it ended.
    pub finished: Finished,
}

/// A record in a Q&A file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordPlace {
    /// Its object.
    pub span: Span,
    /// Whether it can be copied as it is: position and number of pairs are still right.
    pub is_exact: bool,
}

/// How a finished chunk ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finished {
    /// With pairs.
    Completed {
        /// Their objects, in order.
        pairs: Vec<Span>,
    },
    /// Without.
    Failed {
        /// Why.
        reason: FailureReason,
    },
}

impl Finished {
    /// The number of pairs.
    pub fn got(&self) -> u32 {
        match self {
            Self::Completed { pairs } => count(pairs.len()),
            Self::Failed { .. } => 0,
        }
    }
}
