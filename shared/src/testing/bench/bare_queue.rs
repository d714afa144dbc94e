//! What a nats-server of this machine can do at best: for each chunk a task is published, fetched and
//! acknowledged, and so is a result, with the streams and consumers of the fleet and nothing else.
//!
//! The limit is pipelined as hard as JetStream allows: publications without waiting for the last one, consumers
//! that deliver ahead, acknowledgements that nobody confirms. A fleet may not do all of that: a free slot asks for
//! one task, and every acknowledgement is confirmed. So the same is measured with these guarantees, too.

use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{self, AckKind, Context};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::task::JoinSet;

use super::ProcessUsage;
use crate::model::{JobId, PoolName};
use crate::queue::{ResultsConsumer, TaskSource, Tasks, Timing, subjects, topology};
use crate::testing::{TestNats, TestNatsOptions, samples};

/// Publications whose confirmations are outstanding.
const IN_FLIGHT: usize = 1000;
/// Messages that a consumer delivers ahead.
const AHEAD: usize = 1000;
/// How long a message may take to come.
const PATIENCE: Duration = Duration::from_secs(30);

/// How fast it was.
#[derive(Debug, Clone, Copy)]
pub struct BareSpeed {
    /// Chunks per second, tasks and results at the same time.
    pub chunks_per_second: f64,
    /// What the server used.
    pub server: ProcessUsage,
}

/// The messages that one chunk costs.
#[derive(Debug, Clone)]
pub struct BareQueue {
    /// How many chunks.
    pub chunks: u32,
    /// A task as it travels.
    pub task: Bytes,
    /// A result as it travels.
    pub result: Bytes,
    /// Whether each message is on the disk before it is acknowledged.
    pub sync_always: bool,
}

impl BareQueue {
    /// Measures with a server of its own, as pipelined as possible.
    ///
    /// # Panics
    ///
    /// When the server fails.
    pub async fn measure(&self) -> BareSpeed {
        self.measure_with(None).await
    }

    /// The same with the guarantees of a fleet: so many slots ask for one task each, every acknowledgement is
    /// confirmed.
    ///
    /// # Panics
    ///
    /// When the server fails.
    pub async fn measure_guarded(&self, slots: usize) -> BareSpeed {
        self.measure_with(Some(slots)).await
    }

    async fn measure_with(&self, slots: Option<usize>) -> BareSpeed {
        let options = TestNatsOptions { sync_always: self.sync_always, ..Default::default() };
        let nats = TestNats::start_with(options).await;
        let queue = nats.queue(Timing::default()).await;
        let (pool, job) = (PoolName::new("bare"), JobId::from_random(1));
        Tasks::new(&queue).ensure_pool(&pool).await.expect("the pool's consumer can be made");
        let results = ResultsConsumer::create(&queue, &job, 1).await.expect("the job's consumer can be made");
        let [coordinator, worker] = [connect(&nats).await, connect(&nats).await];
        let before = ProcessUsage::of(nats.pid()).unwrap_or_default();
        let begun = Instant::now();
        let [first, second, third] = [self.clone(), self.clone(), self.clone()];
        let tasks = topology::pool_consumer_name(&pool);
        let (context, of) = (coordinator.clone(), job.clone());
        let mut parts = JoinSet::new();
        let source = TaskSource::for_pool(&nats.connect(Timing::default()).await, &pool).await;
        let source = source.expect("the server tells of its consumers").expect("the pool has a consumer");
        parts.spawn(async move { first.publish_tasks(context, &pool, &of).await });
        if let Some(slots) = slots {
            parts.spawn(async move { second.work_guarded(worker, source, &job, slots).await });
            parts.spawn(async move { third.collect_guarded(&results).await });
        } else {
            let consumer = results.name().to_owned();
            parts.spawn(async move { second.work(worker, &tasks, &job).await });
            parts.spawn(async move { third.collect(coordinator, &consumer).await });
        }
        parts.join_all().await;
        let took = begun.elapsed();
        let after = ProcessUsage::of(nats.pid()).unwrap_or_default();
        BareSpeed {
            chunks_per_second: f64::from(self.chunks) / took.as_secs_f64(),
            server: ProcessUsage { cpu_seconds: after.cpu_seconds - before.cpu_seconds, ..after },
        }
    }

    async fn publish_tasks(&self, context: Context, pool: &PoolName, job: &JobId) {
        let published = (0..self.chunks).map(|chunk| {
            let subject = subjects::task(pool, &samples::key(job, chunk));
            store(&context, subject, self.task.clone())
        });
        stream::iter(published).buffer_unordered(IN_FLIGHT).for_each(async |()| {}).await;
    }

    /// The result is stored before its task is acknowledged, as in a fleet.
    async fn work(&self, context: Context, consumer: &str, job: &JobId) {
        let tasks =
            messages(&context, topology::TASKS, consumer).await.take(self.chunks as usize).enumerate();
        let worked = tasks.map(async |(chunk, task)| {
            let task = task.expect("a task is delivered");
            let subject = subjects::result(&samples::key(job, u32::try_from(chunk).unwrap_or(u32::MAX)));
            store(&context, subject, self.result.clone()).await;
            task.ack_with(AckKind::Ack).await.expect("the task can be acknowledged");
        });
        worked.buffer_unordered(IN_FLIGHT).for_each(async |()| {}).await;
    }

    async fn collect(&self, context: Context, consumer: &str) {
        let results = messages(&context, topology::RESULTS, consumer).await.take(self.chunks as usize);
        let acked = results.try_for_each(async |result| {
            result.ack_with(AckKind::Ack).await.expect("the result can be acknowledged");
            Ok(())
        });
        acked.await.expect("every result is delivered");
    }

    async fn work_guarded(&self, context: Context, source: TaskSource, job: &JobId, slots: usize) {
        let worked = (0..self.chunks).map(async |chunk| {
            let task = source.next(PATIENCE).await.expect("the server answers").expect("a task is delivered");
            store(&context, subjects::result(&samples::key(job, chunk)), self.result.clone()).await;
            task
        });
        // A slot that has stored its result goes on while its acknowledgement is on its way.
        let acked = stream::iter(worked).buffer_unordered(slots).map(async |task| {
            task.ack().await.expect("the task is acknowledged");
        });
        acked.buffer_unordered(IN_FLIGHT).for_each(async |()| {}).await;
    }

    async fn collect_guarded(&self, results: &ResultsConsumer) {
        let mut acked = 0;
        while acked < self.chunks as usize {
            let batch = results.next_batch(AHEAD, PATIENCE).await.expect("the server answers");
            acked += batch.len();
            let left = results.ack_all(batch.into_iter().map(|result| result.receipt).collect()).await;
            assert!(left.is_empty(), "results are not acknowledged");
        }
    }
}

async fn connect(nats: &TestNats) -> Context {
    let client = async_nats::connect(nats.url()).await.expect("the test's nats-server takes connections");
    jetstream::new(client)
}

async fn messages(context: &Context, stream: &str, consumer: &str) -> pull::Stream {
    let stream = context.get_stream_no_info(stream).await.expect("the stream has a name");
    let consumer = stream.get_consumer::<pull::Config>(consumer).await.expect("the consumer is there");
    let ahead = consumer.stream().max_messages_per_batch(AHEAD).expires(PATIENCE);
    ahead.messages().await.expect("the consumer delivers")
}

async fn store(context: &Context, subject: String, payload: Bytes) {
    let message = PublishMessage::build().payload(payload).expected_last_subject_sequence(0);
    let sent = context.send_publish(subject, message).await.expect("the message can be sent");
    sent.await.expect("the message is stored");
}
