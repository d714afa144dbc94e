//! The worker's side of the task stream: one task for one free slot, kept alive, settled.
//!
//! It must not know what is done with a task. A free slot asks for exactly one task with a one-shot pull:
//! the client's continuous stream takes more in the background while the slot works, and a heartbeat on a
//! one-shot pull loses the message.

use std::time::{Duration, SystemTime};

use async_nats::Subject;
use async_nats::jetstream::AckKind;
use async_nats::jetstream::message::Message;
use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::ack::settle;
use super::pull::Puller;
use super::topology::{TASKS, pool_consumer_name};
use super::{AckError, InvalidSubject, Queue, QueueError, Timing, Traceparent, subjects};
use crate::model::{PoolName, TaskKey};

const DOING: &str = "asking for a task";

/// How long a pull that outlived its connection may still bring something.
const GRACE: Duration = Duration::from_secs(1);

/// Why no task could be asked for.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The pool's consumer is gone, with its stream or alone: wait for [`TaskSource::for_pool`] to find it.
    #[error("the pool's consumer is gone: {reason}")]
    Gone {
        /// The server's words.
        reason: String,
    },
    /// The server could not be asked: try again.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// Where a pool's tasks come from. Cheap to clone; every free slot may ask at the same time.
#[derive(Debug, Clone)]
pub struct TaskSource {
    queue: Queue,
    puller: Puller,
}

impl TaskSource {
    /// The pool's source, or none as long as no coordinator has made it.
    pub async fn for_pool(queue: &Queue, pool: &PoolName) -> Result<Option<Self>, QueueError> {
        let info = queue.consumer_info(DOING, TASKS, &pool_consumer_name(pool)).await?;
        let Some(info) = info else { return Ok(None) };
        Ok(Some(Self { queue: queue.clone(), puller: Puller::new(queue, info, DOING)? }))
    }

    /// Waits up to `expires` for one task. After a reconnect it returns early with nothing.
    ///
    /// Not to be cancelled without need: a task that is delivered in that moment waits for its ack wait.
    pub async fn next(&self, expires: Duration) -> Result<Option<Delivery>, SourceError> {
        let mut reconnects = self.queue.reconnects();
        let mut pull = self.puller.wait(1, expires).await?;
        let message = tokio::select! {
            biased;
            message = pull.next() => message,
            // The server has probably forgotten the pull, whose end would be waited for, and 5 s more.
            () = reconnected(&mut reconnects) => {
                tokio::time::timeout(GRACE, pull.next()).await.unwrap_or(None)
            }
        };
        self.delivery(message)
    }

    /// A task if one is there now.
    pub async fn try_next(&self) -> Result<Option<Delivery>, SourceError> {
        let limit = self.queue.timing().request;
        let mut pull = self.puller.look(1, limit).await?;
        let message = tokio::time::timeout(limit, pull.next())
            .await
            .map_err(|_| QueueError::unavailable(DOING, "no answer in time"))?;
        self.delivery(message)
    }

    fn delivery(
        &self,
        message: Option<Result<Message, SourceError>>,
    ) -> Result<Option<Delivery>, SourceError> {
        let message = match message {
            None => return Ok(None),
            Some(Err(error)) => return Err(error),
            Some(Ok(message)) => message,
        };
        let deliveries = message.info().map_or(1, |info| u64::try_from(info.delivered).unwrap_or(1));
        let stored_at = message.info().ok().map(|info| SystemTime::from(info.published));
        let message = message.message;
        let Some(reply) = message.reply else {
            return Err(QueueError::unavailable(DOING, "a message without a way to acknowledge it").into());
        };
        Ok(Some(Delivery {
            key: subjects::parse_task(&message.subject).map(|(_, key)| key),
            payload: message.payload,
            deliveries,
            context: Traceparent::from_headers(message.headers.as_ref()),
            stored_at,
            consumer: self.puller.consumer().name.clone(),
            ack_wait: self.puller.consumer().config.ack_wait,
            queue: self.queue.clone(),
            reply,
        }))
    }
}

pub(super) async fn reconnected(reconnects: &mut watch::Receiver<u64>) {
    if reconnects.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// A task that was delivered to this process. Dropped without being settled, it is delivered again after the
/// ack wait.
#[derive(Debug)]
pub struct Delivery {
    /// The key in the subject; an error for a message that no coordinator of this version has sent.
    pub key: Result<TaskKey, InvalidSubject>,
    /// The task in its wire form.
    pub payload: Bytes,
    /// How often it was delivered, this time included. Hand-backs and server restarts count too.
    pub deliveries: u64,
    /// The sender's trace context.
    pub context: Option<Traceparent>,
    /// When the queue stored it, by the queue server's clock.
    pub stored_at: Option<SystemTime>,
    /// The consumer that delivered it.
    pub consumer: String,
    ack_wait: Duration,
    queue: Queue,
    reply: Subject,
}

impl Delivery {
    /// Shows signs of life until `deadline` or until the guard is dropped, whichever comes first.
    pub fn start_beats(&self, deadline: Instant) -> BeatGuard {
        let (client, reply) = (self.queue.client(), self.reply.clone());
        let beat = Timing::beat(self.ack_wait);
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(beat).await;
                if Instant::now() >= deadline {
                    return;
                }
                if let Err(error) = client.publish(reply.clone(), AckKind::Progress.into()).await {
                    tracing::debug!(%error, "sign of life was not sent");
                }
            }
        });
        BeatGuard { task }
    }

    /// Says that the task is finished; to be called when its result is stored.
    pub async fn ack(&self) -> Result<(), AckError> {
        settle(&self.queue, &self.reply, AckKind::Ack).await
    }

    /// Gives the task back, to be delivered again at once or after a while.
    pub async fn hand_back(&self, after: Option<Duration>) -> Result<(), AckError> {
        settle(&self.queue, &self.reply, AckKind::Nak(after)).await
    }

    /// Removes a message that nobody can work on.
    pub async fn discard(&self) -> Result<(), AckError> {
        settle(&self.queue, &self.reply, AckKind::Term).await
    }
}

/// Ends the signs of life when dropped.
#[derive(Debug)]
#[must_use = "the signs of life end when this is dropped"]
pub struct BeatGuard {
    task: JoinHandle<()>,
}

impl Drop for BeatGuard {
    fn drop(&mut self) {
        self.task.abort();
    }
}
