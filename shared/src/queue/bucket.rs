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

/// Entries of a bucket that are read.
const MOST_ENTRIES: usize = 4096;
/// A larger entry is ignored, in bytes: workers keep their heartbeats far below.
const MOST_ENTRY_BYTES: usize = 1024 * 1024;
/// All entries of a bucket in memory, in bytes.
const MOST_BYTES: usize = 32 * 1024 * 1024;

/// A key's value at one moment.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    /// Absent where nothing is stored or the key was removed.
    pub(super) value: Option<Bytes>,
    /// What a guarded write must name; 0 where nothing is stored.
    pub(super) revision: u64,
}

impl Entry {
    fn size(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Bytes::len)
    }
}

/// Entries of a bucket in memory, bounded in sum.
#[derive(Debug, Default)]
struct Kept {
    entries: Vec<Entry>,
    bytes: usize,
}

impl Kept {
    /// Takes an entry with a value; gives one that is not kept. Where there is too much, the largest one goes:
    /// honest entries are small.
    fn add(&mut self, entry: Entry) -> Option<Entry> {
        entry.value.as_ref()?;
        if entry.size() > MOST_ENTRY_BYTES {
            return Some(entry);
        }
        self.bytes += entry.size();
        self.entries.push(entry);
        if self.bytes <= MOST_BYTES {
            return None;
        }
        let sizes = self.entries.iter().enumerate();
        let (largest, _) = sizes.max_by_key(|(_, entry)| entry.size())?;
        let left_out = self.entries.swap_remove(largest);
        self.bytes -= left_out.size();
        Some(left_out)
    }
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

    /// The entries of these keys; removed ones are left out, and what is more than this program keeps of a bucket:
    /// everybody with a user of the queue may write there.
    pub(super) async fn read_many(&self, mut keys: Vec<String>) -> Result<Vec<Entry>, QueueError> {
        // The same ones each time.
        keys.sort_unstable();
        keys.truncate(MOST_ENTRIES);
        let reads = keys.into_iter().map(async |key| self.read(&key).await);
        let mut entries = std::pin::pin!(stream::iter(reads).buffer_unordered(CONCURRENT_REQUESTS));
        let mut kept = Kept::default();
        while let Some(entry) = entries.try_next().await? {
            if let Some(left_out) = kept.add(entry) {
                tracing::warn!(
                    bucket = self.name,
                    key = left_out.key,
                    bytes = left_out.size(),
                    "an entry is ignored, it is too large"
                );
            }
        }
        Ok(kept.entries)
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(key: usize, bytes: usize) -> Entry {
        Entry { key: format!("worker.{key}"), value: Some(vec![0; bytes].into()), revision: 1 }
    }

    #[test]
    fn honest_entries_stay_beside_any_number_of_large_ones() {
        let mut kept = Kept::default();
        for key in 0..100 {
            assert!(kept.add(entry(key, 1000)).is_none());
            // Just small enough to be kept.
            kept.add(entry(1000 + key, MOST_ENTRY_BYTES - 100));
        }
        assert!(kept.bytes <= MOST_BYTES);
        assert_eq!(kept.entries.iter().filter(|entry| entry.size() < 2000).count(), 100);
        let larger = kept.add(entry(7, MOST_ENTRY_BYTES + 1)).unwrap();
        assert_eq!(larger.key, "worker.7");
    }

    proptest! {
        #[test]
        fn what_is_kept_is_bounded_in_sum(sizes in prop::collection::vec(0..2 * MOST_ENTRY_BYTES, 0..80)) {
            let mut kept = Kept::default();
            for (key, bytes) in sizes.into_iter().enumerate() {
                kept.add(entry(key, bytes));
                prop_assert_eq!(kept.bytes, kept.entries.iter().map(Entry::size).sum::<usize>());
                prop_assert!(kept.bytes <= MOST_BYTES);
            }
        }
    }
}
