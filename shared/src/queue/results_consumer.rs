//! Results as a coordinator receives and acknowledges them.
//!
//! One consumer per job and holder of the job's lease. Two consumers of one job cannot exist (work queue), so
//! the holder that comes later deletes those of earlier ones: their acknowledgements fail and their messages
//! stay. It must not know what is done with a result.

use std::time::Duration;

use async_nats::Subject;
use async_nats::jetstream::AckKind;
use async_nats::jetstream::message::Message;
use futures_util::{StreamExt, stream};

use super::ack::settle;
use super::api::CONCURRENT_REQUESTS;
use super::border;
use super::deliveries::reconnected;
use super::pull::Puller;
use super::topology::{self, RESULTS, results_consumer_prefix};
use super::{AckError, InvalidSubject, Queue, QueueError, SourceError, Traceparent, subjects};
use crate::model::{JobId, TaskKey, TaskResult};
use crate::wire::{self, WireError};

const DOING: &str = "asking for results";
/// The server's code for a consumer whose filter overlaps with another one's.
const FILTER_NOT_UNIQUE: u64 = 10100;
const CREATE_ATTEMPTS: u32 = 5;
const GRACE: Duration = Duration::from_secs(1);

/// Why no results could be received.
#[derive(Debug, thiserror::Error)]
pub enum ResultsError {
    /// Another coordinator consumes this job's results: this one must stop.
    #[error("results of job {job} are consumed by another coordinator (consumer {other})")]
    LeaseLost {
        /// The job.
        job: JobId,
        /// The other's consumer.
        other: String,
    },
    /// The server could not be asked: try again. If the stream is missing, [`super::ensure`] helps.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// What acknowledges a received result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    reply: Subject,
}

/// A result as it was received.
#[derive(Debug)]
pub struct ReceivedResult {
    /// The key in the subject, known also where the result cannot be read.
    pub key: Result<TaskKey, InvalidSubject>,
    /// The result.
    pub result: Result<TaskResult, WireError>,
    /// The worker's trace context.
    pub context: Option<Traceparent>,
    /// To be acknowledged when the result is in the journal.
    pub receipt: Receipt,
}

/// The consumer of a job's results. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ResultsConsumer {
    queue: Queue,
    job: JobId,
    epoch: u64,
    puller: Puller,
}

impl ResultsConsumer {
    /// Makes the consumer of this holder and deletes those of earlier ones. `epoch` is the lease's
    /// ([`super::Acquired`]). What earlier holders received and did not acknowledge is received again.
    pub async fn create(queue: &Queue, job: &JobId, epoch: u64) -> Result<Self, QueueError> {
        let config = topology::results_consumer(job, epoch, queue.timing());
        let prefix = results_consumer_prefix(job);
        let mut attempt = 1;
        loop {
            for name in queue.consumer_names(DOING, RESULTS).await? {
                if name.starts_with(&prefix) {
                    queue.delete_consumer(DOING, RESULTS, &name).await?;
                }
            }
            match queue.put_consumer(DOING, RESULTS, config.clone()).await {
                Ok(info) => {
                    let puller = Puller::new(queue, info, DOING)?;
                    return Ok(Self { queue: queue.clone(), job: job.clone(), epoch, puller });
                }
                Err(QueueError::Refused { code: FILTER_NOT_UNIQUE, .. }) if attempt < CREATE_ATTEMPTS => {
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Its name at the server.
    pub fn name(&self) -> &str {
        &self.puller.consumer().name
    }

    /// Waits up to `wait` for a first result and takes at most `max` of those that are there.
    ///
    /// Not to be cancelled without need: what is delivered in that moment waits for its ack wait. Run it in a
    /// task of its own. A consumer that vanished with its stream is made again.
    pub async fn next_batch(&self, max: usize, wait: Duration) -> Result<Vec<ReceivedResult>, ResultsError> {
        let mut reconnects = self.queue.reconnects();
        let mut pull = self.puller.wait(1, wait).await?;
        let first = tokio::select! {
            biased;
            message = pull.next() => message,
            () = reconnected(&mut reconnects) => {
                tokio::time::timeout(GRACE, pull.next()).await.unwrap_or(None)
            }
        };
        let mut received = Vec::new();
        match first {
            None => return Ok(received),
            Some(Ok(message)) => received.extend(receive(message)),
            Some(Err(error)) => {
                self.after(error).await?;
                return Ok(received);
            }
        }
        if max > 1 {
            let limit = self.queue.timing().request;
            let mut more = self.puller.look(max - 1, limit).await?;
            // What has been received is not given up for an error; the next call meets it again.
            while let Ok(Some(message)) = tokio::time::timeout(limit, more.next()).await {
                match message {
                    Ok(message) => received.extend(receive(message)),
                    Err(error) => tracing::debug!(%error, "results end early"),
                }
            }
        }
        Ok(received)
    }

    /// Acknowledges a result: it is gone from the queue.
    pub async fn ack(&self, receipt: &Receipt) -> Result<(), AckError> {
        settle(&self.queue, &receipt.reply, AckKind::Ack).await
    }

    /// Acknowledges many results at a time; returns those that were not confirmed. They are received again.
    pub async fn ack_all(&self, receipts: Vec<Receipt>) -> Vec<Receipt> {
        let acks = receipts.into_iter().map(async |receipt| match self.ack(&receipt).await {
            Ok(()) => None,
            Err(error) => {
                tracing::debug!(job = %self.job, %error, "result is not acknowledged");
                Some(receipt)
            }
        });
        stream::iter(acks)
            .buffer_unordered(CONCURRENT_REQUESTS)
            .filter_map(std::future::ready)
            .collect()
            .await
    }

    /// Deletes this consumer, when its coordinator ends. Results that are stored stay.
    pub async fn close(self) -> Result<(), QueueError> {
        self.queue.delete_consumer("closing a results consumer", RESULTS, self.name()).await
    }

    /// After an error: nothing to do, or the consumer is made again, or it belongs to another holder.
    async fn after(&self, error: SourceError) -> Result<(), ResultsError> {
        let reason = match error {
            SourceError::Queue(error) => return Err(error.into()),
            SourceError::Gone { reason } => reason,
        };
        // A later holder deletes this consumer first and makes its own then: let it.
        tokio::time::sleep(GRACE).await;
        let name = self.name();
        let prefix = results_consumer_prefix(&self.job);
        let names = self.queue.consumer_names(DOING, RESULTS).await?;
        if let Some(other) = names.iter().find(|other| other.starts_with(&prefix) && *other != name) {
            return Err(ResultsError::LeaseLost { job: self.job.clone(), other: other.clone() });
        }
        if names.iter().any(|other| other == name) {
            return Err(QueueError::unavailable(DOING, reason).into());
        }
        tracing::warn!(job = %self.job, "results consumer vanished, making it again");
        let config = topology::results_consumer(&self.job, self.epoch, self.queue.timing());
        match self.queue.put_consumer(DOING, RESULTS, config).await {
            Ok(_) => Ok(()),
            Err(QueueError::Refused { code: FILTER_NOT_UNIQUE, .. }) => Err(ResultsError::LeaseLost {
                job: self.job.clone(),
                other: "that was made in this moment".to_owned(),
            }),
            Err(error) => Err(error.into()),
        }
    }
}

fn receive(message: Message) -> Option<ReceivedResult> {
    let message = message.message;
    // A message from a stream always has one; without it nothing could ever be acknowledged.
    let receipt = Receipt { reply: message.reply? };
    Some(ReceivedResult {
        key: subjects::parse_result(&message.subject),
        result: wire::decode(&message.payload).map(border::result),
        context: Traceparent::from_headers(message.headers.as_ref()),
        receipt,
    })
}
