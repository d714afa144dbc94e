//! Before the start of a run: which chunks begin a new round, and which are asked for at all.

use std::collections::BTreeSet;

use qa_shared::model::FailureReason;

use super::{ChunkState, Core, Document, TaskRef};

impl Core {
    /// Before the start: every failed chunk for which `again` holds gets a new round and waits. Returns the
    /// begun rounds, to be journalled before anything is published.
    pub fn retry_failed(&mut self, again: impl Fn(FailureReason) -> bool) -> Vec<TaskRef> {
        let mut begun = Vec::new();
        for (document, index) in self.documents.iter_mut().zip(0..).filter(can_be_asked) {
            for (chunk, position) in document.chunks.iter_mut().zip(0..) {
                if let ChunkState::Failed { reason } = chunk.state
                    && again(reason)
                {
                    chunk.state = ChunkState::Waiting;
                    chunk.round += 1;
                    document.failed -= 1;
                    begun.push(TaskRef { document: index, chunk: position, round: chunk.round });
                }
            }
        }
        self.totals = self.count_totals();
        begun
    }

    /// Before the start: every waiting chunk gets a new round, since what its task would say has changed.
    pub fn renew_waiting(&mut self) -> Vec<TaskRef> {
        let mut begun = Vec::new();
        for (document, index) in self.documents.iter_mut().zip(0..).filter(can_be_asked) {
            for (chunk, position) in document.chunks.iter_mut().zip(0..) {
                if chunk.state == ChunkState::Waiting {
                    chunk.round += 1;
                    begun.push(TaskRef { document: index, chunk: position, round: chunk.round });
                }
            }
        }
        begun
    }

    /// Before the start: keeps only these waiting chunks for this run (`--sample`).
    pub fn select_only(&mut self, selected: &BTreeSet<(u32, u32)>) {
        self.is_sample = true;
        for (document, index) in self.documents.iter_mut().zip(0..) {
            for (chunk, position) in document.chunks.iter_mut().zip(0..) {
                chunk.selected = selected.contains(&(index, position));
            }
        }
    }

    /// Where the selected chunks stand, if only some are selected.
    pub fn sample(&self) -> Option<Sample> {
        let sum = |sum: Sample, part: Sample| Sample {
            chunks: sum.chunks + part.chunks,
            completed: sum.completed + part.completed,
            failed: sum.failed + part.failed,
        };
        self.is_sample.then(|| self.documents.iter().map(Document::sample).fold(Sample::default(), sum))
    }
}

/// Nothing is published of a document that cannot be processed.
fn can_be_asked((document, _): &(&mut Document, u32)) -> bool {
    document.error.is_none()
}

impl Document {
    /// Where its selected chunks stand.
    pub fn sample(&self) -> Sample {
        let mut sample = Sample::default();
        for chunk in self.chunks.iter().filter(|chunk| chunk.selected) {
            sample.chunks += 1;
            match chunk.state {
                ChunkState::Completed { .. } => sample.completed += 1,
                ChunkState::Failed { .. } => sample.failed += 1,
                ChunkState::Waiting | ChunkState::Published => {}
            }
        }
        sample
    }
}

/// Chunks of a sample.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sample {
    /// All of them.
    pub chunks: u32,
    /// Those with pairs.
    pub completed: u32,
    /// Those that failed.
    pub failed: u32,
}

impl Sample {
    /// Chunks not accounted for.
    pub fn outstanding(&self) -> u32 {
        self.chunks - self.completed - self.failed
    }
}
