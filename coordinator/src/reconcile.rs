//! The queue is transport, the files are the truth: finds tasks that the queue lost.
//!
//! For what was published and not applied: a stored task is left, a stored result will be received, the rest
//! is lost and published again. Looking at tasks first and at results second is what makes this free of
//! races: a task that is gone was acked, and acked means that its result was stored before.
//!
//! Every look begins with the streams, buckets and consumers themselves: any of them may have vanished, or have
//! other settings.
//!
//! A queue server whose disk lost its last writes may hold messages that it takes for acknowledged, and never
//! delivers them. What looks like that twice in a row is dealt with: a task is removed and counts as lost, and for
//! results their consumer is made again. A message that was delivered and handed back with a delay of years looks
//! like one in work: what no worker says that it works on, look after look with free slots, is removed and asked
//! for in a new round.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use qa_shared::failpoint::{Mistake, is_made};
use qa_shared::model::{DocumentToken, InstanceId, JobId, PoolName, TaskKey, WorkerPresence};
use qa_shared::queue::{
    PoolDepth, PublishError, Queue, QueueError, RESULTS, Results, TASKS, Tasks, TopologyError, TopologyNote,
    Upkeep, has_room,
};

use tokio::sync::mpsc;

use crate::core::TaskRef;
use crate::done::Done;

/// Tasks that are looked up one by one in a comparison, from the beginning of the queue.
const MOST_LOOKUPS: usize = 100;

/// A task is withheld when this many looks in a row, half an ack wait apart, saw nobody work on it. What is not
/// answered for so long would have been delivered again.
const SIGHTINGS: u32 = 4;
/// The same where some worker does not tell all that it works on.
const UNCERTAIN_SIGHTINGS: u32 = 24;
/// A result that this many looks in a row found stored, and that never arrived, is withheld.
const RESULT_SIGHTINGS: u32 = 6;

/// A look that could not be had is told from this many in a row on.
const FAILED_LOOKS: u32 = 3;
/// How often it is told again.
const REPEAT: Duration = Duration::from_secs(300);

/// Which document a token stands for.
pub(crate) type Tokens = BTreeMap<DocumentToken, u32>;

/// What the streams hold of a job.
#[derive(Debug, Default)]
pub(crate) struct Stock {
    /// Tasks in this job's pool.
    pub(crate) tasks: BTreeSet<TaskKey>,
    /// Results.
    pub(crate) results: BTreeSet<TaskKey>,
}

/// Lists what the streams hold, tasks before results.
pub(crate) async fn take_stock(queue: &Queue, job: &JobId, pool: &PoolName) -> Result<Stock, QueueError> {
    let stored = Tasks::new(queue).stored(job).await?;
    let token = pool.token();
    let results = Results::new(queue).stored_keys(job).await?;
    Ok(Stock {
        // Tasks in other pools are left-overs of a run with another model; nobody waits for them.
        tasks: stored.into_iter().filter(|task| task.pool_token == token).map(|task| task.key).collect(),
        results: results.into_iter().collect(),
    })
}

/// What a look at the queue showed about published tasks.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// What was made again or changed back.
    pub(crate) mended: Vec<TopologyNote>,
    /// Tasks to publish again.
    pub(crate) lost: Vec<TaskRef>,
    /// Tasks that were removed because nobody has them and the queue does not deliver them; each needs a new round.
    pub(crate) withheld: Vec<TaskRef>,
    /// Results are stored that their consumer does not deliver.
    pub(crate) results_are_stuck: bool,
    /// What may never be delivered, for the next look.
    pub(crate) suspects: Suspects,
    /// Whether the server has room for a result, if that was tried; else its words.
    pub(crate) room: Option<Result<(), String>>,
    /// What the queue held.
    pub(crate) seen: Seen,
}

/// What a look saw, in figures.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Seen {
    depth: Option<PoolDepth>,
    tasks: usize,
    results: usize,
}

impl Seen {
    /// For people, with where it was seen.
    pub(crate) fn words(&self, pool: &PoolName) -> String {
        let Self { depth, tasks, results } = self;
        let consumer = format!("pool-{}", pool.token());
        let depth = depth.map_or_else(
            || format!("consumer {consumer} is missing"),
            |depth| {
                let PoolDepth { pending, in_flight, waiting_slots, .. } = depth;
                format!(
                    "consumer {consumer} has {pending} pending and {in_flight} delivered without an answer, and \
                     {waiting_slots} pulls wait there"
                )
            },
        );
        format!("stream {TASKS} holds {tasks} tasks of this job and {RESULTS} {results} results; {depth}")
    }
}

impl Findings {
    /// Leaves out what is not out any more. A look may take long, such as over a restart of the server: a task that was
    /// answered meanwhile, and whose result was received and acknowledged, is in neither stream and yet not lost.
    pub(crate) fn about(mut self, still_out: &BTreeSet<TaskRef>) -> Self {
        self.lost.retain(|task| still_out.contains(task));
        self.withheld.retain(|task| still_out.contains(task));
        self
    }
}

/// Messages that may never be delivered.
#[derive(Debug, Default, Clone)]
pub(crate) struct Suspects {
    tasks: BTreeSet<TaskKey>,
    /// In how many looks in a row nobody worked on a delivered task.
    withheld: BTreeMap<TaskKey, u32>,
    results: BTreeSet<TaskKey>,
    /// In how many looks in a row a result was stored.
    waiting: BTreeMap<TaskKey, u32>,
}

/// What the workers say that they work on.
#[derive(Debug, Default, Clone)]
pub(crate) struct InWork {
    running: BTreeSet<TaskKey>,
    /// A long list is cut off, and workers of earlier versions tell none.
    is_partial: bool,
}

impl InWork {
    /// By the last heartbeats.
    pub(crate) fn of(workers: &BTreeMap<InstanceId, WorkerPresence>) -> Self {
        let servers = || workers.values().flat_map(|worker| &worker.servers);
        Self {
            running: servers().flat_map(|server| &server.running).map(|task| task.key.clone()).collect(),
            is_partial: servers().any(|server| server.running.len() < server.busy as usize),
        }
    }

    /// How many looks in a row have now seen nobody work on this task though slots are free and it was delivered;
    /// none for a task that somebody has or may have.
    fn sightings(&self, key: &TaskKey, sequence: u64, depth: &PoolDepth, before: u32) -> Option<u32> {
        if self.running.contains(key) || sequence > depth.delivered {
            return None;
        }
        // With all slots busy it may be due, and wait for one.
        let seen = if depth.waiting_slots > 0 { before + 1 } else { before };
        (seen > 0).then_some(seen)
    }

    /// How many of a job's tasks are worked on; a worker that does not tell all may work on one.
    pub(crate) fn of_job(&self, job: &JobId) -> u64 {
        let told = self.running.iter().filter(|key| key.job == *job).count() as u64;
        told.max(u64::from(self.is_partial))
    }

    fn is_withheld(&self, sightings: u32) -> bool {
        sightings >= if self.is_partial { UNCERTAIN_SIGHTINGS } else { SIGHTINGS }
    }
}

/// Looks that could not be had.
#[derive(Debug, Default)]
pub(crate) struct FailedLooks {
    in_a_row: u32,
    told: Option<(Instant, String)>,
}

impl FailedLooks {
    /// One was had.
    pub(crate) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// One was not; whether that is to be told. What passes by itself is not worth a line.
    pub(crate) fn failed(&mut self, now: Instant, error: &TopologyError) -> bool {
        self.in_a_row += 1;
        let passes = match error {
            TopologyError::Incompatible { .. } => false,
            TopologyError::Queue(error) => !matches!(error, QueueError::Refused { .. }),
        };
        let text = error.to_string();
        let is_told = self.told.as_ref().is_some_and(|(at, told)| *told == text && now - *at < REPEAT);
        if is_told || (passes && self.in_a_row < FAILED_LOOKS) {
            return false;
        }
        self.told = Some((now, text));
        true
    }
}

/// What is known between two looks at the queue.
#[derive(Debug)]
pub(crate) struct Looks {
    /// The lease's, which names the consumer of results.
    pub(crate) epoch: u64,
    /// What may never be delivered.
    pub(crate) suspects: Suspects,
    pub(crate) failed: FailedLooks,
    /// One is under way.
    pub(crate) is_comparing: bool,
    /// Results that had come at the last one.
    pub(crate) results: u64,
    /// What the last one saw, or why it could not be had.
    pub(crate) seen: Option<Result<Seen, String>>,
}

impl Looks {
    pub(crate) fn new(epoch: u64) -> Self {
        Self {
            epoch,
            suspects: Suspects::default(),
            failed: FailedLooks::default(),
            is_comparing: false,
            results: 0,
            seen: None,
        }
    }
}

/// A look at the queue.
pub(crate) struct Look {
    pub(crate) queue: Queue,
    pub(crate) upkeep: Upkeep,
    /// Taken before the look.
    pub(crate) published: Vec<(TaskRef, TaskKey)>,
    /// Those of which a result is here.
    pub(crate) held: BTreeSet<TaskRef>,
    pub(crate) in_work: InWork,
    /// Those of the last look.
    pub(crate) suspects: Suspects,
    /// No result came since the last look: it may be that the server has no room for one.
    pub(crate) tries_room: bool,
}

impl Look {
    /// Compares what was published with what the queue holds, and reports.
    pub(crate) async fn compare(self, done: mpsc::Sender<Done>) {
        drop(done.send(Done::Compared(Box::new(compare(&self).await))).await);
    }
}

async fn compare(look: &Look) -> Result<Findings, TopologyError> {
    let Look { queue, upkeep, published, .. } = look;
    let mended = if is_made(Mistake::NoUpkeep) { Vec::new() } else { upkeep.ensure(queue).await? };
    let (tasks, results) = (Tasks::new(queue), Results::new(queue));
    // Before the stock: what is stored afterwards was to be delivered, or was delivered, at this moment.
    let depth = tasks.pool_depth(&upkeep.pool).await?;
    let all_delivered = results.is_delivered(&upkeep.job).await?;
    let stock = take_stock(queue, &upkeep.job, &upkeep.pool).await?;
    let lost = lost(published, &stock);
    let seen = Seen { depth, tasks: stock.tasks.len(), results: stock.results.len() };
    let mut findings = Findings { mended, lost, seen, ..Findings::default() };
    if let Some(depth) = depth {
        look.at_tasks(&tasks, &depth, &stock, &mut findings).await?;
    }
    look.at_results(all_delivered, &stock, &mut findings);
    if look.tries_room {
        findings.room = room(queue).await;
    }
    Ok(findings)
}

/// Tries to store a message of a result's size. Workers alone may store results; the limit of the whole store is
/// the same for tasks.
async fn room(queue: &Queue) -> Option<Result<(), String>> {
    const BYTES: usize = 16 * 1024;
    match has_room(queue, BYTES.min(queue.max_payload() / 2)).await {
        Ok(()) => Some(Ok(())),
        Err(PublishError::Unavailable(error @ QueueError::Full { .. })) => Some(Err(error.to_string())),
        Err(error) => {
            tracing::debug!(%error, "whether there is room is not known");
            None
        }
    }
}

impl Look {
    /// Finds stored tasks that will not be delivered.
    async fn at_tasks(
        &self,
        tasks: &Tasks,
        depth: &PoolDepth,
        stock: &Stock,
        findings: &mut Findings,
    ) -> Result<(), QueueError> {
        let pool = &self.upkeep.pool;
        let mut waiting: Vec<_> = self
            .published
            .iter()
            .filter(|(_, key)| stock.tasks.contains(key) && !stock.results.contains(key))
            .collect();
        waiting.sort_by_key(|(_, key)| self.in_work.running.contains(key));
        let is_idle = depth.pending == 0 && depth.in_flight == 0;
        for (task, key) in waiting.into_iter().take(MOST_LOOKUPS) {
            let Some(sequence) = tasks.sequence(pool, key).await? else { continue };
            let is_stuck = is_idle || sequence <= depth.ack_floor;
            let before = self.suspects.withheld.get(key).copied().unwrap_or_default();
            if is_stuck && self.suspects.tasks.contains(key) {
                tasks.remove(pool, key).await?;
                findings.lost.push(*task);
            } else if is_stuck {
                findings.suspects.tasks.insert(key.clone());
            } else if let Some(seen) = self.in_work.sightings(key, sequence, depth, before) {
                if self.in_work.is_withheld(seen) {
                    tasks.remove_at(sequence).await?;
                    findings.withheld.push(*task);
                } else {
                    findings.suspects.withheld.insert(key.clone(), seen);
                }
            }
        }
        Ok(())
    }

    /// Finds stored results that will not be delivered.
    fn at_results(&self, all_delivered: bool, stock: &Stock, findings: &mut Findings) {
        let is_missing =
            |(task, key): &&(TaskRef, TaskKey)| stock.results.contains(key) && !self.held.contains(task);
        for (_, key) in self.published.iter().filter(is_missing) {
            let seen = self.suspects.waiting.get(key).copied().unwrap_or_default() + 1;
            findings.results_are_stuck |= seen >= RESULT_SIGHTINGS;
            findings.suspects.waiting.insert(key.clone(), seen);
            if all_delivered {
                findings.results_are_stuck |= self.suspects.results.contains(key);
                findings.suspects.results.insert(key.clone());
            }
        }
        if findings.results_are_stuck {
            // They come again, and have their time.
            findings.suspects.waiting.clear();
        }
    }
}

/// Those of `published` that are neither stored nor answered. `published` must have been taken before the
/// stock.
pub(crate) fn lost(published: &[(TaskRef, TaskKey)], stock: &Stock) -> Vec<TaskRef> {
    published
        .iter()
        .filter(|(_, key)| !stock.tasks.contains(key) && !stock.results.contains(key))
        .map(|(task, _)| *task)
        .collect()
}

#[cfg(test)]
mod tests {
    use qa_shared::model::DocumentName;

    use super::*;

    fn key(chunk: u32) -> TaskKey {
        let document = DocumentName::new("a").token();
        TaskKey { job: JobId::from_random(1), document, chunk, round: 1 }
    }

    fn depth(waiting_slots: u64) -> PoolDepth {
        PoolDepth { pending: 0, in_flight: 3, redelivered: 0, waiting_slots, ack_floor: 0, delivered: 9 }
    }

    #[test]
    fn a_delivered_task_that_nobody_works_on_is_withheld_after_some_looks_with_free_slots() {
        let in_work = InWork { running: [key(1)].into(), is_partial: false };
        let look =
            |key: &TaskKey, sequence, slots, before| in_work.sightings(key, sequence, &depth(slots), before);
        assert_eq!(look(&key(1), 5, 2, 3), None, "a worker says that it has it");
        assert_eq!(look(&key(2), 10, 2, 3), None, "it was never delivered");
        let mut seen = 0;
        for _ in 0..SIGHTINGS {
            assert!(!in_work.is_withheld(seen));
            // With all slots busy it may be due: that says nothing.
            assert_eq!(look(&key(2), 9, 0, seen).unwrap_or_default(), seen);
            seen = look(&key(2), 9, 1, seen).unwrap();
        }
        assert!(in_work.is_withheld(seen));
        let uncertain = InWork { is_partial: true, ..in_work.clone() };
        assert!(!uncertain.is_withheld(seen) && uncertain.is_withheld(UNCERTAIN_SIGHTINGS));
    }

    #[test]
    fn what_was_answered_while_a_look_took_its_time_is_not_lost() {
        let task = |chunk| TaskRef { document: 0, chunk, round: 1 };
        let findings = Findings {
            lost: vec![task(0), task(1)],
            withheld: vec![task(2), task(3)],
            ..Findings::default()
        };
        // The results of 0 and 3 were received, journalled and acknowledged before the look came to its end.
        let findings = findings.about(&[task(1), task(2), task(4)].into());
        assert_eq!((findings.lost, findings.withheld), (vec![task(1)], vec![task(2)]));
    }

    #[test]
    fn failed_looks_are_told_when_they_last_and_not_again_and_again() {
        let (mut looks, now) = (FailedLooks::default(), Instant::now());
        let away: TopologyError = QueueError::Unavailable { doing: "x", reason: "y".into() }.into();
        let refused: TopologyError = QueueError::Refused { doing: "x", reason: "y".into(), code: 1 }.into();
        let told: Vec<_> = (0..5).map(|_| looks.failed(now, &away)).collect();
        assert_eq!(told, [false, false, true, false, false]);
        assert!(looks.failed(now, &refused) && !looks.failed(now, &refused));
        assert!(looks.failed(now + REPEAT, &refused));
        looks.succeeded();
        assert!(!looks.failed(now, &away) && looks.failed(now, &refused));
    }

    #[test]
    fn only_what_is_neither_stored_nor_answered_is_lost() {
        let published: Vec<_> =
            (0..3).map(|chunk| (TaskRef { document: 0, chunk, round: 1 }, key(chunk))).collect();
        let stock =
            Stock { tasks: [published[0].1.clone()].into(), results: [published[2].1.clone()].into() };
        assert_eq!(lost(&published, &stock), [published[1].0]);
    }
}
