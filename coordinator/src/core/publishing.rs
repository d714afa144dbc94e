//! Which chunk goes out next, and how many may be out at once.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::document::{ChunkState, Document};

/// How many tasks a job may have out: about four per slot, or what the fleet finishes in five seconds if
/// that is more, shared among the jobs of the pool. So a second job starts within a few task times, fast
/// models never wait for the coordinator, and a stop has little to take back.
pub fn window(slots: u32, finished_per_second: f64, jobs_in_pool: u32) -> u32 {
    const LEAST: u32 = 4;
    const WITHOUT_WORKERS: u32 = 16;
    const MOST: u32 = 8192;
    let by_slots = if slots == 0 { WITHOUT_WORKERS } else { slots.saturating_mul(4) };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to the range before"
    )]
    let by_rate = (finished_per_second * 5.0).clamp(0.0, f64::from(MOST)) as u32;
    (by_slots.max(by_rate).min(MOST) / jobs_in_pool.max(1)).max(LEAST)
}

/// Walks the waiting chunks in document order; what comes back to waiting goes first, what is done apart last.
#[derive(Debug, Clone, Default)]
pub(super) struct PublishOrder {
    next: (u32, u32),
    again: BTreeSet<(u32, u32)>,
    /// Chunks of more tokens than this go last.
    apart_above: Option<u32>,
    apart: Arc<[(u32, u32)]>,
    next_apart: usize,
}

impl PublishOrder {
    /// Waiting chunks of more estimated tokens than this go out when no other is waiting.
    pub(super) fn set_apart(&mut self, above: u32, documents: &[Document]) {
        let mut apart = Vec::new();
        for (document, index) in documents.iter().zip(0..) {
            let long = document.chunks.iter().zip(0..).filter(|(chunk, _)| chunk.tokens > above);
            apart.extend(long.map(|(_, position)| (index, position)));
        }
        (self.apart_above, self.apart) = (Some(above), apart.into());
    }

    /// A chunk that was out is waiting again.
    pub(super) fn put_back(&mut self, document: u32, chunk: u32) {
        if (document, chunk) < self.next {
            self.again.insert((document, chunk));
        }
    }

    /// The next chunk that is waiting and selected.
    pub(super) fn next(&mut self, documents: &[Document]) -> Option<(u32, u32)> {
        while let Some(position) = self.again.pop_first() {
            if is_wanted(documents, position) {
                return Some(position);
            }
        }
        loop {
            let position = self.next;
            let Some(document) = documents.get(position.0 as usize) else { break };
            if document.error.is_some() || position.1 >= document.total() {
                self.next = (position.0 + 1, 0);
                continue;
            }
            self.next = (position.0, position.1 + 1);
            let tokens = document.chunks.get(position.1 as usize).map_or(0, |chunk| chunk.tokens);
            if is_wanted(documents, position) && self.apart_above.is_none_or(|above| tokens <= above) {
                return Some(position);
            }
        }
        while let Some(position) = self.apart.get(self.next_apart) {
            self.next_apart += 1;
            if is_wanted(documents, *position) {
                return Some(*position);
            }
        }
        None
    }
}

fn is_wanted(documents: &[Document], (document, chunk): (u32, u32)) -> bool {
    documents.get(document as usize).is_some_and(|document| {
        document.error.is_none()
            && document
                .chunks
                .get(chunk as usize)
                .is_some_and(|chunk| chunk.selected && chunk.state == ChunkState::Waiting)
    })
}

#[cfg(test)]
mod tests {
    use super::window;

    #[test]
    fn a_slow_fleet_has_four_tasks_per_slot_out() {
        assert_eq!(window(2, 0.1, 1), 8);
        assert_eq!(window(2, 0.1, 2), 4);
        assert_eq!(window(1, 0.0, 5), 4);
    }

    #[test]
    fn a_fast_fleet_has_five_seconds_of_work_out() {
        assert_eq!(window(2, 400.0, 1), 2000);
        assert_eq!(window(2, f64::INFINITY, 1), 8192);
        assert_eq!(window(2, f64::NAN, 1), 8);
    }

    #[test]
    fn without_workers_a_few_tasks_wait() {
        assert_eq!(window(0, 0.0, 1), 16);
    }
}
