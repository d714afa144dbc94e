//! Heartbeats of workers: who is there, with which servers and models.
//!
//! An entry lives for [`super::Timing::presence_age`]; a worker that is not heard of for so long is gone.

use std::collections::BTreeMap;

use super::border;
use super::bucket::{Bucket, Entry};
use super::{PublishError, Queue, QueueError, Watched, topology};
use crate::model::{InstanceId, WorkerPresence};
use crate::wire;

const WORKERS: &str = "worker.*";

/// The workers' part of the presence bucket.
#[derive(Debug, Clone)]
pub struct Presence {
    bucket: Bucket,
}

impl Presence {
    /// The bucket of this queue; [`super::ensure`] creates it.
    pub fn new(queue: &Queue) -> Self {
        Self { bucket: Bucket::new(queue, topology::PRESENCE) }
    }

    /// Says that a worker is there; to be repeated every [`super::Timing::renewal`].
    pub async fn announce(&self, worker: &WorkerPresence) -> Result<(), PublishError> {
        self.bucket.write(&key(&worker.instance), wire::encode(worker)?).await?;
        Ok(())
    }

    /// Says that a worker leaves.
    pub async fn withdraw(&self, instance: &InstanceId) -> Result<(), PublishError> {
        self.bucket.mark_removed(&key(instance), None).await?;
        Ok(())
    }

    /// The workers that are there; those that speak another version are left out.
    pub async fn workers(&self) -> Result<BTreeMap<InstanceId, WorkerPresence>, QueueError> {
        let keys = self.bucket.keys(WORKERS).await?;
        Ok(self.bucket.read_many(keys).await?.iter().filter_map(read).collect())
    }

    /// The workers as they come, change and go. The bucket need not exist yet.
    pub fn watch(&self) -> Watched<InstanceId, WorkerPresence> {
        Watched::start(self.bucket.clone(), WORKERS, read)
    }
}

fn key(instance: &InstanceId) -> String {
    format!("worker.{}", instance.as_str())
}

fn read(entry: &Entry) -> Option<(InstanceId, WorkerPresence)> {
    match wire::decode::<WorkerPresence>(entry.value.as_deref()?) {
        // Nobody speaks for another.
        Ok(worker) if key(&worker.instance) != entry.key => {
            tracing::debug!(key = entry.key, "heartbeat of another worker is ignored");
            None
        }
        Ok(mut worker) => {
            worker.beat = entry.revision;
            Some((worker.instance.clone(), border::worker(worker)))
        }
        Err(error) => {
            tracing::debug!(key = entry.key, %error, "heartbeat is ignored");
            None
        }
    }
}
