//! What jobs have on a queue server: listed, and removed where it is no longer wanted.
//!
//! A job whose coordinator was killed and whose directory is gone would otherwise leave its tasks, results, consumers,
//! notes and entry for good. It must not know why a job is not wanted.

use std::collections::BTreeMap;
use std::time::Duration;

use super::bucket::Bucket;
use super::topology::{JOBS, PRESENCE, RESULTS, TASKS, bucket_stream, results_consumer_prefix};
use super::{
    Jobs, Lease, LeaseHolder, PoisonNotes, PublishError, Queue, QueueError, Results, Tasks, subjects,
};
use crate::failpoint::{CrashPoint, crash};
use crate::model::JobId;

/// What a job has on a queue server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remains {
    /// Tasks, queued or in work.
    pub tasks: u64,
    /// Results that no coordinator has acknowledged.
    pub results: u64,
    /// What tasks and results take, in bytes: their number by the average size of a message in their stream.
    pub bytes: u64,
    /// Consumers of its results.
    pub consumers: u64,
    /// Whether it has an entry among the jobs.
    pub has_entry: bool,
    /// The coordinator that is at work for it.
    pub holder: Option<LeaseHolder>,
}

impl Remains {
    /// Whether there is nothing.
    pub fn is_nothing(&self) -> bool {
        let Self { tasks, results, consumers, has_entry, holder, bytes: _ } = self;
        *tasks + *results + *consumers == 0 && !has_entry && holder.is_none()
    }
}

/// Everything that stands on the server, by job. Of a server that no job has used yet: nothing.
pub async fn remains(queue: &Queue) -> Result<BTreeMap<JobId, Remains>, QueueError> {
    let mut jobs: BTreeMap<JobId, Remains> = BTreeMap::new();
    let tasks = or_none(queue.listing("listing tasks", TASKS, subjects::ALL_TASKS).await)?;
    for (_, key) in tasks.subjects.iter().filter_map(|subject| subjects::parse_task(subject).ok()) {
        let job = jobs.entry(key.job).or_default();
        job.tasks += 1;
        job.bytes += tasks.average_bytes;
    }
    let results = or_none(queue.listing("listing results", RESULTS, subjects::ALL_RESULTS).await)?;
    for key in results.subjects.iter().filter_map(|subject| subjects::parse_result(subject).ok()) {
        let job = jobs.entry(key.job).or_default();
        job.results += 1;
        job.bytes += results.average_bytes;
    }
    for name in or_none(queue.consumer_names("listing consumers", RESULTS).await)? {
        if let Some(job) = job_of_consumer(&name) {
            jobs.entry(job).or_default().consumers += 1;
        }
    }
    for key in or_none(Bucket::new(queue, JOBS).keys(">").await)? {
        if let Ok(job) = key.parse() {
            jobs.entry(job).or_default().has_entry = true;
        }
    }
    for key in or_none(Bucket::new(queue, PRESENCE).keys("lease.*").await)? {
        if let Some(job) = key.strip_prefix("lease.").and_then(|job| job.parse().ok())
            && let Some(holder) = Lease::holder(queue, &job).await?
        {
            jobs.entry(job).or_default().holder = Some(holder);
        }
    }
    Ok(jobs)
}

/// What was removed of a job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removed {
    /// Tasks.
    pub tasks: u64,
    /// Results that no coordinator had acknowledged.
    pub results: u64,
    /// Consumers of its results.
    pub consumers: u64,
    /// Notes about tasks that may end their workers.
    pub notes: u64,
}

/// Removes everything of a job but its lease. The caller has that, or knows that no process has it.
pub async fn forget_job(queue: &Queue, job: &JobId) -> Result<Removed, PublishError> {
    // The entry first: workers leave the job, and nothing new comes.
    Jobs::new(queue).delete(job).await?;
    crash(CrashPoint::JobForgotten);
    let tasks = Tasks::new(queue).purge_job(job).await?;
    let prefix = results_consumer_prefix(job);
    let mut consumers = 0;
    for name in queue.consumer_names("listing consumers", RESULTS).await? {
        if name.starts_with(&prefix) {
            queue.delete_consumer("removing a job's consumers", RESULTS, &name).await?;
            consumers += 1;
        }
    }
    let results = Results::new(queue).purge_job(job).await?;
    let notes = PoisonNotes::new(queue).forget_job(job).await?;
    Ok(Removed { tasks, results, consumers, notes })
}

/// Jobs that no coordinator works for and of which nothing was written for [`super::Timing::dead_after`], by the
/// server's clock. A living job renews its entry every minute, a stopped one wrote it when it was stopped.
pub async fn dead_jobs(queue: &Queue) -> Result<Vec<JobId>, QueueError> {
    let age = queue.timing().dead_after;
    let now = queue.server_time("asking for the time").await?;
    let mut dead = Vec::new();
    for (job, remains) in remains(queue).await? {
        if remains.holder.is_some() {
            continue;
        }
        let places = [
            (bucket_stream(JOBS), Bucket::new(queue, JOBS).subject(job.as_str())),
            (TASKS.to_owned(), subjects::tasks_of_job(&job)),
            (RESULTS.to_owned(), subjects::results_of_job(&job)),
        ];
        let mut last = None;
        for (stream, subject) in places {
            let message = queue.last_message("looking for the last sign of a job", &stream, &subject).await?;
            last = last.max(message.map(|message| message.time.unix_timestamp()));
        }
        // A consumer alone says nothing about its age: its coordinator may be about to write the entry.
        if last.is_some_and(|last| now.saturating_sub(last) > seconds(age)) {
            dead.push(job);
        }
    }
    Ok(dead)
}

fn seconds(age: Duration) -> i64 {
    i64::try_from(age.as_secs()).unwrap_or(i64::MAX)
}

fn job_of_consumer(name: &str) -> Option<JobId> {
    name.strip_prefix("results-")?.split('-').next()?.parse().ok()
}

/// What no job has made yet is empty.
fn or_none<T: Default>(found: Result<T, QueueError>) -> Result<T, QueueError> {
    match found {
        Err(QueueError::Missing { .. }) => Ok(T::default()),
        found => found,
    }
}
