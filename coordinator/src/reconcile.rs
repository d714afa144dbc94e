//! The queue is transport, the files are the truth: finds tasks that the queue lost.
//!
//! For what was published and not applied: a stored task is left, a stored result will be received, the rest
//! is lost and published again. Looking at tasks first and at results second is what makes this free of
//! races: a task that is gone was acked, and acked means that its result was stored before.

use std::collections::{BTreeMap, BTreeSet};

use qa_shared::model::{DocumentToken, JobId, PoolName, TaskKey};
use qa_shared::queue::{Queue, QueueError, Results, Tasks};

use crate::core::TaskRef;

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
