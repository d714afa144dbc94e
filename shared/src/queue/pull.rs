//! One-shot pulls: so many messages are asked for once, over subscriptions that are used again.
//!
//! The client's own one-shot pull subscribes and unsubscribes each time, which costs the server more than the
//! pull itself: whatever it has found out about where messages go is void with every new subscription. Here a
//! subscription whose pull has come to its end serves the next one. It must not know what is pulled.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::jetstream::consumer::{Consumer, Info, pull};
use async_nats::jetstream::message::Message;
use async_nats::{StatusCode, Subject, Subscriber};
use futures_util::StreamExt;
use tokio::time::Instant;

use super::{Queue, QueueError, SourceError};

/// How long after a pull's own end its last word may come.
const LAST_WORD: Duration = Duration::from_secs(5);

/// What pulls from one consumer. Cheap to clone; clones share their subscriptions.
#[derive(Debug, Clone)]
pub(super) struct Puller(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    queue: Queue,
    consumer: Consumer<pull::Config>,
    /// Subscriptions of which no pull is outstanding.
    idle: Mutex<Vec<Inbox>>,
    doing: &'static str,
}

/// A subscription of which one pull at a time is outstanding.
#[derive(Debug)]
struct Inbox {
    subject: Subject,
    subscriber: Subscriber,
}

impl Puller {
    /// From the consumer with this state.
    pub(super) fn new(queue: &Queue, info: Info, doing: &'static str) -> Result<Self, QueueError> {
        let consumer = queue.pull_consumer(doing, info)?;
        Ok(Self(Arc::new(Inner { queue: queue.clone(), consumer, idle: Mutex::default(), doing })))
    }

    /// The consumer's state when this was made.
    pub(super) fn consumer(&self) -> &Info {
        self.0.consumer.cached_info()
    }

    /// Asks for what comes within this time, at most `messages`.
    pub(super) async fn wait(&self, messages: usize, expires: Duration) -> Result<Pull, QueueError> {
        let config = pull::BatchConfig { batch: messages, expires: Some(expires), ..Default::default() };
        self.pull(config, expires).await
    }

    /// Asks for what is there now, at most `messages`, and waits so long for the answer.
    pub(super) async fn look(&self, messages: usize, patience: Duration) -> Result<Pull, QueueError> {
        let config = pull::BatchConfig { batch: messages, no_wait: true, ..Default::default() };
        self.pull(config, patience).await
    }

    async fn pull(&self, config: pull::BatchConfig, expires: Duration) -> Result<Pull, QueueError> {
        let inbox = match self.take_idle() {
            Some(inbox) => inbox,
            None => self.subscribe().await?,
        };
        let outstanding = config.batch;
        let asked = self.0.consumer.request_batch(config, inbox.subject.clone()).await;
        asked.map_err(|error| QueueError::unavailable(self.0.doing, error.to_string()))?;
        let until = Instant::now() + expires + LAST_WORD;
        Ok(Pull { puller: self.clone(), inbox: Some(inbox), outstanding, until })
    }

    async fn subscribe(&self) -> Result<Inbox, QueueError> {
        let client = self.0.queue.client();
        let subject = Subject::from(client.new_inbox());
        let subscriber = client.subscribe(subject.clone()).await;
        let subscriber =
            subscriber.map_err(|error| QueueError::unavailable(self.0.doing, error.to_string()))?;
        Ok(Inbox { subject, subscriber })
    }

    fn take_idle(&self) -> Option<Inbox> {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn put_back(&self, inbox: Inbox) {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner).push(inbox);
    }
}

/// A pull that is outstanding. Dropped before its end, it takes its subscription with it: nothing of it comes
/// to another one.
#[derive(Debug)]
pub(super) struct Pull {
    puller: Puller,
    /// None at the end.
    inbox: Option<Inbox>,
    outstanding: usize,
    until: Instant,
}

impl Pull {
    /// The next message; none at the pull's end.
    pub(super) async fn next(&mut self) -> Option<Result<Message, SourceError>> {
        loop {
            let inbox = self.inbox.as_mut()?;
            let Ok(Some(message)) = tokio::time::timeout_at(self.until, inbox.subscriber.next()).await else {
                // The server has forgotten the pull, or not: what it may still send is for nobody.
                self.inbox = None;
                return None;
            };
            match message.status.unwrap_or(StatusCode::OK) {
                StatusCode::OK => {
                    self.outstanding -= 1;
                    if self.outstanding == 0 {
                        self.end();
                    }
                    let context = self.puller.0.queue.context().clone();
                    return Some(Ok(Message { message, context }));
                }
                StatusCode::TIMEOUT | StatusCode::NOT_FOUND => self.end(),
                StatusCode::IDLE_HEARTBEAT => {}
                status => {
                    self.inbox = None;
                    let description = message.description.as_deref().unwrap_or_default();
                    return Some(Err(self.error(status, description)));
                }
            }
        }
    }

    /// The server has said its last word: the subscription is free for the next pull.
    fn end(&mut self) {
        if let Some(inbox) = self.inbox.take() {
            self.puller.put_back(inbox);
        }
    }

    fn error(&self, status: StatusCode, description: &str) -> SourceError {
        let reason = format!("{status}, {description}");
        // Without responders, nobody listens on the consumer's subject.
        if status == StatusCode::NO_RESPONDERS || description.contains("Consumer Deleted") {
            SourceError::Gone { reason }
        } else {
            QueueError::unavailable(self.puller.0.doing, reason).into()
        }
    }
}
