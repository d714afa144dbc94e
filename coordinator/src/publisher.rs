//! Puts tasks into the queue: reads each chunk's text, publishes, and tries again until the queue has it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use opentelemetry::trace::FutureExt;
use qa_shared::backoff::{Backoff, jittered};
use qa_shared::clock;
use qa_shared::failpoint::{CrashPoint, crash};
use qa_shared::model::{GenerationSettings, JobId, PoolName, SecondRound, Task, TaskKey};
use qa_shared::queue::{PublishError, Queue, QueueError, Tasks, Traceparent, ensure};
use qa_shared::telemetry::instruments::{Label, TASKS_PUBLISHED};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::core::TaskRef;
use crate::done::Done;
use crate::files::{ChunkFile, ChunkFileError, ChunkReader};
use crate::guard::LeaseClock;
use crate::trace::{self, RunTrace};
use crate::unconfirmed::Unconfirmed;

/// Publications in flight at most.
const IN_FLIGHT: usize = 64;

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
}

impl TaskForm {
    /// The task with the chunk's text.
    pub(crate) fn fill(&self, order: TaskRef, file: &ChunkFile) -> Result<Task, ChunkFileError> {
        let chunk = ChunkReader::open(file)?.read(order.chunk as usize)?;
        Ok(Task {
            key: TaskKey {
                job: self.job.clone(),
                document: file.name.token(),
                chunk: order.chunk,
                round: order.round,
            },
            document: file.name.clone(),
            pool: self.pool.clone(),
            text: chunk.text,
            text_hash: file.chunks[order.chunk as usize].text,
            settings: self.settings.clone(),
            max_calls: self.max_calls,
            second: None,
            published_at_ms: clock::unix_millis(),
        })
    }
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
            let order = async {
                let permit = Arc::clone(&room).acquire_owned().await.ok()?;
                Some((permit, orders.recv().await?))
            };
            let Some((permit, order)) = publisher.stop.run_until_cancelled(order).await.flatten() else {
                break;
            };
            while publications.try_join_next().is_some() {}
            let publisher = Arc::clone(&publisher);
            publications.spawn(async move {
                let task = order.task;
                Arc::clone(&publisher).publish(order).await;
                publisher.unconfirmed.settle(task);
                drop(permit);
            });
        }
        while publications.join_next().await.is_some() {}
    }

    async fn publish(self: Arc<Self>, Order { task: order, second }: Order) {
        let reader = Arc::clone(&self);
        let read = tokio::task::spawn_blocking(move || reader.read(order, second)).await;
        let task = match read {
            Ok(Ok(task)) => task,
            Ok(Err(error)) => {
                drop(self.done.send(Done::DocumentBroken { document: order.document, error }).await);
                return;
            }
            Err(error) => {
                tracing::error!(%error, "reading a chunk ended unexpectedly");
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
                    TASKS_PUBLISHED.add(1, || vec![Label::new("qa.job", self.form.job.to_string())]);
                    return Ok(());
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
                    drop(self.done.send(Done::Unpublishable { task: order, error: error.to_string() }).await);
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

    fn read(&self, order: TaskRef, second: Option<SecondRound>) -> Result<Task, String> {
        let file = self.chunk_files.get(order.document as usize).and_then(Option::as_ref);
        let file = file.ok_or("the document has no chunk file")?;
        let task = self.form.fill(order, file).map_err(|error| error.to_string())?;
        Ok(Task { second, ..task })
    }
}
