//! Notes about tasks that were delivered again: who had them, so that those who vanished can be counted.
//!
//! A worker notes itself before it works on such a task and takes the note back when it is done or hands the
//! task back. What stays are the notes of those who vanished with the task. How many are too many is decided
//! elsewhere.

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

    /// How many instances left a note under a task and are not among those who live.
    pub async fn vanished(&self, task: &TaskKey, live: &BTreeSet<InstanceId>) -> Result<usize, QueueError> {
        let keys = self.bucket.keys(&format!("{task}.*")).await?;
        // Those that were taken back are still listed.
        let notes = self.bucket.read_many(keys).await?;
        let instances =
            notes.iter().filter_map(|note| note.key.rsplit('.').next()?.parse::<InstanceId>().ok());
        Ok(instances.filter(|instance| !live.contains(instance)).count())
    }

    /// Drops all notes of a job.
    pub async fn forget_job(&self, job: &JobId) -> Result<(), QueueError> {
        self.bucket.forget(&format!("{job}.>"), None).await?;
        Ok(())
    }
}

fn key(task: &TaskKey, instance: &InstanceId) -> String {
    format!("{task}.{}", instance.as_str())
}
