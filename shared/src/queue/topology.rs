//! Streams, consumers and buckets with their settings, on one screen.
//!
//! What each setting is for stands beside it; how differences to a server are found and migrated is in
//! `migrate`, how subjects are built in `subjects`.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};

use super::{Timing, subjects};
use crate::model::{JobId, PoolName};

/// The oldest nats-server that this program works with: version 2.12.0.
pub const MIN_SERVER_VERSION: super::ServerVersion = super::ServerVersion::new(2, 12, 0);

/// The stream of tasks.
pub const TASKS: &str = "QA_TASKS";
/// The stream of results.
pub const RESULTS: &str = "QA_RESULTS";
/// The bucket of jobs.
pub const JOBS: &str = "QA_JOBS";
/// The bucket of heartbeats and leases.
pub const PRESENCE: &str = "QA_PRESENCE";
/// The bucket of notes about tasks that may end their workers.
pub const POISON: &str = "QA_POISON";

/// Tasks in work and handed back with a delay, over the whole fleet, in one pool.
const MAX_TASKS_IN_FLIGHT: i64 = 10_000;
/// Results that a coordinator may hold between receipt and journal.
const MAX_RESULTS_IN_FLIGHT: i64 = 20_000;
/// Free slots that wait for a task at the same time, over the whole fleet, in one pool.
const MAX_WAITING_SLOTS: i64 = 4096;

/// Everything that [`super::ensure`] creates.
pub(super) fn streams(timing: &Timing) -> [Config; 5] {
    [
        work_queue(TASKS, subjects::ALL_TASKS, "qa-fleet: chunks to generate pairs for"),
        work_queue(RESULTS, subjects::ALL_RESULTS, "qa-fleet: pairs and failures on their way to the files"),
        bucket(JOBS, Duration::ZERO, "qa-fleet: jobs and whether they are wanted"),
        bucket(PRESENCE, timing.presence_age, "qa-fleet: heartbeats of workers, leases of coordinators"),
        bucket(POISON, timing.poison_age, "qa-fleet: who had a suspicious task when it was lost"),
    ]
}

fn work_queue(name: &str, subjects: &str, description: &str) -> Config {
    Config {
        name: name.to_owned(),
        description: Some(description.to_owned()),
        subjects: vec![subjects.to_owned()],
        // Acknowledged is gone.
        retention: RetentionPolicy::WorkQueue,
        storage: StorageType::File,
        // A full stream refuses what is new; the other policy would silently drop the oldest work.
        discard: DiscardPolicy::New,
        // One message per subject, also for publishers that forget the header that asks for it.
        max_messages_per_subject: 1,
        discard_new_per_subject: true,
        max_messages: -1,
        max_bytes: -1,
        num_replicas: 1,
        ..Config::default()
    }
}

/// A key-value bucket in the form that NATS' own tools read.
fn bucket(name: &str, max_age: Duration, description: &str) -> Config {
    Config {
        name: bucket_stream(name),
        description: Some(description.to_owned()),
        subjects: vec![bucket_key(name, ">")],
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        discard: DiscardPolicy::New,
        max_messages_per_subject: 1,
        max_age,
        // Who may write one key could remove all of them with such a header.
        allow_rollup: false,
        deny_delete: true,
        allow_direct: true,
        max_messages: -1,
        max_bytes: -1,
        num_replicas: 1,
        ..Config::default()
    }
}

/// The stream behind a bucket.
pub(super) fn bucket_stream(bucket: &str) -> String {
    format!("KV_{bucket}")
}

/// The stream that takes a subject.
pub(super) fn stream_of(subject: &str) -> String {
    match subject.rsplit_once("$KV.").and_then(|(_, key)| key.split_once('.')) {
        Some((bucket, _)) => bucket_stream(bucket),
        None if subject.starts_with("qa.result.") => RESULTS.to_owned(),
        None => TASKS.to_owned(),
    }
}

/// The subject of a bucket's key, or of a filter of keys.
pub(super) fn bucket_key(bucket: &str, key: &str) -> String {
    format!("$KV.{bucket}.{key}")
}

/// The consumer that all workers of a pool share.
pub(super) fn pool_consumer(pool: &PoolName, timing: &Timing) -> pull::Config {
    consumer(pool_consumer_name(pool), subjects::tasks_of_pool(pool), MAX_TASKS_IN_FLIGHT, timing)
}

/// The name of a pool's consumer.
pub(crate) fn pool_consumer_name(pool: &PoolName) -> String {
    format!("pool-{}", pool.token())
}

/// The consumer of a job's results for one holder of the job's lease.
pub(super) fn results_consumer(job: &JobId, epoch: u64, timing: &Timing) -> pull::Config {
    let name = format!("{}{epoch}", results_consumer_prefix(job));
    consumer(name, subjects::results_of_job(job), MAX_RESULTS_IN_FLIGHT, timing)
}

/// How the names of all results consumers of a job begin.
pub(super) fn results_consumer_prefix(job: &JobId) -> String {
    format!("results-{job}-")
}

fn consumer(name: String, filter_subject: String, max_ack_pending: i64, timing: &Timing) -> pull::Config {
    pull::Config {
        durable_name: Some(name),
        filter_subject,
        ack_policy: AckPolicy::Explicit,
        ack_wait: timing.ack_wait,
        // Deliveries are no measure of poison: hand-backs, drains and server restarts count too.
        max_deliver: -1,
        max_ack_pending,
        max_waiting: MAX_WAITING_SLOTS,
        ..pull::Config::default()
    }
}
