//! Documents of the job without a chunk file that can be read: they are counted by what the job and their Q&A files
//! know of them.

use std::collections::{BTreeMap, BTreeSet};

use qa_shared::model::{DocumentName, FailureReason, TextHash};

use crate::config::Start;
use crate::core::{ChunkPlan, ChunkState, DocumentPlan, FileStatus, Spent};
use crate::files::{KnownDocuments, MissingDocument, QaFile, RecordStatus, find_qa_files, qa_path};
use crate::format::{count, counted, line};
use crate::plan::{PlanInput, PlanReport};
use crate::plan_documents::Open;
use crate::plan_error::PlanError;

/// Chunks that are believed to a Q&A file without anything else to go by.
const MOST_UNLISTED: u64 = 1_000_000;
/// Documents that a note names.
const NAMED: usize = 5;

impl MissingDocument {
    fn of(chunks: &[ChunkPlan]) -> Self {
        let with = |has: fn(&ChunkState) -> bool| chunks.iter().filter(|chunk| has(&chunk.state)).count();
        let completed = with(|state| matches!(state, ChunkState::Completed { .. }));
        let failed = with(|state| matches!(state, ChunkState::Failed { .. }));
        Self { chunks: chunks.len(), completed, failed, outstanding: chunks.len() - completed - failed }
    }

    /// In words.
    pub(crate) fn describe(self) -> String {
        let failed =
            if self.failed == 0 { String::new() } else { format!(", {} failed", count(self.failed as u64)) };
        format!(
            "its chunk file is missing: {} of {} done{failed}, {} outstanding",
            count(self.completed as u64),
            counted(self.chunks as u64, "chunk"),
            count(self.outstanding as u64)
        )
    }
}

/// Adds the documents that the job has and the listing has not; gives the job's documents as they are known now.
pub(crate) fn open_missing(
    input: &PlanInput<'_>,
    mut known: KnownDocuments,
    opened: &mut Vec<Open>,
    report: &mut PlanReport,
) -> Result<KnownDocuments, PlanError> {
    let present: BTreeSet<String> =
        opened.iter().map(|open| open.plan.name.to_string()).chain(report.skipped.keys().cloned()).collect();
    known.given_up.retain(|name| !present.contains(name));
    let mut names: BTreeSet<DocumentName> = known.chunks.keys().map(DocumentName::new).collect();
    // A new job does not take over what it is about to replace.
    if input.run.start != Start::Restart && input.qa_dir.is_dir() {
        names.extend(find_qa_files(input.qa_dir)?.files.into_iter().map(|file| file.name));
    }
    let (mut complete, mut given_up) = (Vec::new(), Vec::new());
    for name in names.into_iter().filter(|name| !present.contains(name.as_str())) {
        let listed = known.chunks.get(name.as_str()).copied().unwrap_or(0);
        let old = match QaFile::load_if_there(&qa_path(input.qa_dir, &name)) {
            Ok(old) => old,
            Err(error) => {
                let error = format!("its chunk file is missing, and {error}");
                report.broken.insert(name.to_string(), error.clone());
                opened.push(without_chunk_file(name, known_chunks(None, listed), Some(error), None, input));
                continue;
            }
        };
        let mut chunks = known_chunks(old.as_ref(), listed);
        let missing = MissingDocument::of(&chunks);
        // A document that never could be processed, and whose chunk file was taken away.
        if missing.chunks == 0 {
            continue;
        }
        if missing.completed == missing.chunks {
            complete.push(name.clone());
        } else if input.run.accept_changes || known.given_up.contains(name.as_str()) {
            known.given_up.insert(name.to_string());
            given_up.push(name.clone());
            chunks.retain(|chunk| matches!(chunk.state, ChunkState::Completed { .. }));
        } else {
            report.missing.insert(name.to_string(), missing);
            let error = Some(missing.describe());
            opened.push(without_chunk_file(name, chunks, error, old.as_ref(), input));
            continue;
        }
        opened.push(without_chunk_file(name, chunks, None, old.as_ref(), input));
    }
    note(report, &complete, "without a chunk file and complete: the pairs stay in the combined file");
    note(report, &given_up, "without a chunk file and given up: what the Q&A files have is combined");
    report.given_up = given_up;
    for open in opened.iter().filter(|open| open.file.is_some()) {
        let chunks = u32::try_from(open.plan.chunks.len()).unwrap_or(u32::MAX);
        known.chunks.insert(open.plan.name.to_string(), chunks);
    }
    Ok(known)
}

fn note(report: &mut PlanReport, names: &[DocumentName], what: &str) {
    if names.is_empty() {
        return;
    }
    let shown: Vec<_> = names.iter().take(NAMED).map(|name| line(name.as_str(), 120)).collect();
    let more = if names.len() > shown.len() { ", ..." } else { "" };
    let number = counted(names.len() as u64, "document");
    report.notes.push(format!("{number} {what} ({}{more})", shown.join(", ")));
}

/// A document of which no chunk can be asked about: with an error it is not settled, without one nothing of it is
/// wanted any more.
pub(crate) fn without_chunk_file(
    name: DocumentName,
    chunks: Vec<ChunkPlan>,
    error: Option<String>,
    old: Option<&QaFile>,
    input: &PlanInput<'_>,
) -> Open {
    let mut spent = Spent::default();
    for record in old.iter().flat_map(|old| &old.records) {
        spent.add(u64::from(record.attempts), record.usage, input.budget.price);
    }
    let found = old.and_then(|old| old.status.as_deref()).and_then(FileStatus::from_word);
    // Its file stays as it is.
    let file_status = if error.is_none() { Some(FileStatus::Completed) } else { found };
    let plan =
        DocumentPlan { name, chunks, file_status, is_complete: error.is_none(), needs_rewrite: false, error };
    Open { plan, desk: None, file: None, spent }
}

/// What is known of a document's chunks without their texts. `listed` is how many the job has counted.
pub(crate) fn known_chunks(old: Option<&QaFile>, listed: u32) -> Vec<ChunkPlan> {
    let unknown =
        ChunkPlan { text_hash: TextHash::of(""), state: ChunkState::Waiting, round: 1, tokens: 0, bytes: 0 };
    let Some(old) = old else { return vec![unknown; listed as usize] };
    let told = old.processing_info.get("total_chunks").and_then(serde_json::Value::as_u64);
    let told = if listed > 0 { 0 } else { told.unwrap_or(0).min(MOST_UNLISTED) };
    let positions = old.records.iter().map(|record| record.chunk).chain(old.completed.iter().copied());
    let last = positions.chain(old.failed.iter().copied()).max().map_or(0, |last| u64::from(last) + 1);
    let total = usize::try_from(u64::from(listed).max(told).max(last)).unwrap_or(usize::MAX);
    let mut chunks: BTreeMap<usize, ChunkPlan> = BTreeMap::new();
    for record in &old.records {
        let state = match (record.status, record.reason) {
            (RecordStatus::Completed, _) => ChunkState::Completed { got: record.got },
            (RecordStatus::Failed, reason) => {
                ChunkState::Failed { reason: reason.unwrap_or(FailureReason::Other) }
            }
        };
        let round = record.round.max(1);
        chunks.insert(record.chunk as usize, ChunkPlan { text_hash: record.text, state, round, ..unknown });
    }
    for position in &old.failed {
        let state = ChunkState::Failed { reason: FailureReason::Other };
        chunks.entry(*position as usize).or_insert(ChunkPlan { state, ..unknown });
    }
    let without_record: Vec<usize> = old
        .completed
        .iter()
        .map(|position| *position as usize)
        .filter(|position| !chunks.contains_key(position))
        .collect();
    let pairs = old.pairs.len() + old.defects.unusable_pairs;
    let shares: Vec<_> = shares(pairs, &chunks, without_record.len()).collect();
    for (position, got) in without_record.iter().zip(shares) {
        chunks.insert(*position, ChunkPlan { state: ChunkState::Completed { got }, ..unknown });
    }
    (0..total).map(|position| chunks.get(&position).copied().unwrap_or(unknown)).collect()
}

/// The pairs of chunks without a record (the Python program's): together what the file has beside the records.
fn shares(pairs: usize, recorded: &BTreeMap<usize, ChunkPlan>, number: usize) -> impl Iterator<Item = u32> {
    let got = |chunk: &ChunkPlan| match chunk.state {
        ChunkState::Completed { got } => got as usize,
        ChunkState::Waiting | ChunkState::Published | ChunkState::Failed { .. } => 0,
    };
    let rest = pairs.saturating_sub(recorded.values().map(got).sum());
    (0..number).map(move |position| {
        let share = rest / number + usize::from(position < rest % number);
        u32::try_from(share).unwrap_or(u32::MAX)
    })
}
