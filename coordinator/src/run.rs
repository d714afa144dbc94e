//! The main job from begin to end: directories, lock, plan, queue, run, combine, summary.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use qa_shared::clock;
use qa_shared::connecting::connect_options;
use qa_shared::console::Console;
use qa_shared::failpoint::{CrashPoint, crash};
use qa_shared::model::{InstanceId, JobEntry, JobId, JobState, TaskKey};
use qa_shared::nats_server::FoundServer;
use qa_shared::queue::{Jobs, LeaseHolder, Presence, Queue, ResultsConsumer, Tasks, ensure, forget_job};
use qa_shared::settings::variables::Program;
use qa_shared::shutdown::Shutdown;
use qa_worker::config::ways_to_set_key;
use qa_worker::driver::WorkerSetup;
use serde_json::Map;
use tokio::task::JoinHandle;
use tracing::Level;

use crate::aftermath::{self, Aftermath, Trail};
use crate::announcement::Announcement;
use crate::conclude::{self, Conclusion};
use crate::config::{GenerateConfig, Place};
use crate::core::{Core, Event, TaskRef};
use crate::crew::{self, CrewParts};
use crate::driver::{Driver, key_of};
use crate::estimate::Contexts;
use crate::event_watch::EventWatch;
use crate::exit::ExitCode;
use crate::files::{FAILURE_LOG_BYTES, FailureLog};
use crate::fleet_watch::FleetWatch;
use crate::ground::{self, Ground};
use crate::happening::Happening;
use crate::lease::{Taken, acquire};
use crate::liveness_watch::LivenessWatch;
use crate::local::{self, PrivateQueue};
use crate::metrics::RunMetrics;
use crate::perform::{Held, Performer};
use crate::plan::{Plan, plan};
use crate::plan_input::{Purpose, with_input};
use crate::progress::Reporter;
use crate::run_error::RunError;
use crate::run_work::{end_run, finish_of, work};
use crate::speed::Speed;
use crate::store_watch::StoreWatch;
use crate::tail::Tail;
use crate::trace::RunTrace;
use crate::{reconcile, report};

/// Chunks whose pairs a sample shows.
const EXAMPLES: usize = 5;

/// This process.
struct Me {
    instance: InstanceId,
    host: String,
    started: Instant,
}

/// Runs the main job. `search_path` is the value of PATH.
pub(crate) async fn generate(
    config: &GenerateConfig,
    console: &Console,
    search_path: Option<OsString>,
    shutdown: Shutdown,
) -> Result<ExitCode, RunError> {
    let trace = RunTrace::begin(&config.settings.model, config.settings.provider.as_str());
    let outcome = trace.around(generate_traced(config, console, search_path, shutdown, &trace)).await;
    trace.end(outcome.as_ref().map(|code| *code as u8).map_err(ToString::to_string));
    outcome
}

async fn generate_traced(
    config: &GenerateConfig,
    console: &Console,
    search_path: Option<OsString>,
    shutdown: Shutdown,
    trace: &RunTrace,
) -> Result<ExitCode, RunError> {
    let host = qa_shared::host::name();
    let instance = InstanceId::new(&host, std::process::id(), rand::random());
    let me = Me { instance, host, started: Instant::now() };
    ground::check_input(config)?;
    let timing = config.common.timing.clone();
    // Before anything is written.
    let (found_server, fleet_queue) = match &config.place {
        Place::Local(place) => {
            qa_worker::setup::refuse_useless(&place.serving, &config.settings.model)
                .await
                .map_err(|error| RunError::new(ExitCode::Configuration, error))?;
            let server = local::find(place.nats_server.as_deref(), search_path.as_deref()).await;
            (Some(server.map_err(RunError::queue)?), None)
        }
        Place::Fleet(place) => {
            let options = connect_options(&place.nats, Program::Coordinator, me.instance.as_str());
            (None, Some(Queue::connect(&options, timing.clone()).await.map_err(RunError::queue)?))
        }
    };
    let ground = ground::prepare(config, &me.host, console)?;
    let scene = Scene { config, ground: &ground, console, me: &me, trace };
    let prepared = scene.prepare(fleet_queue.as_ref(), &shutdown).await;
    let (planned, taken) = prepared.inspect_err(|_| _ = ground.leave_nothing())?;
    if !config.common.logs.quiet {
        let totals = planned.core.totals();
        let job = Map::from_iter([("job".to_owned(), planned.job.job.to_string().into())]);
        console.tell(Level::INFO, "job", &report::heading(config, &planned.job.job, &ground), job);
        if let Some(line) = report::budget(&config.budget, &planned.core.spent()) {
            console.say(&line);
        }
        let text = report::plan(&planned.report, totals.chunks, totals.outstanding());
        console.tell(Level::INFO, "plan", text.trim_end(), Map::new());
    }
    let beginning = aftermath::beginning(config, &ground, &me.host, &planned);
    aftermath::note(&ground.folder, &Happening::RunStarted(Box::new(beginning)));
    let mut trail = Trail::new(&planned);
    let parts = Parts { scene, search: found_server, fleet_queue, taken };
    let outcome = run_planned(parts, planned, shutdown.clone(), &mut trail).await;
    let elapsed = me.started.elapsed();
    let after = Aftermath { config, ground: &ground, elapsed, trail: &trail, outcome: &outcome };
    if outcome.is_err() && !trail.has_begun && ground.leave_nothing() {
        tracing::debug!("the run did nothing, and its job folder is removed");
    } else {
        aftermath::close(&after);
    }
    aftermath::run_command(&after, console, &shutdown).await;
    outcome
}

/// Where a run takes place.
#[derive(Clone, Copy)]
struct Scene<'a> {
    config: &'a GenerateConfig,
    ground: &'a Ground,
    console: &'a Console,
    me: &'a Me,
    trace: &'a RunTrace,
}

impl Scene<'_> {
    /// The plan, made under the lease of the job that is in the directory: a copied directory, or one on a file system
    /// whose locks other hosts do not see, may have a job at work, and nothing of it may be cleaned away.
    ///
    /// The lease of a local job is in the queue that this run starts by itself: there the directory's lock decides.
    async fn prepare(
        self,
        queue: Option<&Queue>,
        shutdown: &Shutdown,
    ) -> Result<(Plan, Option<Taken>), RunError> {
        let places = self.ground.places();
        let planning = async {
            self.ground.clean_up()?;
            self.trace.step("load", with_input(self.config, &places, Purpose::Run, plan)).await
        };
        // A job file that cannot be read is for the plan to tell.
        let job = self.ground.folder.load_job().ok().flatten();
        let (Some(queue), Some(job)) = (queue, job) else { return Ok((planning.await?, None)) };
        self.make_sure(queue).await?;
        let holder = self.me.holder(self.ground);
        let mut taken = acquire(queue, &job.job, holder, self.console, shutdown).await?;
        match taken.kept_during(queue, planning).await {
            Ok(planned) => Ok((planned, Some(taken))),
            Err(error) => {
                taken.release().await;
                Err(error)
            }
        }
    }

    /// Makes sure of the streams.
    async fn make_sure(self, queue: &Queue) -> Result<(), RunError> {
        for note in ensure(queue, queue.replicas()).await.map_err(RunError::queue)? {
            tracing::debug!("{note}");
        }
        Ok(())
    }
}

impl Me {
    /// This process as the holder of a lease.
    fn holder(&self, ground: &Ground) -> LeaseHolder {
        LeaseHolder {
            instance: self.instance.clone(),
            host: self.host.clone(),
            directory: ground.qa_dir.display().to_string(),
            pid: std::process::id(),
            lock: ground.lock_id(),
        }
    }
}

/// What a run with a plan needs.
struct Parts<'a> {
    scene: Scene<'a>,
    /// The program of local mode's queue.
    search: Option<FoundServer>,
    /// A fleet's queue.
    fleet_queue: Option<Queue>,
    /// The lease of the job that was in the directory.
    taken: Option<Taken>,
}

async fn run_planned(
    parts: Parts<'_>,
    planned: Plan,
    shutdown: Shutdown,
    trail: &mut Trail,
) -> Result<ExitCode, RunError> {
    let Parts { scene, search, fleet_queue, taken } = parts;
    let Scene { config, ground, console, me, trace } = scene;
    let mut private = match (&config.place, search) {
        (Place::Local(place), Some(server)) => {
            let directory = ground.folder.nats_path();
            let queue = local::start(&directory, &server, place.listen, &me.host);
            Some(queue.await.map_err(RunError::queue)?)
        }
        (Place::Local(_) | Place::Fleet(_), _) => None,
    };
    let timing = config.common.timing.clone();
    let queue = match (fleet_queue, &private) {
        (Some(queue), _) => queue,
        (None, Some(private)) => Queue::connect(&private.options, timing).await.map_err(RunError::queue)?,
        (None, None) => return Err(RunError::new(ExitCode::Internal, "no queue")),
    };
    if let Some(invitation) = private.as_ref().and_then(|private| private.invitation.as_ref()) {
        console.say(&format!("workers on other machines join with:\n  {invitation}"));
    }
    let job = JobRun { scene, config, ground, queue: &queue, console, me, trace };
    let outcome = job.run(planned, taken, private.as_mut(), shutdown, trail).await;
    queue.close().await;
    if let Some(private) = private
        && let Err(error) = private.server.stop().await
    {
        tracing::warn!(%error, "the private nats-server did not end in good order");
    }
    outcome
}

/// A job's run over a connected queue.
struct JobRun<'a> {
    scene: Scene<'a>,
    config: &'a GenerateConfig,
    ground: &'a Ground,
    queue: &'a Queue,
    console: &'a Console,
    me: &'a Me,
    trace: &'a RunTrace,
}

impl JobRun<'_> {
    async fn run(
        &self,
        planned: Plan,
        taken: Option<Taken>,
        private: Option<&mut PrivateQueue>,
        shutdown: Shutdown,
        trail: &mut Trail,
    ) -> Result<ExitCode, RunError> {
        let is_local = private.is_some();
        let totals = planned.core.totals();
        self.trace.set_job(&planned.job.job, totals.chunks, totals.outstanding());
        let (taken, consumer) = self.take_over(&planned, taken, is_local, &shutdown).await?;
        let Taken { lease, epoch, .. } = taken;
        let Plan { job, mut core, report: plan_report, .. } = planned;
        let has_work = core.totals().outstanding() > 0;
        let entry = self.job_entry(&job.job, &planned.contexts);
        trail.has_begun = true;
        if has_work {
            self.announce(&entry).await?;
        }
        let old_results =
            self.trace.step("take over queued", self.take_over_queued(&mut core, &job.job)).await?;
        let failure_log = self.failure_log()?;
        let logs = failure_log.paths().map(Path::to_owned).collect();
        let (crew, lines, reports) = crew::start(CrewParts {
            job: job.job.clone(),
            pool: self.config.pool.clone(),
            settings: self.config.settings.clone(),
            max_calls: job.calls_per_task,
            apart: planned.contexts.apart,
            models: Arc::clone(&self.config.budget.models),
            queue: self.queue.clone(),
            lease,
            epoch,
            consumer: consumer.clone(),
            folder: self.ground.folder.clone(),
            journal: planned.journal,
            failure_log,
            desks: planned.desks,
            trace: self.trace.clone(),
            chunk_files: planned.chunk_files.clone(),
        })?;
        let local_worker = self.start_worker(has_work)?;
        let worker_stop = local_worker.as_ref().map(|(shutdown, _)| shutdown.clone());
        let performer = Performer {
            instance: self.me.instance.clone(),
            host: self.me.host.clone(),
            job: job.job.clone(),
            pool: self.config.pool.clone(),
            settings: self.config.settings.clone(),
            price: self.config.budget.price,
            queue: self.queue.clone(),
            lines,
            local_worker,
            chunk_files: planned.chunk_files,
            held: Held::default(),
            trace: self.trace.clone(),
        };
        let mut driver = Driver {
            core,
            performer,
            done: reports,
            queue: self.queue.clone(),
            job: job.job.clone(),
            pool: self.config.pool.clone(),
            budget: self.config.budget.clone(),
            tokens: planned.tokens,
            announcement: Announcement::new(entry),
            old_results,
            jobs: Jobs::new(self.queue).watch(),
            workers: Presence::new(self.queue).watch(),
            shutdown: shutdown.clone(),
            detaching: false,
            detach: matches!(&self.config.place, Place::Fleet(place) if place.detach),
            reporter: Reporter::new(self.console, self.config.common.logs.quiet, self.examples_wanted()),
            fleet: self.fleet_watch(is_local),
            events: EventWatch::new(Instant::now(), self.queue.timing().presence_age),
            redelivered: 0,
            speed: Speed::new(),
            tail: Tail::default(),
            started: self.me.started,
            looks: reconcile::Looks::new(epoch),
            liveness: LivenessWatch::new(self.queue.timing().ack_wait),
            store: StoreWatch::new(self.queue.timing().ack_wait * 2),
            metrics: RunMetrics::start(self.queue, &self.config.pool),
        };
        let end = self.trace.step("work", work(&mut driver, private)).await?;
        trail.figures = driver.view().figures;
        let ended = end_run(driver, crew, worker_stop, &end).await;
        let conclusion = Conclusion {
            config: self.config,
            ground: self.ground,
            queue: self.queue,
            console: self.console,
            job: &job.job,
            core: &ended.core,
            dropping: ended.dropping,
            finish: &finish_of(end)?,
            plan: &plan_report,
            logs,
            examples: ended.examples,
            elapsed: self.me.started.elapsed(),
            trace: self.trace,
            shutdown: &shutdown,
        };
        conclude::conclude(&conclusion, consumer, trail).await
    }

    fn failure_log(&self) -> Result<FailureLog, RunError> {
        FailureLog::new(self.ground.folder.path(), self.config.log_dir.as_deref(), FAILURE_LOG_BYTES)
            .map_err(RunError::files)
    }

    /// Takes the job, and ends what earlier runs have left in the queue. `taken` may be the lease of the job that this
    /// run puts an end to.
    async fn take_over(
        &self,
        planned: &Plan,
        taken: Option<Taken>,
        is_local: bool,
        shutdown: &Shutdown,
    ) -> Result<(Taken, ResultsConsumer), RunError> {
        let (own, abandoned) = match taken {
            Some(taken) if taken.job != planned.job.job => (None, Some(taken)),
            own => (own, None),
        };
        let taken = self.trace.step("take job", self.take_job(&planned.job.job, own, shutdown)).await?;
        self.clear_away(planned, is_local).await?;
        if let Some(abandoned) = abandoned {
            abandoned.release().await;
        }
        Ok(taken)
    }

    /// Ends what earlier runs have left in the queue and nobody wants any more.
    async fn clear_away(&self, planned: &Plan, is_local: bool) -> Result<(), RunError> {
        if is_local {
            self.forget_dead_workers().await;
        }
        if planned.stale_tasks || is_local {
            // Local mode: whoever had these tasks is gone, so nobody has to wait for their ack wait.
            Tasks::new(self.queue).purge_job(&planned.job.job).await.map_err(RunError::queue)?;
        }
        if let Some(abandoned) = &planned.abandoned {
            forget_job(self.queue, abandoned).await.map_err(RunError::queue)?;
        }
        Ok(())
    }

    /// Makes sure of the streams and becomes the one who consumes the job's results.
    async fn take_job(
        &self,
        job: &JobId,
        taken: Option<Taken>,
        shutdown: &Shutdown,
    ) -> Result<(Taken, ResultsConsumer), RunError> {
        let taken = if let Some(taken) = taken {
            taken
        } else {
            self.scene.make_sure(self.queue).await?;
            acquire(self.queue, job, self.me.holder(self.ground), self.console, shutdown).await?
        };
        Tasks::new(self.queue).ensure_pool(&self.config.pool).await.map_err(RunError::queue)?;
        let consumer =
            ResultsConsumer::create(self.queue, job, taken.epoch).await.map_err(RunError::queue)?;
        crash(CrashPoint::JobTaken);
        Ok((taken, consumer))
    }

    /// Tells the workers of the job.
    async fn announce(&self, entry: &JobEntry) -> Result<(), RunError> {
        Jobs::new(self.queue).put(entry).await.map_err(RunError::queue)?;
        crash(CrashPoint::JobAnnounced);
        Ok(())
    }

    /// The private queue of a killed run still shows its worker. Those that joined from elsewhere announce
    /// themselves again.
    async fn forget_dead_workers(&self) {
        let presence = Presence::new(self.queue);
        let Ok(workers) = presence.workers().await else { return };
        for instance in workers.keys() {
            if let Err(error) = presence.withdraw(instance).await {
                tracing::debug!(%error, "an old heartbeat was not removed");
            }
        }
    }

    fn job_entry(&self, job: &JobId, contexts: &Contexts) -> JobEntry {
        JobEntry {
            job: job.clone(),
            state: JobState::Active,
            pool: self.config.pool.clone(),
            provider: self.config.settings.provider,
            model: self.config.settings.model.clone(),
            context_tokens: contexts.ordinary,
            num_ctx: self.config.settings.ollama.num_ctx,
            host: self.me.host.clone(),
            directory: self.ground.qa_dir.display().to_string(),
            dropped: Vec::new(),
            updated_at_ms: clock::unix_millis(),
        }
    }

    /// What the queue holds already is not published again; what nobody waits for is removed.
    /// Returns the results that are there already.
    async fn take_over_queued(&self, core: &mut Core, job: &JobId) -> Result<BTreeSet<TaskKey>, RunError> {
        let waiting: BTreeMap<_, TaskRef> =
            core.waiting_tasks().map(|task| (key_of(core, job, task), task)).collect();
        let stock = reconcile::take_stock(self.queue, job, &self.config.pool).await;
        let stock = stock.map_err(RunError::queue)?;
        let tasks = Tasks::new(self.queue);
        for stale in stock.tasks.iter().filter(|key| !waiting.contains_key(*key)) {
            tasks.remove(&self.config.pool, stale).await.map_err(RunError::queue)?;
        }
        // Before the start, being queued already asks for nothing.
        let answered: Vec<_> = stock.results.iter().filter_map(|key| waiting.get(key).copied()).collect();
        drop(core.apply(Event::AlreadyQueued(answered)));
        let mut queued: BTreeMap<TaskRef, &TaskKey> = BTreeMap::new();
        for key in stock.tasks.difference(&stock.results) {
            queued.extend(waiting.get(key).map(|task| (*task, key)));
        }
        // An earlier run may have had a larger budget.
        let affordable = core.affordable(queued.keys().copied());
        let dear: Vec<_> = queued.iter().filter(|(task, _)| !affordable.contains(task)).collect();
        if !dear.is_empty() {
            let keys: Vec<_> = dear.iter().map(|(_, key)| (**key).clone()).collect();
            let taken = tasks.take_back(&self.config.pool, &keys).await.map_err(RunError::queue)?;
            queued.retain(|_, key| !taken.removed.contains(key));
        }
        drop(core.apply(Event::AlreadyQueued(queued.into_keys().collect())));
        Ok(stock.results)
    }

    fn start_worker(&self, has_work: bool) -> Result<Option<(Shutdown, JoinHandle<()>)>, RunError> {
        let place = match &self.config.place {
            Place::Local(place) if has_work => place,
            Place::Local(_) | Place::Fleet(_) => return Ok(None),
        };
        let pools = std::slice::from_ref(&self.config.pool);
        let setup = qa_worker::setup::worker_setup(&place.serving, &[], pools)
            .map_err(|error| RunError::new(ExitCode::Configuration, error))?;
        let setup = WorkerSetup { tells_progress: false, ..setup };
        let shutdown = Shutdown::new();
        let worker = tokio::spawn(qa_worker::driver::run(setup, self.queue.clone(), shutdown.clone()));
        Ok(Some((shutdown, worker)))
    }

    /// A sample shows what the settings lead to.
    fn examples_wanted(&self) -> usize {
        if self.config.run.sample.is_some() { EXAMPLES } else { 0 }
    }

    fn fleet_watch(&self, is_local: bool) -> FleetWatch {
        let help = match &self.config.place {
            Place::Fleet(place) => {
                let url = &place.nats.url;
                match ways_to_set_key(self.config.settings.provider) {
                    None => format!("start one next to each Ollama: qa-worker --nats-url {url}"),
                    Some(ways) => format!("start one with {ways} set: qa-worker --nats-url {url}"),
                }
            }
            Place::Local(_) => "the in-process worker is still starting".to_owned(),
        };
        // Where other machines may join, their servers are waited for.
        let patience = match &self.config.place {
            Place::Local(place) if place.listen.is_none() => self.config.run.no_server_timeout,
            Place::Local(_) | Place::Fleet(_) => None,
        };
        let settings = &self.config.settings;
        FleetWatch::new(settings.provider, &settings.model, help, is_local).giving_up_after(patience)
    }
}
