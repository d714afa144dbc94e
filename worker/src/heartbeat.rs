//! Tells the fleet that this worker lives, and what it has.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use qa_shared::model::WorkerPresence;
use qa_shared::queue::{Presence, PublishError, Queue, QueueError};
use qa_shared::shutdown::Shutdown;
use qa_shared::telemetry;
use tokio::sync::watch;

use crate::assigner::Assignment;
use crate::driver::WorkerSetup;
use crate::metrics;
use crate::presence_size::{Trimmed, trimmed};

/// A changed number of running requests or of slots, or a request that takes very long, is announced soon, but not
/// more often than this.
const LOAD_EVERY: Duration = Duration::from_secs(1);
/// How often the load is looked at. One that is the same twice is news: a slot between two tasks is not.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often the tokens of answers are told that are being written before the first one is finished: until then
/// nothing else shows a person that the model works.
const WRITING_EVERY: Duration = Duration::from_secs(2);
/// How often the queue server is asked whether it answers, and how long it may take. Together they stay below the
/// five seconds within which `/readyz` turns.
const QUEUE_PROBE_INTERVAL: Duration = Duration::from_millis(1500);
const QUEUE_ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// How often progress is told.
const PROGRESS_EVERY: Duration = Duration::from_secs(60);
/// A heartbeat takes at most this much, in bytes: coordinators read all of them, again and again.
const MOST_BYTES: usize = 128 * 1024;

/// Announces until the stop has been asked for and every server is idle, then says goodbye.
pub(crate) async fn run(
    setup: Arc<WorkerSetup>,
    queue: Queue,
    assignments: Vec<watch::Receiver<Option<Assignment>>>,
    shutdown: Shutdown,
) {
    tokio::select! {
        () = announce(&setup, &queue, assignments, &shutdown) => {}
        () = watch_queue(&queue) => {}
    }
}

/// Keeps `/readyz` up to date about the queue server. The client notices a lost connection at once, but a frozen
/// server only after three unanswered pings, so the server is also asked. Never returns.
async fn watch_queue(queue: &Queue) {
    let mut connected = queue.connected();
    loop {
        connected.borrow_and_update();
        let mut obstacle = queue.obstacle();
        if obstacle.is_none() && telemetry::is_listening() && !queue.answers(QUEUE_ANSWER_TIMEOUT).await {
            obstacle = Some("the queue server does not answer".to_owned());
        }
        telemetry::set_obstacle("worker queue", obstacle);
        tokio::select! {
            // An error means that the queue is closed, which the end of `announce` follows.
            _ = connected.changed() => {}
            () = tokio::time::sleep(QUEUE_PROBE_INTERVAL) => {}
        }
    }
}

async fn announce(
    setup: &Arc<WorkerSetup>,
    queue: &Queue,
    mut assignments: Vec<watch::Receiver<Option<Assignment>>>,
    shutdown: &Shutdown,
) {
    let presence = Presence::new(queue);
    let mut announcer = Announcer::new(queue);
    let every = queue.timing().renewal();
    let is_busy = || setup.servers.iter().any(|server| server.busy() > 0);
    let mut told = (Instant::now(), 0);
    metrics::observe_servers(&setup.servers);
    loop {
        if setup.tells_progress {
            tell_progress(setup, &mut told);
        }
        let draining = shutdown.is_stopping();
        if draining && !is_busy() {
            break;
        }
        announcer.announce(describe(setup, &assignments, draining)).await;
        telemetry::set_obstacle("worker", obstacle(setup, draining));
        share_accounts(setup, &presence).await;
        let news =
            futures_util::future::select_all(assignments.iter_mut().map(|one| Box::pin(one.changed())));
        let (announced_load, overdue) = (load(setup), overdue_tasks(setup));
        let changed_load = async {
            tokio::time::sleep(LOAD_EVERY.min(every).saturating_sub(LOOK_EVERY)).await;
            let mut before = announced_load;
            loop {
                tokio::time::sleep(LOOK_EVERY.min(every)).await;
                let now = load(setup);
                if now != announced_load && now == before || overdue_tasks(setup) > overdue {
                    return;
                }
                before = now;
            }
        };
        let announced_tokens = written_before_the_first(setup);
        let writing = async {
            loop {
                tokio::time::sleep(WRITING_EVERY.min(every)).await;
                if written_before_the_first(setup) != announced_tokens {
                    return;
                }
            }
        };
        let idle = async {
            while is_busy() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = changed_load => {}
            () = writing => {}
            (changed, ..) = news, if !draining => drop(changed),
            () = shutdown.stopping(), if !draining => {}
            () = idle, if draining => {}
        }
    }
    if let Err(error) = presence.withdraw(&setup.instance).await {
        tracing::debug!(%error, "could not say goodbye");
    }
}

/// Stores heartbeats, and says once what becomes of them.
struct Announcer {
    presence: Presence,
    connected: watch::Receiver<bool>,
    most_bytes: usize,
    models_left_out: usize,
    is_stored: bool,
}

impl Announcer {
    fn new(queue: &Queue) -> Self {
        // Half of the largest message: others have to be able to read several at once.
        let most_bytes = MOST_BYTES.min(queue.max_payload() / 2);
        let presence = Presence::new(queue);
        Self { presence, connected: queue.connected(), most_bytes, models_left_out: 0, is_stored: true }
    }

    async fn announce(&mut self, presence: WorkerPresence) {
        let Trimmed { presence, models_left_out } = trimmed(presence, self.most_bytes);
        if models_left_out > 0 && self.models_left_out == 0 {
            tracing::warn!(
                models = models_left_out,
                most_bytes = self.most_bytes,
                "the heartbeat does not name all models, there are too many; tasks for them are taken as before"
            );
        }
        self.models_left_out = models_left_out;
        let stored = self.presence.announce(&presence).await;
        // Before the first job of a queue server nobody has made the bucket; a server that is away is told already.
        let is_expected = matches!(&stored, Err(PublishError::Unavailable(QueueError::Missing { .. })));
        if is_expected || !*self.connected.borrow() {
            return;
        }
        match &stored {
            Err(error) if self.is_stored => tracing::warn!(
                %error,
                bytes = serde_json::to_vec(&presence).map_or(0, |text| text.len()),
                "the heartbeat was not stored: coordinators do not see this worker until one is"
            ),
            Err(error) => tracing::debug!(%error, "heartbeat was not stored"),
            Ok(()) if !self.is_stored => tracing::info!("heartbeats are stored again"),
            Ok(()) => {}
        }
        self.is_stored = stored.is_ok();
    }
}

/// The limits of an account are shared by all workers that are present with its key.
async fn share_accounts(setup: &WorkerSetup, presence: &Presence) {
    let accounts: Vec<_> = setup.servers.iter().map(|server| server.client.account()).collect();
    if accounts.iter().all(Option::is_none) {
        return;
    }
    let Ok(workers) = presence.workers().await else { return };
    for (server, account) in setup.servers.iter().zip(accounts).filter(|(_, account)| account.is_some()) {
        let others = workers.iter().filter(|(instance, worker)| {
            **instance != setup.instance
                && !worker.draining
                && worker.servers.iter().any(|other| other.account == account)
        });
        server.client.set_share(u32::try_from(others.count()).unwrap_or(u32::MAX).saturating_add(1));
    }
}

/// What keeps this worker from its work.
fn obstacle(setup: &WorkerSetup, draining: bool) -> Option<String> {
    if draining {
        return Some("stopping".to_owned());
    }
    let works = setup.servers.iter().any(|server| server.is_reachable());
    (!works).then(|| "no LLM server answers".to_owned())
}

fn busy_slots(setup: &WorkerSetup) -> u32 {
    setup.servers.iter().map(|server| server.busy()).sum()
}

/// Busy slots, open ones, and the changes of what cannot be served.
fn load(setup: &WorkerSetup) -> (u32, u32, u64) {
    let open = setup.servers.iter().map(|server| server.slots.open()).sum();
    let changes = setup.servers.iter().map(|server| server.obstacle_changes()).sum();
    (busy_slots(setup), open, changes)
}

/// Tokens that servers have written which have not finished an answer yet.
fn written_before_the_first(setup: &WorkerSetup) -> u64 {
    let servers = setup.servers.iter().filter(|server| server.has_finished_nothing());
    servers.map(|server| server.running.tokens()).sum()
}

/// Tasks that may have to be done elsewhere.
fn overdue_tasks(setup: &WorkerSetup) -> usize {
    setup.servers.iter().map(|server| server.running.overdue()).sum()
}

/// Now and then, what was done: somebody may look at this terminal after hours.
fn tell_progress(setup: &WorkerSetup, told: &mut (Instant, u64)) {
    let servers: Vec<_> = setup.servers.iter().map(|server| server.presence()).collect();
    let finished = servers.iter().map(|server| server.finished).sum();
    if told.0.elapsed() >= PROGRESS_EVERY && finished != told.1 {
        let tokens_per_second: f64 = servers.iter().map(|server| server.tokens_per_second).sum();
        tracing::info!(
            finished,
            busy = busy_slots(setup),
            slots = load(setup).1,
            tokens_per_second = tokens_per_second.round(),
            "tasks finished since the start"
        );
        *told = (Instant::now(), finished);
    }
}

fn describe(
    setup: &WorkerSetup,
    assignments: &[watch::Receiver<Option<Assignment>>],
    draining: bool,
) -> WorkerPresence {
    let pools: BTreeSet<_> = assignments
        .iter()
        .filter_map(|assignment| assignment.borrow().as_ref().map(|assignment| assignment.pool.clone()))
        .collect();
    WorkerPresence {
        instance: setup.instance.clone(),
        host: setup.host.clone(),
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        servers: setup.servers.iter().map(|server| server.presence()).collect(),
        pools: pools.into_iter().collect(),
        named_pools: setup.restrictions.pools.clone(),
        draining,
        beat: 0,
    }
}
