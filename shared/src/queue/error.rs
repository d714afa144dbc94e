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
    /// The server has no room for more messages: of its own, of the account, or of the stream.
    #[error("queue server has no room left for {doing}: {reason}")]
    Full {
        /// What was attempted.
        doing: &'static str,
        /// The server's words, and whose limit it is.
        reason: String,
        /// The server's error code.
        code: u64,
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
        if let Some(limit) = limit_of(error) {
            return Self::Full { doing, reason: format!("{reason}; {limit}"), code: error.error_code().0 };
        }
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
        matches!(self, Self::Unavailable { .. } | Self::Full { .. })
    }
}

/// Which limit of storage a server's error is about, if it is about one.
fn limit_of(error: &ApiError) -> Option<&'static str> {
    /// An account's limits are reached.
    const ACCOUNT_RESOURCES_EXCEEDED: ErrorCode = ErrorCode(10002);
    match error.error_code() {
        ErrorCode::INSUFFICIENT_RESOURCES => {
            Some("the limit is the server's: max_file_store in its configuration, or its disk")
        }
        ACCOUNT_RESOURCES_EXCEEDED
        | ErrorCode::STORAGE_RESOURCES_EXCEEDED
        | ErrorCode::MEMORY_RESOURCES_EXCEEDED => {
            Some("the limit is that of the storage of this account, or of the server")
        }
        // A second message on a subject is refused with the same code.
        ErrorCode::STREAM_STORE_FAILED => ["maximum bytes", "maximum messages exceeded", "no space left"]
            .iter()
            .any(|words| error.to_string().contains(words))
            .then_some("the limit is the stream's: max_bytes or max_msgs, or the server's disk"),
        _ => None,
    }
}

/// Why a message was not stored, as far as is known.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The server would never accept it.
    #[error("message of {bytes} bytes is over {limit}")]
    TooLarge {
        /// Its size without headers.
        bytes: usize,
        /// The limit with its name, such as `max_payload of 1048576 bytes of the queue server`.
        limit: String,
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
