//! Before the start of a run: which chunks begin a new round, and which are asked for at all.

use std::collections::BTreeSet;

use qa_shared::model::FailureReason;

use super::{ChunkState, Core, TaskRef};

impl Core {
    /// Before the start: every failed chunk for which `again` holds gets a new round and waits. Returns the
    /// begun rounds, to be journalled before anything is published.
    pub fn retry_failed(&mut self, again: impl Fn(FailureReason) -> bool) -> Vec<TaskRef> {
        let mut begun = Vec::new();
        for (document, index) in self.documents.iter_mut().zip(0..) {
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
        for (document, index) in self.documents.iter_mut().zip(0..) {
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
        for (document, index) in self.documents.iter_mut().zip(0..) {
            for (chunk, position) in document.chunks.iter_mut().zip(0..) {
                chunk.selected = selected.contains(&(index, position));
            }
        }
    }
}
