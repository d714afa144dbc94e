//! Results as workers publish them and as both sides look for them.
//!
//! It must not know what a result means. Receiving them is in `results_consumer`.

use std::time::Duration;

use async_nats::jetstream::consumer::Info;

use super::api::Written;
use super::border;
use super::topology::{RESULTS, results_consumer_prefix};
use super::{PublishError, Queue, QueueError, Traceparent, subjects};
use crate::backoff::{Backoff, jittered};
use crate::model::{JobId, TaskKey, TaskResult};
use crate::wire::{self, WireError};

/// The result stream.
#[derive(Debug, Clone)]
pub struct Results {
    queue: Queue,
}

impl Results {
    /// The stream of this queue; [`super::ensure`] creates it.
    pub fn new(queue: &Queue) -> Self {
        Self { queue: queue.clone() }
    }

    /// Publishes a result and waits until it is stored. Where one is stored for this task already, that one
    /// stays, which is as good.
    pub async fn publish(
        &self,
        result: &TaskResult,
        context: Option<&Traceparent>,
    ) -> Result<(), PublishError> {
        let payload = wire::encode(result)?.into();
        let subject = subjects::result(&result.key);
        let headers = Traceparent::headers(context);
        match self.queue.store("publishing a result", subject, payload, headers, Some(0)).await? {
            Written::At(_) | Written::OtherSequence => Ok(()),
        }
    }

    /// Publishes a result again and again until it is stored, is known never to be, or `give_up` completes;
    /// in the last two cases the last error is returned.
    pub async fn publish_until_stored(
        &self,
        result: &TaskResult,
        context: Option<&Traceparent>,
        give_up: impl Future<Output = ()>,
    ) -> Result<(), PublishError> {
        tokio::pin!(give_up);
        let mut is_last = false;
        for wait in Backoff::new(Duration::from_millis(200), Duration::from_secs(5)) {
            let error = match self.publish(result, context).await {
                Err(PublishError::Unavailable(error)) => error,
                finished => return finished,
            };
            if is_last {
                return Err(error.into());
            }
            tracing::warn!(task = %result.key, %error, "result is not stored yet, trying again");
            tokio::select! {
                () = tokio::time::sleep(jittered(wait)) => {}
                () = &mut give_up => is_last = true,
            }
        }
        Err(QueueError::unavailable("publishing a result", "gave up").into())
    }

    /// The result that is stored for a task, if one is; it may be unreadable.
    pub async fn stored(&self, key: &TaskKey) -> Result<Option<Result<TaskResult, WireError>>, QueueError> {
        let subject = subjects::result(key);
        let message = self.queue.last_message("looking for a result", RESULTS, &subject).await?;
        Ok(message.map(|message| wire::decode(&message.payload).map(border::result)))
    }

    /// The tasks of a job for which a result is stored.
    pub async fn stored_keys(&self, job: &JobId) -> Result<Vec<TaskKey>, QueueError> {
        let filter = subjects::results_of_job(job);
        let listing = self.queue.listing("listing results", RESULTS, &filter).await?;
        let read = |subject: &String| match subjects::parse_result(subject) {
            Ok(key) => Some(key),
            Err(error) => {
                tracing::warn!(%error, "a message that is no result is ignored");
                None
            }
        };
        Ok(listing.subjects.iter().filter_map(read).collect())
    }

    /// Whether a job's consumer has nothing to deliver and waits for no acknowledgement.
    pub async fn is_delivered(&self, job: &JobId) -> Result<bool, QueueError> {
        let consumers = self.consumers(job).await?;
        Ok(consumers.iter().all(|info| info.num_pending == 0 && info.num_ack_pending == 0))
    }

    /// How many of a job's results are not acknowledged yet, delivered or not; nothing while it has no consumer.
    pub async fn unacknowledged(&self, job: &JobId) -> Result<Option<u64>, QueueError> {
        let consumers = self.consumers(job).await?;
        let count = |info: &Info| info.num_pending + info.num_ack_pending as u64;
        Ok((!consumers.is_empty()).then(|| consumers.iter().map(count).sum()))
    }

    /// Whether a coordinator waits for a job's results at this moment.
    pub async fn are_awaited(&self, job: &JobId) -> Result<bool, QueueError> {
        Ok(self.consumers(job).await?.iter().any(|info| info.num_waiting > 0))
    }

    /// Whether a job has a consumer of its results: a coordinator that ends in good order removes its own.
    pub async fn have_consumer(&self, job: &JobId) -> Result<bool, QueueError> {
        Ok(!self.consumers(job).await?.is_empty())
    }

    async fn consumers(&self, job: &JobId) -> Result<Vec<Info>, QueueError> {
        const DOING: &str = "asking for a results consumer";
        let prefix = results_consumer_prefix(job);
        let mut consumers = Vec::new();
        for name in self.queue.consumer_names(DOING, RESULTS).await? {
            if name.starts_with(&prefix) {
                consumers.extend(self.queue.consumer_info(DOING, RESULTS, &name).await?);
            }
        }
        Ok(consumers)
    }

    /// Removes all results of a job; how many it were.
    pub async fn purge_job(&self, job: &JobId) -> Result<u64, QueueError> {
        let filter = subjects::results_of_job(job);
        self.queue.purge("removing a job's results", RESULTS, &filter, None).await
    }
}
