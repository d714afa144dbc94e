//! From files to a plan: what is there, what is done, what is to do. Blocking; run before anything is
//! published.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use qa_shared::failpoint::{CrashPoint, crash};
use qa_shared::model::{DocumentName, GenerationSettings, JobId, PoolName, Provider};

use crate::changes::{CHUNKS_DIR, Change, changes, kept_changes};
use crate::config::{BudgetConfig, RunSettings, Start};
use crate::core::{BudgetSettings, Core, CoreSettings, FailureLimits, SPECULATION_PERCENT, Spent, TaskRef};
use crate::estimate::{self, Contexts};
use crate::files::{
    AdoptedCounts, ChunkFile, Entry, EntryLocation, FOLDER, JobFile, JobFolder, Journal, KeptSettings,
    KnownDocuments, Listing, MissingDocument, find_chunk_files, find_qa_files, first_double, generation_info,
    keep_aside, now, one_file,
};
use crate::format::counted;
use crate::plan_contexts::plan_contexts;
use crate::plan_documents::{Open, is_done, open_documents};
pub use crate::plan_error::PlanError;
use crate::plan_missing::open_missing;
use crate::reconcile::Tokens;
use crate::replay::{Light, apply_rounds, replay};
use crate::sample;
use crate::snapshots::Desk;

/// What a plan is made from.
pub(crate) struct PlanInput<'a> {
    pub(crate) chunks_dir: &'a Path,
    pub(crate) qa_dir: &'a Path,
    pub(crate) folder: &'a JobFolder,
    pub(crate) settings: &'a GenerationSettings,
    pub(crate) pool: &'a PoolName,
    pub(crate) run: &'a RunSettings,
    pub(crate) budget: &'a BudgetConfig,
    /// What the job keeps besides.
    pub(crate) kept: &'a KeptSettings,
    /// The settings that a flag of this command line says.
    pub(crate) declared: &'a [&'static str],
    /// Whether nothing may be changed.
    pub(crate) only_looks: bool,
    /// Bytes after which the journal begins a new segment.
    pub(crate) segment_bytes: u64,
}

/// Everything that a run needs from the files.
pub(crate) struct Plan {
    pub(crate) job: JobFile,
    /// The job that `--restart` put an end to: nothing of it is wanted any more.
    pub(crate) abandoned: Option<JobId>,
    pub(crate) core: Core,
    pub(crate) desks: Vec<Option<Box<Desk>>>,
    pub(crate) chunk_files: Vec<Option<Arc<ChunkFile>>>,
    pub(crate) tokens: Tokens,
    pub(crate) journal: Journal,
    pub(crate) report: PlanReport,
    /// Tasks that the queue may still hold say something that is no longer wanted.
    pub(crate) stale_tasks: bool,
    /// What the requests need.
    pub(crate) contexts: Contexts,
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
    /// Documents of the job whose chunk file is missing while something of them is outstanding.
    pub missing: BTreeMap<String, MissingDocument>,
    /// Documents without a chunk file of which the user wants no more than what there is.
    pub given_up: Vec<DocumentName>,
    /// What else should be told.
    pub notes: Vec<String>,
    /// Settings that differ from the job's and were accepted.
    pub changes: Vec<Change>,
    /// Chunks chosen by `--sample`.
    pub sample: Option<usize>,
}

/// Makes the plan; replaces nothing but what `--restart` puts aside.
pub(crate) fn plan(input: &PlanInput<'_>) -> Result<Plan, PlanError> {
    let listing = list(input)?;
    let mut report = PlanReport::default();
    let begun = begin(input, &mut report)?;
    let job = begun.job.clone().unwrap_or_else(|| new_job(input));
    if begun.job.is_none() {
        // Before anything is journalled under it.
        input.folder.save_job(&job)?;
    }
    let (opened, documents) = open(input, &listing, &job.job, &mut report)?;
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
    let Draft { core, mut desks, chunk_files, released, rounds, stale_tasks, contexts } =
        draft(input, &begun, opened, journalled, &mut report)?;
    // Before anything of them is asked for: a chunk file that is gone tomorrow is missed then.
    input.folder.save_documents(&job.job, documents)?;
    // Before the records of earlier rounds lose their meaning: what they have cost stays counted.
    input.folder.save_spent(&job.job, &core.spent())?;
    journal.release(&released)?;
    journal_rounds(&mut journal, &core, &mut desks, &rounds)?;
    let job = JobFile {
        settings: input.settings.clone(),
        pool: input.pool.clone(),
        calls_per_task: calls_per_task(input),
        kept: Some(input.kept.clone()),
        ..job
    };
    input.folder.save_job(&job)?;
    let tokens =
        (0..).zip(core.documents()).map(|(index, document)| (document.name().token(), index)).collect();
    let abandoned = begun.abandoned;
    Ok(Plan { job, abandoned, core, desks, chunk_files, tokens, journal, report, stale_tasks, contexts })
}

/// The same with nothing changed: where the run would begin.
pub(crate) fn look(input: &PlanInput<'_>) -> Result<(Core, PlanReport), PlanError> {
    let listing = list(input)?;
    let mut report = PlanReport::default();
    let begun = begin(input, &mut report)?;
    let job = begun.job.clone().unwrap_or_else(|| new_job(input));
    let (opened, _) = open(input, &listing, &job.job, &mut report)?;
    let mut journalled = Vec::new();
    if input.run.start != Start::Restart {
        Journal::look(input.folder.path(), &job.job, |location, entry| {
            journalled.push((location, Light::of(entry)));
        })?;
    }
    let draft = draft(input, &begun, opened, journalled, &mut report)?;
    Ok((draft.core, report))
}

fn list(input: &PlanInput<'_>) -> Result<Listing, PlanError> {
    let listing = find_chunk_files(input.chunks_dir)?;
    if listing.files.is_empty() && listing.unusable.is_empty() {
        return Err(PlanError::NoChunkFiles { directory: input.chunks_dir.to_owned() });
    }
    refuse_names(input, &listing)?;
    Ok(listing)
}

/// Names with which one document would get or lose the results of another one.
fn refuse_names(input: &PlanInput<'_>, listing: &Listing) -> Result<(), PlanError> {
    if let Some(file) = listing.files.iter().find(|file| file.name.as_str().starts_with(FOLDER)) {
        return Err(PlanError::ReservedName { path: file.path.clone() });
    }
    let names = listing.files.iter().map(|file| &file.name);
    if let Some((first, second)) = first_double(names, DocumentName::token) {
        return Err(PlanError::SameToken { first: first.clone(), second: second.clone() });
    }
    if !input.only_looks
        && let Some((first, second)) = one_file(listing, input.folder.path())?
    {
        let directory = input.qa_dir.to_owned();
        return Err(PlanError::SameOutput { first: first.clone(), second: second.clone(), directory });
    }
    Ok(())
}

fn new_job(input: &PlanInput<'_>) -> JobFile {
    let id = JobId::from_random(rand::random());
    let job = JobFile::new(id, now(), input.pool.clone(), input.settings.clone());
    JobFile { kept: Some(input.kept.clone()), ..job }
}

fn open(
    input: &PlanInput<'_>,
    listing: &Listing,
    job: &JobId,
    report: &mut PlanReport,
) -> Result<(Vec<Open>, KnownDocuments), PlanError> {
    let info = Arc::new(generation_info(input.settings, &now()));
    let mut opened = open_documents(input, listing, &info, report)?;
    if opened.is_empty() && !report.skipped.is_empty() {
        let (directory, skipped) = (input.chunks_dir.to_owned(), std::mem::take(&mut report.skipped));
        return Err(PlanError::NothingFinished { directory, skipped });
    }
    let known = input.folder.load_documents(job)?;
    let known = open_missing(input, known, &mut opened, report)?;
    Ok((opened, known))
}

/// Model calls that a task may make, where a budget counts on it.
fn calls_per_task(input: &PlanInput<'_>) -> Option<u32> {
    input.budget.is_limited().then_some(input.budget.calls_per_task)
}

/// What is planned and not yet written down.
struct Draft {
    core: Core,
    desks: Vec<Option<Box<Desk>>>,
    chunk_files: Vec<Option<Arc<ChunkFile>>>,
    released: Vec<EntryLocation>,
    rounds: Vec<TaskRef>,
    stale_tasks: bool,
    contexts: Contexts,
}

fn draft(
    input: &PlanInput<'_>,
    begun: &Begun,
    opened: Vec<Open>,
    journalled: Vec<(EntryLocation, Light)>,
    report: &mut PlanReport,
) -> Result<Draft, PlanError> {
    let documents = opened.len();
    let mut plans = Vec::with_capacity(documents);
    let (mut desks, mut chunk_files) = (Vec::with_capacity(documents), Vec::with_capacity(documents));
    let mut done = Vec::new();
    let mut in_records = Spent::default();
    for open in opened {
        in_records.include(&open.spent);
        if is_done(&open.plan) {
            done.push(plans.len());
        }
        plans.push(open.plan);
        desks.push(open.desk);
        chunk_files.push(open.file);
    }
    apply_rounds(&mut plans, &journalled);
    let mut core = Core::new(plans, &core_settings(input));
    let replayed = replay(&mut core, &mut desks, &chunk_files, journalled, input.budget.price);
    report.replayed = replayed.accepted;
    for document in done {
        // The replay has settled what the journal still says about them.
        (desks[document], chunk_files[document]) = (None, None);
    }
    in_records.include(&replayed.spent);
    // What was spent stays as it was priced then. A job of an earlier version of this program kept no account:
    // its records are one.
    let account = match &begun.job {
        Some(job) => input.folder.load_spent(&job.job)?,
        None => None,
    };
    let spent = account.map_or(in_records, |account| account.priced(input.budget.price));
    core.set_spent(spent);
    if begun.job.as_ref().is_some_and(|job| job.calls_per_task.is_some()) && !input.budget.is_limited() {
        let note = "the job had a budget (--max-cost or --max-tokens-total) before; this run has none";
        report.notes.push(note.to_owned());
    }

    let mut rounds = Vec::new();
    if input.run.retry_failed {
        rounds = core.retry_failed(|reason| !reason.caused_by_input());
        report.retried = rounds.len();
    }
    let outstanding = core.totals().outstanding();
    let mut stale_tasks = report.changed_documents > 0;
    if let Some(job) = &begun.job {
        let changes = changes((&job.settings, &job.pool), (input.settings, input.pool));
        stale_tasks |= !changes.is_empty();
        report.changes = changes;
        let mut kept = job.kept.as_ref().map_or_else(Vec::new, |kept| kept_changes(kept, input.kept));
        kept.retain(|change| change.setting != CHUNKS_DIR || is_elsewhere(change));
        refuse_changes(input, begun, &job.job, [&report.changes, &kept], outstanding)?;
        report.changes.extend(kept);
        if stale_tasks {
            rounds = core.renew_waiting();
        }
        // A task that may make more calls than the budget counts on must not stay in the queue.
        let calls = calls_per_task(input);
        stale_tasks |= calls.is_some() && job.calls_per_task != calls;
    }
    if let Some(wish) = input.run.sample {
        let waiting: Vec<_> = core.waiting_tasks().map(|task| (task.document, task.chunk)).collect();
        let chosen = sample::choose(waiting, wish.chunks as usize, wish.seed);
        report.sample = Some(chosen.len());
        core.select_only(&chosen);
    }
    let contexts = plan_contexts(input.settings, &mut core, &mut report.notes);
    Ok(Draft { core, desks, chunk_files, released: replayed.released, rounds, stale_tasks, contexts })
}

/// A setting that differs from the job's is refused, unless --accept-changes declares it. For what limits the job,
/// and where it writes, a flag of this command line declares it too.
fn refuse_changes(
    input: &PlanInput<'_>,
    begun: &Begun,
    job: &JobId,
    [generation, kept]: [&[Change]; 2],
    outstanding: u64,
) -> Result<(), PlanError> {
    // A job that has made nothing yet is bound to nothing.
    if input.run.accept_changes || !begun.has_output {
        return Ok(());
    }
    let is_declared = |change: &&Change| {
        change.setting != CHUNKS_DIR && input.declared.iter().any(|flag| flag.ends_with(change.setting))
    };
    let kept: Vec<_> = kept.iter().filter(|change| !is_declared(change)).cloned().collect();
    // Other chunk files matter also where those of the job are done.
    if outstanding == 0 && !kept.iter().any(|change| change.setting == CHUNKS_DIR) {
        return Ok(());
    }
    let changes = [generation, &kept].concat();
    if changes.is_empty() {
        return Ok(());
    }
    Err(PlanError::SettingsChanged { job: job.clone(), changes, outstanding })
}

/// Whether chunk files are read from another directory than before; one that has gone was moved.
fn is_elsewhere(change: &Change) -> bool {
    let [before, now] = [&change.before, &change.now].map(|path| Path::new(path).canonicalize().ok());
    before.is_some_and(|before| Some(before) != now)
}

fn core_settings(input: &PlanInput<'_>) -> CoreSettings {
    let limits = |percent| FailureLimits { percent, ..FailureLimits::default() };
    let budget = input.budget;
    CoreSettings {
        failure_limits: input.run.max_failure_percent.map(limits),
        speculation_percent: if input.run.speculates { SPECULATION_PERCENT } else { 0 },
        budget: BudgetSettings {
            max_cost: budget.max_cost,
            max_tokens: budget.max_tokens,
            price: budget.price,
            bound: estimate::at_most(input.settings, budget.calls_per_task, budget.price),
        },
    }
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
    // A look may come before the directory is made.
    let qa_files = if input.qa_dir.is_dir() { find_qa_files(input.qa_dir)?.files } else { Vec::new() };
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
            if input.only_looks {
                return Ok(Begun { job: None, abandoned, has_output: false });
            }
            let aside = input.folder.previous_path();
            let old = qa_files.iter().map(|file| &file.path).chain(&segments);
            let mut kept: u64 = 0;
            for path in old {
                kept += u64::from(keep_aside(path, &aside)?.is_some());
            }
            crash(CrashPoint::OldFilesKept);
            for path in qa_files.iter().map(|file| &file.path).chain(&segments) {
                crate::files::remove_file(path)?;
                crash(CrashPoint::OldFileRemoved);
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
            let settings = input.settings;
            if job.is_none()
                && report.resumed
                && settings.provider == Provider::Local
                && settings.ollama.num_predict.is_none()
            {
                // Once, where the Python program's output is taken over: answers had no ceiling there.
                report.notes.push(format!(
                    "an answer ends after {} tokens (--max-tokens; the Python program did not send it to Ollama)",
                    settings.output_ceiling()
                ));
            }
            Ok(Begun { job, abandoned: None, has_output: report.resumed })
        }
    }
}

/// Begun rounds are on disk before anything of them is published.
fn journal_rounds(
    journal: &mut Journal,
    core: &Core,
    desks: &mut [Option<Box<Desk>>],
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
        crash(CrashPoint::RoundsAppended);
    }
    journal.sync()?;
    if !begun.is_empty() {
        crash(CrashPoint::RoundsSynced);
    }
    Ok(())
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
