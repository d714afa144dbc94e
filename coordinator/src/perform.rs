//! The only place where effects happen: hands them to the threads and tasks that do them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use qa_shared::failpoint::{CrashPoint, Mistake, crash, is_made};
use qa_shared::model::{
    GenerationSettings, InstanceId, JobId, Outcome, PoolName, Price, TaskKey, TaskResult, TextHash,
};
use qa_shared::queue::{Queue, Receipt, Tasks, Traceparent};
use qa_shared::shutdown::Shutdown;
use qa_shared::telemetry::traces::Span;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::core::{Effect, FileStatus, ReceiptId, Spent, StopCause, TaskRef};
use crate::crew::Lines;
use crate::done::Done;
use crate::files::{ChunkFile, ChunkRecord, Entry, now};
use crate::happening::Happening;
use crate::publisher::Order;
use crate::reconcile;
use crate::recorder::{RecorderCommand, Recording};
use crate::snapshots::SnapshotCommand;
use crate::trace::RunTrace;
use crate::view::View;

/// How long the results of finished tasks may take to arrive after the in-process worker has ended.
const LAST_RESULTS: Duration = Duration::from_secs(15);

/// How long publications that are under way at a stop may take.
const LAST_PUBLICATIONS: Duration = Duration::from_secs(15);

struct HeldResult {
    task: TaskRef,
    result: Option<Box<TaskResult>>,
    receipt: Option<Receipt>,
    /// Until it is durable, or known to be of no use.
    span: Option<Span>,
}

/// Does what the core asks for.
pub(crate) struct Performer {
    pub(crate) instance: InstanceId,
    pub(crate) host: String,
    pub(crate) job: JobId,
    pub(crate) pool: PoolName,
    pub(crate) settings: GenerationSettings,
    /// What the model's tokens cost.
    pub(crate) price: Option<Price>,
    pub(crate) queue: Queue,
    pub(crate) lines: Lines,
    /// The in-process worker and what stops it; none in a fleet.
    pub(crate) local_worker: Option<(Shutdown, JoinHandle<()>)>,
    /// By the documents' positions.
    pub(crate) chunk_files: Vec<Option<Arc<ChunkFile>>>,
    pub(crate) held: Held,
    pub(crate) trace: RunTrace,
}

/// Results that wait for the core's decision.
#[derive(Default)]
pub(crate) struct Held {
    results: HashMap<ReceiptId, HeldResult>,
    last: u64,
}

impl Held {
    /// The last one that came.
    pub(crate) fn last(&self) -> ReceiptId {
        ReceiptId(self.last)
    }

    /// The tasks that they are about.
    pub(crate) fn tasks(&self) -> BTreeSet<TaskRef> {
        self.results.values().map(|held| held.task).collect()
    }

    /// How many messages are held that came no later than this one.
    pub(crate) fn messages_until(&self, last: ReceiptId) -> u64 {
        let is_one = |(id, held): &(&ReceiptId, &HeldResult)| id.0 <= last.0 && held.receipt.is_some();
        self.results.iter().filter(is_one).count() as u64
    }
}

impl Performer {
    /// Keeps a result until the core has decided; a result without a message is this process' own.
    /// `sender` is the worker's span.
    pub(crate) fn hold(
        &mut self,
        task: TaskRef,
        result: TaskResult,
        receipt: Option<Receipt>,
        sender: Option<&Traceparent>,
    ) -> ReceiptId {
        let span = self.trace.apply(task, &result, sender);
        self.lines.unconfirmed.settle(task);
        let receipt = if is_made(Mistake::AckBeforeJournal) {
            receipt.and_then(|receipt| self.lines.acks.send(receipt).err()).map(|unsent| unsent.0)
        } else {
            receipt
        };
        self.keep(HeldResult { task, result: Some(Box::new(result)), receipt, span })
    }

    /// Keeps a message that holds no result.
    pub(crate) fn hold_bare(&mut self, receipt: Receipt) -> ReceiptId {
        let task = TaskRef { document: u32::MAX, chunk: 0, round: 0 };
        self.keep(HeldResult { task, result: None, receipt: Some(receipt), span: None })
    }

    fn keep(&mut self, held: HeldResult) -> ReceiptId {
        self.held.last += 1;
        let id = ReceiptId(self.held.last);
        self.held.results.insert(id, held);
        id
    }

    /// Does one effect. A thread that is gone has reported why; the driver ends by that report.
    pub(crate) fn perform(&mut self, effect: &Effect) {
        match *effect {
            Effect::Publish(task) => {
                self.lines.unconfirmed.add(task);
                // Refused only after the end of publishing, and then it is not wanted.
                let second = self.lines.second_rounds.get(&task).cloned();
                self.lines.orders.send(Order { task, second }).ok();
            }
            Effect::Record(receipt) => self.record(receipt),
            Effect::Account(receipt) => {
                drop(self.lines.recorder.send(RecorderCommand::Account(receipt)));
            }
            Effect::Ack(receipt) => {
                let held = self.held.results.remove(&receipt);
                if let Some(HeldResult { result: Some(_), span: Some(span), .. }) = &held {
                    // Nobody took it out to be recorded.
                    span.set("qa.duplicate", true);
                }
                if let Some(HeldResult { receipt: Some(receipt), .. }) = held {
                    drop(self.lines.acks.send(receipt));
                }
            }
            Effect::Snapshot { document, status } => {
                if status != FileStatus::InProgress {
                    let file = self.chunk_files.get(document as usize).and_then(Option::as_ref);
                    self.trace.end_document(document, file.map(|file| file.name.as_str()), status.as_str());
                }
                drop(self.lines.snapshots.send(SnapshotCommand::Write { document, status }));
            }
            Effect::Leave(receipt) => drop(self.held.results.remove(&receipt)),
            Effect::Begin(task) => {
                let file = self.chunk_files.get(task.document as usize).and_then(Option::as_ref);
                if let Some(document) = file.map(|file| file.name.clone()) {
                    drop(self.lines.recorder.send(RecorderCommand::Begin { task, document }));
                }
            }
            Effect::TakeBack(_) | Effect::Withdraw(_) | Effect::Finish(_) => {}
        }
    }

    fn record(&mut self, id: ReceiptId) {
        let Some(held) = self.held.results.get_mut(&id) else { return };
        let Some(mut result) = held.result.take() else { return };
        crash(CrashPoint::ResultApplied);
        let TaskRef { document, chunk, .. } = held.task;
        let file = self.chunk_files.get(document as usize).and_then(Option::as_ref);
        let Some(file) = file else { return };
        let unusable = std::mem::take(&mut result.unusable);
        let entry = entry_of(*result, file, chunk, &self.settings, self.price);
        let recording = Recording { receipt: id, document, chunk, entry, unusable };
        drop(self.lines.recorder.send(RecorderCommand::Record(Box::new(recording))));
    }

    /// Has what is recorded made durable at once.
    pub(crate) fn flush(&self) {
        drop(self.lines.recorder.send(RecorderCommand::Flush));
    }

    /// Has the job's account written, before what is recorded from now on.
    pub(crate) fn save_spent(&self, spent: Spent) {
        drop(self.lines.recorder.send(RecorderCommand::Spent(Box::new(spent))));
    }

    /// Has the figures for `status` written.
    pub(crate) fn save_progress(&self, view: &View) {
        drop(self.lines.recorder.send(RecorderCommand::Progress(Box::new(view.clone()))));
    }

    /// Has an event written to the event log.
    pub(crate) fn log_event(&self, happening: Happening) {
        drop(self.lines.recorder.send(RecorderCommand::Event(Box::new(happening))));
    }

    /// Takes back what nobody waits for any more, in the background, where nobody works on it.
    pub(crate) fn take_back_quietly(&self, keys: Vec<TaskKey>) {
        let (tasks, pool) = (Tasks::new(&self.queue), self.pool.clone());
        tokio::spawn(async move {
            if let Err(error) = tasks.take_back(&pool, &keys).await {
                tracing::debug!(%error, "tasks that are not needed any more were not taken back");
            }
        });
    }

    /// Takes tasks back in the background, in this order, until they make so many bytes of room; those that a worker
    /// has stay.
    pub(crate) fn make_room(&self, tasks: Vec<(TaskRef, TaskKey, u64)>, bytes: u64) {
        /// Tasks that are taken back before the next look at how much that was.
        const AT_ONCE: usize = 32;
        let (queue, pool, done) = (Tasks::new(&self.queue), self.pool.clone(), self.lines.done.clone());
        tokio::spawn(async move {
            let (mut freed, mut taken_back) = (0, Vec::new());
            for some in tasks.chunks(AT_ONCE) {
                if freed >= bytes {
                    break;
                }
                let keys: Vec<_> = some.iter().map(|(_, key, _)| key.clone()).collect();
                match queue.take_back(&pool, &keys).await {
                    Ok(taken) => {
                        let removed = some.iter().filter(|(_, key, _)| taken.removed.contains(key));
                        for (task, _, bytes) in removed {
                            freed += bytes;
                            taken_back.push(*task);
                        }
                    }
                    Err(error) => {
                        tracing::debug!(%error, "queued tasks could not be taken back to make room");
                        return;
                    }
                }
            }
            tracing::debug!(tasks = taken_back.len(), freed, "took queued tasks back to make room");
            drop(done.send(Done::MadeRoom(taken_back)).await);
        });
    }

    /// Ends publishing in the background and reports what was taken back.
    pub(crate) fn take_back(&mut self, cause: StopCause, published: Vec<(TaskRef, TaskKey)>) {
        let worker = self.local_worker.take();
        let publishing = self.lines.publishing.take();
        if cause != StopCause::Detached {
            self.lines.stop_publishing.cancel();
        }
        let (queue, job, pool, done) =
            (self.queue.clone(), self.job.clone(), self.pool.clone(), self.lines.done.clone());
        tokio::spawn(async move {
            // Whatever is on its way must have arrived before it can be taken back.
            if let Some(publishing) = publishing
                && cause != StopCause::Detached
            {
                drop(tokio::time::timeout(LAST_PUBLICATIONS, publishing).await);
            }
            let taken_back = match (cause, worker) {
                (StopCause::Detached, _) => Vec::new(),
                (StopCause::Cancelled, worker) => {
                    // Nothing of a cancelled job is wanted: what runs is dropped by its worker.
                    if let Err(error) = Tasks::new(&queue).purge_job(&job).await {
                        tracing::warn!(%error, "the job's tasks could not be removed from the queue");
                    }
                    stop_worker(worker).await;
                    refs(&published)
                }
                (
                    StopCause::Signal
                    | StopCause::FailureRate(_)
                    | StopCause::Budget(_)
                    | StopCause::NoServer(_)
                    | StopCause::StoreFull(_),
                    None,
                ) => {
                    let taken_back = take_back(&queue, &pool, &published).await;
                    crash(CrashPoint::TasksTakenBack);
                    taken_back
                }
                (
                    StopCause::Signal
                    | StopCause::FailureRate(_)
                    | StopCause::Budget(_)
                    | StopCause::NoServer(_)
                    | StopCause::StoreFull(_),
                    worker,
                ) => {
                    let mut taken_back = take_back(&queue, &pool, &published).await;
                    stop_worker(worker).await;
                    receive_the_rest(&queue, &job, &pool, &done).await;
                    // Nobody is left who could do what is still out.
                    taken_back.extend(refs(&published));
                    taken_back
                }
            };
            drop(done.send(Done::Drained(taken_back)).await);
        });
    }
}

/// A result as the journal keeps it.
pub(crate) fn entry_of(
    result: TaskResult,
    file: &ChunkFile,
    chunk: u32,
    settings: &GenerationSettings,
    price: Option<Price>,
) -> Entry {
    let text_hash = file.chunks.get(chunk as usize).map_or_else(|| TextHash::of(""), |entry| entry.text);
    let record = Box::new(ChunkRecord::from_result(&result, text_hash, settings, now()).priced(price));
    let pairs = match result.outcome {
        Outcome::Completed { pairs } if is_made(Mistake::PairsTwice) => [pairs.clone(), pairs].concat(),
        Outcome::Completed { pairs } => pairs,
        Outcome::Failed { .. } => Vec::new(),
    };
    Entry::Result { document: file.name.clone(), record, pairs }
}

fn refs(published: &[(TaskRef, TaskKey)]) -> Vec<TaskRef> {
    published.iter().map(|(task, _)| *task).collect()
}

async fn take_back(queue: &Queue, pool: &PoolName, published: &[(TaskRef, TaskKey)]) -> Vec<TaskRef> {
    let keys: Vec<_> = published.iter().map(|(_, key)| key.clone()).collect();
    match Tasks::new(queue).take_back(pool, &keys).await {
        Ok(taken) => {
            published.iter().filter(|(_, key)| taken.removed.contains(key)).map(|(task, _)| *task).collect()
        }
        Err(error) => {
            tracing::warn!(%error, "queued tasks could not be taken back: workers will do them, a resume takes the results");
            Vec::new()
        }
    }
}

async fn stop_worker(worker: Option<(Shutdown, JoinHandle<()>)>) {
    if let Some((shutdown, worker)) = worker {
        shutdown.stop();
        if let Err(error) = worker.await {
            tracing::error!(%error, "the in-process worker ended unexpectedly");
        }
    }
}

/// Waits until every stored result was received and acked, as far as that takes a bounded time.
async fn receive_the_rest(queue: &Queue, job: &JobId, pool: &PoolName, done: &mpsc::Sender<Done>) {
    let all_received = async {
        loop {
            match reconcile::take_stock(queue, job, pool).await {
                Ok(stock) if stock.results.is_empty() => return,
                Ok(_) | Err(_) if done.is_closed() => return,
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, "the last results could not be counted"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    if tokio::time::timeout(LAST_RESULTS, all_received).await.is_err() {
        tracing::warn!("some results are still in the queue; the next --resume takes them");
    }
}
