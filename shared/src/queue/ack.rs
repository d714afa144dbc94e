//! Acknowledgements that know whether they arrived.
//!
//! An acknowledgement is not fenced: the server matches it by stream sequence only, so it says nothing about
//! who holds a message. What it must not do is report success when nobody took it.

use std::time::Duration;

use async_nats::Subject;
use async_nats::client::{Request, RequestErrorKind};
use async_nats::jetstream::AckKind;

use super::Queue;
use super::error::chain;

/// How often an acknowledgement is sent before its outcome is reported as unknown.
const ATTEMPTS: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Why an acknowledgement is not known to have been taken.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AckError {
    /// The consumer is gone, with its stream or alone: the message stays for whoever consumes next.
    #[error("nobody takes the acknowledgement: the consumer of this message is gone")]
    Gone,
    /// Perhaps taken, perhaps not: if not, the message is delivered again.
    #[error("the acknowledgement was not confirmed: {reason}")]
    Unconfirmed {
        /// What was seen last.
        reason: String,
    },
}

/// Sends an acknowledgement and waits for its confirmation.
///
/// The client's own `double_ack` takes any answer for a confirmation, also "no responders".
pub(super) async fn settle(queue: &Queue, reply: &Subject, kind: AckKind) -> Result<(), AckError> {
    let limit = queue.timing().ack_confirmation;
    let mut pause = FIRST_PAUSE;
    let mut attempt = 1;
    loop {
        let request = Request::new().payload(kind.into()).timeout(Some(limit));
        let Err(error) = queue.client().send_request(reply.clone(), request).await else { return Ok(()) };
        let is_gone = error.kind() == RequestErrorKind::NoResponders;
        if attempt == ATTEMPTS {
            return Err(if is_gone {
                AckError::Gone
            } else {
                AckError::Unconfirmed { reason: chain(&error) }
            });
        }
        // Right after an election or a restart nobody answers for a moment, although the consumer is there.
        if is_gone {
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        attempt += 1;
    }
}
