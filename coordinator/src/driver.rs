//! The loop of a run: select → event → core → effects. Everything that can happen arrives here; what to do
//! about it is the core's decision, doing it is [`crate::perform`]'s.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use qa_shared::clock;
use qa_shared::failpoint::{Mistake, is_made};
use qa_shared::model::{
    Failure, FailureReason, InstanceId, JobEntry, JobId, JobState, Outcome, PoolName, TaskKey, TaskResult,
    Usage, WorkerPresence,
};
use qa_shared::nats_server::ServerFailure;
use qa_shared::queue::{Queue, Receipt, ReceivedResult, TopologyError, Traceparent, Upkeep, Watched};
use qa_shared::shutdown::Shutdown;
use qa_shared::telemetry;
use tokio::sync::mpsc;

use crate::announcement::Announcement;
use crate::config::BudgetConfig;
use crate::core::{Core, Effect, Event, Finish, ResultFact, Sign, StopCause, TaskRef, Verdict, window};
use crate::done::Done;
use crate::event_watch::{EventWatch, Moment};
use crate::fleet_watch::FleetWatch;
use crate::happening::{Happening, stopped_by};
use crate::liveness_watch::{LivenessWatch, Surroundings};
use crate::metrics::RunMetrics;
use crate::perform::Performer;
use crate::progress::Reporter;
use crate::reconcile::{self, Findings, InWork, Looks, Suspects, Tokens};
use crate::speed::Speed;
use crate::store_watch::StoreWatch;
use crate::tail::Tail;
use crate::view::{self, View};
use crate::{progress, summary};

/// How often figures are refreshed.
const TICK: Duration = Duration::from_secs(1);

/// The job's entry is written anew this often, so that others see that the job is alive.
const ENTRY_RENEWAL: Duration = Duration::from_secs(60);
/// An entry older than this belongs to a coordinator that is gone, in milliseconds.
const ENTRY_AGE_MS: u64 = 180_000;

/// How the loop ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The core says that the run is over.
    Finished(Finish),
    /// Another coordinator has the job.
    LeaseLost(String),
    /// Files cannot be written.
    FilesFailed(String),
    /// The private nats-server is gone, or can write nothing.
    QueueFailed(ServerFailure),
    /// A second signal.
    LeftAtOnce,
}

/// A run in progress.
pub(crate) struct Driver {
    pub(crate) core: Core,
    pub(crate) performer: Performer,
    pub(crate) done: mpsc::Receiver<Done>,
    pub(crate) queue: Queue,
    pub(crate) job: JobId,
    pub(crate) pool: PoolName,
    pub(crate) budget: BudgetConfig,
    pub(crate) tokens: Tokens,
    /// What the workers follow.
    pub(crate) announcement: Announcement,
    /// Results that were stored before this run began.
    pub(crate) old_results: BTreeSet<TaskKey>,
    pub(crate) jobs: Watched<JobId, JobEntry>,
    pub(crate) workers: Watched<InstanceId, WorkerPresence>,
    pub(crate) shutdown: Shutdown,
    pub(crate) detach: bool,
    /// Everything is being published, after which this coordinator leaves.
    pub(crate) detaching: bool,
    pub(crate) reporter: Reporter,
    pub(crate) fleet: FleetWatch,
    pub(crate) events: EventWatch,
    /// Results of tasks that were delivered more than once.
    pub(crate) redelivered: u64,
    pub(crate) speed: Speed,
    pub(crate) tail: Tail,
    pub(crate) started: Instant,
    pub(crate) metrics: RunMetrics,
    /// Looks at the queue.
    pub(crate) looks: Looks,
    /// Whether anything moves.
    pub(crate) liveness: LivenessWatch,
    /// Room in the queue server's store.
    pub(crate) store: StoreWatch,
}

impl Driver {
    /// Runs until the end.
    pub(crate) async fn run(&mut self) -> End {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut jobs = self.jobs.receiver();
        let mut workers = self.workers.receiver();
        let mut last_reconciled = Instant::now();
        let reconcile_every = self.queue.timing().ack_wait / 2;
        let mut stop_heard = false;
        if let Some(end) = self.apply(Event::Start) {
            return end;
        }
        loop {
            let event = tokio::select! {
                biased;
                () = self.shutdown.leaving_now() => return End::LeftAtOnce,
                () = self.shutdown.stopping(), if !stop_heard => {
                    stop_heard = true;
                    if self.detach {
                        tracing::info!("detaching: publishing what is left; a second signal leaves at once");
                        self.detaching = true;
                        Some(Event::Window(u32::MAX))
                    } else {
                        Some(Event::Stop(StopCause::Signal))
                    }
                }
                done = self.done.recv() => match done {
                    Some(done) => match self.event_of(done) {
                        Ok(events) => {
                            for event in events {
                                if let Some(end) = self.apply(event) {
                                    return end;
                                }
                            }
                            None
                        }
                        Err(end) => return end,
                    },
                    None => return End::FilesFailed("the file threads ended unexpectedly".to_owned()),
                },
                changed = jobs.changed() => {
                    let cancelled = changed.is_ok() && self.is_cancelled();
                    (cancelled && !self.core.is_stopping()).then_some(Event::Stop(StopCause::Cancelled))
                }
                Ok(()) = workers.changed() => {
                    self.look_at_tail();
                    None
                }
                _ = tick.tick() => {
                    if last_reconciled.elapsed() >= reconcile_every && !self.core.is_stopping() {
                        last_reconciled = Instant::now();
                        self.reconcile();
                    }
                    let most = Event::MostBytes(self.store.most_bytes());
                    if let Some(end) = self.apply(most) {
                        return end;
                    }
                    Some(self.tick())
                }
            };
            if let Some(event) = event
                && let Some(end) = self.apply(event)
            {
                return end;
            }
        }
    }

    fn apply(&mut self, event: Event) -> Option<End> {
        let (spent_before, was_out) = (self.core.spent(), self.core.totals().published);
        let effects = self.core.apply(event);
        if self.core.spent() != spent_before {
            self.performer.save_spent(self.core.spent());
        }
        // Deriving every count anew takes a while for large jobs.
        debug_assert!(self.core.totals().chunks > 10_000 || self.core.check_invariants() == Ok(()));
        let mut end = None;
        for effect in effects {
            match effect {
                Effect::TakeBack(cause) => {
                    progress::tell_stop(&cause);
                    self.performer.log_event(stopped_by(&cause));
                    self.performer.take_back(cause, self.published());
                }
                Effect::Finish(finish) => end = Some(End::Finished(finish)),
                Effect::Begin(task) => {
                    if self.performer.lines.second_rounds.contains_key(&task) {
                        self.note_second_round(task);
                    }
                    self.performer.perform(&effect);
                }
                Effect::Withdraw(task) => self.withdraw(task),
                Effect::Publish(task) => {
                    self.tail.published(task);
                    self.performer.perform(&effect);
                }
                effect => self.performer.perform(&effect),
            }
        }
        if was_out > 0 && self.core.totals().published == 0 {
            self.performer.flush();
        }
        if let Some(End::Finished(finish)) = &end {
            let workers = self.workers.current();
            self.guard_liveness(&workers, 0, *self.queue.connected().borrow());
            let mut view = self.view();
            summary::status(finish).clone_into(&mut view.state);
            self.performer.save_progress(&view);
            self.note_events(&self.workers.current());
            self.reporter.show(&view);
        }
        end
    }

    fn event_of(&mut self, done: Done) -> Result<Vec<Event>, End> {
        Ok(match done {
            Done::Received(results) => {
                self.store.moved();
                results.into_iter().map(|result| self.received(result)).collect()
            }
            Done::Durable(results) => vec![Event::Durable { results }],
            Done::Begun(tasks) => vec![Event::Begun(tasks)],
            Done::Waiting(waiting) => self.speculate(waiting).into_iter().collect(),
            Done::SnapshotWritten { document, status } => vec![Event::SnapshotWritten { document, status }],
            Done::DocumentBroken { document, error } => {
                // Each of its orders that finds it broken says so.
                let known = self.core.documents().get(document as usize);
                if let Some(known) = known.filter(|known| known.error().is_none()) {
                    tracing::error!(document = %known.name(), "{error}");
                    let out = self.published().into_iter().filter(|(task, _)| task.document == document);
                    self.performer.take_back_quietly(out.map(|(_, key)| key).collect());
                }
                vec![Event::DocumentBroken { document, error }]
            }
            Done::Unpublishable { task, failure } => vec![self.unpublishable(task, failure)],
            Done::Compared(findings) => self.compared(*findings),
            Done::StoreFull { task, reason } => {
                let mut events = self.store_is_full(&reason);
                events.push(Event::TakenBack(task.into_iter().collect()));
                events
            }
            Done::MadeRoom(tasks) => {
                self.store.room.taken_back(tasks.len());
                vec![Event::TakenBack(tasks)]
            }
            Done::Drained(taken_back) => vec![Event::Drained { taken_back }],
            Done::LeaseLost(reason) => return Err(End::LeaseLost(reason)),
            Done::FilesFailed(reason) => return Err(End::FilesFailed(reason)),
        })
    }

    fn received(&mut self, received: ReceivedResult) -> Event {
        let ReceivedResult { key, result, receipt, context } = received;
        let task = key
            .as_ref()
            .ok()
            .map_or(TaskRef { document: u32::MAX, chunk: 0, round: 0 }, |key| self.task_of(key));
        match (result, key) {
            (Ok(mut result), Ok(key)) => {
                // What was stored before this run says nothing about how fast it goes now.
                if !self.old_results.contains(&key) {
                    self.speed.finished(result.usage);
                }
                self.tail.finished(Instant::now(), task, &result);
                self.look_at_tail_again();
                self.redelivered += u64::from(result.deliveries > 1);
                // The subject decides what the message is about.
                result.key = key;
                self.hold(task, result, Some(receipt), context.as_ref())
            }
            (Ok(_), Err(error)) => self.set_aside(task, receipt, &error),
            (Err(error), Ok(key)) => {
                tracing::warn!(task = %key, %error, "a result is not readable: its chunk counts as failed");
                let failure =
                    Failure { reason: FailureReason::Other, message: format!("unreadable result: {error}") };
                self.hold(task, self.failed_here(key, failure), Some(receipt), context.as_ref())
            }
            (Err(error), Err(_)) => self.set_aside(task, receipt, &error),
        }
    }

    fn compared(&mut self, findings: Result<Findings, TopologyError>) -> Vec<Event> {
        self.looks.is_comparing = false;
        let findings = match findings {
            // At the end of the look, not at its beginning.
            Ok(findings) => findings.about(&self.core.published_tasks().collect()),
            Err(error) => {
                self.looks.seen = Some(Err(error.to_string()));
                if self.looks.failed.failed(Instant::now(), &error) {
                    tracing::warn!(%error, "the queue cannot be looked through, trying again");
                }
                self.looks.suspects = Suspects::default();
                return Vec::new();
            }
        };
        let Findings { mended, lost, withheld, results_are_stuck, suspects, room, seen } = findings;
        self.looks.seen = Some(Ok(seen));
        let mut events = match room {
            Some(Err(reason)) => self.store_is_full(&reason),
            Some(Ok(())) => {
                self.store.moved();
                Vec::new()
            }
            None => Vec::new(),
        };
        self.looks.failed.succeeded();
        self.looks.suspects = suspects;
        for note in &mended {
            tracing::warn!("a part of the queue was missing or changed and is mended: {note}");
        }
        if !mended.is_empty() {
            self.announcement.renew(&self.queue, &self.performer.lines.lease);
        }
        if results_are_stuck {
            tracing::warn!("the queue does not deliver results that it has, asking for them anew");
            self.performer.lines.intake.make_anew();
        }
        if !lost.is_empty() {
            tracing::warn!(tasks = lost.len(), "the queue lost tasks, publishing them again");
            events.push(Event::Lost(lost));
        }
        if !withheld.is_empty() {
            tracing::warn!(
                tasks = withheld.len(),
                "tasks were delivered and no worker works on them, publishing them again in new rounds"
            );
            events.push(Event::Withheld(withheld));
        }
        events
    }

    fn set_aside(&mut self, task: TaskRef, receipt: Receipt, error: &impl std::fmt::Display) -> Event {
        tracing::warn!(%error, "a message that is no result was set aside");
        let receipt = self.performer.hold_bare(receipt);
        let verdict = Verdict::Failed { reason: FailureReason::Other };
        let usage = Usage::default();
        let fact = ResultFact {
            task,
            text_hash: None,
            verdict,
            asked: 0,
            attempts: 0,
            usage,
            is_of_this_run: false,
        };
        Event::Result { fact, receipt }
    }

    fn hold(
        &mut self,
        task: TaskRef,
        result: TaskResult,
        receipt: Option<Receipt>,
        sender: Option<&Traceparent>,
    ) -> Event {
        let verdict = match &result.outcome {
            Outcome::Completed { pairs } => {
                Verdict::Completed { got: u32::try_from(pairs.len()).unwrap_or(u32::MAX) }
            }
            Outcome::Failed { failure } => Verdict::Failed { reason: failure.reason },
        };
        let fact = ResultFact {
            task,
            text_hash: result.text_hash,
            verdict,
            asked: result.asked,
            attempts: result.attempts,
            usage: result.usage,
            is_of_this_run: !self.old_results.remove(&result.key),
        };
        self.reporter.result(&self.core, &fact, &result);
        let receipt = self.performer.hold(task, result, receipt, sender);
        Event::Result { fact, receipt }
    }

    fn unpublishable(&mut self, task: TaskRef, failure: Failure) -> Event {
        let result = self.failed_here(self.key_of(task), failure);
        self.hold(task, result, None, None)
    }

    /// A failure that this process found, not a worker.
    fn failed_here(&self, key: TaskKey, failure: Failure) -> TaskResult {
        let (worker, host) = (self.performer.instance.clone(), self.performer.host.clone());
        TaskResult::failed_without_call(key, failure, worker, host, clock::unix_millis())
    }

    fn task_of(&self, key: &TaskKey) -> TaskRef {
        let document = if key.job == self.job { self.tokens.get(&key.document).copied() } else { None };
        TaskRef { document: document.unwrap_or(u32::MAX), chunk: key.chunk, round: key.round }
    }

    pub(crate) fn key_of(&self, task: TaskRef) -> TaskKey {
        key_of(&self.core, &self.job, task)
    }

    fn published(&self) -> Vec<(TaskRef, TaskKey)> {
        self.core.published_tasks().map(|task| (task, self.key_of(task))).collect()
    }

    fn is_cancelled(&self) -> bool {
        self.jobs.current().get(&self.job).is_some_and(|entry| entry.state == JobState::Cancelled)
    }

    /// Looks for published tasks in the queue, in the background.
    fn reconcile(&mut self) {
        if is_made(Mistake::NoReconciliation) {
            return;
        }
        // One look at a time: what a slow one found may not hold any more.
        if std::mem::replace(&mut self.looks.is_comparing, true) {
            return;
        }
        let mut published = self.published();
        // What is being published at this moment is not lost.
        published.retain(|(task, _)| !self.performer.lines.unconfirmed.contains(*task));
        let upkeep = Upkeep {
            pool: self.pool.clone(),
            job: self.job.clone(),
            epoch: self.looks.epoch,
            shares: jobs_at_work(&self.jobs.current(), &self.job).any(|entry| entry.job != self.job),
        };
        let results = self.results();
        let look = reconcile::Look {
            queue: self.queue.clone(),
            upkeep,
            published,
            held: self.performer.held.tasks(),
            in_work: InWork::of(&self.workers.current()),
            suspects: self.looks.suspects.clone(),
            tries_room: self.store.room.full_since().is_some() || results == self.looks.results,
        };
        self.looks.results = results;
        tokio::spawn(look.compare(self.performer.lines.done.clone()));
    }

    fn tick(&mut self) -> Event {
        let is_connected = *self.queue.connected().borrow();
        let workers = self.fleet.heard.fresh(Instant::now(), self.workers.current(), is_connected);
        let has_work = self.core.totals().outstanding() > 0 && !self.core.is_stopping();
        let slots = self.fleet.look(&workers, &self.pool, has_work);
        if slots > 0 {
            self.speed.worker_is_there();
        }
        if let Some(causes) = self.fleet.gives_up() {
            return Event::Stop(StopCause::NoServer(causes));
        }
        if let Some(text) = self.store.gives_up(self.performer.lines.unconfirmed.stored()) {
            return Event::Stop(StopCause::StoreFull(text));
        }
        self.guard_liveness(&workers, slots, is_connected);
        self.note_events(&workers);
        self.look_at_tail();
        let jobs = self.jobs.current();
        let is_announced = jobs.get(&self.job).is_some_and(|entry| entry.state == JobState::Active);
        if has_work && (!is_announced || self.announcement.age() >= ENTRY_RENEWAL) {
            self.announcement.renew(&self.queue, &self.performer.lines.lease);
        }
        // A job whose coordinator is gone has only what it left queued: it must not make others' share small.
        let rivals = jobs_at_work(&jobs, &self.job).filter(|entry| entry.pool == self.pool).count();
        self.show();
        if self.detaching {
            return self.detach_when_published();
        }
        let tasks = window(slots, self.speed.chunks_per_second(), u32::try_from(rivals).unwrap_or(1));
        Event::Window(self.store.window(tasks))
    }

    /// The queue server has no room: what no worker has is taken back, so that results find some.
    fn store_is_full(&mut self, reason: &str) -> Vec<Event> {
        let out = self.core.published_bytes();
        let Some(most) = self.store.refused(reason, out) else { return vec![Event::Window(0)] };
        if self.core.is_stopping() {
            return Vec::new();
        }
        let tasks = self.core.published_tasks().map(|task| (task, self.core.queued_bytes(task)));
        // The last ones first: they are asked for last.
        let mut tasks: Vec<_> = tasks.map(|(task, bytes)| (task, self.key_of(task), bytes)).collect();
        tasks.retain(|(task, ..)| !self.performer.lines.unconfirmed.contains(*task));
        tasks.reverse();
        self.performer.make_room(tasks, out.saturating_sub(most));
        vec![Event::MostBytes(most), Event::Window(0)]
    }

    /// Results that have come so far.
    fn results(&self) -> u64 {
        let tally = self.core.tally();
        tally.completed + tally.failed + tally.duplicates + tally.ignored
    }

    /// Nothing may stand still in silence.
    fn guard_liveness(
        &mut self,
        workers: &BTreeMap<InstanceId, WorkerPresence>,
        slots: u32,
        is_connected: bool,
    ) {
        let is_stopping = self.core.is_stopping();
        // Others say nothing about this job's tasks.
        let mut of_pool = workers.clone();
        of_pool.retain(|_, worker| worker.draining || worker.pools.contains(&self.pool));
        let sign = Sign {
            results: self.results(),
            out: if is_stopping { 0 } else { self.core.totals().published },
            in_work: InWork::of(&of_pool).of_job(&self.job),
            could_move: is_connected && slots > 0,
        };
        let around =
            Surroundings { pool: &self.pool, workers: workers.len(), slots, seen: self.looks.seen.as_ref() };
        self.liveness.look(&sign, &around);
    }

    /// Keeps what has happened, and now and then how far the run has come.
    fn note_events(&mut self, workers: &BTreeMap<InstanceId, WorkerPresence>) {
        let (now, tally, results) = (Instant::now(), self.core.tally(), self.results());
        let moment = Moment {
            now,
            workers,
            is_connected: *self.queue.connected().borrow(),
            results,
            is_waiting: self.core.totals().published > 0,
            redelivered: self.redelivered,
            republished: tally.republished,
        };
        let mut happened = self.events.look(&moment);
        if self.core.is_finished() {
            happened.extend(self.events.last_words(&moment));
        } else if self.events.are_figures_due(now) {
            happened.push(Happening::Figures(self.view().figures));
        }
        for happening in happened {
            self.performer.log_event(happening);
        }
    }

    /// The fleet goes on without this coordinator once it has every task.
    fn detach_when_published(&self) -> Event {
        if !self.core.has_more_to_publish() && self.performer.lines.unconfirmed.is_empty() {
            Event::Stop(StopCause::Detached)
        } else {
            Event::Window(u32::MAX)
        }
    }

    fn show(&mut self) {
        let view = self.view();
        self.metrics.look(&view, self.core.tally());
        let stall = view.stall.as_ref().map(|stall| stall.words.clone());
        telemetry::set_obstacle("coordinator", self.queue.obstacle().or(stall));
        self.performer.save_progress(&view);
        self.reporter.show(&view);
    }

    /// Counts what came since the last tick.
    pub(crate) fn measure_the_last(&mut self) {
        let view = self.view();
        self.metrics.look(&view, self.core.tally());
    }

    pub(crate) fn view(&self) -> View {
        view::of(&view::Sight {
            core: &self.core,
            job: &self.job,
            pool: &self.pool,
            speed: &self.speed,
            elapsed: self.started.elapsed(),
            workers: &self.workers.current(),
            budget: &self.budget,
            is_connected: *self.queue.connected().borrow(),
            liveness: &self.liveness,
        })
    }
}

/// This job, and those others whose coordinators give signs of life.
fn jobs_at_work<'a>(
    jobs: &'a BTreeMap<JobId, JobEntry>,
    own: &'a JobId,
) -> impl Iterator<Item = &'a JobEntry> {
    let fresh_since = clock::unix_millis().saturating_sub(ENTRY_AGE_MS);
    jobs.values()
        .filter(|entry| entry.state == JobState::Active)
        .filter(move |entry| entry.job == *own || entry.updated_at_ms >= fresh_since)
}

/// The key under which a task travels.
pub(crate) fn key_of(core: &Core, job: &JobId, task: TaskRef) -> TaskKey {
    let name = core.documents().get(task.document as usize).map(|document| document.name().token());
    TaskKey {
        job: job.clone(),
        document: name.unwrap_or_else(|| qa_shared::model::DocumentName::new("").token()),
        chunk: task.chunk,
        round: task.round,
    }
}
