//! A key-value bucket, read through the stream's leader and written with an optional revision guard.
//!
//! The buckets are in the form of NATS' own key-value stores. The client's store is not used, because its
//! reads may be answered by a replica that lags, and because its deletions leave a marker for ever.

use async_nats::HeaderMap;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::api::{CONCURRENT_REQUESTS, Listing, Written};
use super::topology::{bucket_key, bucket_stream};
use super::{PublishError, Queue, QueueError};

/// A key's value at one moment.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    /// Absent where nothing is stored or the key was removed.
    pub(super) value: Option<Bytes>,
    /// What a guarded write must name; 0 where nothing is stored.
    pub(super) revision: u64,
}

/// One bucket of [`super::topology`].
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    queue: Queue,
    name: &'static str,
}

impl Bucket {
    pub(super) fn new(queue: &Queue, name: &'static str) -> Self {
        Self { queue: queue.clone(), name }
    }

    pub(super) fn queue(&self) -> &Queue {
        &self.queue
    }

    /// The subject under which changes of the keys that `filter` selects are announced.
    pub(super) fn subject(&self, filter: &str) -> String {
        bucket_key(self.name, filter)
    }

    pub(super) async fn read(&self, key: &str) -> Result<Entry, QueueError> {
        let subject = self.subject(key);
        let found = self.queue.last_message("reading a bucket", &bucket_stream(self.name), &subject).await?;
        let Some(message) = found else {
            return Ok(Entry { key: key.to_owned(), value: None, revision: 0 });
        };
        // Deletions, purges and expiries are messages with one of these headers and without a value.
        let is_marker = ["KV-Operation", "Nats-Marker-Reason"]
            .iter()
            .any(|header| message.headers.get(*header).is_some_and(|value| value.as_str() != "PUT"));
        let value = (!is_marker).then_some(message.payload);
        Ok(Entry { key: key.to_owned(), value, revision: message.sequence })
    }

    /// The keys that `filter` selects, removed ones among them.
    pub(super) async fn keys(&self, filter: &str) -> Result<Vec<String>, QueueError> {
        Ok(self.list(filter).await?.subjects)
    }

    /// The keys that `filter` selects, and a fingerprint of the whole bucket.
    pub(super) async fn list(&self, filter: &str) -> Result<Listing, QueueError> {
        let (stream, subject) = (bucket_stream(self.name), self.subject(filter));
        let mut listing = self.queue.listing("listing a bucket", &stream, &subject).await?;
        let prefix = self.subject("");
        for subject in &mut listing.subjects {
            if let Some(key) = subject.strip_prefix(&prefix) {
                *subject = key.to_owned();
            }
        }
        Ok(listing)
    }

    /// The entries of these keys; removed ones are left out.
    pub(super) async fn read_many(&self, keys: Vec<String>) -> Result<Vec<Entry>, QueueError> {
        let reads = keys.into_iter().map(async |key| self.read(&key).await);
        let entries: Vec<Entry> =
            stream::iter(reads).buffer_unordered(CONCURRENT_REQUESTS).try_collect().await?;
        Ok(entries.into_iter().filter(|entry| entry.value.is_some()).collect())
    }

    /// Writes whatever is there.
    pub(super) async fn write(&self, key: &str, value: Vec<u8>) -> Result<u64, PublishError> {
        match self.store(key, value, HeaderMap::new(), None).await? {
            Written::At(revision) => Ok(revision),
            // Without a guard the server has no reason to say so.
            Written::OtherSequence => {
                Err(QueueError::unavailable("writing a bucket", "unexpected guard").into())
            }
        }
    }

    /// Writes if the key's revision is the named one; `None` if it is another.
    pub(super) async fn write_at(
        &self,
        key: &str,
        value: Vec<u8>,
        revision: u64,
    ) -> Result<Option<u64>, PublishError> {
        match self.store(key, value, HeaderMap::new(), Some(revision)).await? {
            Written::At(revision) => Ok(Some(revision)),
            Written::OtherSequence => Ok(None),
        }
    }

    /// Writes that a key is removed, if its revision is the named one, or whatever it is; the marker's revision.
    /// The marker stays until the bucket's age removes it: all that a worker is permitted to do.
    pub(super) async fn mark_removed(
        &self,
        key: &str,
        revision: Option<u64>,
    ) -> Result<Option<u64>, PublishError> {
        let mut headers = HeaderMap::new();
        headers.insert("KV-Operation", "DEL");
        match self.store(key, Vec::new(), headers, revision).await? {
            Written::At(marker) => Ok(Some(marker)),
            Written::OtherSequence => Ok(None),
        }
    }

    /// Removes a key if its revision is the named one, or whatever it is; whether it was removed.
    pub(super) async fn remove(&self, key: &str, revision: Option<u64>) -> Result<bool, PublishError> {
        let Some(marker) = self.mark_removed(key, revision).await? else { return Ok(false) };
        // The marker has told those who watch. Up to its own sequence only: a later write must survive.
        let cleaned = self.forget(key, Some(marker + 1)).await;
        if let Err(error) = cleaned {
            tracing::debug!(bucket = self.name, key, %error, "a deletion marker stays");
        }
        Ok(true)
    }

    /// Drops the messages of the keys that `filter` selects without telling anybody; how many it were.
    pub(super) async fn forget(&self, filter: &str, below: Option<u64>) -> Result<u64, QueueError> {
        let (stream, subject) = (bucket_stream(self.name), self.subject(filter));
        self.queue.purge("cleaning a bucket", &stream, &subject, below).await
    }

    async fn store(
        &self,
        key: &str,
        value: Vec<u8>,
        headers: HeaderMap,
        revision: Option<u64>,
    ) -> Result<Written, PublishError> {
        let subject = self.queue.bucket_subject(self.subject(key));
        self.queue.store("writing a bucket", subject, value.into(), headers, revision).await
    }
}
