//! What an existing Q&A file is worth today: which chunks of the chunk file it has finished.
//!
//! Pure. Records of ours are recognised by their text's hash, first where they stood, then where the text
//! has moved to; pairs without a record (the Python program's) by `chunk_id` and text, then by text. Every
//! record and every pair is used at most once, and only for the very text that it was made from.

use std::collections::{HashMap, HashSet, VecDeque};

use qa_shared::model::TextHash;

use super::chunk_file::{ChunkEntry, ChunkFile};
use super::qa_file::QaFile;
use super::source::{ChunkSource, Finished, FinishedChunk, RecordPlace};
use super::{RecordStatus, Span};
use crate::core::FileStatus;

mod python;

/// What was taken over.
#[derive(Debug, Clone, PartialEq)]
pub struct Adopted {
    /// One per chunk of the chunk file, by position.
    pub chunks: Vec<ChunkSource>,
    /// The figures shown before a resumed run starts.
    pub counts: AdoptedCounts,
    /// Whether the file on disk differs from what a snapshot would write now.
    pub needs_rewrite: bool,
    /// Whether a snapshot would take something away from the file or is the first over one of the Python
    /// program's: the file is to be kept aside before it is replaced.
    pub keep_previous: bool,
}

/// `kept + moved + failed + changed + new` is the number of chunks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AdoptedCounts {
    /// Completed, at the same position.
    pub kept: usize,
    /// Completed, with the same text at another position.
    pub moved: usize,
    /// Failed before, with the same text.
    pub failed: usize,
    /// Outstanding since the text at this position is another one.
    pub changed: usize,
    /// Outstanding without an earlier result.
    pub new: usize,
    /// Earlier results whose text has vanished, those of changed chunks aside.
    pub dropped: usize,
}

/// Decides what of an old Q&A file counts for the chunk file as it is now.
pub fn adopt(file: &ChunkFile, old: &QaFile) -> Adopted {
    let mut adoption = Adoption {
        chunks: &file.chunks,
        old,
        sources: vec![ChunkSource::Outstanding; file.chunks.len()],
        counts: AdoptedCounts::default(),
        used_pairs: vec![false; old.pairs.len()],
        vacated: HashSet::new(),
        shifted: false,
    };
    adoption.take_records();
    adoption.take_pairs_without_record();
    adoption.take_python_failures(file);
    adoption.count_outstanding();
    adoption.finish(file)
}

struct Adoption<'a> {
    chunks: &'a [ChunkEntry],
    old: &'a QaFile,
    sources: Vec<ChunkSource>,
    counts: AdoptedCounts,
    used_pairs: Vec<bool>,
    /// Positions where something finished stood whose text is not there any more.
    vacated: HashSet<usize>,
    /// Whether anything finished is not where it stood.
    shifted: bool,
}

impl Adoption<'_> {
    fn is_open(&self, position: usize) -> bool {
        matches!(self.sources[position], ChunkSource::Outstanding)
    }

    fn take_records(&mut self) {
        let mut pairs = self.pairs_of_records();
        let usable = |pairs: &[Vec<usize>], index: usize, status: RecordStatus| {
            let record = &self.old.records[index];
            record.status == status && (status == RecordStatus::Failed || !pairs[index].is_empty())
        };
        let mut order = Vec::with_capacity(self.old.records.len());
        for status in [RecordStatus::Completed, RecordStatus::Failed] {
            order.extend((0..self.old.records.len()).filter(|index| usable(&pairs, *index, status)));
        }
        let mut homeless = Vec::new();
        for index in order {
            let record = &self.old.records[index];
            let position = record.chunk as usize;
            if self.chunks.get(position).is_some_and(|chunk| chunk.text == record.text)
                && self.is_open(position)
            {
                self.settle(index, position, std::mem::take(&mut pairs[index]));
            } else {
                homeless.push(index);
            }
        }
        let mut free = self.positions_where(Self::is_open);
        self.shifted = !homeless.is_empty();
        for index in homeless {
            let record = &self.old.records[index];
            if let Some(position) = free.get_mut(&record.text).and_then(VecDeque::pop_front) {
                self.settle(index, position, std::mem::take(&mut pairs[index]));
                continue;
            }
            self.counts.dropped += 1;
            self.vacated.insert(record.chunk as usize);
            for pair in &pairs[index] {
                self.used_pairs[*pair] = true;
            }
        }
    }

    /// The pairs of each record: the next `got` with its text; the last record of a text takes what is left
    /// of it, so that pairs which a user added by hand stay.
    fn pairs_of_records(&self) -> Vec<Vec<usize>> {
        let mut by_text: HashMap<TextHash, VecDeque<usize>> = HashMap::new();
        for (index, pair) in self.old.pairs.iter().enumerate() {
            by_text.entry(pair.text).or_default().push_back(index);
        }
        let mut records_left: HashMap<TextHash, usize> = HashMap::new();
        let completed = |record: &&super::RecordEntry| record.status == RecordStatus::Completed;
        for record in self.old.records.iter().filter(completed) {
            *records_left.entry(record.text).or_default() += 1;
        }
        let mut taken = vec![Vec::new(); self.old.records.len()];
        for (index, record) in self.old.records.iter().enumerate() {
            if record.status != RecordStatus::Completed {
                continue;
            }
            let left = records_left.entry(record.text).or_default();
            *left = left.saturating_sub(1);
            if let Some(pairs) = by_text.get_mut(&record.text) {
                let amount = if *left == 0 { pairs.len() } else { pairs.len().min(record.got as usize) };
                taken[index] = pairs.drain(..amount).collect();
            }
        }
        taken
    }

    fn settle(&mut self, index: usize, position: usize, pairs: Vec<usize>) {
        let record = &self.old.records[index];
        let stands = record.chunk as usize == position;
        let finished = if let Some(reason) = record.reason {
            Finished::Failed { reason }
        } else {
            Finished::Completed { pairs: self.use_pairs(pairs) }
        };
        match finished {
            Finished::Failed { .. } => self.counts.failed += 1,
            Finished::Completed { .. } if stands => self.counts.kept += 1,
            Finished::Completed { .. } => self.counts.moved += 1,
        }
        let got = finished.got();
        self.sources[position] = ChunkSource::Previous(FinishedChunk {
            record: Some(RecordPlace { span: record.span, is_exact: stands && got == record.got }),
            round: record.round,
            asked: record.asked,
            finished,
        });
    }

    /// The places of pairs; a pair that stands there twice counts once.
    fn use_pairs(&mut self, pairs: Vec<usize>) -> Vec<Span> {
        let mut seen = HashSet::new();
        let mut spans = Vec::with_capacity(pairs.len());
        for index in pairs {
            self.used_pairs[index] = true;
            let pair = &self.old.pairs[index];
            if seen.insert(pair.words) {
                spans.push(pair.span);
            }
        }
        spans
    }

    /// Positions in order, by text.
    fn positions_where(&self, wanted: impl Fn(&Self, usize) -> bool) -> HashMap<TextHash, VecDeque<usize>> {
        let mut positions: HashMap<TextHash, VecDeque<usize>> = HashMap::new();
        for (position, chunk) in self.chunks.iter().enumerate() {
            if wanted(self, position) {
                positions.entry(chunk.text).or_default().push_back(position);
            }
        }
        positions
    }

    fn is_completed(&self, position: usize) -> bool {
        matches!(
            &self.sources[position],
            ChunkSource::Previous(FinishedChunk { finished: Finished::Completed { .. }, .. })
        )
    }

    fn was_completed(&self, position: usize) -> bool {
        u32::try_from(position).is_ok_and(|position| self.old.completed.binary_search(&position).is_ok())
    }

    fn count_outstanding(&mut self) {
        for position in 0..self.chunks.len() {
            if self.is_open(position) {
                if self.vacated.contains(&position) {
                    self.counts.changed += 1;
                } else {
                    self.counts.new += 1;
                }
            }
        }
        self.counts.dropped = self.counts.dropped.saturating_sub(self.counts.changed);
    }

    fn finish(self, file: &ChunkFile) -> Adopted {
        let old = self.old;
        let mut completed = Vec::new();
        let mut failed = Vec::new();
        let mut spans = Vec::with_capacity(old.pairs.len());
        let mut records = 0;
        let mut exact = true;
        for (position, source) in self.sources.iter().enumerate() {
            let ChunkSource::Previous(chunk) = source else { continue };
            let position = u32::try_from(position).unwrap_or(u32::MAX);
            match &chunk.finished {
                Finished::Completed { pairs } => {
                    completed.push(position);
                    spans.extend_from_slice(pairs);
                }
                Finished::Failed { .. } => failed.push(position),
            }
            match chunk.record {
                Some(record) => {
                    records += 1;
                    exact &= record.is_exact;
                }
                None => exact &= old.records.is_empty(),
            }
        }
        let all_pairs_used = spans.len() == old.pairs.len() && old.defects.unusable_pairs == 0;
        let all_used = all_pairs_used && records == old.records.len();
        let in_order = spans.is_sorted_by_key(|span| span.offset);
        let lists_agree =
            completed == old.completed && failed == old.failed && old.defects == super::Defects::default();
        let header_agrees =
            old.metadata == file.metadata.value() && old.processing_info == file.processing_info.value();
        let done = completed.len() + failed.len() == self.sources.len();
        let status = done.then(|| FileStatus::finished(completed.len(), failed.len()).as_str());
        let status_agrees = status.is_none_or(|status| old.status.as_deref() == Some(status));
        let summary_agrees = !done || summary_agrees(old, self.sources.len(), completed.len(), failed.len());
        let untouched = all_used && exact && in_order && lists_agree && header_agrees;
        Adopted {
            needs_rewrite: !(untouched && status_agrees && summary_agrees),
            keep_previous: old.records.is_empty() && !old.pairs.is_empty() || !all_used,
            chunks: self.sources,
            counts: self.counts,
        }
    }
}

fn summary_agrees(old: &QaFile, total: usize, completed: usize, failed: usize) -> bool {
    let figures = [
        ("total_chunks", total),
        ("completed_chunks", completed),
        ("failed_chunks", failed),
        ("total_qa_pairs", old.pairs.len()),
    ];
    figures
        .iter()
        .all(|(key, figure)| old.summary.get(key).and_then(serde_json::Value::as_u64) == Some(*figure as u64))
}

#[cfg(test)]
mod tests;
