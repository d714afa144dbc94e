//! What can go wrong with a request to the queue server, sorted by what the caller can do about it.

use std::error::Error as StdError;

use async_nats::jetstream::context::{RequestError, RequestErrorKind};
use async_nats::jetstream::{Error as ApiError, ErrorCode};

use crate::wire::WireError;

/// A request to the queue server that did not succeed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum QueueError {
    /// No answer, or no server able to answer at the moment. It may have been done: try again.
    #[error("queue server is not available while {doing}: {reason}")]
    Unavailable {
        /// What was attempted.
        doing: &'static str,
        /// What was seen.
        reason: String,
    },
    /// The stream, bucket or consumer is not there: [`super::ensure`] creates it, then try again.
    #[error("queue server lacks what is needed for {doing}: {reason}")]
    Missing {
        /// What was attempted.
        doing: &'static str,
        /// The server's words.
        reason: String,
    },
    /// The server refuses; repeating it does not help.
    #[error("queue server refuses {doing}: {reason} (error {code})")]
    Refused {
        /// What was attempted.
        doing: &'static str,
        /// The server's words.
        reason: String,
        /// The server's error code.
        code: u64,
    },
}

impl QueueError {
    pub(super) fn unavailable(doing: &'static str, reason: impl Into<String>) -> Self {
        Self::Unavailable { doing, reason: reason.into() }
    }

    pub(super) fn not_permitted(doing: &'static str, reason: String) -> Self {
        Self::Refused { doing, reason, code: 403 }
    }

    pub(super) fn from_api(doing: &'static str, error: &ApiError) -> Self {
        let reason = error.to_string();
        match error.error_code() {
            ErrorCode::STREAM_NOT_FOUND | ErrorCode::CONSUMER_NOT_FOUND => Self::Missing { doing, reason },
            // 500 is what the server says to a setting that it does not like; 503 passes.
            code if error.code() == 503 || code == ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT => {
                Self::Unavailable { doing, reason }
            }
            code => Self::Refused { doing, reason, code: code.0 },
        }
    }

    pub(super) fn from_request(doing: &'static str, error: &RequestError) -> Self {
        let reason = match error.kind() {
            RequestErrorKind::NoResponders => "JetStream does not answer".to_owned(),
            RequestErrorKind::TimedOut => "no answer in time".to_owned(),
            RequestErrorKind::InvalidSubject | RequestErrorKind::Other => chain(error),
        };
        Self::Unavailable { doing, reason }
    }

    /// Whether trying again later may succeed without anybody's help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

/// Why a message was not stored, as far as is known.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The server would never accept it.
    #[error("message of {bytes} bytes is over the queue server's max_payload of {limit} bytes")]
    TooLarge {
        /// Its size with headers.
        bytes: usize,
        /// The server's limit.
        limit: usize,
    },
    /// The outcome is unknown or the server is not ready: try again, which cannot store it twice.
    #[error(transparent)]
    Unavailable(#[from] QueueError),
    /// It could not be written as a message.
    #[error(transparent)]
    Encoding(#[from] WireError),
}

/// An error with its causes, in one line.
pub(super) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}
