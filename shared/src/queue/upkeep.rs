//! Keeps what a run needs of the server: every stream, bucket and consumer, each with its settings.
//!
//! Any of them may vanish or change while a run goes on: by an operator, or by a power cut that tore its files.
//! What is missing is made again, empty; what was in it is published again by whoever compares. It must not
//! know what was in it.

use super::migrate::{Scope, ensure_streams, keep_consumer};
use super::topology::{self, RESULTS, TASKS};
use super::{Queue, TopologyError, TopologyNote};
use crate::model::{JobId, PoolName};

/// What a run needs.
#[derive(Debug, Clone)]
pub struct Upkeep {
    /// Its pool.
    pub pool: PoolName,
    /// Its job.
    pub job: JobId,
    /// The epoch of the job's lease, which names the results consumer.
    pub epoch: u64,
    /// Whether other jobs are at work, whose durations may be others: then those that are found stay.
    pub shares: bool,
}

impl Upkeep {
    /// Makes everything be there as it should be; tells what was not. May be called at any time.
    pub async fn ensure(&self, queue: &Queue) -> Result<Vec<TopologyNote>, TopologyError> {
        let scope = Scope { replicas: false, max_bytes: false, durations: !self.shares };
        let mut notes = Box::pin(ensure_streams(queue, queue.replicas(), scope)).await?;
        let pool = topology::pool_consumer(&self.pool, queue.timing());
        notes.extend(keep_consumer(queue, TASKS, pool, scope, true).await?);
        // The job's own: nobody else has an opinion about it. Its receiver makes it again, if nobody took the job.
        let results = topology::results_consumer(&self.job, self.epoch, queue.timing());
        let own = Scope { durations: true, ..scope };
        notes.extend(keep_consumer(queue, RESULTS, results, own, false).await?);
        Ok(notes)
    }
}
