//! The lease of a job: who consumes its results. One holder at a time, known to all.
//!
//! It expires [`super::Timing::presence_age`] after its last renewal. It fences nothing by itself; its epoch
//! names the holder's results consumer, and whoever comes later deletes the consumers of earlier holders.

use serde::{Deserialize, Serialize};

use super::border;
use super::bucket::{Bucket, Entry};
use super::{PublishError, Queue, QueueError, topology};
use crate::model::{InstanceId, JobId};
use crate::wire::{self, WireError};

/// How often an acquisition is tried when others write the same lease.
const ATTEMPTS: u32 = 5;

/// Who holds a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseHolder {
    /// The process.
    pub instance: InstanceId,
    /// Its host.
    pub host: String,
    /// The output directory on that host.
    pub directory: String,
    /// Its process id on that host.
    pub pid: u32,
    /// The lock that it holds there; absent where its system does not tell, and from older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<LockId>,
}

/// Which lock of an output directory a coordinator holds. One that holds the very same lock later proves that the other
/// one is dead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockId {
    /// The directory's canonical path.
    pub path: String,
    /// The device of the lock's file.
    pub device: u64,
    /// Its inode: a copied directory has another one.
    pub inode: u64,
    /// The system's run since it was started: locks of different machines know nothing of each other.
    pub boot: String,
}

impl LeaseHolder {
    /// Whether this process, which holds its lock, proves by that that another holder is dead.
    pub fn outlives(&self, other: &Self) -> bool {
        self.lock.is_some() && self.lock == other.lock
    }
}

/// Why a lease was not acquired.
#[derive(Debug, thiserror::Error)]
pub enum AcquireError {
    /// Somebody else has it.
    #[error(
        "job {job} is run by process {} on {} (directory {}): stop that one, or wait until its lease expires",
        holder.pid, holder.host, holder.directory
    )]
    HeldBy {
        /// The job.
        job: JobId,
        /// Who.
        holder: LeaseHolder,
    },
    /// The server could not be asked, or refused.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The lease could not be written.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// Others keep writing it.
    #[error("lease of job {0} is contended: try again")]
    Contended(JobId),
}

/// Why a lease was not renewed.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// Somebody else has it: this process must not write the job's files any more.
    #[error("lease of job {job} was taken over by process {} on {}", holder.pid, holder.host)]
    Lost {
        /// The job.
        job: JobId,
        /// Who has it.
        holder: LeaseHolder,
    },
    /// Unknown: try again before it expires.
    #[error(transparent)]
    Unknown(#[from] PublishError),
}

impl From<QueueError> for RenewError {
    fn from(error: QueueError) -> Self {
        Self::Unknown(error.into())
    }
}

impl From<WireError> for AcquireError {
    fn from(error: WireError) -> Self {
        Self::Publish(error.into())
    }
}

/// A lease that was just acquired.
#[derive(Debug)]
pub struct Acquired {
    /// The lease, to be renewed and released.
    pub lease: Lease,
    /// Larger than the epoch of every earlier holder; see [`super::ResultsConsumer::create`].
    pub epoch: u64,
}

/// The lease of a job, held by this process.
#[derive(Debug)]
pub struct Lease {
    bucket: Bucket,
    job: JobId,
    holder: LeaseHolder,
    revision: u64,
}

impl Lease {
    /// Acquires the lease if nobody else holds it.
    pub async fn acquire(queue: &Queue, job: &JobId, holder: LeaseHolder) -> Result<Acquired, AcquireError> {
        Self::acquire_unless(queue, job, holder, |_| true).await
    }

    /// Acquires the lease also from `dead`, a holder of whom the caller knows that it runs no more.
    pub async fn take_over(
        queue: &Queue,
        job: &JobId,
        holder: LeaseHolder,
        dead: &LeaseHolder,
    ) -> Result<Acquired, AcquireError> {
        Self::acquire_unless(queue, job, holder, |current| current != dead).await
    }

    async fn acquire_unless(
        queue: &Queue,
        job: &JobId,
        holder: LeaseHolder,
        is_alive: impl Fn(&LeaseHolder) -> bool,
    ) -> Result<Acquired, AcquireError> {
        let bucket = Bucket::new(queue, topology::PRESENCE);
        for _ in 0..ATTEMPTS {
            let entry = bucket.read(&key(job)).await?;
            if let Some(current) = holder_of(&entry)
                && current.instance != holder.instance
                && is_alive(&current)
            {
                return Err(AcquireError::HeldBy { job: job.clone(), holder: current });
            }
            let value = wire::encode(&holder)?;
            if let Some(revision) = bucket.write_at(&key(job), value, entry.revision).await? {
                let lease = Self { bucket, job: job.clone(), holder, revision };
                return Ok(Acquired { lease, epoch: revision });
            }
        }
        Err(AcquireError::Contended(job.clone()))
    }

    /// Keeps the lease for another [`super::Timing::presence_age`]; to be called every
    /// [`super::Timing::renewal`]. A lease that expired and that nobody took is taken again.
    pub async fn renew(&mut self) -> Result<(), RenewError> {
        for _ in 0..ATTEMPTS {
            let value = wire::encode(&self.holder).map_err(PublishError::from)?;
            if let Some(revision) = self.bucket.write_at(&key(&self.job), value, self.revision).await? {
                self.revision = revision;
                return Ok(());
            }
            let entry = self.bucket.read(&key(&self.job)).await?;
            if let Some(holder) = holder_of(&entry)
                && holder.instance != self.holder.instance
            {
                return Err(RenewError::Lost { job: self.job.clone(), holder });
            }
            // Expired, or an earlier renewal was stored although its answer was lost.
            self.revision = entry.revision;
        }
        Err(QueueError::unavailable("renewing a lease", "the entry changes again and again").into())
    }

    /// Gives the lease back, if this process still has it.
    pub async fn release(self) -> Result<(), PublishError> {
        self.bucket.remove(&key(&self.job), Some(self.revision)).await?;
        Ok(())
    }

    /// Who holds the lease of a job at the moment.
    pub async fn holder(queue: &Queue, job: &JobId) -> Result<Option<LeaseHolder>, QueueError> {
        Ok(Self::look(queue, job).await?.map(|(holder, _)| holder))
    }

    /// The same with the revision, which every renewal changes.
    pub async fn look(queue: &Queue, job: &JobId) -> Result<Option<(LeaseHolder, u64)>, QueueError> {
        let entry = Bucket::new(queue, topology::PRESENCE).read(&key(job)).await?;
        Ok(holder_of(&entry).map(|holder| (holder, entry.revision)))
    }
}

fn key(job: &JobId) -> String {
    format!("lease.{job}")
}

/// Who holds it; a lease of a newer version is held by somebody unknown.
fn holder_of(entry: &Entry) -> Option<LeaseHolder> {
    let value = entry.value.as_deref()?;
    let known = wire::decode(value).map(|mut holder: LeaseHolder| {
        border::name(&mut holder.host);
        border::name(&mut holder.directory);
        holder
    });
    Some(known.unwrap_or_else(|_| LeaseHolder {
        instance: InstanceId::new("unknown", 0, 0),
        host: "an unknown host, by a program of another version".to_owned(),
        directory: "unknown".to_owned(),
        pid: 0,
        lock: None,
    }))
}
