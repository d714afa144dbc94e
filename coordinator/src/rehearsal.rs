//! A run without queue and workers, with a clock of its own: results come at a set pace, files are real. It is
//! how benchmarks learn what core, journal and Q&A files cost at a million chunks and at the pace of a real
//! model, in minutes instead of weeks.
//!
//! What a run does on many threads happens here one after the other: a task's text is read and written as a
//! message, its result is read from one, applied, journalled; once a (simulated) second the journal is synced,
//! figures are saved, and the Q&A files that are due are written. It must not decide anything: that is the
//! core's business, as ever.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use qa_shared::model::{
    GenerationSettings, OllamaOptions, Outcome, PoolName, PromptSettings, Provider, Task, TaskResult,
};
use qa_shared::wire;
use tokio::sync::mpsc;

use crate::config::{BudgetConfig, RunSettings, Start};
use crate::core::{Core, Effect, Event, ReceiptId, ResultFact, TaskRef, Verdict, window};
use crate::done::Done;
use crate::files::{
    ChunkFile, ChunkReader, EventLog, FAILURE_LOG_BYTES, FailureLog, JobFolder, SEGMENT_BYTES,
};
use crate::liveness_watch::LivenessWatch;
use crate::perform::entry_of;
use crate::plan::{Plan, PlanInput, plan};
use crate::publisher::TaskForm;
use crate::recorder::{Recorder, RecorderCommand, Recording, Unsynced};
use crate::snapshots::{SnapshotCommand, Snapshots};
use crate::speed::Speed;
use crate::view::{self, Sight};

/// Slots of the fleet that is not there.
const SLOTS: u32 = 16;
/// Reports that may wait: those of a whole second, since nobody takes them meanwhile.
const REPORTS: usize = 10_000_000;

/// What is rehearsed.
#[derive(Debug, Clone, Copy)]
pub struct Rehearsal<'a> {
    /// The chunk files.
    pub chunks_dir: &'a Path,
    /// Where the output goes.
    pub qa_dir: &'a Path,
    /// Results per second of the run's own clock; as many as come in a real second where absent.
    pub per_second: Option<u32>,
    /// The process is gone after so many results, as if it were killed.
    pub killed_after: Option<u64>,
}

/// How it went.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rehearsed {
    /// Until everything was read and the first task could go out.
    pub start_up: Duration,
    /// From there until the last Q&A file was written.
    pub work: Duration,
    /// Results that were applied.
    pub results: u64,
    /// Q&A files that were written.
    pub snapshots: u64,
    /// Chunks that are still to do.
    pub outstanding: u64,
}

impl Rehearsal<'_> {
    /// Runs until everything is done, or to the moment at which the process is gone. `answer` gives a task's
    /// result.
    pub fn run(&self, answer: impl Fn(&Task) -> TaskResult) -> Result<Rehearsed, String> {
        let begun = Instant::now();
        let folder = JobFolder::create(self.qa_dir).map_err(text)?;
        let (settings, pool, budget) = (settings(), PoolName::new("rehearsal"), budget());
        let planned = plan(&PlanInput {
            chunks_dir: self.chunks_dir,
            qa_dir: self.qa_dir,
            folder: &folder,
            settings: &settings,
            pool: &pool,
            run: &RUN_SETTINGS,
            budget: &budget,
            kept: &crate::files::KeptSettings::default(),
            declared: &[],
            only_looks: false,
            segment_bytes: SEGMENT_BYTES,
        })
        .map_err(text)?;
        let mut stage = Stage::new(planned, folder, budget)?;
        let mut rehearsed = Rehearsed { start_up: begun.elapsed(), ..Rehearsed::default() };
        let begun = Instant::now();
        stage.play(self, answer)?;
        rehearsed.work = begun.elapsed();
        rehearsed.results = stage.results;
        rehearsed.snapshots = stage.snapshots_written;
        rehearsed.outstanding = stage.core.totals().outstanding();
        Ok(rehearsed)
    }
}

/// A run's parts, all in one place.
struct Stage {
    form: TaskForm,
    core: Core,
    chunk_files: Vec<Option<Arc<ChunkFile>>>,
    budget: BudgetConfig,
    recorder: Recorder,
    recorder_inbox: Receiver<RecorderCommand>,
    unsynced: Unsynced,
    snapshots: Snapshots,
    snapshot_inbox: Receiver<SnapshotCommand>,
    reports: mpsc::Receiver<Done>,
    /// The result that is being applied.
    held: Option<Box<Recording>>,
    /// Tasks that are out.
    queue: VecDeque<TaskRef>,
    speed: Speed,
    started: Instant,
    results: u64,
    snapshots_written: u64,
}

impl Stage {
    fn new(planned: Plan, folder: JobFolder, budget: BudgetConfig) -> Result<Self, String> {
        let (done, reports) = mpsc::channel(REPORTS);
        let (to_recorder, recorder_inbox) = channel();
        let (to_snapshots, snapshot_inbox) = channel();
        let snapshots = Snapshots {
            desks: planned.desks,
            models: Arc::clone(&budget.models),
            journal: planned.journal.reader(),
            // Nobody sends to it: what is asked for comes through the stage.
            commands: channel().1,
            recorder: to_recorder,
            done: done.clone(),
        };
        let recorder = Recorder {
            journal: planned.journal,
            failure_log: FailureLog::new(folder.path(), None, FAILURE_LOG_BYTES).map_err(text)?,
            event_log: EventLog::new(folder.path()),
            folder,
            job: planned.job.job.clone(),
            commands: channel().1,
            snapshots: to_snapshots,
            done,
        };
        Ok(Self {
            form: TaskForm {
                job: planned.job.job,
                pool: planned.job.pool,
                settings: planned.job.settings,
                max_calls: None,
                apart: None,
            },
            core: planned.core,
            chunk_files: planned.chunk_files,
            budget,
            recorder,
            recorder_inbox,
            unsynced: Unsynced::default(),
            snapshots,
            snapshot_inbox,
            reports,
            held: None,
            queue: VecDeque::new(),
            speed: Speed::new(),
            started: Instant::now(),
            results: 0,
            snapshots_written: 0,
        })
    }

    fn play(
        &mut self,
        rehearsal: &Rehearsal<'_>,
        answer: impl Fn(&Task) -> TaskResult,
    ) -> Result<(), String> {
        self.apply(Event::Start)?;
        self.settle()?;
        while !self.core.is_finished() {
            let rate = rehearsal.per_second.map_or(f64::INFINITY, f64::from);
            self.apply(Event::Window(window(SLOTS, rate, 1)))?;
            let (second, before) = (Instant::now(), self.results);
            while let Some(task) = self.queue.pop_front() {
                self.finish(task, &answer)?;
                if rehearsal.killed_after.is_some_and(|results| self.results >= results) {
                    return self.sync();
                }
                let is_over = match rehearsal.per_second {
                    Some(results) => self.results - before >= u64::from(results),
                    None => second.elapsed() >= Duration::from_secs(1),
                };
                if is_over {
                    break;
                }
            }
            self.sync()?;
            self.settle()?;
            self.show()?;
        }
        self.release()?;
        self.recorder.journal.tidy().map_err(text)?;
        Ok(())
    }

    /// A task on its way to a worker and back.
    fn finish(&mut self, task: TaskRef, answer: impl Fn(&Task) -> TaskResult) -> Result<(), String> {
        let chunk_file = self.chunk_files.get(task.document as usize).and_then(Option::as_ref);
        let chunk_file = chunk_file.ok_or("a document without a chunk file has no tasks")?;
        let mut reader = ChunkReader::open(chunk_file).map_err(text)?;
        let sent = self.form.fill(task, &mut reader).map_err(text)?;
        let received: Task = wire::decode(&wire::encode(&sent).map_err(text)?).map_err(text)?;
        let sent = wire::encode(&answer(&received)).map_err(text)?;
        let mut result: TaskResult = wire::decode(&sent).map_err(text)?;
        self.results += 1;
        self.speed.finished(result.usage);
        let Outcome::Completed { pairs } = &result.outcome else {
            return Err("a rehearsal has no failures".to_owned());
        };
        let fact = ResultFact {
            task,
            text_hash: result.text_hash,
            verdict: Verdict::Completed { got: u32::try_from(pairs.len()).unwrap_or(u32::MAX) },
            asked: result.asked,
            attempts: result.attempts,
            usage: result.usage,
            is_of_this_run: true,
        };
        let unusable = std::mem::take(&mut result.unusable);
        let entry = entry_of(result, chunk_file, task.chunk, &self.form.settings, self.budget.price);
        let (receipt, TaskRef { document, chunk, .. }) = (ReceiptId(self.results), task);
        self.held = Some(Box::new(Recording { receipt, document, chunk, entry, unusable }));
        self.apply(Event::Result { fact, receipt })
    }

    fn apply(&mut self, event: Event) -> Result<(), String> {
        for effect in self.core.apply(event) {
            self.perform(&effect)?;
        }
        Ok(())
    }

    fn perform(&mut self, effect: &Effect) -> Result<(), String> {
        match *effect {
            Effect::Record(_) => {
                let held = self.held.take().ok_or("one result is applied at a time")?;
                self.record(RecorderCommand::Record(held))?;
            }
            Effect::Publish(task) => self.queue.push_back(task),
            Effect::Snapshot { document, status } => {
                self.snapshots_written += 1;
                self.snapshots.handle(&SnapshotCommand::Write { document, status });
            }
            Effect::Ack(_) | Effect::Finish(_) => {}
            Effect::Begin(_)
            | Effect::Withdraw(_)
            | Effect::Account(_)
            | Effect::TakeBack(_)
            | Effect::Leave(_) => {
                return Err(format!("a rehearsal knows no {effect:?}"));
            }
        }
        Ok(())
    }

    fn record(&mut self, command: RecorderCommand) -> Result<(), String> {
        self.recorder.handle(command, &mut self.unsynced).map_err(text)
    }

    /// Makes durable what has come.
    fn sync(&mut self) -> Result<(), String> {
        self.record(RecorderCommand::Spent(Box::new(self.core.spent())))?;
        self.recorder.sync(&mut self.unsynced).map_err(text)
    }

    /// Hands on what recorder and snapshots have to say, until there is nothing more.
    fn settle(&mut self) -> Result<(), String> {
        loop {
            while let Ok(command) = self.snapshot_inbox.try_recv() {
                self.snapshots.handle(&command);
            }
            self.release()?;
            match self.reports.try_recv() {
                Ok(Done::Durable(results)) => self.apply(Event::Durable { results })?,
                Ok(Done::SnapshotWritten { document, status }) => {
                    self.apply(Event::SnapshotWritten { document, status })?;
                }
                Ok(other) => return Err(format!("{other:?}")),
                Err(_) => return Ok(()),
            }
        }
    }

    fn release(&mut self) -> Result<(), String> {
        while let Ok(command) = self.recorder_inbox.try_recv() {
            self.record(command)?;
        }
        Ok(())
    }

    /// The figures of a second.
    fn show(&mut self) -> Result<(), String> {
        let view = view::of(&Sight {
            core: &self.core,
            job: &self.form.job,
            pool: &self.form.pool,
            speed: &self.speed,
            elapsed: self.started.elapsed(),
            workers: &std::collections::BTreeMap::new(),
            is_connected: true,
            budget: &self.budget,
            liveness: &LivenessWatch::new(Duration::from_secs(60)),
        });
        self.record(RecorderCommand::Progress(Box::new(view)))
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

const RUN_SETTINGS: RunSettings = RunSettings {
    speculates: false,
    start: Start::Resume,
    accept_changes: false,
    retry_failed: true,
    sample: None,
    max_failure_percent: None,
    no_server_timeout: None,
};

fn settings() -> GenerationSettings {
    GenerationSettings {
        provider: Provider::Local,
        model: "qwen3:8b".to_owned(),
        questions_per_chunk: 3,
        temperature: 0.7,
        max_tokens: 2000,
        reasoning: None,
        prompt: PromptSettings::default(),
        ollama: OllamaOptions::default(),
    }
}

fn budget() -> BudgetConfig {
    BudgetConfig {
        dry_run: false,
        max_cost: None,
        max_tokens: None,
        calls_per_task: 3,
        price: None,
        models: Arc::default(),
    }
}
