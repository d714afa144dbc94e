//! The coordinator's side of the task stream: publish, look, take back.
//!
//! It must not know when a task should be published or what its result means.

use futures_util::{StreamExt, stream};

use super::api::{CONCURRENT_REQUESTS, Written};
use super::topology::{self, TASKS, pool_consumer_name};
use super::{PublishError, Queue, QueueError, TopologyError, Traceparent, migrate, subjects};
use crate::model::{JobId, PoolName, Task, TaskKey};
use crate::wire;

/// A task is in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Its place in the stream; absent if it was there already.
    pub sequence: Option<u64>,
}

/// A task that is queued or in work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTask {
    /// The token of the pool that it was published to ([`PoolName::token`]).
    pub pool_token: String,
    /// Its key.
    pub key: TaskKey,
}

/// What became of tasks that were to be taken back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TakenBack {
    /// Removed before anybody had them.
    pub removed: Vec<TaskKey>,
    /// Delivered at least once: in work, or handed back and waiting for the next worker. They stay.
    pub in_flight: Vec<TaskKey>,
    /// Not in the stream any more: finished.
    pub absent: Vec<TaskKey>,
}

/// What became of one task that was to be taken back.
enum Place {
    Removed,
    InFlight,
    Absent,
}

/// How much work a pool has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolDepth {
    /// Tasks that were never delivered.
    pub pending: u64,
    /// Tasks delivered and not finished.
    pub in_flight: u64,
    /// Those of them that were delivered more than once.
    pub redelivered: u64,
    /// Slots that wait for a task.
    pub waiting_slots: u64,
    /// Up to this sequence number every task was acknowledged.
    pub ack_floor: u64,
    /// Up to this sequence number every task was delivered at least once.
    pub delivered: u64,
}

/// The task stream as a coordinator uses it.
#[derive(Debug, Clone)]
pub struct Tasks {
    queue: Queue,
}

impl Tasks {
    /// The stream of this queue; [`super::ensure`] creates it.
    pub fn new(queue: &Queue) -> Self {
        Self { queue: queue.clone() }
    }

    /// Creates the consumer that a pool's workers share, or brings its settings in order.
    pub async fn ensure_pool(&self, pool: &PoolName) -> Result<(), TopologyError> {
        let config = topology::pool_consumer(pool, self.queue.timing());
        migrate::ensure_consumer(&self.queue, TASKS, config).await
    }

    /// Publishes a task and waits until it is stored. One that is there already is not stored again.
    pub async fn publish(&self, task: &Task, context: Option<&Traceparent>) -> Result<Stored, PublishError> {
        let payload = wire::encode(task)?.into();
        let subject = subjects::task(&task.pool, &task.key);
        let headers = Traceparent::headers(context);
        match self.queue.store("publishing a task", subject, payload, headers, Some(0)).await? {
            Written::At(sequence) => Ok(Stored { sequence: Some(sequence) }),
            Written::OtherSequence => Ok(Stored { sequence: None }),
        }
    }

    /// All tasks of a job that are queued or in work, in whatever pool.
    pub async fn stored(&self, job: &JobId) -> Result<Vec<StoredTask>, QueueError> {
        let filter = subjects::tasks_of_job(job);
        let listing = self.queue.listing("listing tasks", TASKS, &filter).await?;
        let read = |subject: &String| match subjects::parse_task(subject) {
            Ok((pool_token, key)) => Some(StoredTask { pool_token, key }),
            Err(error) => {
                tracing::warn!(%error, "a message that is no task is ignored");
                None
            }
        };
        Ok(listing.subjects.iter().filter_map(read).collect())
    }

    /// Whether a task is queued or in work.
    pub async fn is_stored(&self, pool: &PoolName, key: &TaskKey) -> Result<bool, QueueError> {
        Ok(self.sequence(pool, key).await?.is_some())
    }

    /// Removes a task, also one in work; the worker's acknowledgement is harmless then.
    pub async fn remove(&self, pool: &PoolName, key: &TaskKey) -> Result<(), QueueError> {
        self.queue.purge("removing a task", TASKS, &subjects::task(pool, key), None).await?;
        Ok(())
    }

    /// Removes the message with this sequence number, as [`Self::sequence`] gave it; whether it was there.
    pub async fn remove_at(&self, sequence: u64) -> Result<bool, QueueError> {
        self.queue.delete_message("removing a task", TASKS, sequence).await
    }

    /// Removes those of these tasks that were never delivered. One that a worker gets in this very moment may
    /// be reported as removed; its result comes nevertheless.
    pub async fn take_back(&self, pool: &PoolName, tasks: &[TaskKey]) -> Result<TakenBack, QueueError> {
        const DOING: &str = "taking tasks back";
        let info = self.queue.consumer_info(DOING, TASKS, &pool_consumer_name(pool)).await?;
        let delivered = info.map_or(0, |info| info.delivered.stream_sequence);
        let attempts: Vec<_> = tasks.iter().map(|key| self.take_one_back(pool, key, delivered)).collect();
        let mut outcomes = stream::iter(attempts).buffer_unordered(CONCURRENT_REQUESTS);
        let mut taken = TakenBack::default();
        while let Some(outcome) = outcomes.next().await {
            let (key, place) = outcome?;
            match place {
                Place::Removed => taken.removed.push(key),
                Place::InFlight => taken.in_flight.push(key),
                Place::Absent => taken.absent.push(key),
            }
        }
        Ok(taken)
    }

    /// Sequences are asked for, not remembered: a stream that was made anew counts from 1 again, and an old
    /// number would remove another job's task.
    async fn take_one_back(
        &self,
        pool: &PoolName,
        key: &TaskKey,
        delivered: u64,
    ) -> Result<(TaskKey, Place), QueueError> {
        let place = match self.sequence(pool, key).await? {
            None => Place::Absent,
            Some(sequence) if sequence <= delivered => Place::InFlight,
            Some(sequence) => {
                let removed = self.queue.delete_message("taking tasks back", TASKS, sequence).await?;
                if removed { Place::Removed } else { Place::Absent }
            }
        };
        Ok((key.clone(), place))
    }

    /// Removes all tasks of a job, also those in work; how many it were.
    pub async fn purge_job(&self, job: &JobId) -> Result<u64, QueueError> {
        self.queue.purge("removing a job's tasks", TASKS, &subjects::tasks_of_job(job), None).await
    }

    /// How much work a pool has; nothing where it has no consumer.
    pub async fn pool_depth(&self, pool: &PoolName) -> Result<Option<PoolDepth>, QueueError> {
        let info = self.queue.consumer_info("asking for a pool", TASKS, &pool_consumer_name(pool)).await?;
        Ok(info.map(|info| PoolDepth {
            pending: info.num_pending,
            in_flight: info.num_ack_pending as u64,
            redelivered: info.num_redelivered as u64,
            waiting_slots: info.num_waiting as u64,
            ack_floor: info.ack_floor.stream_sequence,
            delivered: info.delivered.stream_sequence,
        }))
    }

    /// The sequence number of a task, if it is queued or in work.
    pub async fn sequence(&self, pool: &PoolName, key: &TaskKey) -> Result<Option<u64>, QueueError> {
        let subject = subjects::task(pool, key);
        let message = self.queue.last_message("looking for a task", TASKS, &subject).await?;
        Ok(message.map(|message| message.sequence))
    }
}
