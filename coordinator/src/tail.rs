//! The end of a run: when nothing waits any more and slots are free, tasks that seem stuck get a second round
//! elsewhere, and the slower of the two is dropped.
//!
//! Here is gathered what is known: who works on what since when, how long a chunk takes where. Which tasks are
//! chosen is [`crate::core::choose`]'s decision, whether they may be the core's.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use qa_shared::model::{
    DocumentName, InstanceId, JobId, Outcome, PoolName, SecondRound, ServerPresence, TaskKey, TaskResult,
    WorkerPresence,
};
use qa_shared::queue::{PoolDepth, Queue, Results, Tasks};

use crate::core::{
    Choice, ChunkState, Document, Durations, Event, InWork, ReceiptId, ServerLoad, TaskRef, choose,
};
use crate::done::Done;
use crate::driver::Driver;
use crate::happening::Happening;

/// A heartbeat that is heard so long after a task was begun was sent after that.
const TRAVEL: Duration = Duration::from_secs(1);

/// With the last results coming in, what waits is asked for no more often than this.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What is known for the end of a run.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    looked: Option<Instant>,
    /// Since when nothing waits in the pool.
    since: Option<Instant>,
    is_asking: bool,
    durations: Durations,
    in_work: BTreeMap<TaskRef, Place>,
    order: Order,
    /// Tasks that a living worker is to drop.
    dropping: Vec<TaskRef>,
    told: BTreeMap<InstanceId, Told>,
    /// When a worker was first heard not to have a task any more: somebody else may have begun it since.
    let_go: BTreeMap<TaskRef, Instant>,
    /// Results wait to be read: tasks of which nothing is heard may be among them.
    results_wait: bool,
}

/// What waits in the queue.
#[derive(Debug)]
pub(crate) struct Waiting {
    pool: PoolDepth,
    /// Results without an acknowledgement.
    results: u64,
    /// The last result that was held when this was asked.
    held: ReceiptId,
}

impl Waiting {
    async fn ask(queue: &Queue, pool: &PoolName, job: &JobId, held: ReceiptId) -> Option<Self> {
        // In this order: what is no task any more when the tasks are looked at is a result by then.
        let pool = Tasks::new(queue).pool_depth(pool).await.ok().flatten()?;
        let results =
            if pool.pending == 0 { Results::new(queue).unacknowledged(job).await.ok()?? } else { 0 };
        Some(Self { pool, results, held })
    }
}

/// The queue gives tasks out in the order in which it got them: one that was published before another one that
/// was worked on is worked on for at least as long.
#[derive(Debug, Default)]
struct Order {
    last: u64,
    numbers: BTreeMap<TaskRef, u64>,
    out: BTreeMap<u64, (TaskRef, Option<Instant>)>,
}

impl Order {
    fn published(&mut self, task: TaskRef) {
        self.forget(task);
        self.last += 1;
        self.numbers.insert(task, self.last);
        self.out.insert(self.last, (task, None));
    }

    /// Somebody began to work on it at this time, and so did others on what was published before.
    fn begun(&mut self, task: TaskRef, at: Instant) {
        let Some(number) = self.forget(task) else { return };
        for (_, begun) in self.out.range_mut(..number).map(|(_, entry)| entry).rev() {
            if begun.is_some() {
                break;
            }
            *begun = Some(at);
        }
    }

    fn forget(&mut self, task: TaskRef) -> Option<u64> {
        let number = self.numbers.remove(&task)?;
        self.out.remove(&number);
        Some(number)
    }

    /// When somebody had it at the latest, as far as that is known.
    fn begun_by(&self, task: TaskRef) -> Option<Instant> {
        self.numbers.get(&task).and_then(|number| self.out.get(number)?.1)
    }
}

/// Who works on a task.
#[derive(Debug, Clone)]
struct Place {
    worker: InstanceId,
    /// The server's address.
    server: String,
    since: Instant,
}

/// A worker's last heartbeat.
#[derive(Debug)]
struct Told {
    presence: WorkerPresence,
    at: Instant,
}

/// Whether a worker can have a task, given its chunk's state and current round: a second round and the one before
/// it are out together. What is heard of other tasks would be remembered until the end of the run, and heartbeats can
/// be forged.
fn is_out(chunk: Option<(ChunkState, u32)>, task: TaskRef) -> bool {
    let rounds = |round: u32| round.saturating_sub(1)..=round;
    matches!(chunk, Some((ChunkState::Published, round)) if rounds(round).contains(&task.round))
}

impl Tail {
    /// A task is published.
    pub(crate) fn published(&mut self, task: TaskRef) {
        self.order.published(task);
        self.let_go.remove(&task);
    }

    /// Tasks that living workers are about to drop.
    pub(crate) fn into_dropping(self) -> Vec<TaskRef> {
        self.dropping
    }

    /// A result came.
    pub(crate) fn finished(&mut self, now: Instant, task: TaskRef, result: &TaskResult) {
        self.in_work.remove(&task);
        self.let_go.remove(&task);
        let took = Duration::from_millis(result.duration_ms);
        self.order.begun(task, now.checked_sub(took).unwrap_or(now));
        if let (Outcome::Completed { .. }, Some(server)) = (&result.outcome, &result.server) {
            self.durations.add(result.worker.as_str(), server, took);
        }
    }

    /// Takes the heartbeats of this moment. Each says how long its tasks had run when it was sent; `task_of`
    /// tells this job's tasks.
    pub(crate) fn hear(
        &mut self,
        now: Instant,
        workers: &BTreeMap<InstanceId, WorkerPresence>,
        task_of: impl Fn(&TaskKey) -> Option<TaskRef>,
    ) {
        for (instance, presence) in workers {
            if self.told.get(instance).is_some_and(|told| told.presence == *presence) {
                continue;
            }
            let before: Vec<_> = self
                .in_work
                .iter()
                .filter(|(_, place)| place.worker == *instance)
                .map(|(task, _)| *task)
                .collect();
            let mut places: BTreeMap<TaskRef, Place> =
                before.into_iter().filter_map(|task| self.in_work.remove_entry(&task)).collect();
            for server in &presence.servers {
                for running in &server.running {
                    let Some(task) = task_of(&running.key) else { continue };
                    let since = now.checked_sub(Duration::from_millis(running.for_ms)).unwrap_or(now);
                    // What was told before is older and so nearer to the truth.
                    let earlier = places.remove(&task).filter(|place| place.server == server.url);
                    let since = earlier.map_or(since, |place| place.since.min(since));
                    let place = Place { worker: instance.clone(), server: server.url.clone(), since };
                    self.in_work.insert(task, place);
                }
            }
            self.let_go.extend(places.into_keys().map(|task| (task, now)));
            self.told.insert(instance.clone(), Told { presence: presence.clone(), at: now });
        }
        let (in_work, let_go) = (&mut self.in_work, &mut self.let_go);
        self.told.retain(|instance, told| {
            let is_there = workers.contains_key(instance);
            // Who leaves in good order hands its tasks back.
            if !is_there && told.presence.draining {
                in_work.retain(|task, place| {
                    let stays = place.worker != *instance;
                    if !stays {
                        let_go.insert(*task, now);
                    }
                    stays
                });
            }
            is_there
        });
    }

    /// Forgets when tasks were let go that are not out any more.
    fn forget(&mut self, is_out: impl Fn(&TaskRef) -> bool) {
        self.let_go.retain(|task, _| is_out(task));
    }

    /// Whether no worker that lives has said that it works on a task though it had to, had it begun the task by
    /// then: whoever did is gone. A long list of tasks is cut off, workers of earlier versions tell none.
    fn is_nowhere_since(&self, begun: Instant) -> bool {
        !self.told.is_empty()
            && self.told.values().all(|told| {
                let tells = |server: &ServerPresence| server.running.len() >= server.busy as usize;
                told.at.saturating_duration_since(begun) >= TRAVEL && told.presence.servers.iter().all(tells)
            })
    }

    /// Whether the task is known to be with a worker that gives signs of life.
    fn is_alive(&self, task: TaskRef, grace: Duration) -> bool {
        let told = self.in_work.get(&task).and_then(|place| self.told.get(&place.worker));
        told.is_some_and(|told| told.at.elapsed() < grace)
    }

    /// The tasks that get a second round, with whom it is meant for. `grace` is how long a worker may be silent.
    fn choose(
        &self,
        now: Instant,
        out: impl Iterator<Item = TaskRef>,
        pool: &PoolName,
        free_slots: u64,
        grace: Duration,
    ) -> Vec<(Choice, Option<&Place>)> {
        let serving = self.told.iter().filter(|(_, told)| {
            !told.presence.draining
                && told.presence.pools.contains(pool)
                && now.duration_since(told.at) < grace
        });
        let mut servers = Vec::new();
        for (instance, told) in serving {
            for server in told.presence.servers.iter().filter(|server| server.reachable) {
                servers.push((instance, server));
            }
        }
        let loads: Vec<_> = servers
            .iter()
            .map(|(instance, server)| ServerLoad {
                idle: server.slots.saturating_sub(server.busy),
                typical: self.durations.typical(instance.as_str(), &server.url),
            })
            .collect();
        let since = self.since.unwrap_or(now);
        let in_work: Vec<_> = out
            .map(|task| {
                if let Some(place) = self.in_work.get(&task) {
                    let is_at =
                        |instance: &InstanceId, url: &str| *instance == place.worker && *url == place.server;
                    let told = self.told.get(&place.worker);
                    InWork {
                        task,
                        runs_for: now.duration_since(place.since),
                        is_placed: true,
                        server: servers.iter().position(|(instance, server)| is_at(instance, &server.url)),
                        is_silent: told.is_none_or(|told| now.duration_since(told.at) >= grace),
                    }
                } else {
                    // Whoever has it has had it since nothing waits any more, at least.
                    let begun = self.order.begun_by(task).map_or(since, |begun| begun.min(since));
                    let changed_hands = self.let_go.get(&task).map_or(begun, |let_go| begun.max(*let_go));
                    let is_silent = !self.results_wait && self.is_nowhere_since(changed_hands);
                    InWork {
                        task,
                        runs_for: now.duration_since(begun),
                        is_placed: false,
                        server: None,
                        is_silent,
                    }
                }
            })
            .collect();
        let chosen = choose(&in_work, &loads, free_slots, self.durations.usual());
        chosen.into_iter().map(|choice| (choice, self.in_work.get(&choice.task))).collect()
    }

    /// Second rounds of which no worker has told yet, though they stand: each is about to take a slot, or is
    /// declined by one.
    fn coming<'a>(
        &self,
        second_rounds: impl Iterator<Item = &'a TaskRef>,
        stands: impl Fn(&TaskRef) -> bool,
    ) -> u64 {
        second_rounds.filter(|task| stands(task) && !self.in_work.contains_key(task)).count() as u64
    }
}

impl Driver {
    /// A result came: once nothing is left to publish, the last task may have been begun by now.
    pub(crate) fn look_at_tail_again(&mut self) {
        let is_early = self.tail.looked.is_some_and(|looked| looked.elapsed() < LOOK_EVERY);
        if !is_early && !self.core.has_more_to_publish() {
            self.look_at_tail();
        }
    }

    /// Hears the workers; at the end of the run, asks how much waits.
    pub(crate) fn look_at_tail(&mut self) {
        self.tail.looked = Some(Instant::now());
        let (tokens, job, workers) = (&self.tokens, &self.job, self.workers.current());
        let core = &self.core;
        let is_out = |task: &TaskRef| is_out(core.chunk(task.document, task.chunk), *task);
        self.tail.forget(is_out);
        self.tail.hear(Instant::now(), &workers, |key| {
            let document = if key.job == *job { tokens.get(&key.document).copied() } else { None };
            let task = document.map(|document| TaskRef { document, chunk: key.chunk, round: key.round });
            task.filter(is_out)
        });
        let is_tail = self.core.speculation_room() > 0
            && !self.detaching
            && self.core.totals().published > 0
            && !self.core.has_more_to_publish()
            && self.performer.lines.unconfirmed.is_empty();
        if !is_tail {
            self.tail.since = None;
        } else if !std::mem::replace(&mut self.tail.is_asking, true) {
            let (queue, pool, job) = (self.queue.clone(), self.pool.clone(), self.job.clone());
            let (done, held) = (self.performer.lines.done.clone(), self.performer.held.last());
            tokio::spawn(async move {
                let waiting = Waiting::ask(&queue, &pool, &job, held).await;
                drop(done.send(Done::Waiting(waiting)).await);
            });
        }
    }

    /// So much waits: perhaps slots are free for what seems stuck.
    pub(crate) fn speculate(&mut self, waiting: Option<Waiting>) -> Option<Event> {
        self.tail.is_asking = false;
        let now = Instant::now();
        let Some(waiting) = waiting.filter(|waiting| waiting.pool.pending == 0) else {
            self.tail.since = None;
            return None;
        };
        self.tail.since.get_or_insert(now);
        self.tail.results_wait = waiting.results > self.performer.held.messages_until(waiting.held);
        let grace = self.grace();
        let coming = self.tail.coming(self.performer.lines.second_rounds.keys(), |task| {
            self.core.chunk(task.document, task.chunk) == Some((ChunkState::Published, task.round))
        });
        let free_slots = waiting.pool.waiting_slots.saturating_sub(coming);
        let out = self.core.published_tasks().filter(|task| self.core.may_speculate_on(*task));
        let chosen = self.tail.choose(now, out, &self.pool, free_slots, grace);
        let mut tasks = Vec::new();
        for (choice, place) in chosen.into_iter().take(self.core.speculation_room()) {
            let task = choice.task;
            let second = SecondRound {
                not_server: place.map(|place| place.server.clone()),
                within_ms: u64::try_from(choice.within.as_millis()).unwrap_or(u64::MAX),
            };
            self.performer
                .lines
                .second_rounds
                .insert(TaskRef { round: task.round.saturating_add(1), ..task }, second);
            tasks.push(task);
        }
        (!tasks.is_empty()).then_some(Event::Speculate(tasks))
    }

    /// How long a worker may be silent: two heartbeats and a little more.
    fn grace(&self) -> Duration {
        self.queue.timing().renewal() * 9 / 4
    }

    /// A second round begins: the event log has it before anybody can work on it.
    pub(crate) fn note_second_round(&self, task: TaskRef) {
        let document = self.core.documents().get(task.document as usize).map(Document::name);
        let second = self.performer.lines.second_rounds.get(&task);
        let place = self.tail.in_work.get(&TaskRef { round: task.round.saturating_sub(1), ..task });
        tracing::info!(
            task = %self.key_of(task),
            server = second.and_then(|second| second.not_server.as_deref()).unwrap_or("unknown"),
            seconds = place.map(|place| place.since.elapsed().as_secs()),
            "a chunk seems stuck, a free slot tries it too"
        );
        self.performer.log_event(Happening::SecondRound {
            document: document.map(DocumentName::to_string).unwrap_or_default(),
            chunk: task.chunk,
            round: task.round,
            server: second.and_then(|second| second.not_server.clone()),
        });
    }

    /// Nobody waits for a task any more: it is taken back, and whoever works on it drops it.
    pub(crate) fn withdraw(&mut self, task: TaskRef) {
        let key = self.key_of(task);
        self.performer.lines.unconfirmed.settle(task);
        // A second round is young: its worker lives. Of an older one that must be known.
        let is_young = self.performer.lines.second_rounds.contains_key(&task);
        if is_young || self.tail.is_alive(task, self.grace()) {
            self.tail.dropping.push(task);
        }
        self.announcement.add_dropped(key.clone());
        self.announcement.renew(&self.queue, &self.performer.lines.lease);
        self.performer.take_back_quietly(vec![key]);
    }
}

#[cfg(test)]
#[path = "tail_tests.rs"]
mod tests;
