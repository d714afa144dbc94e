//! A job's documents as their files stand: what each has, and what is outstanding.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use crate::config::Start;
use crate::core::{ChunkPlan, ChunkState, DocumentPlan, FileStatus, Spent};
use crate::files::{
    AdoptedCounts, ChunkEntry, ChunkFile, ChunkSource, Finished, Listing, QaFile, QaFileError, Scanned,
    adopt, qa_path, write_unprocessable,
};
use crate::format::{count, counted, line};
use crate::plan::{PlanInput, PlanReport};
use crate::plan_error::PlanError;
use crate::plan_missing::{known_chunks, without_chunk_file};
use crate::snapshots::Desk;

/// What people are shown for the status of a chunk file that has none.
pub(crate) const NO_STATUS: &str = "none";

/// A document, ready to be worked on.
pub(crate) struct Open {
    pub(crate) plan: DocumentPlan,
    pub(crate) desk: Option<Box<Desk>>,
    pub(crate) file: Option<Arc<ChunkFile>>,
    /// What the results in its Q&A file have cost.
    pub(crate) spent: Spent,
}

/// Opens every document of the listing. A look changes nothing.
pub(crate) fn open_documents(
    input: &PlanInput<'_>,
    listing: &Listing,
    info: &Arc<Value>,
    report: &mut PlanReport,
) -> Result<Vec<Open>, PlanError> {
    for leftover in &listing.leftovers {
        report.notes.push(format!("left over by another program, not touched: `{}`", leftover.display()));
    }
    if !listing.below.is_empty() {
        let shown = listing.below.iter().take(3).map(|path| path.display().to_string());
        let shown: Vec<_> = shown.map(|path| line(&path, 200)).collect();
        let more = if listing.below.len() > shown.len() { ", ..." } else { "" };
        report.notes.push(format!(
            "{} in folders of the chunk directory not worked on, since it has chunk files itself: {}{more}",
            counted(listing.below.len() as u64, "chunk file"),
            shown.join(", ")
        ));
    }
    let mut opened = Vec::with_capacity(listing.unusable.len() + listing.files.len());
    for unusable in &listing.unusable {
        report.broken.insert(unusable.name.clone(), unusable.reason.to_owned());
        opened.push(broken(&unusable.name, unusable.reason.to_owned()));
    }
    for file in &listing.files {
        let target = qa_path(input.qa_dir, &file.name);
        match ChunkFile::scan(&file.path, file.name.clone()) {
            Ok(Scanned::Skipped { status }) => {
                let status = status.unwrap_or_else(|| NO_STATUS.to_owned());
                report.skipped.insert(file.name.to_string(), status);
            }
            Ok(Scanned::Ready(chunk_file)) => match load_old(input, &target) {
                Ok(old) => opened.push(open(input, target, *chunk_file, old, info, report)),
                Err(error) => {
                    let error = format!("{error}; move it away to generate the document anew");
                    report.broken.insert(file.name.to_string(), error.clone());
                    opened.push(broken(file.name.as_str(), error));
                }
            },
            Err(error) => {
                let error = error.to_string();
                if !input.only_looks {
                    write_unprocessable(&target, &error, info)?;
                }
                report.broken.insert(file.name.to_string(), error.clone());
                let old = load_old(input, &target).ok().flatten();
                let chunks = known_chunks(old.as_ref(), 0);
                opened.push(without_chunk_file(file.name.clone(), chunks, Some(error), old.as_ref(), input));
            }
        }
    }
    Ok(opened)
}

/// A new job does not take over what it is about to replace.
fn load_old(input: &PlanInput<'_>, target: &Path) -> Result<Option<QaFile>, QaFileError> {
    if input.run.start == Start::Restart { Ok(None) } else { QaFile::load_if_there(target) }
}

fn broken(name: &str, error: String) -> Open {
    let plan = DocumentPlan {
        name: qa_shared::model::DocumentName::new(name),
        chunks: Vec::new(),
        file_status: None,
        is_complete: false,
        needs_rewrite: false,
        error: Some(error),
    };
    Open { plan, desk: None, file: None, spent: Spent::default() }
}

fn open(
    input: &PlanInput<'_>,
    target: PathBuf,
    chunk_file: ChunkFile,
    old: Option<QaFile>,
    info: &Arc<Value>,
    report: &mut PlanReport,
) -> Open {
    note_findings(&chunk_file, report);
    let mut desk = Desk {
        target,
        chunk_file: Arc::new(chunk_file),
        sources: Vec::new(),
        previous: None,
        generation_info: Arc::clone(info),
        keep_previous_in: None,
        rounds: Vec::new(),
    };
    let (mut file_status, mut needs_rewrite) = (None, false);
    let mut spent = Spent::default();
    if let Some(old) = old {
        for record in &old.records {
            spent.add(u64::from(record.attempts), record.usage, input.budget.price);
        }
        let adopted = adopt(&desk.chunk_file, &old);
        add_counts(&mut report.chunks, adopted.counts);
        let changed = adopted.counts.moved + adopted.counts.changed + adopted.counts.dropped > 0;
        report.changed_documents += usize::from(changed);
        let outstanding = adopted.counts.failed + adopted.counts.changed + adopted.counts.new;
        report.done_documents += usize::from(outstanding == 0);
        file_status = old.status.as_deref().and_then(FileStatus::from_word);
        needs_rewrite = adopted.needs_rewrite;
        desk.sources = adopted.chunks;
        desk.keep_previous_in = adopted.keep_previous.then(|| input.folder.previous_path());
        desk.generation_info = Arc::new(carried_over(&old.source.generation_info, info));
        desk.previous = Some(Box::new(old.source));
    } else {
        report.new_documents += 1;
        report.chunks.new += desk.chunk_file.chunks.len();
    }
    let sources = desk.sources.iter().chain(std::iter::repeat(&ChunkSource::Outstanding));
    let chunks: Vec<_> = sources.zip(&desk.chunk_file.chunks).map(chunk_plan).collect();
    let plan = DocumentPlan {
        name: desk.chunk_file.name.clone(),
        is_complete: chunks.iter().all(|chunk| chunk.state != ChunkState::Waiting),
        chunks,
        file_status,
        needs_rewrite,
        error: None,
    };
    let file = Some(Arc::clone(&desk.chunk_file));
    if is_done(&plan) {
        // Its file stays as it is: nobody will look for places in it.
        (desk.sources, desk.previous) = (Vec::new(), None);
    }
    Open { plan, desk: Some(Box::new(desk)), file, spent }
}

/// What in a chunk file is not as it should be and costs no more than single chunks.
fn note_findings(file: &ChunkFile, report: &mut PlanReport) {
    let name = line(file.name.as_str(), 120);
    if file.repairs.any() {
        report.notes.push(format!("{name}: {}", file.repairs));
    }
    let uris = file.data_uris;
    if uris.number > 0 {
        report.notes.push(format!(
            "{name}: {} in {} left out of the prompts ({} kB); `source_text` keeps what the file has",
            counted(uris.number as u64, "data URI"),
            counted(uris.chunks as u64, "chunk"),
            count((uris.bytes as u64).div_ceil(1000))
        ));
    }
    if file.textless.number > 0 {
        let named = file.textless.first.iter().map(|(position, found)| format!("chunk {position}: {found}"));
        let named: Vec<_> = named.collect();
        let more = file.textless.number - named.len();
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        let number = counted(file.textless.number as u64, "chunk");
        let named = line(&named.join("; "), 400);
        report.notes.push(format!("{name}: {number} without a text cannot be asked about ({named}{more})"));
    }
}

/// Whether there is nothing to do for a document in this run, whatever the journal holds: every chunk has its
/// pairs, and its file says so.
pub(crate) fn is_done(plan: &DocumentPlan) -> bool {
    plan.file_status == Some(FileStatus::Completed)
        && !plan.needs_rewrite
        && plan.error.is_none()
        && plan.chunks.iter().all(|chunk| matches!(chunk.state, ChunkState::Completed { .. }))
}

fn chunk_plan((source, entry): (&ChunkSource, &ChunkEntry)) -> ChunkPlan {
    let (state, round) = match source {
        ChunkSource::Outstanding | ChunkSource::Journal(_) => (ChunkState::Waiting, 1),
        ChunkSource::Previous(finished) => {
            let state = match &finished.finished {
                Finished::Completed { .. } => ChunkState::Completed { got: finished.finished.got() },
                Finished::Failed { reason } => ChunkState::Failed { reason: *reason },
            };
            (state, finished.round.max(1))
        }
    };
    ChunkPlan { text_hash: entry.text, state, round, tokens: entry.tokens, bytes: entry.bytes }
}

/// The old file's information goes on; what the user may have changed since is today's.
fn carried_over(old: &Value, new: &Value) -> Value {
    let (Some(old), Some(new)) = (old.as_object(), new.as_object()) else { return new.clone() };
    let mut carried = old.clone();
    for (key, value) in new {
        if key != "generated_at" || !carried.contains_key(key) {
            carried.insert(key.clone(), value.clone());
        }
    }
    Value::Object(carried)
}

fn add_counts(total: &mut AdoptedCounts, counts: AdoptedCounts) {
    total.kept += counts.kept;
    total.moved += counts.moved;
    total.failed += counts.failed;
    total.changed += counts.changed;
    total.new += counts.new;
    total.dropped += counts.dropped;
}
