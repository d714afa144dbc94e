//! What the Python program finished: pairs without records, and two lists of positions.
//!
//! Pure, as all of adoption.

use std::collections::HashMap;

use qa_shared::model::{FailureReason, TextHash};

use super::super::chunk_file::{ChunkFile, IdHash};
use super::super::source::{ChunkSource, Finished, FinishedChunk};
use super::Adoption;

/// Groups of pairs, as indices; each group is what one generation appended at once.
type Runs = Vec<Vec<usize>>;

impl Adoption<'_> {
    pub(super) fn take_pairs_without_record(&mut self) {
        let runs = self.runs_without_record();
        let mut places: HashMap<(TextHash, IdHash), Vec<usize>> = HashMap::new();
        for (position, chunk) in self.chunks.iter().enumerate() {
            if !self.is_completed(position) {
                places.entry((chunk.text, chunk.id)).or_default().push(position);
            }
        }
        let mut moved = Vec::new();
        for (key, runs) in runs {
            let here = places.get(&key).map_or(&[][..], Vec::as_slice);
            let listed: Vec<_> =
                here.iter().copied().filter(|position| self.was_completed(*position)).collect();
            if here.is_empty() {
                moved.push((key, runs));
            } else if listed.is_empty() {
                self.hand_out(runs.clone(), &here[..here.len().min(runs.len())], true);
            } else {
                self.hand_out(runs, &listed, true);
            }
        }
        self.shifted |= !moved.is_empty();
        let mut free = self.positions_where(|adoption, position| !adoption.is_completed(position));
        let mut ids: HashMap<IdHash, Vec<usize>> = HashMap::new();
        for (position, chunk) in self.chunks.iter().enumerate() {
            ids.entry(chunk.id).or_default().push(position);
        }
        for ((text, id), runs) in moved {
            let here = free.get_mut(&text).map_or(&mut [][..], |free| free.make_contiguous());
            let here = here[..here.len().min(runs.len())].to_vec();
            if here.is_empty() {
                self.counts.dropped += 1;
                let places = ids.get(&id).map_or(&[][..], Vec::as_slice);
                let vacated: Vec<_> = places.iter().filter(|place| self.was_completed(**place)).collect();
                self.vacated.extend(vacated);
            } else {
                free.entry(text).and_modify(|free| drop(free.drain(..here.len())));
                self.hand_out(runs, &here, false);
            }
        }
    }

    /// Pairs that no record has, by text and id: each run is what one generation appended at once.
    fn runs_without_record(&self) -> Vec<((TextHash, IdHash), Runs)> {
        let mut order: Vec<((TextHash, IdHash), Runs)> = Vec::new();
        let mut index_of = HashMap::new();
        let mut last = None;
        for (index, pair) in self.old.pairs.iter().enumerate() {
            if self.used_pairs[index] {
                last = None;
                continue;
            }
            let key = (pair.text, pair.id);
            let slot = *index_of.entry(key).or_insert_with(|| {
                order.push((key, Vec::new()));
                order.len() - 1
            });
            let runs = &mut order[slot].1;
            match runs.last_mut() {
                Some(run) if last == Some(key) => run.push(index),
                _ => runs.push(vec![index]),
            }
            last = Some(key);
        }
        order
    }

    /// Gives runs of the same text to its positions. More runs than positions: a chunk was generated again,
    /// the last runs count. Fewer: equal chunks followed each other, so their pairs form one run.
    fn hand_out(&mut self, runs: Runs, positions: &[usize], same_id: bool) {
        let asked = self.old.questions_per_chunk().unwrap_or(0);
        let sets: Vec<Vec<usize>> = if runs.len() >= positions.len() {
            let superseded = runs.len() - positions.len();
            runs.into_iter().skip(superseded).collect()
        } else {
            let all: Vec<usize> = runs.into_iter().flatten().collect();
            let size = if asked > 0 { asked as usize } else { all.len().div_ceil(positions.len()).max(1) };
            let mut sets: Vec<_> = all.chunks(size).map(<[usize]>::to_vec).collect();
            let rest: Vec<usize> = sets.drain(positions.len().min(sets.len())..).flatten().collect();
            if let Some(last) = sets.last_mut() {
                last.extend(rest);
            }
            sets
        };
        for (position, set) in positions.iter().zip(sets) {
            if let ChunkSource::Previous(_) = self.sources[*position] {
                self.counts.failed -= 1;
            }
            if same_id {
                self.counts.kept += 1;
            } else {
                self.counts.moved += 1;
            }
            let finished = Finished::Completed { pairs: self.use_pairs(set) };
            self.sources[*position] =
                ChunkSource::Previous(FinishedChunk { record: None, round: 0, asked, finished });
        }
    }

    /// `failed_chunks` without a record are positions only: they mean something as long as nothing moved.
    pub(super) fn take_python_failures(&mut self, file: &ChunkFile) {
        let unmoved = !self.shifted
            && (self.old.processing_info.is_null()
                || self.old.processing_info == file.processing_info.value());
        for position in self.old.failed.iter().filter(|_| unmoved).map(|position| *position as usize) {
            if position < self.chunks.len() && self.is_open(position) {
                self.counts.failed += 1;
                self.sources[position] = ChunkSource::Previous(FinishedChunk {
                    record: None,
                    round: 0,
                    asked: 0,
                    finished: Finished::Failed { reason: FailureReason::Other },
                });
            }
        }
    }
}
