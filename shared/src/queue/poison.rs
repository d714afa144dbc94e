//! Notes about chunks that were delivered before: who had them, so that those who vanished can be counted.
//!
//! A worker notes itself before it works on a task of such a chunk and takes the note back when it is done or
//! hands the task back. What stays are the notes of those who vanished with it, in whatever round. How many are
//! too many is decided elsewhere.

use std::collections::BTreeSet;

use super::bucket::Bucket;
use super::{PublishError, Queue, QueueError, topology};
use crate::model::{InstanceId, JobId, TaskKey};

/// The bucket of notes.
#[derive(Debug, Clone)]
pub struct PoisonNotes {
    bucket: Bucket,
}

impl PoisonNotes {
    /// The bucket of this queue; [`super::ensure`] creates it.
    pub fn new(queue: &Queue) -> Self {
        Self { bucket: Bucket::new(queue, topology::POISON) }
    }

    /// Notes that an instance begins to work on a task.
    pub async fn note(&self, task: &TaskKey, instance: &InstanceId) -> Result<(), PublishError> {
        self.bucket.write(&key(task, instance), Vec::new()).await?;
        Ok(())
    }

    /// Takes an instance's note back.
    pub async fn clear(&self, task: &TaskKey, instance: &InstanceId) -> Result<(), PublishError> {
        self.bucket.mark_removed(&key(task, instance), None).await?;
        Ok(())
    }

    /// How many instances left a note under any round of a task's chunk and are not among those who live.
    pub async fn vanished(&self, task: &TaskKey, live: &BTreeSet<InstanceId>) -> Result<usize, QueueError> {
        let TaskKey { job, document, chunk, round: _ } = task;
        let keys = self.bucket.keys(&format!("{job}.{document}.{chunk}.*.*")).await?;
        // Those that were taken back are still listed.
        let notes = self.bucket.read_many(keys).await?;
        let instances: BTreeSet<InstanceId> =
            notes.iter().filter_map(|note| note.key.rsplit('.').next()?.parse().ok()).collect();
        Ok(instances.difference(live).count())
    }

    /// Drops all notes of a job; how many it were.
    pub async fn forget_job(&self, job: &JobId) -> Result<u64, QueueError> {
        self.bucket.forget(&format!("{job}.>"), None).await
    }
}

fn key(task: &TaskKey, instance: &InstanceId) -> String {
    format!("{task}.{}", instance.as_str())
}
