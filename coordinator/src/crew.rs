//! The threads and tasks of a run: journal, snapshots, publishing, receiving, acks, lease. Started together,
//! ended in order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle as Thread;
use std::time::Duration;

use qa_shared::model::{GenerationSettings, JobId, PoolName, SecondRound};
use qa_shared::model_table::ModelTable;
use qa_shared::queue::{Lease, Queue, Receipt, ResultsConsumer};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::core::TaskRef;
use crate::done::Done;
use crate::estimate::Apart;
use crate::files::{ChunkFile, EventLog, FailureLog, JobFolder, Journal};
use crate::guard::{self, LeaseClock};
use crate::intake::{self, Intake, IntakeOrder};
use crate::publisher::{Order, Publisher, TaskForm};
use crate::recorder::{Recorder, RecorderCommand};
use crate::run_error::RunError;
use crate::snapshots::{Desk, SnapshotCommand, Snapshots};
use crate::trace::RunTrace;
use crate::unconfirmed::Unconfirmed;
use crate::upkeep;

/// Reports that may wait for the driver.
const REPORTS: usize = 1024;
/// How long the last acks may take.
const LAST_ACKS: Duration = Duration::from_secs(5);
/// How long giving back the lease may take.
const GIVING_BACK: Duration = Duration::from_secs(2);

/// What a crew works with.
pub(crate) struct CrewParts {
    pub(crate) job: JobId,
    pub(crate) pool: PoolName,
    pub(crate) settings: GenerationSettings,
    /// Model calls per task at most, where a budget counts on it.
    pub(crate) max_calls: Option<u32>,
    pub(crate) apart: Option<Apart>,
    /// What results cost.
    pub(crate) models: Arc<ModelTable>,
    pub(crate) queue: Queue,
    pub(crate) lease: Lease,
    pub(crate) epoch: u64,
    pub(crate) consumer: ResultsConsumer,
    pub(crate) folder: JobFolder,
    pub(crate) journal: Journal,
    pub(crate) failure_log: FailureLog,
    pub(crate) trace: RunTrace,
    pub(crate) desks: Vec<Option<Box<Desk>>>,
    pub(crate) chunk_files: Vec<Option<Arc<ChunkFile>>>,
}

/// The ways to the crew.
pub(crate) struct Lines {
    pub(crate) lease: LeaseClock,
    pub(crate) orders: mpsc::UnboundedSender<Order>,
    /// Whom second rounds beside stuck tasks are meant for.
    pub(crate) second_rounds: BTreeMap<TaskRef, SecondRound>,
    /// Orders of which nobody knows yet whether the queue has them.
    pub(crate) unconfirmed: Unconfirmed,
    pub(crate) acks: mpsc::UnboundedSender<Receipt>,
    pub(crate) recorder: Sender<RecorderCommand>,
    pub(crate) snapshots: Sender<SnapshotCommand>,
    pub(crate) done: mpsc::Sender<Done>,
    pub(crate) intake: IntakeOrder,
    /// Ends publishing.
    pub(crate) stop_publishing: CancellationToken,
    /// Completes when nothing is published any more.
    pub(crate) publishing: Option<JoinHandle<()>>,
}

/// A crew at work.
pub(crate) struct Crew {
    recorder: Thread<()>,
    snapshots: Thread<()>,
    recorder_commands: Sender<RecorderCommand>,
    snapshot_commands: Sender<SnapshotCommand>,
    acker: JoinHandle<()>,
    guard: JoinHandle<()>,
    background: JoinSet<()>,
}

/// Starts everything; what the crew reports comes out of the receiver.
pub(crate) fn start(parts: CrewParts) -> Result<(Crew, Lines, mpsc::Receiver<Done>), RunError> {
    let (done, reports) = mpsc::channel(REPORTS);
    let (recorder_commands, recorder_inbox) = channel();
    let (snapshot_commands, snapshot_inbox) = channel();
    let (orders, orders_inbox) = mpsc::unbounded_channel();
    let (acks, acks_inbox) = mpsc::unbounded_channel();
    let snapshots = Snapshots {
        desks: parts.desks,
        models: parts.models,
        journal: parts.journal.reader(),
        commands: snapshot_inbox,
        recorder: recorder_commands.clone(),
        done: done.clone(),
    };
    let recorder = Recorder {
        journal: parts.journal,
        failure_log: parts.failure_log,
        event_log: EventLog::new(parts.folder.path()),
        folder: parts.folder,
        job: parts.job.clone(),
        commands: recorder_inbox,
        snapshots: snapshot_commands.clone(),
        done: done.clone(),
    };
    let (renewed, lease_clock) = LeaseClock::new(parts.queue.timing().presence_age);
    let stop_publishing = CancellationToken::new();
    let unconfirmed = Unconfirmed::default();
    let publisher = Publisher {
        lease: lease_clock.clone(),
        stop: stop_publishing.clone(),
        form: TaskForm {
            job: parts.job.clone(),
            pool: parts.pool.clone(),
            settings: parts.settings,
            max_calls: parts.max_calls,
            apart: parts.apart,
        },
        chunk_files: parts.chunk_files,
        queue: parts.queue.clone(),
        done: done.clone(),
        unconfirmed: unconfirmed.clone(),
        trace: parts.trace,
    };
    let renewal = parts.queue.timing().renewal();
    let intake = Intake {
        queue: parts.queue,
        job: parts.job,
        pool: parts.pool,
        epoch: parts.epoch,
        consumer: parts.consumer.clone(),
        done: done.clone(),
        order: IntakeOrder::default(),
    };
    let order = intake.order.clone();
    let mut background = JoinSet::new();
    background.spawn(upkeep::remove_dead_jobs(intake.queue.clone()));
    background.spawn(intake.run());
    let crew = Crew {
        recorder: thread("recorder", done.clone(), move || recorder.run())?,
        snapshots: thread("snapshots", done.clone(), move || snapshots.run())?,
        recorder_commands: recorder_commands.clone(),
        snapshot_commands: snapshot_commands.clone(),
        acker: tokio::spawn(intake::acknowledge(parts.consumer, acks_inbox)),
        guard: tokio::spawn(guard::keep_lease(parts.lease, renewal, renewed, done.clone())),
        background,
    };
    let publishing = Some(tokio::spawn(publisher.run(orders_inbox)));
    let lines = Lines {
        lease: lease_clock,
        orders,
        second_rounds: BTreeMap::new(),
        unconfirmed,
        acks,
        recorder: recorder_commands,
        snapshots: snapshot_commands,
        done,
        intake: order,
        stop_publishing,
        publishing,
    };
    Ok((crew, lines, reports))
}

fn thread(
    name: &'static str,
    done: mpsc::Sender<Done>,
    work: impl FnOnce() + Send + 'static,
) -> Result<Thread<()>, RunError> {
    let guarded = move || {
        let _alarm = Alarm { name, done };
        work();
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(guarded).map_err(RunError::files)
}

/// Tells the driver when its thread panics: it would wait for ever.
struct Alarm {
    name: &'static str,
    done: mpsc::Sender<Done>,
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let message = format!("the {} thread panicked: please report it", self.name);
            drop(self.done.blocking_send(Done::FilesFailed(message)));
        }
    }
}

impl Crew {
    /// Ends everything. The driver, with its lines and the receiver of reports, must be gone. `in_order` lets
    /// acks that are under way arrive.
    pub(crate) async fn end(mut self, in_order: bool) {
        if in_order {
            drop(tokio::time::timeout(LAST_ACKS, self.acker).await);
        } else {
            self.acker.abort();
        }
        self.background.abort_all();
        drop(tokio::time::timeout(GIVING_BACK, self.guard).await);
        drop(self.snapshot_commands.send(SnapshotCommand::Close));
        let (recorder, snapshots, commands) = (self.recorder, self.snapshots, self.recorder_commands);
        let joined = tokio::task::spawn_blocking(move || {
            // What the last snapshot covers is released before the journal is closed.
            let snapshots = snapshots.join();
            drop(commands.send(RecorderCommand::Close));
            snapshots.and(recorder.join())
        });
        if !matches!(joined.await, Ok(Ok(()))) {
            tracing::error!("a file thread ended unexpectedly");
        }
    }
}
