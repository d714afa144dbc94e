//! Requests to JetStream, with one classification of everything that can go wrong.

use std::collections::HashMap;

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::{Consumer, FromConsumer, Info, IntoConsumerConfig, pull};
use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::{PublishMessage, StreamMessage};
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::{Info as StreamInfo, LastRawMessageErrorKind};
use async_nats::jetstream::{Error as ApiError, ErrorCode};
use bytes::Bytes;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::error::chain;
use super::topology::{JOBS, TASKS, bucket_stream, stream_of};
use super::{PublishError, Queue, QueueError};

/// How many requests one call sends before it waits for answers.
pub(super) const CONCURRENT_REQUESTS: usize = 64;

/// What became of a guarded publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// Stored with this sequence.
    At(u64),
    /// The subject's last sequence is not the expected one.
    OtherSequence,
}

/// A stream's state at one moment, and the subjects in it.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Equal as long as nothing in the stream has changed.
    pub(super) fingerprint: String,
    pub(super) subjects: Vec<String>,
    /// What a message in it takes, in bytes.
    pub(super) average_bytes: u64,
}

#[derive(Deserialize)]
struct ListingPage {
    created: String,
    /// How many subjects there are on all pages.
    #[serde(default)]
    total: usize,
    state: ListingState,
}

#[derive(Deserialize)]
struct ListingState {
    messages: u64,
    #[serde(default)]
    bytes: u64,
    first_seq: u64,
    last_seq: u64,
    #[serde(default)]
    subjects: Option<HashMap<String, u64>>,
}

#[derive(Deserialize)]
struct Told {
    ts: String,
}

#[derive(Deserialize)]
struct Purged {
    purged: u64,
}

#[derive(Deserialize)]
struct Success {
    #[serde(default)]
    success: bool,
}

#[derive(Deserialize)]
struct ConsumerNames {
    #[serde(default)]
    total: usize,
    #[serde(default)]
    consumers: Option<Vec<String>>,
}

impl Queue {
    /// One request to JetStream's API.
    pub(super) async fn api<V: DeserializeOwned>(
        &self,
        doing: &'static str,
        subject: String,
        body: &(impl Serialize + ?Sized),
    ) -> Result<V, QueueError> {
        let refused = self.refusals().of(&self.api_subject(&subject));
        let answer = tokio::select! {
            answer = self.context().request::<_, _, Response<V>>(subject, body) => answer,
            reason = refused => return Err(QueueError::not_permitted(doing, reason)),
        };
        match answer {
            Ok(Response::Ok(answer)) => Ok(answer),
            Ok(Response::Err { error }) => Err(QueueError::from_api(doing, &error)),
            Err(error) => Err(QueueError::from_request(doing, &error)),
        }
    }

    /// Publishes and waits for the stream's acknowledgement. `expected` is the last sequence on that subject
    /// (0: nothing stored) without which nothing is written.
    pub(super) async fn store(
        &self,
        doing: &'static str,
        subject: String,
        payload: Bytes,
        headers: HeaderMap,
        expected: Option<u64>,
    ) -> Result<Written, PublishError> {
        let bytes = payload.len();
        let mut message = PublishMessage::build().payload(payload).headers(headers);
        if let Some(sequence) = expected {
            message = message.expected_last_subject_sequence(sequence);
        }
        let refused = self.refusals().of(&subject);
        let published = match self.context().send_publish(subject.clone(), message).await {
            Ok(acknowledgement) => tokio::select! {
                published = acknowledgement.into_future() => published,
                reason = refused => return Err(QueueError::not_permitted(doing, reason).into()),
            },
            Err(error) => Err(error),
        };
        let error = match published {
            Ok(stored) => return Ok(Written::At(stored.sequence)),
            Err(error) => error,
        };
        let unavailable = |reason: String| Err(QueueError::Unavailable { doing, reason }.into());
        match error.kind() {
            PublishErrorKind::WrongLastSequence => Ok(Written::OtherSequence),
            PublishErrorKind::MaxPayloadExceeded => {
                let limit = format!("max_payload of {} bytes of the queue server", self.max_payload());
                Err(PublishError::TooLarge { bytes, limit })
            }
            PublishErrorKind::StreamNotFound => {
                Err(QueueError::Missing { doing, reason: "no stream takes this subject".to_owned() }.into())
            }
            PublishErrorKind::TimedOut => unavailable("no answer in time".to_owned()),
            PublishErrorKind::Other => self.store_error(doing, &subject, bytes, &error).await,
            PublishErrorKind::WrongLastMessageId
            | PublishErrorKind::BrokenPipe
            | PublishErrorKind::MaxAckPending => unavailable(chain(&error)),
        }
    }

    /// What JetStream's own error to a publication means.
    async fn store_error(
        &self,
        doing: &'static str,
        subject: &str,
        bytes: usize,
        error: &async_nats::jetstream::context::PublishError,
    ) -> Result<Written, PublishError> {
        let stream = stream_of(subject);
        let answer = std::error::Error::source(error).and_then(|source| source.downcast_ref::<ApiError>());
        Err(match answer {
            Some(answer) if answer.error_code() == ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM => {
                PublishError::TooLarge { bytes, limit: self.message_limit(&stream).await }
            }
            Some(answer) => match QueueError::from_api(doing, answer) {
                QueueError::Full { doing, reason, code } => {
                    QueueError::Full { doing, reason: format!("stream {stream}: {reason}"), code }.into()
                }
                _ => QueueError::Unavailable { doing, reason: chain(error) }.into(),
            },
            None => QueueError::Unavailable { doing, reason: chain(error) }.into(),
        })
    }

    /// The size to which a stream limits messages, in words. Workers may not ask about the streams of work.
    async fn message_limit(&self, stream: &str) -> String {
        const DOING: &str = "asking for a stream's limits";
        let info = if stream == TASKS {
            self.api::<StreamInfo>(DOING, format!("STREAM.INFO.{stream}"), &json!({})).await.ok()
        } else {
            None
        };
        let size = info.map(|info| format!(" of {} bytes", info.config.max_message_size));
        format!("max_msg_size{} of the stream {stream}", size.unwrap_or_default())
    }

    /// The message stored on a subject, read from the stream's leader: never from a replica that lags.
    pub(super) async fn last_message(
        &self,
        doing: &'static str,
        stream: &str,
        subject: &str,
    ) -> Result<Option<StreamMessage>, QueueError> {
        let handle = self
            .context()
            .get_stream_no_info(stream)
            .await
            .map_err(|error| QueueError::unavailable(doing, chain(&error)))?;
        let refused = self.refusals().of(&self.api_subject(&format!("STREAM.MSG.GET.{stream}")));
        let found = tokio::select! {
            found = handle.get_last_raw_message_by_subject(subject) => found,
            reason = refused => return Err(QueueError::not_permitted(doing, reason)),
        };
        match found {
            Ok(message) => Ok(Some(message)),
            Err(error) => match error.kind() {
                LastRawMessageErrorKind::NoMessageFound => Ok(None),
                LastRawMessageErrorKind::JetStream(error) => Err(QueueError::from_api(doing, &error)),
                LastRawMessageErrorKind::InvalidSubject | LastRawMessageErrorKind::Other => {
                    Err(QueueError::unavailable(doing, chain(&error)))
                }
            },
        }
    }

    /// The subjects that hold a message, out of those that `filter` selects.
    pub(super) async fn listing(
        &self,
        doing: &'static str,
        stream: &str,
        filter: &str,
    ) -> Result<Listing, QueueError> {
        let mut listing = Listing::default();
        loop {
            let offset = listing.subjects.len();
            let body = json!({ "subjects_filter": filter, "offset": offset });
            let page: ListingPage = self.api(doing, format!("STREAM.INFO.{stream}"), &body).await?;
            if offset == 0 {
                let ListingState { messages, bytes, first_seq, last_seq, .. } = page.state;
                listing.average_bytes = bytes.checked_div(messages).unwrap_or(0);
                listing.fingerprint = format!("{} {messages} {first_seq} {last_seq}", page.created);
            }
            let subjects = page.state.subjects.unwrap_or_default();
            let is_last = subjects.is_empty();
            listing.subjects.extend(subjects.into_keys());
            if is_last || listing.subjects.len() >= page.total {
                return Ok(listing);
            }
        }
    }

    /// The server's clock, in seconds since 1970 UTC: what messages' times are compared with.
    pub(super) async fn server_time(&self, doing: &'static str) -> Result<i64, QueueError> {
        let jobs = bucket_stream(JOBS);
        let told: Told = self.api(doing, format!("STREAM.INFO.{jobs}"), &json!({})).await?;
        let time: Result<Timestamp, _> = told.ts.parse();
        time.map(Timestamp::as_second).map_err(|error| QueueError::unavailable(doing, error.to_string()))
    }

    /// Removes the messages that `filter` selects, those with a sequence below `below` only; how many it were.
    pub(super) async fn purge(
        &self,
        doing: &'static str,
        stream: &str,
        filter: &str,
        below: Option<u64>,
    ) -> Result<u64, QueueError> {
        let mut body = json!({ "filter": filter });
        if let Some(sequence) = below {
            body["seq"] = sequence.into();
        }
        let purged: Purged = self.api(doing, format!("STREAM.PURGE.{stream}"), &body).await?;
        Ok(purged.purged)
    }

    /// Removes one message; whether it was there.
    pub(super) async fn delete_message(
        &self,
        doing: &'static str,
        stream: &str,
        sequence: u64,
    ) -> Result<bool, QueueError> {
        /// The server's code for a sequence that holds no message.
        const NO_SUCH_MESSAGE: [u64; 2] = [10043, 10057];
        let body = json!({ "seq": sequence });
        match self.api::<Success>(doing, format!("STREAM.MSG.DELETE.{stream}"), &body).await {
            Ok(answer) => Ok(answer.success),
            Err(QueueError::Refused { code, .. }) if NO_SUCH_MESSAGE.contains(&code) => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn consumer_info(
        &self,
        doing: &'static str,
        stream: &str,
        name: &str,
    ) -> Result<Option<Info>, QueueError> {
        match self.api(doing, format!("CONSUMER.INFO.{stream}.{name}"), &json!({})).await {
            Ok(info) => Ok(Some(info)),
            Err(QueueError::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Creates a durable consumer, or gives the one of that name these settings.
    pub(super) async fn put_consumer(
        &self,
        doing: &'static str,
        stream: &str,
        config: pull::Config,
    ) -> Result<Info, QueueError> {
        let config = config.into_consumer_config();
        let name = config.durable_name.as_deref().unwrap_or_default();
        let subject = format!("CONSUMER.CREATE.{stream}.{name}.{}", config.filter_subject);
        self.api(doing, subject, &json!({ "stream_name": stream, "config": config, "action": "" })).await
    }

    /// Has a paused consumer deliver again. Creating it with other settings leaves it paused.
    pub(super) async fn resume_consumer(
        &self,
        doing: &'static str,
        stream: &str,
        name: &str,
    ) -> Result<(), QueueError> {
        self.api::<serde::de::IgnoredAny>(doing, format!("CONSUMER.PAUSE.{stream}.{name}"), &json!({}))
            .await?;
        Ok(())
    }

    pub(super) async fn delete_consumer(
        &self,
        doing: &'static str,
        stream: &str,
        name: &str,
    ) -> Result<(), QueueError> {
        match self.api::<Success>(doing, format!("CONSUMER.DELETE.{stream}.{name}"), &json!({})).await {
            Ok(_) | Err(QueueError::Missing { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn consumer_names(
        &self,
        doing: &'static str,
        stream: &str,
    ) -> Result<Vec<String>, QueueError> {
        let mut names = Vec::new();
        loop {
            let body = json!({ "offset": names.len() });
            let page: ConsumerNames = self.api(doing, format!("CONSUMER.NAMES.{stream}"), &body).await?;
            let page_names = page.consumers.unwrap_or_default();
            let is_last = page_names.is_empty();
            names.extend(page_names);
            if is_last || names.len() >= page.total {
                return Ok(names);
            }
        }
    }

    /// The client's handle for pulling from a consumer that is known to exist.
    pub(super) fn pull_consumer(
        &self,
        doing: &'static str,
        info: Info,
    ) -> Result<Consumer<pull::Config>, QueueError> {
        let config = pull::Config::try_from_consumer_config(info.config.clone()).map_err(|error| {
            QueueError::Refused { doing, reason: format!("not a pull consumer: {error}"), code: 0 }
        })?;
        Ok(Consumer::new(config, info, self.context().clone()))
    }
}
