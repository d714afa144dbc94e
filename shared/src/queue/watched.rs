//! A bucket's content as a value that follows it.
//!
//! A change is announced by the very message that makes it, which a plain subscription sees; the content is
//! then listed anew, and also every few seconds and after each reconnect. So nothing here has a position that
//! could be lost: server restarts, expiries, a wiped or a late bucket all end in a correct listing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::Subscriber;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::QueueError;
use super::bucket::{Bucket, Entry};

/// The announcement comes with the write; the listing must come after it.
const SETTLE: Duration = Duration::from_millis(20);

/// Follows a bucket until it is dropped. The value is empty until the bucket was read for the first time, and
/// keeps its last content while the server cannot be asked.
#[derive(Debug)]
pub struct Watched<K, V> {
    receiver: watch::Receiver<Arc<BTreeMap<K, V>>>,
    task: JoinHandle<()>,
}

impl<K, V> Watched<K, V>
where
    K: Ord + Send + Sync + 'static,
    V: PartialEq + Send + Sync + 'static,
{
    /// Follows the keys that `filter` selects. `read` makes a key and a value of an entry, or nothing of one
    /// that it cannot read.
    pub(super) fn start(
        bucket: Bucket,
        filter: &'static str,
        mut read: impl FnMut(&Entry) -> Option<(K, V)> + Send + 'static,
    ) -> Self {
        let (sender, receiver) = watch::channel(Arc::default());
        let task = tokio::spawn(async move {
            let mut announcements = None;
            let mut connections = bucket.queue().reconnects();
            let mut seen = String::new();
            loop {
                if announcements.is_none() {
                    announcements = bucket.queue().client().subscribe(bucket.subject(filter)).await.ok();
                }
                let begun = Instant::now();
                match changed_content(&bucket, filter, &seen).await {
                    Ok(Some((fingerprint, entries))) => {
                        seen = fingerprint;
                        let content: BTreeMap<K, V> = entries.iter().filter_map(&mut read).collect();
                        sender.send_if_modified(|current| {
                            let is_new = **current != content;
                            if is_new {
                                *current = Arc::new(content);
                            }
                            is_new
                        });
                    }
                    Ok(None) => {}
                    // No coordinator has made the bucket yet, or the server is away: wait and ask again.
                    Err(error) => tracing::debug!(%error, filter, "bucket cannot be read"),
                }
                // At most a fifth of the time goes into reading, whoever writes how much how often.
                let pause = SETTLE.max(begun.elapsed() * 4).min(bucket.queue().timing().poll.max(SETTLE));
                tokio::select! {
                    () = announced(&mut announcements) => tokio::time::sleep(pause).await,
                    changed = connections.changed() => match changed {
                        // A store that was set back can look like the one before, with other entries.
                        Ok(()) => seen.clear(),
                        Err(_) => return,
                    },
                    () = tokio::time::sleep(bucket.queue().timing().poll) => {}
                    () = sender.closed() => return,
                }
            }
        });
        Self { receiver, task }
    }

    /// The content, now and as it changes.
    pub fn receiver(&self) -> watch::Receiver<Arc<BTreeMap<K, V>>> {
        self.receiver.clone()
    }

    /// The content now.
    pub fn current(&self) -> Arc<BTreeMap<K, V>> {
        self.receiver.borrow().clone()
    }
}

impl<K, V> Drop for Watched<K, V> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn changed_content(
    bucket: &Bucket,
    filter: &str,
    seen: &str,
) -> Result<Option<(String, Vec<Entry>)>, QueueError> {
    let listing = bucket.list(filter).await?;
    if listing.fingerprint == seen {
        return Ok(None);
    }
    Ok(Some((listing.fingerprint, bucket.read_many(listing.subjects).await?)))
}

/// Waits for an announcement and takes all that have come with it.
async fn announced(announcements: &mut Option<Subscriber>) {
    let Some(subscriber) = announcements else { return std::future::pending().await };
    if subscriber.next().await.is_none() {
        // The connection was closed for good; the regular listing has to do.
        return std::future::pending().await;
    }
    while let Some(Some(_)) = subscriber.next().now_or_never() {}
}
