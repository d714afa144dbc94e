//! From files to a plan: what is there, what is done, what is to do. Blocking; run before anything is
//! published.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use qa_shared::model::{GenerationSettings, JobId, PoolName};
use serde_json::Value;

use crate::changes::{Change, changes};
use crate::config::{RunSettings, Start};
use crate::core::{
    ChunkPlan, ChunkState, Core, CoreSettings, DocumentPlan, FailureLimits, FileStatus, TaskRef,
};
use crate::files::{
    AdoptedCounts, ChunkFile, ChunkSource, Entry, FileError, Finished, JobFile, JobFolder, JobFolderError,
    Journal, JournalError, Listing, QaFile, Scanned, adopt, find_chunk_files, find_qa_files, generation_info,
    keep_aside, now, qa_path, write_unprocessable,
};
use crate::format::counted;
use crate::reconcile::Tokens;
use crate::replay::{Light, apply_rounds, replay};
use crate::sample;
use crate::snapshots::Desk;

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// There is nothing to do anything with.
    #[error("no file named *_chunks.json in `{}`: check --chunks-dir, or run the chunker first", directory.display())]
    NoChunkFiles {
        /// The directory.
        directory: PathBuf,
    },
    /// There are chunk files, and none of them is finished.
    #[error(
        "nothing to do: of {skipped} chunk files in `{}` none has the status `completed` ({name} has {status}); \
         a chunk file needs \"status\": \"completed\" and \"chunks\": [{{\"text\": \"...\"}}]",
        directory.display()
    )]
    NothingFinished {
        /// The directory.
        directory: PathBuf,
        /// How many there are.
        skipped: usize,
        /// One of them.
        name: String,
        /// Its status.
        status: String,
    },
    /// Output exists and nobody said what to do with it.
    #[error(
        "output exists in `{}` ({found}): use --resume to go on with it, or --restart to begin anew \
         (the old files are kept in .qa-fleet/previous)",
        directory.display()
    )]
    OutputExists {
        /// The directory.
        directory: PathBuf,
        /// What is there.
        found: String,
    },
    /// Settings differ from the job's.
    #[error(
        "the settings differ from those that job {job} was begun with:\n{}\n  use the old settings, or \
         --accept-changes to use the new ones for the {outstanding} outstanding chunks, or --restart",
        list_changes(changes)
    )]
    SettingsChanged {
        /// The job.
        job: JobId,
        /// What differs.
        changes: Vec<Change>,
        /// Chunks that are not accounted for.
        outstanding: u64,
    },
    /// The file system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// The job folder cannot be used.
    #[error(transparent)]
    Folder(#[from] JobFolderError),
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

fn list_changes(changes: &[Change]) -> String {
    let lines: Vec<_> = changes
        .iter()
        .map(|change| format!("  {}: {} before, {} now", change.setting, change.before, change.now))
        .collect();
    lines.join("\n")
}

/// What a plan is made from.
pub(crate) struct PlanInput<'a> {
    pub(crate) chunks_dir: &'a Path,
    pub(crate) qa_dir: &'a Path,
    pub(crate) folder: &'a JobFolder,
    pub(crate) settings: &'a GenerationSettings,
    pub(crate) pool: &'a PoolName,
    pub(crate) run: &'a RunSettings,
    /// Bytes after which the journal begins a new segment.
    pub(crate) segment_bytes: u64,
}

/// Everything that a run needs from the files.
pub(crate) struct Plan {
    pub(crate) job: JobFile,
    /// The job that `--restart` put an end to: nothing of it is wanted any more.
    pub(crate) abandoned: Option<JobId>,
    pub(crate) core: Core,
    pub(crate) desks: Vec<Option<Desk>>,
    pub(crate) chunk_files: Vec<Option<Arc<ChunkFile>>>,
    pub(crate) tokens: Tokens,
    pub(crate) journal: Journal,
    pub(crate) report: PlanReport,
    /// Tasks that the queue may still hold say something that is no longer wanted.
    pub(crate) stale_tasks: bool,
    /// An estimate of the longest chunk's tokens.
    pub(crate) longest_chunk_tokens: u32,
}

/// The figures shown before the run begins.
#[derive(Debug, Clone, Default)]
pub struct PlanReport {
    /// Whether an earlier job, or the Python program's work, is gone on with.
    pub resumed: bool,
    /// Documents without any earlier output.
    pub new_documents: usize,
    /// Documents of which every chunk is completed.
    pub done_documents: usize,
    /// Documents whose chunk file has changed since.
    pub changed_documents: usize,
    /// Chunks, over all documents.
    pub chunks: AdoptedCounts,
    /// Failed chunks that are tried again.
    pub retried: usize,
    /// Results found in the journal.
    pub replayed: usize,
    /// Chunk files that the chunker has not finished, with their status.
    pub skipped: BTreeMap<String, String>,
    /// Documents that cannot be processed, with the reason.
    pub broken: BTreeMap<String, String>,
    /// What else should be told.
    pub notes: Vec<String>,
    /// Settings that differ from the job's and were accepted.
    pub changes: Vec<Change>,
    /// Chunks chosen by `--sample`.
    pub sample: Option<usize>,
}

struct Open {
    plan: DocumentPlan,
    desk: Option<Desk>,
    file: Option<Arc<ChunkFile>>,
}

/// Makes the plan; replaces nothing but what `--restart` puts aside.
pub(crate) fn plan(input: &PlanInput<'_>) -> Result<Plan, PlanError> {
    let listing = find_chunk_files(input.chunks_dir)?;
    if listing.files.is_empty() && listing.unusable.is_empty() {
        return Err(PlanError::NoChunkFiles { directory: input.chunks_dir.to_owned() });
    }
    let mut report = PlanReport::default();
    let begun = begin(input, &mut report)?;
    let is_old_job = begun.job.is_some();
    let job = if let Some(job) = begun.job {
        job
    } else {
        let id = JobId::from_random(rand::random());
        let job = JobFile::new(id, now(), input.pool.clone(), input.settings.clone());
        // Before anything is journalled under it.
        input.folder.save_job(&job)?;
        job
    };
    let info = generation_info(input.settings, &now());
    let opened = open_documents(input, &listing, &info, &mut report)?;
    if let (true, Some((name, status))) = (opened.is_empty(), report.skipped.first_key_value()) {
        return Err(PlanError::NothingFinished {
            directory: input.chunks_dir.to_owned(),
            skipped: report.skipped.len(),
            name: name.clone(),
            status: status.clone(),
        });
    }
    let longest_chunk_tokens = opened
        .iter()
        .filter_map(|open| open.file.as_ref().map(|file| file.longest_tokens))
        .max()
        .unwrap_or(0);
    let limits =
        input.run.max_failure_percent.map(|percent| FailureLimits { percent, ..FailureLimits::default() });
    let (mut plans, mut desks, mut chunk_files) = (Vec::new(), Vec::new(), Vec::new());
    for open in opened {
        plans.push(open.plan);
        desks.push(open.desk);
        chunk_files.push(open.file);
    }
    let mut journalled = Vec::new();
    let (mut journal, torn) =
        Journal::open(input.folder.path(), &job.job, input.segment_bytes, |location, entry| {
            journalled.push((location, Light::of(entry)));
        })?;
    for end in torn {
        report.notes.push(format!(
            "the journal's torn end was cut: {} bytes of `{}`",
            end.cut,
            end.path.display()
        ));
    }
    apply_rounds(&mut plans, &journalled);
    let mut core = Core::new(plans, &CoreSettings { failure_limits: limits });
    let replayed = replay(&mut core, &mut desks, &chunk_files, journalled);
    report.replayed = replayed.accepted;
    journal.release(&replayed.released)?;
    let tokens =
        (0..).zip(core.documents()).map(|(index, document)| (document.name().token(), index)).collect();

    let mut rounds = Vec::new();
    if input.run.retry_failed {
        rounds = core.retry_failed(|reason| !reason.caused_by_input());
        report.retried = rounds.len();
    }
    let changes = changes((&job.settings, &job.pool), (input.settings, input.pool));
    let outstanding = core.totals().outstanding();
    // A job that has made nothing yet is bound to nothing.
    if !changes.is_empty() && !input.run.accept_changes && begun.has_output && outstanding > 0 {
        return Err(PlanError::SettingsChanged { job: job.job, changes, outstanding });
    }
    let texts_moved = report.changed_documents > 0;
    if is_old_job && (!changes.is_empty() || texts_moved) {
        rounds = core.renew_waiting();
    }
    journal_rounds(&mut journal, &core, &mut desks, &rounds)?;
    if let Some(wish) = input.run.sample {
        let waiting: Vec<_> = core.waiting_tasks().map(|task| (task.document, task.chunk)).collect();
        let chosen = sample::choose(waiting, wish.chunks as usize, wish.seed);
        report.sample = Some(chosen.len());
        core.select_only(&chosen);
    }
    let stale_tasks = !changes.is_empty() || texts_moved;
    report.changes = changes;
    let job = JobFile { settings: input.settings.clone(), pool: input.pool.clone(), ..job };
    input.folder.save_job(&job)?;
    let abandoned = begun.abandoned;
    Ok(Plan {
        job,
        abandoned,
        core,
        desks,
        chunk_files,
        tokens,
        journal,
        report,
        stale_tasks,
        longest_chunk_tokens,
    })
}

/// What a run begins with.
struct Begun {
    /// The job that goes on.
    job: Option<JobFile>,
    /// The job that ends by this.
    abandoned: Option<JobId>,
    /// Whether there is anything that an earlier run made.
    has_output: bool,
}

/// Decides between a new job and the one that is there.
fn begin(input: &PlanInput<'_>, report: &mut PlanReport) -> Result<Begun, PlanError> {
    let qa_files = find_qa_files(input.qa_dir)?.files;
    let segments = Journal::segments(input.folder.path())?;
    match input.run.start {
        Start::Fresh if !qa_files.is_empty() || !segments.is_empty() => {
            let found = match qa_files.len() {
                0 => "a journal of results that are in no Q&A file yet".to_owned(),
                1 => format!("{}_qa.json", qa_files[0].name),
                count => format!("{count} Q&A files, such as {}_qa.json", qa_files[0].name),
            };
            Err(PlanError::OutputExists { directory: input.qa_dir.to_owned(), found })
        }
        Start::Restart => {
            // A job file that cannot be read names no job to end.
            let abandoned = input.folder.load_job().ok().flatten().map(|job| job.job);
            let aside = input.folder.previous_path();
            let old = qa_files.iter().map(|file| &file.path).chain(&segments);
            let mut kept: u64 = 0;
            for path in old {
                kept += u64::from(keep_aside(path, &aside)?.is_some());
            }
            for path in qa_files.iter().map(|file| &file.path).chain(&segments) {
                crate::files::remove_file(path)?;
            }
            if kept > 0 {
                report.notes.push(format!(
                    "--restart: {} kept in `{}`",
                    counted(kept, "old file"),
                    aside.display()
                ));
            }
            Ok(Begun { job: None, abandoned, has_output: false })
        }
        Start::Fresh | Start::Resume => {
            let job = input.folder.load_job()?;
            report.resumed = !qa_files.is_empty() || !segments.is_empty();
            Ok(Begun { job, abandoned: None, has_output: report.resumed })
        }
    }
}

fn open_documents(
    input: &PlanInput<'_>,
    listing: &Listing,
    info: &Value,
    report: &mut PlanReport,
) -> Result<Vec<Open>, PlanError> {
    for leftover in &listing.leftovers {
        report.notes.push(format!("left over by another program, not touched: `{}`", leftover.display()));
    }
    let mut opened = Vec::new();
    for unusable in &listing.unusable {
        report.broken.insert(unusable.name.clone(), unusable.reason.to_owned());
        opened.push(broken(&unusable.name, unusable.reason.to_owned()));
    }
    for file in &listing.files {
        let target = qa_path(input.qa_dir, &file.name);
        match ChunkFile::scan(&file.path, file.name.clone()) {
            Ok(Scanned::Skipped { status }) => {
                let status = status.unwrap_or_else(|| "none".to_owned());
                report.skipped.insert(file.name.to_string(), status);
            }
            Ok(Scanned::Ready(chunk_file)) => match QaFile::load_if_there(&target) {
                Ok(old) => opened.push(open(input, target, *chunk_file, old, info, report)),
                Err(error) => {
                    let error = format!("{error}; move it away to generate the document anew");
                    report.broken.insert(file.name.to_string(), error.clone());
                    opened.push(broken(file.name.as_str(), error));
                }
            },
            Err(error) => {
                let error = error.to_string();
                write_unprocessable(&target, &error, info)?;
                report.broken.insert(file.name.to_string(), error.clone());
                opened.push(broken(file.name.as_str(), error));
            }
        }
    }
    Ok(opened)
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
    Open { plan, desk: None, file: None }
}

fn open(
    input: &PlanInput<'_>,
    target: PathBuf,
    chunk_file: ChunkFile,
    old: Option<QaFile>,
    info: &Value,
    report: &mut PlanReport,
) -> Open {
    let mut desk = Desk {
        target,
        chunk_file: Arc::new(chunk_file),
        sources: Vec::new(),
        previous: None,
        generation_info: info.clone(),
        keep_previous_in: None,
        rounds: Vec::new(),
    };
    let (mut file_status, mut needs_rewrite) = (None, false);
    if let Some(old) = old {
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
        desk.generation_info = carried_over(&old.source.generation_info, info);
        desk.previous = Some(old.source);
    } else {
        report.new_documents += 1;
        report.chunks.new += desk.chunk_file.chunks.len();
        desk.sources = vec![ChunkSource::Outstanding; desk.chunk_file.chunks.len()];
    }
    let chunks: Vec<ChunkPlan> = desk.sources.iter().zip(&desk.chunk_file.chunks).map(chunk_plan).collect();
    let plan = DocumentPlan {
        name: desk.chunk_file.name.clone(),
        is_complete: !desk.sources.contains(&ChunkSource::Outstanding),
        chunks,
        file_status,
        needs_rewrite,
        error: None,
    };
    let file = Some(Arc::clone(&desk.chunk_file));
    Open { plan, desk: Some(desk), file }
}

fn chunk_plan((source, entry): (&ChunkSource, &crate::files::ChunkEntry)) -> ChunkPlan {
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
    ChunkPlan { text_hash: entry.text, state, round }
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

/// Begun rounds are on disk before anything of them is published.
fn journal_rounds(
    journal: &mut Journal,
    core: &Core,
    desks: &mut [Option<Desk>],
    begun: &[TaskRef],
) -> Result<(), PlanError> {
    let mut groups: BTreeMap<(u32, u32), Vec<u32>> = BTreeMap::new();
    for task in begun {
        groups.entry((task.document, task.round)).or_default().push(task.chunk);
    }
    for ((index, round), chunks) in groups {
        let Some(document) = core.documents().get(index as usize) else { continue };
        let location = journal.append(&Entry::Rounds { document: document.name().clone(), chunks, round })?;
        if let Some(Some(desk)) = desks.get_mut(index as usize) {
            desk.rounds.push(location);
        }
    }
    journal.sync()?;
    Ok(())
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
