//! Free slots → fetch → process → settle; drain on stop.
//!
//! Each slot is a task of its own that asks for one delivery when it is free. Nothing is fetched ahead.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use qa_shared::backoff::{Backoff, jittered};
use qa_shared::model::{InstanceId, JobEntry, JobId};
use qa_shared::queue::{Jobs, PoisonNotes, Presence, Queue, Results, SourceError};
use qa_shared::shutdown::Shutdown;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

use crate::assigner::{Assigner, Assignment};
use crate::attend::{self, Attendant};
use crate::disposition::Limits;
use crate::heartbeat;
use crate::pools::Restrictions;
use crate::progress::UnfinishedTasks;
use crate::server::Server;

/// How long a free slot waits for a task in one request.
const PATIENT: Duration = Duration::from_secs(5);
/// The same when other pools want the server too.
const RESTLESS: Duration = Duration::from_secs(1);

/// How long the last acks may take.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// What a worker works with.
#[derive(Debug, Clone)]
pub struct WorkerSetup {
    /// This process.
    pub instance: InstanceId,
    /// Its host.
    pub host: String,
    /// The LLM servers.
    pub servers: Vec<Arc<Server>>,
    /// What may be served.
    pub restrictions: Restrictions,
    /// Whether missing models are pulled.
    pub pull: bool,
    /// Limits of one task.
    pub limits: Limits,
    /// How long one task may take, hand-backs not counted.
    pub task_timeout: Duration,
    /// How long running tasks may go on after a stop.
    pub drain_timeout: Duration,
    /// Whether progress is told now and then; in local mode the coordinator does that.
    pub tells_progress: bool,
}

/// Works until a stop is asked for, then drains and says goodbye.
pub async fn run(setup: WorkerSetup, queue: Queue, shutdown: Shutdown) {
    let setup = Arc::new(setup);
    let jobs = Jobs::new(&queue).watch();
    let mut assignments = Vec::new();
    let mut assigners = JoinSet::new();
    let mut slots = JoinSet::new();
    let attendant = Arc::new(Attendant {
        setup: Arc::clone(&setup),
        results: Results::new(&queue),
        poison: PoisonNotes::new(&queue),
        presence: Presence::new(&queue),
        jobs: jobs.receiver(),
        shutdown: shutdown.clone(),
        unfinished: UnfinishedTasks::default(),
        settling: TaskTracker::new(),
    });
    for server in &setup.servers {
        let (sender, assignment) = watch::channel(None);
        assignments.push(assignment.clone());
        assigners.spawn(
            Assigner {
                server: Arc::clone(server),
                queue: queue.clone(),
                jobs: jobs.receiver(),
                restrictions: setup.restrictions.clone(),
                pull: setup.pull,
                assignment: sender,
                shutdown: shutdown.clone(),
            }
            .run(),
        );
        for number in 0..server.slots.most() {
            let slot = Slot {
                number,
                open: server.slots.watch(),
                server: Arc::clone(server),
                assignment: assignment.clone(),
                attendant: Arc::clone(&attendant),
                shutdown: shutdown.clone(),
            };
            slots.spawn(slot.run());
        }
    }
    let heartbeat = tokio::spawn(heartbeat::run(Arc::clone(&setup), queue, assignments, shutdown.clone()));
    report_waiting(jobs.receiver(), &shutdown).await;
    setup.servers.iter().for_each(|server| server.client.begin_no_more());
    let busy: u32 = setup.servers.iter().map(|server| server.busy()).sum();
    if busy > 0 {
        tracing::info!(
            running = busy,
            drain_timeout_s = setup.drain_timeout.as_secs(),
            "stopping: finishing what is running; a second signal leaves at once"
        );
    }
    while let Some(ended) = slots.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a slot ended unexpectedly");
        }
    }
    attendant.settling.close();
    drop(tokio::time::timeout(LAST_WORDS, attendant.settling.wait()).await);
    assigners.shutdown().await;
    if let Err(error) = heartbeat.await {
        tracing::error!(%error, "the heartbeat ended unexpectedly");
    }
}

/// Says once that there is nothing to do, then waits for the stop.
async fn report_waiting(mut jobs: watch::Receiver<Arc<BTreeMap<JobId, JobEntry>>>, shutdown: &Shutdown) {
    let has_job = async {
        let waited = jobs.wait_for(|jobs| !jobs.is_empty());
        drop(tokio::time::timeout(Duration::from_secs(5), waited).await);
    };
    tokio::select! {
        () = has_job => {}
        () = shutdown.stopping() => return,
    }
    if jobs.borrow().is_empty() {
        tracing::info!("no job at the moment: waiting for a coordinator");
    }
    shutdown.stopping().await;
}

/// One request in flight at a time, while it is open. One that is closed finishes what it has.
struct Slot {
    /// It is open while more slots than this are.
    number: u32,
    open: watch::Receiver<u32>,
    server: Arc<Server>,
    assignment: watch::Receiver<Option<Assignment>>,
    attendant: Arc<Attendant>,
    shutdown: Shutdown,
}

impl Slot {
    async fn run(mut self) {
        let mut trouble = fresh_trouble();
        while let Some(work) = self.next_assignment().await {
            if let Some(closed) = self.server.closed() {
                tokio::select! {
                    () = closed => continue,
                    () = self.shutdown.stopping() => return,
                }
            }
            let patience = if work.has_rivals { RESTLESS } else { PATIENT };
            let wait = match work.source.next(patience).await {
                Ok(None) => {
                    trouble = fresh_trouble();
                    continue;
                }
                Ok(Some(delivery)) => {
                    trouble = fresh_trouble();
                    let _busy = self.server.enter();
                    attend::attend(&self.attendant, &self.server, &work, delivery).await;
                    continue;
                }
                Err(SourceError::Gone { reason }) => {
                    tracing::debug!(pool = %work.pool, reason, "the pool's consumer is gone");
                    self.server.changed.notify_one();
                    Duration::from_secs(1)
                }
                Err(SourceError::Queue(error)) => {
                    let wait = jittered(trouble.next().unwrap_or_default());
                    tracing::debug!(%error, "no task could be asked for");
                    wait
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.shutdown.stopping() => return,
            }
        }
    }

    /// What to work for, once the slot is open and there is something; nothing when it is over.
    async fn next_assignment(&mut self) -> Option<Assignment> {
        let number = self.number;
        let found = async {
            loop {
                self.open.wait_for(|open| *open > number).await.ok()?;
                let found = self.assignment.wait_for(Option::is_some).await.ok()?.clone();
                if *self.open.borrow() > number {
                    return found;
                }
            }
        };
        tokio::select! {
            biased;
            () = self.shutdown.stopping() => None,
            found = found => found,
        }
    }
}

fn fresh_trouble() -> Backoff {
    Backoff::new(Duration::from_millis(200), Duration::from_secs(10))
}
