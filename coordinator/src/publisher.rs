//! Puts tasks into the queue: reads each chunk's text, publishes, and tries again until the queue has it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use opentelemetry::trace::FutureExt;
use qa_shared::backoff::{Backoff, jittered};
use qa_shared::clock;
use qa_shared::data_uris::leave_out;
use qa_shared::failpoint::{CrashPoint, crash};
use qa_shared::model::{
    Failure, FailureReason, GenerationSettings, JobId, PoolName, SecondRound, Task, TaskKey,
};
use qa_shared::plain::is_blank;
use qa_shared::queue::{PublishError, Queue, QueueError, Tasks, Traceparent, ensure};
use qa_shared::telemetry::instruments::{Label, TASKS_PUBLISHED};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::core::TaskRef;
use crate::done::Done;
use crate::estimate::Apart;
use crate::files::{ChunkFile, ChunkReader};
use crate::guard::LeaseClock;
use crate::trace::{self, RunTrace};
use crate::unconfirmed::Unconfirmed;

/// Publications in flight at most.
const IN_FLIGHT: usize = 64;

/// Texts that are read in one go.
const READ_AT_ONCE: usize = 32;

/// How long publishing may fail before it is told.
const PATIENCE: Duration = Duration::from_secs(30);

/// A task to publish.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) task: TaskRef,
    /// Whom it is meant for, if another round of the chunk is out.
    pub(crate) second: Option<SecondRound>,
}

/// What all tasks of a run have in common.
pub(crate) struct TaskForm {
    pub(crate) job: JobId,
    pub(crate) pool: PoolName,
    pub(crate) settings: GenerationSettings,
    /// Model calls per task at most, where a budget counts on it.
    pub(crate) max_calls: Option<u32>,
    /// Chunks that need far more context than the others.
    pub(crate) apart: Option<Apart>,
}

impl TaskForm {
    /// The task with the chunk's text.
    pub(crate) fn fill(&self, order: TaskRef, reader: &mut ChunkReader<'_>) -> Result<Task, NoTask> {
        let chunk = reader.read(order.chunk as usize).map_err(|error| NoTask::Document(error.to_string()))?;
        let file = reader.file();
        let fails = |reason, found: &str| NoTask::Chunk(unasked(reason, order.chunk, found, file));
        let text = chunk.text.map_err(|found| fails(FailureReason::InvalidChunk, &found))?;
        if is_blank(&text) {
            return Err(fails(FailureReason::EmptyChunk, "nothing in it can be seen"));
        }
        let (sent, left_out) = leave_out(&text);
        if left_out.is_all {
            return Err(fails(FailureReason::EmptyChunk, "it holds nothing but data URIs"));
        }
        let entry = file.chunks[order.chunk as usize];
        Ok(Task {
            key: TaskKey {
                job: self.job.clone(),
                document: file.name.token(),
                chunk: order.chunk,
                round: order.round,
            },
            document: file.name.clone(),
            pool: self.pool.clone(),
            text: sent.into_owned(),
            // Of the text as it stands in the file, by which the chunk is known.
            text_hash: entry.text,
            settings: self.settings.clone(),
            max_calls: self.max_calls,
            num_ctx: self.apart.filter(|apart| entry.tokens > apart.above).map(|apart| apart.num_ctx),
            second: None,
            published_at_ms: clock::unix_millis(),
        })
    }
}

/// Why there is no task for a chunk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoTask {
    /// The document cannot go on.
    #[error("{0}")]
    Document(String),
    /// The chunk fails without a model call.
    #[error("{}", .0.message)]
    Chunk(Failure),
}

fn unasked(reason: FailureReason, chunk: u32, found: &str, file: &ChunkFile) -> Failure {
    let file_name = file.path.file_name().unwrap_or_default().to_string_lossy();
    Failure { reason, message: format!("chunk {chunk} of `{file_name}` has no text to ask about: {found}") }
}

/// What the publisher publishes from.
pub(crate) struct Publisher {
    pub(crate) form: TaskForm,
    /// By the documents' positions.
    pub(crate) chunk_files: Vec<Option<Arc<ChunkFile>>>,
    pub(crate) queue: Queue,
    pub(crate) done: mpsc::Sender<Done>,
    pub(crate) unconfirmed: Unconfirmed,
    /// Nothing is published for a job that somebody else may have.
    pub(crate) lease: LeaseClock,
    pub(crate) trace: RunTrace,
    /// Nothing is published any more once this is cancelled.
    pub(crate) stop: CancellationToken,
}

impl Publisher {
    /// Publishes what comes until the channel is closed or the stop comes; returns when nothing of it is
    /// under way any more.
    pub(crate) async fn run(self, mut orders: mpsc::UnboundedReceiver<Order>) {
        let publisher = Arc::new(self);
        let room = Arc::new(Semaphore::new(IN_FLIGHT));
        let mut publications = tokio::task::JoinSet::new();
        loop {
            let mut some = Vec::new();
            let receiving = orders.recv_many(&mut some, READ_AT_ONCE);
            if matches!(publisher.stop.run_until_cancelled(receiving).await, None | Some(0)) {
                break;
            }
            for (order, task) in publisher.read(some).await {
                let permit = publisher.stop.run_until_cancelled(Arc::clone(&room).acquire_owned()).await;
                let Some(Ok(permit)) = permit else { break };
                while publications.try_join_next().is_some() {}
                let publisher = Arc::clone(&publisher);
                publications.spawn(async move {
                    publisher.publish(order, task).await;
                    publisher.unconfirmed.settle(order);
                    drop(permit);
                });
            }
        }
        while publications.join_next().await.is_some() {}
    }

    /// Reads the texts of some tasks, which costs a thread's time: each document is opened once for them.
    async fn read(self: &Arc<Self>, orders: Vec<Order>) -> Vec<(TaskRef, Result<Task, NoTask>)> {
        let (reader, all) = (Arc::clone(self), orders.clone());
        let read = tokio::task::spawn_blocking(move || reader.read_all(&orders)).await;
        read.unwrap_or_else(|error| {
            tracing::error!(%error, "reading chunks ended unexpectedly");
            // They are found to be lost, and ordered again.
            for order in all {
                self.unconfirmed.settle(order.task);
            }
            Vec::new()
        })
    }

    fn read_all(&self, orders: &[Order]) -> Vec<(TaskRef, Result<Task, NoTask>)> {
        let mut tasks = Vec::with_capacity(orders.len());
        for of_document in orders.chunk_by(|one, other| one.task.document == other.task.document) {
            let file =
                of_document.first().and_then(|order| self.chunk_files.get(order.task.document as usize));
            let mut reader = match file.and_then(Option::as_ref) {
                Some(file) => ChunkReader::open(file).map_err(|error| NoTask::Document(error.to_string())),
                None => Err(NoTask::Document("the document has no chunk file".to_owned())),
            };
            tasks.extend(of_document.iter().map(|Order { task: order, second }| {
                let reader = reader.as_mut().map_err(|error| error.clone());
                let task = reader
                    .and_then(|reader| self.form.fill(*order, reader))
                    .map(|task| Task { second: second.clone(), ..task });
                (*order, task)
            }));
        }
        tasks
    }

    async fn publish(&self, order: TaskRef, task: Result<Task, NoTask>) {
        let task = match task {
            Ok(task) => task,
            Err(no_task) => {
                let done = match no_task {
                    NoTask::Document(error) => Done::DocumentBroken { document: order.document, error },
                    NoTask::Chunk(failure) => Done::Unpublishable { task: order, failure },
                };
                drop(self.done.send(done).await);
                return;
            }
        };
        let span = self.trace.publish(order, &task);
        let publication = self.publish_task(order, &task, trace::traceparent(span.as_ref()));
        if let Err(error) = publication.with_context(trace::context(span.as_ref())).await
            && let Some(span) = span
        {
            span.fail(error, "not published");
        }
    }

    /// Tries until the queue has it; says in one word why it has not in the end.
    async fn publish_task(
        &self,
        order: TaskRef,
        task: &Task,
        context: Option<Traceparent>,
    ) -> Result<(), &'static str> {
        let tasks = Tasks::new(&self.queue);
        let begun = Instant::now();
        let mut said = false;
        for wait in Backoff::new(Duration::from_millis(100), Duration::from_secs(10)) {
            let mut lease = self.lease.clone();
            if self.stop.run_until_cancelled(lease.fresh()).await.is_none() {
                return Err("stopped");
            }
            match tasks.publish(task, context.as_ref()).await {
                Ok(_) => {
                    crash(CrashPoint::TaskPublished);
                    self.unconfirmed.count_stored();
                    TASKS_PUBLISHED.add(1, || vec![Label::new("qa.job", self.form.job.to_string())]);
                    return Ok(());
                }
                Err(PublishError::Unavailable(error @ QueueError::Full { .. })) => {
                    let reason = error.to_string();
                    drop(self.done.send(Done::StoreFull { task: Some(order), reason }).await);
                    return Err("no room");
                }
                Err(PublishError::Unavailable(error)) => {
                    tracing::debug!(task = %task.key, %error, "task is not published yet, trying again");
                    if begun.elapsed() >= PATIENCE && !std::mem::replace(&mut said, true) {
                        tracing::warn!(task = %task.key, %error, "tasks cannot be published at the moment, trying again");
                    }
                    if matches!(error, QueueError::Missing { .. }) {
                        self.restore_streams().await;
                    }
                }
                Err(error) => {
                    let failure = Failure { reason: FailureReason::TaskTooLarge, message: error.to_string() };
                    drop(self.done.send(Done::Unpublishable { task: order, failure }).await);
                    return Err("unpublishable");
                }
            }
            let pause = tokio::time::sleep(jittered(wait));
            let is_stopped = self.stop.run_until_cancelled(pause).await.is_none();
            if is_stopped || !self.unconfirmed.contains(order) {
                return Err("stopped");
            }
        }
        Ok(())
    }

    /// Somebody deleted a stream, or the queue server lost its disk.
    async fn restore_streams(&self) {
        let restored = async {
            ensure(&self.queue, self.queue.replicas()).await?;
            Tasks::new(&self.queue).ensure_pool(&self.form.pool).await
        };
        if let Err(error) = restored.await {
            tracing::debug!(%error, "streams could not be restored yet");
        }
    }
}
