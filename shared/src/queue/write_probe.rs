//! Whether the queue server still stores what it is sent, asked of the server itself: one small message for each
//! stream, which is removed again.
//!
//! nats-server gives up a stream after a failed write. It answers every other request about that stream as before,
//! and lets publications to it wait for an answer that never comes. It must not know what follows from that.

use async_nats::HeaderMap;
use bytes::Bytes;
use futures_util::future::join_all;

use super::topology::{self, bucket_key, bucket_stream};
use super::{PublishError, Queue, QueueError};

/// How often a write is tried: an answer may be late on a busy disk.
const ATTEMPTS: u32 = 2;
/// The last token but one of a probe's subject. No pool, job or key has this name: their names hold a hash, are
/// hexadecimal, or have more tokens.
const PROBE: &str = "write-probe";

/// Whether every stream that exists stores a message. A stream that does not exist is not looked at.
pub async fn stores_messages(queue: &Queue) -> bool {
    let streams = [
        (topology::TASKS.to_owned(), format!("qa.task.v1.{PROBE}")),
        (topology::RESULTS.to_owned(), format!("qa.result.v1.{PROBE}")),
        (bucket_stream(topology::JOBS), bucket_key(topology::JOBS, PROBE)),
        (bucket_stream(topology::PRESENCE), bucket_key(topology::PRESENCE, PROBE)),
        (bucket_stream(topology::POISON), bucket_key(topology::POISON, PROBE)),
    ];
    let probes = streams.iter().map(|(stream, prefix)| stores(queue, stream, prefix));
    join_all(probes).await.into_iter().all(|stores| stores)
}

/// Whether the queue server has room for a message of so many bytes among the tasks; an error says why not.
pub async fn has_room(queue: &Queue, bytes: usize) -> Result<(), PublishError> {
    const DOING: &str = "trying whether there is room";
    let prefix = format!("qa.task.v1.{PROBE}");
    let subject = format!("{prefix}.{:016x}", rand::random::<u64>());
    let stored = queue.store(DOING, subject, vec![b' '; bytes].into(), HeaderMap::new(), None).await;
    if let Err(error) = queue.purge(DOING, topology::TASKS, &format!("{prefix}.>"), None).await {
        tracing::debug!(%error, "the message of a write probe stays");
    }
    stored.map(|_| ())
}

async fn stores(queue: &Queue, stream: &str, prefix: &str) -> bool {
    const DOING: &str = "trying a write";
    let mut stored = false;
    for _ in 0..ATTEMPTS {
        // A subject that held a message of an earlier probe would be refused.
        let subject = format!("{prefix}.{:016x}", rand::random::<u64>());
        match queue.store(DOING, subject, Bytes::new(), HeaderMap::new(), None).await {
            Ok(_) | Err(PublishError::Unavailable(QueueError::Missing { .. })) => {
                stored = true;
                break;
            }
            Err(error) => tracing::debug!(stream, %error, "a write was not confirmed"),
        }
    }
    if let Err(error) = queue.purge(DOING, stream, &format!("{prefix}.>"), None).await {
        tracing::debug!(stream, %error, "the message of a write probe stays");
    }
    stored
}
