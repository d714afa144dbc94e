//! The queue is transport, the files are the truth: finds tasks that the queue lost.
//!
//! For what was published and not applied: a stored task is left, a stored result will be received, the rest
//! is lost and published again. Looking at tasks first and at results second is what makes this free of
//! races: a task that is gone was acked, and acked means that its result was stored before.
//!
//! A queue server whose disk lost its last writes may hold messages that it takes for acknowledged, and never
//! delivers them. What looks like that twice in a row is dealt with: a task is removed and counts as lost, and for
//! results their consumer is made anew.

use std::collections::{BTreeMap, BTreeSet};

use qa_shared::model::{DocumentToken, JobId, PoolName, TaskKey};
use qa_shared::queue::{Queue, QueueError, Results, Tasks};

use tokio::sync::mpsc;

use crate::core::TaskRef;
use crate::done::Done;

/// Tasks that are looked up one by one in a comparison, from the beginning of the queue.
const MOST_LOOKUPS: usize = 100;

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
    /// Tasks to publish again.
    pub(crate) lost: Vec<TaskRef>,
    /// Results are stored that their consumer does not deliver.
    pub(crate) results_are_stuck: bool,
    /// What may never be delivered, for the next look.
    pub(crate) suspects: Suspects,
}

/// Messages that may never be delivered.
#[derive(Debug, Default, Clone)]
pub(crate) struct Suspects {
    tasks: BTreeSet<TaskKey>,
    results: BTreeSet<TaskKey>,
}

/// A look at the queue.
pub(crate) struct Look {
    pub(crate) queue: Queue,
    pub(crate) job: JobId,
    pub(crate) pool: PoolName,
    /// Taken before the look.
    pub(crate) published: Vec<(TaskRef, TaskKey)>,
    /// Those of the last look.
    pub(crate) suspects: Suspects,
}

impl Look {
    /// Compares what was published with what the queue holds, and reports.
    pub(crate) async fn compare(self, done: mpsc::Sender<Done>) {
        let findings = compare(&self).await;
        if let Err(error) = &findings {
            tracing::debug!(%error, "the queue could not be looked through");
        }
        drop(done.send(Done::Compared(findings.ok())).await);
    }
}

async fn compare(look: &Look) -> Result<Findings, QueueError> {
    let Look { queue, job, pool, published, suspects } = look;
    let (tasks, results) = (Tasks::new(queue), Results::new(queue));
    // Before the stock: what is stored afterwards was to be delivered, or was delivered, at this moment.
    let depth = tasks.pool_depth(pool).await?;
    let all_delivered = results.is_delivered(job).await?;
    let stock = take_stock(queue, job, pool).await?;
    let mut findings = Findings { lost: lost(published, &stock), ..Findings::default() };
    let waiting = published
        .iter()
        .filter(|(_, key)| stock.tasks.contains(key) && !stock.results.contains(key))
        .take(MOST_LOOKUPS);
    for (task, key) in waiting {
        let Some(depth) = &depth else { break };
        let is_idle = depth.pending == 0 && depth.in_flight == 0;
        let is_stuck =
            is_idle || tasks.sequence(pool, key).await?.is_some_and(|sequence| sequence <= depth.ack_floor);
        if is_stuck && suspects.tasks.contains(key) {
            tasks.remove(pool, key).await?;
            findings.lost.push(*task);
        } else if is_stuck {
            findings.suspects.tasks.insert(key.clone());
        }
    }
    if all_delivered {
        let undelivered = published.iter().map(|(_, key)| key).filter(|key| stock.results.contains(key));
        findings.suspects.results = undelivered.cloned().collect();
        findings.results_are_stuck = !findings.suspects.results.is_disjoint(&suspects.results);
    }
    Ok(findings)
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

    #[test]
    fn only_what_is_neither_stored_nor_answered_is_lost() {
        let token = DocumentName::new("a").token();
        let published: Vec<_> = (0..3)
            .map(|chunk| {
                let key = TaskKey { job: JobId::from_random(1), document: token.clone(), chunk, round: 1 };
                (TaskRef { document: 0, chunk, round: 1 }, key)
            })
            .collect();
        let stock =
            Stock { tasks: [published[0].1.clone()].into(), results: [published[2].1.clone()].into() };
        assert_eq!(lost(&published, &stock), [published[1].0]);
    }
}
