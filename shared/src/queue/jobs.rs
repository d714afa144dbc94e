//! The bucket of jobs: what coordinators want, and what workers follow.
//!
//! It must not know what a state means for tasks or documents.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::border;
use super::bucket::{Bucket, Entry};
use super::{PublishError, Queue, QueueError, Watched, topology};
use crate::clock;
use crate::model::{JobEntry, JobId, JobState};
use crate::wire::{self, WireError};

/// How often a change is tried when others change the same entry.
const ATTEMPTS: u32 = 10;

/// Why a job's entry could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum JobsError {
    /// The server could not be asked, or refused.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The entry could not be written.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The entry cannot be understood.
    #[error("entry of job {job} is not readable: {reason}")]
    Unreadable {
        /// The job.
        job: JobId,
        /// Why.
        reason: WireError,
    },
    /// No such job.
    #[error("job {0} is not known to this queue server")]
    Unknown(JobId),
    /// Others kept changing the entry.
    #[error("entry of job {0} was changed by others again and again: try again")]
    Contended(JobId),
}

/// What became of an entry that was to be written again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// It stands there.
    Renewed,
    /// It stands there again: the queue had forgotten it, or that the job goes on.
    Restored,
    /// Somebody has cancelled the job: it was left as it is.
    Cancelled,
}

/// The bucket of jobs.
#[derive(Debug, Clone)]
pub struct Jobs {
    bucket: Bucket,
}

impl Jobs {
    /// The bucket of this queue; [`super::ensure`] creates it.
    pub fn new(queue: &Queue) -> Self {
        Self { bucket: Bucket::new(queue, topology::JOBS) }
    }

    /// Writes a job's entry, whatever was there.
    pub async fn put(&self, entry: &JobEntry) -> Result<(), PublishError> {
        self.bucket.write(entry.job.as_str(), wire::encode(entry)?).await?;
        Ok(())
    }

    /// Writes the entry of a job that goes on again, unless somebody has cancelled it by now. A queue server whose
    /// store was lost or set back has no entry, or that of an interruption before.
    pub async fn renew(&self, entry: &JobEntry) -> Result<Renewal, JobsError> {
        for _ in 0..ATTEMPTS {
            let current = self.bucket.read(entry.job.as_str()).await?;
            let state = current.value.as_deref().map(wire::decode::<JobEntry>).transpose();
            let unreadable = |reason| JobsError::Unreadable { job: entry.job.clone(), reason };
            let state = state.map_err(unreadable)?.map(|current| current.state);
            if state == Some(JobState::Cancelled) {
                return Ok(Renewal::Cancelled);
            }
            let value = wire::encode(entry).map_err(PublishError::from)?;
            if self.bucket.write_at(entry.job.as_str(), value, current.revision).await?.is_some() {
                let stood = state == Some(JobState::Active);
                return Ok(if stood { Renewal::Renewed } else { Renewal::Restored });
            }
        }
        Err(JobsError::Contended(entry.job.clone()))
    }

    /// A job's entry.
    pub async fn get(&self, job: &JobId) -> Result<Option<JobEntry>, JobsError> {
        let Some(value) = self.bucket.read(job.as_str()).await?.value else { return Ok(None) };
        let entry = wire::decode(&value).map(border::job);
        entry.map(Some).map_err(|reason| JobsError::Unreadable { job: job.clone(), reason })
    }

    /// All jobs; entries that cannot be read (of a newer version) are left out with a warning.
    pub async fn all(&self) -> Result<BTreeMap<JobId, JobEntry>, QueueError> {
        let mut reader = Reader::default();
        let keys = self.bucket.keys(">").await?;
        Ok(self.bucket.read_many(keys).await?.iter().filter_map(|entry| reader.read(entry)).collect())
    }

    /// Removes a job's entry.
    pub async fn delete(&self, job: &JobId) -> Result<(), PublishError> {
        self.bucket.remove(job.as_str(), None).await?;
        Ok(())
    }

    /// Changes a job's state and nothing else of its entry, whoever wrote it.
    pub async fn set_state(&self, job: &JobId, state: JobState) -> Result<(), JobsError> {
        let unreadable = |reason| JobsError::Unreadable { job: job.clone(), reason };
        for _ in 0..ATTEMPTS {
            let entry = self.bucket.read(job.as_str()).await?;
            let Some(value) = entry.value else { return Err(JobsError::Unknown(job.clone())) };
            // As a JSON value: what a newer program added to the entry stays in it.
            let mut changed: Value = Value::Object(wire::decode(&value).map_err(unreadable)?);
            changed["state"] = serde_json::to_value(state).map_err(|error| unreadable(error.into()))?;
            changed["updated_at_ms"] = clock::unix_millis().into();
            let value = wire::encode(&changed).map_err(unreadable)?;
            if self.bucket.write_at(job.as_str(), value, entry.revision).await?.is_some() {
                return Ok(());
            }
        }
        Err(JobsError::Contended(job.clone()))
    }

    /// All jobs as they change. The bucket need not exist yet.
    pub fn watch(&self) -> Watched<JobId, JobEntry> {
        let mut reader = Reader::default();
        Watched::start(self.bucket.clone(), ">", move |entry| reader.read(entry))
    }
}

/// Reads entries and warns once about each one that it cannot read.
#[derive(Default)]
struct Reader {
    warned: BTreeSet<(String, u64)>,
}

impl Reader {
    fn read(&mut self, entry: &Entry) -> Option<(JobId, JobEntry)> {
        match wire::decode::<JobEntry>(entry.value.as_deref()?) {
            Ok(job) => Some((job.job.clone(), border::job(job))),
            Err(error) => {
                if self.warned.insert((entry.key.clone(), entry.revision)) {
                    tracing::warn!(job = entry.key, %error, "entry of a job is ignored");
                }
                None
            }
        }
    }
}
