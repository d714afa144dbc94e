//! Documents and their chunks: states that carry their data.

use qa_shared::model::{DocumentName, FailureReason, TextHash};

/// Where a chunk stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkState {
    /// To be published.
    Waiting,
    /// Published: queued, running, or answered and not yet received.
    Published,
    /// Has pairs.
    Completed {
        /// Number of pairs.
        got: u32,
    },
    /// Has none, for good or until a resume tries again.
    Failed {
        /// The kind of failure.
        reason: FailureReason,
    },
}

/// A chunk as the plan gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkPlan {
    /// The hash of its text.
    pub text_hash: TextHash,
    /// Where it stands at the start: [`ChunkState::Published`] is not possible.
    pub state: ChunkState,
    /// The round of the try that is wanted, or that made its state.
    pub round: u32,
    /// Its text in estimated tokens.
    pub tokens: u32,
    /// Its text in bytes, as a task sends it.
    pub bytes: u32,
}

/// A document as the plan gives it.
#[derive(Debug, Clone, PartialEq)]
pub struct DocumentPlan {
    /// Its name.
    pub name: DocumentName,
    /// Its chunks in order.
    pub chunks: Vec<ChunkPlan>,
    /// The status of its Q&A file, if it has one.
    pub file_status: Option<FileStatus>,
    /// Whether the file accounts for every chunk as it is now: it then stays `completed` while failures are
    /// tried again.
    pub is_complete: bool,
    /// Whether its Q&A file must be rewritten whatever happens (Python's format, moved or vanished chunks).
    pub needs_rewrite: bool,
    /// Why it cannot be processed, if so.
    pub error: Option<String>,
}

/// The status of a Q&A file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileStatus {
    /// A run is at it.
    InProgress,
    /// A run was stopped.
    Interrupted,
    /// Every chunk accounted for and at least one completed, or no chunks.
    Completed,
    /// No chunk completed, or the document cannot be processed.
    Failed,
}

impl FileStatus {
    /// The word in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::Interrupted => "interrupted",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }

    /// The status of a document of which nothing is outstanding.
    pub fn finished(completed: usize, failed: usize) -> Self {
        if completed == 0 && failed > 0 { Self::Failed } else { Self::Completed }
    }

    /// Whether nothing is outstanding.
    pub fn is_finished(self) -> bool {
        matches!(self, Self::Completed | Self::Failed)
    }

    /// Reads the word in a file.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::InProgress, Self::Interrupted, Self::Completed, Self::Failed]
            .into_iter()
            .find(|status| status.as_str() == word)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) text_hash: TextHash,
    pub(super) state: ChunkState,
    pub(super) round: u32,
    pub(super) tokens: u32,
    pub(super) bytes: u32,
    pub(super) selected: bool,
}

impl Chunk {
    /// About what its task takes in the queue, in bytes.
    pub(super) fn queued_bytes(&self) -> u64 {
        /// Subject, settings, prompt and headers.
        const BESIDE_THE_TEXT: u64 = 1024;
        u64::from(self.bytes) + BESIDE_THE_TEXT
    }
}

/// A document of the job.
#[derive(Debug, Clone)]
pub struct Document {
    pub(super) name: DocumentName,
    pub(super) chunks: Vec<Chunk>,
    pub(super) completed: u32,
    pub(super) failed: u32,
    pub(super) pairs: u64,
    pub(super) error: Option<String>,
    /// What the Q&A file on disk says; `None` while there is none.
    pub(super) file_status: Option<FileStatus>,
    /// Whether every chunk was accounted for when this run began: then the file stays `completed` while
    /// its failures are tried again.
    pub(super) was_complete: bool,
    pub(super) needs_rewrite: bool,
    /// Results recorded and not yet known to be on disk.
    pub(super) unflushed: u32,
    /// Journalled results that the Q&A file does not hold.
    pub(super) unsaved: u32,
    /// Results that the Q&A file holds.
    pub(super) saved: u32,
    /// While the file is being replaced: how many unsaved results the new one will hold.
    pub(super) writing: Option<u32>,
}

impl Document {
    pub(super) fn new(plan: DocumentPlan) -> Self {
        let chunks: Vec<Chunk> = plan
            .chunks
            .iter()
            .map(|chunk| Chunk {
                text_hash: chunk.text_hash,
                state: match chunk.state {
                    ChunkState::Published => ChunkState::Waiting,
                    state => state,
                },
                round: chunk.round,
                tokens: chunk.tokens,
                bytes: chunk.bytes,
                selected: true,
            })
            .collect();
        let mut document = Self {
            name: plan.name,
            chunks,
            completed: 0,
            failed: 0,
            pairs: 0,
            error: plan.error,
            file_status: plan.file_status,
            was_complete: plan.is_complete && plan.file_status == Some(FileStatus::Completed),
            needs_rewrite: plan.needs_rewrite,
            unflushed: 0,
            unsaved: 0,
            saved: 0,
            writing: None,
        };
        let (completed, failed, pairs) = document.count();
        document.completed = completed;
        document.failed = failed;
        document.pairs = pairs;
        document.saved = completed + failed;
        document
    }

    /// Its name.
    pub fn name(&self) -> &DocumentName {
        &self.name
    }

    /// Number of chunks.
    pub fn total(&self) -> u32 {
        u32::try_from(self.chunks.len()).unwrap_or(u32::MAX)
    }

    /// Chunks with pairs.
    pub fn completed(&self) -> u32 {
        self.completed
    }

    /// Chunks that failed.
    pub fn failed(&self) -> u32 {
        self.failed
    }

    /// Chunks not accounted for.
    pub fn outstanding(&self) -> u32 {
        self.total() - self.completed - self.failed
    }

    /// Pairs of its completed chunks.
    pub fn pairs(&self) -> u64 {
        self.pairs
    }

    /// Why it cannot be processed, if so.
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// What its Q&A file says, if there is one.
    pub fn file_status(&self) -> Option<FileStatus> {
        self.file_status
    }

    /// Whether nothing is left to ask for.
    pub fn is_settled(&self) -> bool {
        self.error.is_some() || self.outstanding() == 0
    }

    /// The state and round of each chunk, in order.
    pub fn chunk_states(&self) -> impl Iterator<Item = (ChunkState, u32)> + '_ {
        self.chunks.iter().map(|chunk| (chunk.state, chunk.round))
    }

    /// Counts completed chunks, failed chunks and pairs anew from the chunks.
    pub(super) fn count(&self) -> (u32, u32, u64) {
        self.chunks.iter().fold((0, 0, 0), |(completed, failed, pairs), chunk| match chunk.state {
            ChunkState::Waiting | ChunkState::Published => (completed, failed, pairs),
            ChunkState::Completed { got } => (completed + 1, failed, pairs + u64::from(got)),
            ChunkState::Failed { .. } => (completed, failed + 1, pairs),
        })
    }

    /// The status that its file deserves now; `stopping` while the run is being ended.
    pub(super) fn deserved_status(&self, stopping: bool) -> FileStatus {
        if self.outstanding() == 0 {
            if self.completed > 0 || self.chunks.is_empty() {
                FileStatus::Completed
            } else {
                FileStatus::Failed
            }
        } else if self.was_complete {
            FileStatus::Completed
        } else if stopping {
            FileStatus::Interrupted
        } else {
            FileStatus::InProgress
        }
    }

    /// Whether the file should be replaced now: at the end, or when it has grown by half since the last time
    /// and is to grow by half again. Each file but the last is then at most two thirds of the next one, so all
    /// together they are at most three times the last one, however many results come at a time.
    pub(super) fn is_snapshot_due(&self, stopping: bool) -> bool {
        let end = self.is_settled() || stopping;
        if self.error.is_some() || self.writing.is_some() || (end && self.unflushed > 0) {
            return false;
        }
        let status_is_off = self.file_status.is_some_and(|status| status != self.deserved_status(stopping))
            || self.file_status.is_none() && self.is_settled();
        let covered = self.saved.saturating_add(self.unsaved);
        let grows = has_grown_by_half(self.saved, covered) && has_grown_by_half(covered, self.total());
        self.needs_rewrite || (end && (self.unsaved > 0 || status_is_off)) || (self.unsaved > 0 && grows)
    }
}

/// From so many results to so many.
fn has_grown_by_half(from: u32, to: u32) -> bool {
    u64::from(to) * 2 >= u64::from(from) * 3
}
