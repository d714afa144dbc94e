//! Receives results and acks them once they have had their effect.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use qa_shared::failpoint::{CrashPoint, crash};
use qa_shared::model::{JobId, PoolName};
use qa_shared::queue::{Queue, QueueError, Receipt, ResultsConsumer, ResultsError, Tasks, ensure};
use tokio::sync::mpsc;

use crate::done::Done;

/// Results asked for at once.
const BATCH: usize = 100;
/// How long to wait for the first of them.
const PATIENCE: Duration = Duration::from_secs(1);

/// Receives the job's results until the driver is gone or another coordinator has the job.
pub(crate) struct Intake {
    pub(crate) queue: Queue,
    pub(crate) job: JobId,
    pub(crate) pool: PoolName,
    pub(crate) epoch: u64,
    pub(crate) consumer: ResultsConsumer,
    pub(crate) done: mpsc::Sender<Done>,
    pub(crate) order: IntakeOrder,
}

/// What is asked of the intake while it works.
#[derive(Debug, Clone, Default)]
pub(crate) struct IntakeOrder(Arc<AtomicBool>);

impl IntakeOrder {
    /// Has the consumer made anew: whatever is stored is delivered again.
    pub(crate) fn make_anew(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Intake {
    /// Works until nobody listens.
    pub(crate) async fn run(mut self) {
        loop {
            if self.order.0.swap(false, Ordering::Relaxed) {
                self.restore().await;
            }
            match self.consumer.next_batch(BATCH, PATIENCE).await {
                Ok(batch) if batch.is_empty() => {
                    if self.done.is_closed() {
                        return;
                    }
                }
                Ok(batch) => {
                    crash(CrashPoint::ResultsReceived);
                    if self.done.send(Done::Received(batch)).await.is_err() {
                        return;
                    }
                }
                Err(error @ ResultsError::LeaseLost { .. }) => {
                    drop(self.done.send(Done::LeaseLost(error.to_string())).await);
                    return;
                }
                Err(ResultsError::Queue(error)) => {
                    tracing::debug!(%error, "results cannot be received at the moment");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    if matches!(error, QueueError::Missing { .. }) {
                        self.restore().await;
                    }
                }
            }
        }
    }

    /// The stream or the consumer is gone, or of no use: a wiped or a new queue server, or a power cut.
    async fn restore(&mut self) {
        if let Err(error) = ensure(&self.queue, self.queue.replicas()).await {
            tracing::debug!(%error, "streams could not be restored yet");
            return;
        }
        if let Err(error) = Tasks::new(&self.queue).ensure_pool(&self.pool).await {
            tracing::debug!(%error, "the pool's consumer could not be restored yet");
        }
        match ResultsConsumer::create(&self.queue, &self.job, self.epoch).await {
            Ok(consumer) => self.consumer = consumer,
            Err(error) => tracing::debug!(%error, "results consumer could not be restored yet"),
        }
    }
}

/// Acks messages whose effect is durable, until the channel is closed. A lost ack means a second delivery,
/// which is then found to be a duplicate.
pub(crate) async fn acknowledge(consumer: ResultsConsumer, mut receipts: mpsc::UnboundedReceiver<Receipt>) {
    let mut batch = Vec::new();
    while receipts.recv_many(&mut batch, 256).await > 0 {
        let failed = consumer.ack_all(std::mem::take(&mut batch)).await;
        crash(CrashPoint::ResultsAcked);
        if !failed.is_empty() {
            tracing::debug!(count = failed.len(), "acks were not confirmed; the results will come again");
        }
    }
}
