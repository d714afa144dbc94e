//! One delivery from begin to end: read, process, store the result, ack.
//!
//! Order of effects: result stored → task acked. A crash between any two steps costs a repeated step, and
//! every step is idempotent by the task's key.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use qa_shared::failpoint::{CrashPoint, crash};
use qa_shared::model::{
    Failure, FailureReason, JobEntry, JobId, JobState, Obstacle, Outcome, Task, TaskKey, TaskResult,
};
use qa_shared::queue::{Delivery, PoisonNotes, Presence, PublishError, Results};
use qa_shared::shutdown::Shutdown;
use qa_shared::{clock, wire};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::assigner::Assignment;
use crate::blame::{REFUSED_TRIES, Try, tries_for};
use crate::disposition::{ACCOUNT_PAUSE, HandBackCause};
use crate::driver::WorkerSetup;
use crate::llm::LlmError;
use crate::metrics;
use crate::process::{self, Processed, Processing};
use crate::progress::{TaskProgress, UnfinishedTasks};
use crate::second_round;
use crate::server::Server;
use crate::trace;

/// Notes left by this many vanished workers make a task poison.
const POISON_AT: usize = 5;
/// How long the result of a task that overran its deadline may still take to be stored.
const STORE_GRACE: Duration = Duration::from_secs(120);

/// What is said to the queue in the end.
enum Settlement {
    Ack,
    HandBack(Option<Duration>),
    Discard,
}

/// What it takes to attend to deliveries.
#[derive(Debug)]
pub(crate) struct Attendant {
    pub(crate) setup: Arc<WorkerSetup>,
    pub(crate) results: Results,
    pub(crate) poison: PoisonNotes,
    pub(crate) presence: Presence,
    pub(crate) jobs: watch::Receiver<Arc<BTreeMap<JobId, JobEntry>>>,
    pub(crate) shutdown: Shutdown,
    /// How far tasks had come here before they were handed back.
    pub(crate) unfinished: UnfinishedTasks,
    /// Acks and hand-backs that wait for their confirmation.
    pub(crate) settling: TaskTracker,
}

enum End {
    Store(Box<TaskResult>),
    HandBack(Option<Duration>),
    Discard,
}

/// Takes care of one delivery.
pub(crate) async fn attend(attendant: &Attendant, server: &Server, work: &Assignment, delivery: Delivery) {
    let key = match &delivery.key {
        Ok(key) => key.clone(),
        Err(error) => {
            tracing::warn!(%error, "set a message aside that is no task");
            settled(delivery.discard().await);
            return;
        }
    };
    if attendant.shutdown.is_stopping() {
        settled(delivery.hand_back(None).await);
        return;
    }
    let span = trace::process(&key, &delivery, &work.pool, &attendant.setup.instance);
    metrics::delivered(&delivery);
    let begun = Instant::now();
    let outcome = trace::within(span.as_ref(), take_care(attendant, server, work, delivery, key)).await;
    metrics::processed(begun.elapsed(), outcome);
}

/// Says what became of the task.
async fn take_care(
    attendant: &Attendant,
    server: &Server,
    work: &Assignment,
    delivery: Delivery,
    key: TaskKey,
) -> &'static str {
    let deadline = Instant::now() + attendant.setup.task_timeout;
    let _beats = delivery.start_beats(deadline + STORE_GRACE);
    crash(CrashPoint::TaskDelivered);
    let task = read_task(&delivery, &key);
    let is_declined = task.as_ref().is_ok_and(|task| is_declined(task, server, delivery.deliveries));
    // Whoever had it before may have vanished over it; with a second round beside a first, also over that one.
    let is_suspicious = !is_declined && (delivery.deliveries > 1 || key.round > 1);
    if is_suspicious && matches!(attendant.results.stored(&key).await, Ok(Some(_))) {
        trace::ended("answered before", None);
        settled(delivery.ack().await);
        return "answered before";
    }
    let end = if is_declined {
        End::HandBack(Some(second_round::declined_for(delivery.deliveries)))
    } else if let Some(failure) = attendant.poisoned(&key, is_suspicious).await {
        End::Store(Box::new(attendant.failed(&key, server, failure)))
    } else {
        match task {
            Ok(task) => {
                let working = attendant.work(&task, server, work, delivery.deliveries, deadline);
                // A defect of ours must not take the slot, and then the next one, with it.
                AssertUnwindSafe(working).catch_unwind().await.unwrap_or_else(|_| {
                    let message = "the worker panicked over this chunk: please report it".to_owned();
                    let failure = Failure { reason: FailureReason::Other, message };
                    End::Store(Box::new(attendant.failed(&key, server, failure)))
                })
            }
            Err(failure) => End::Store(Box::new(attendant.failed(&key, server, failure))),
        }
    };
    let (settlement, outcome) = match end {
        End::Store(result) => {
            crash(CrashPoint::ModelAnswered);
            let is_completed = matches!(result.outcome, Outcome::Completed { .. });
            let outcome = if is_completed { "completed" } else { "failed" };
            (attendant.store(*result, &delivery).await, outcome)
        }
        End::HandBack(after) => {
            trace::ended("handed back", None);
            (Settlement::HandBack(after), "handed back")
        }
        End::Discard => {
            trace::ended("discarded", None);
            (Settlement::Discard, "discarded")
        }
    };
    if is_suspicious && let Err(error) = attendant.poison.clear(&key, &attendant.setup.instance).await {
        tracing::debug!(%error, "note could not be taken back");
    }
    // Not in the slot: after a restart of the queue server a confirmation may take long to fail.
    attendant.settling.spawn(async move {
        settled(match settlement {
            Settlement::Ack => {
                let acked = delivery.ack().await;
                crash(CrashPoint::TaskAcked);
                acked
            }
            Settlement::HandBack(after) => delivery.hand_back(after).await,
            Settlement::Discard => delivery.discard().await,
        });
    });
    outcome
}

fn read_task(delivery: &Delivery, key: &TaskKey) -> Result<Task, Failure> {
    let unreadable = |message| Failure { reason: FailureReason::UnreadableTask, message };
    let task: Task = wire::decode(&delivery.payload).map_err(|error| unreadable(error.to_string()))?;
    if task.key != *key {
        return Err(unreadable(format!("the message is about task {}", task.key)));
    }
    Ok(task)
}

/// Whether it is a second round that had better be done elsewhere.
fn is_declined(task: &Task, server: &Server, deliveries: u64) -> bool {
    task.second.as_ref().is_some_and(|second| {
        server.running.has_other_round(&task.key)
            || second_round::is_declined(second, server.running.typical(), deliveries)
    })
}

/// The other slots meet the same trouble; it is told once.
fn tell_closed(server: &Server, reason: &str, closed_for: Option<Duration>) {
    if let Some(wait) = closed_for {
        tracing::warn!(
            server = %server.url,
            reason,
            wait_s = wait.as_secs_f64().round(),
            "LLM server cannot take tasks at the moment, handing them back"
        );
    }
}

fn settled<E: std::fmt::Display>(outcome: Result<(), E>) {
    if let Err(error) = outcome {
        // It is delivered again, and then found to be done.
        tracing::debug!(%error, "delivery could not be settled");
    }
}

impl Attendant {
    /// Counts the workers that vanished over this task; leaves a note of this one's try.
    async fn poisoned(&self, key: &TaskKey, is_suspicious: bool) -> Option<Failure> {
        if !is_suspicious {
            return None;
        }
        let mut live: BTreeSet<_> = match self.presence.workers().await {
            Ok(workers) => workers.into_keys().collect(),
            Err(_) => return None,
        };
        live.insert(self.setup.instance.clone());
        let vanished = self.poison.vanished(key, &live).await.unwrap_or(0);
        if vanished >= POISON_AT {
            tracing::warn!(task = %key, vanished, "task ended its worker again and again, giving it up");
            return Some(Failure {
                reason: FailureReason::Poison,
                message: format!("{vanished} workers vanished while they worked on this chunk"),
            });
        }
        if let Err(error) = self.poison.note(key, &self.setup.instance).await {
            tracing::debug!(%error, "note about a suspicious task could not be left");
        }
        None
    }

    async fn work(
        &self,
        task: &Task,
        server: &Server,
        work: &Assignment,
        deliveries: u64,
        deadline: Instant,
    ) -> End {
        let key = &task.key;
        let processing = Processing {
            model: work.model.clone(),
            num_ctx: work.num_ctx,
            longest_ctx: work.info.context_length,
            limits: self.setup.limits,
            deadline: Some(deadline),
        };
        let mut progress = self.unfinished.take(key);
        let begun = Try::begin(task, server, work, deliveries, &progress);
        let running = server.running.begin(key);
        let working = running.counter().during(process::process(task, server, &processing, &mut progress));
        let processed = tokio::select! {
            processed = working => processed,
            () = self.unwanted(key) => return End::Discard,
            () = self.drained() => return End::HandBack(None),
        };
        match processed {
            Processed::Result { outcome, mut spent, last_error, unusable } => {
                if let Some(tries) = tries_for(&outcome) {
                    server.close_for_a_while(None);
                    server.doubt();
                    if !begun.blames_chunk(&mut progress, tries, self.drained()).await {
                        if let Outcome::Failed { failure } = &outcome {
                            server.cannot_serve(&work.pool, Obstacle::Other, &failure.message);
                        }
                        self.unfinished.keep(key, progress);
                        tracing::warn!(server = %server.url, task = %key, "LLM server failed, handing the task back");
                        return End::HandBack(Some(Duration::from_millis(500)));
                    }
                    spent = progress.spent;
                } else {
                    server.finished(spent.usage.output_tokens);
                    if matches!(outcome, Outcome::Completed { .. }) {
                        server.running.answered(begun.started.elapsed());
                    }
                    Self::learn(server, work, begun.started, last_error.as_ref(), spent.attempts);
                }
                let result = begun.result(&self.setup, outcome, spent);
                End::Store(Box::new(TaskResult { unusable, ..result }))
            }
            Processed::HandBack { cause: HandBackCause::Stopping, .. } => End::HandBack(None),
            Processed::HandBack { cause, message, after } => {
                let is_account = cause.is_about_the_account() && server.client.is_hosted();
                let closed = if is_account {
                    server.suspend(message.clone(), after)
                } else if cause == HandBackCause::KeyRefused {
                    // A proxy may refuse everybody while the server behind it starts.
                    server.close_for_a_while(None)
                } else {
                    server.close_for_a_while(Some(after))
                };
                tell_closed(server, &message, closed);
                server.cannot_serve(&work.pool, cause.obstacle(), &message);
                server.doubt();
                let may_be_the_chunk = cause.may_be_the_requests() && !is_account;
                if may_be_the_chunk && begun.blames_chunk(&mut progress, REFUSED_TRIES, self.drained()).await
                {
                    let failure = Failure { reason: FailureReason::ServerError, message };
                    let outcome = progress.outcome_or(failure);
                    return End::Store(Box::new(begun.result(&self.setup, outcome, progress.spent)));
                }
                self.unfinished.keep(key, progress);
                // At once: another server may be free. This one asks for nothing meanwhile.
                End::HandBack(Some(Duration::from_millis(500)))
            }
        }
    }

    /// What a task with a result says about its server: an answer that it is well, an error about the account
    /// that nothing more will come of it.
    fn learn(
        server: &Server,
        work: &Assignment,
        begun: Instant,
        last_error: Option<&LlmError>,
        attempts: u32,
    ) {
        match last_error {
            None if attempts > 0 => {
                server.recovered(begun);
                server.can_serve(&work.pool);
            }
            Some(error) if error.kind.is_about_the_account() => {
                server.cannot_serve(&work.pool, error.kind.obstacle(), &error.message);
                let closed = server.suspend(error.message.clone(), ACCOUNT_PAUSE);
                tell_closed(server, &error.message, closed);
            }
            Some(_) | None => {}
        }
    }

    /// Stores the result. One over the server's limit is tried again without the unusable answers, and then
    /// as a failure.
    async fn store(&self, mut result: TaskResult, delivery: &Delivery) -> Settlement {
        loop {
            let context = trace::traceparent(delivery.context.as_ref());
            let publishing = self.results.publish_until_stored(&result, context.as_ref(), self.drained());
            let error = match publishing.await {
                Ok(()) => {
                    let is_completed = matches!(result.outcome, Outcome::Completed { .. });
                    trace::ended(if is_completed { "completed" } else { "failed" }, Some(&result));
                    crash(CrashPoint::ResultStored);
                    return Settlement::Ack;
                }
                Err(error) => error,
            };
            match error {
                PublishError::TooLarge { .. } if !result.unusable.is_empty() => result.unusable.clear(),
                PublishError::TooLarge { bytes, limit }
                    if matches!(result.outcome, Outcome::Completed { .. }) =>
                {
                    let message = format!("the result has {bytes} bytes, which is over {limit}");
                    let failure = Failure { reason: FailureReason::TaskTooLarge, message };
                    result.outcome = Outcome::Failed { failure };
                }
                error => {
                    tracing::error!(
                        task = %result.key, %error,
                        "result could not be stored, the task comes again"
                    );
                    trace::ended("not stored", None);
                    self.unfinished.keep(&result.key, TaskProgress::of(&result));
                    return Settlement::HandBack(None);
                }
            }
        }
    }

    fn failed(&self, key: &TaskKey, server: &Server, failure: Failure) -> TaskResult {
        let (worker, host) = (self.setup.instance.clone(), self.setup.host.clone());
        let failed =
            TaskResult::failed_without_call(key.clone(), failure, worker, host, clock::unix_millis());
        TaskResult { server: Some(server.url.clone()), ..failed }
    }

    /// Completes when the task's job is cancelled, or when another round of its chunk was faster.
    async fn unwanted(&self, key: &TaskKey) {
        let mut jobs = self.jobs.clone();
        let is_unwanted = |jobs: &Arc<BTreeMap<JobId, JobEntry>>| {
            jobs.get(&key.job)
                .is_some_and(|entry| entry.state == JobState::Cancelled || entry.dropped.contains(key))
        };
        if jobs.wait_for(is_unwanted).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Completes when running tasks must be given up.
    async fn drained(&self) {
        self.shutdown.stopping().await;
        tokio::select! {
            () = tokio::time::sleep(self.setup.drain_timeout) => {}
            () = self.shutdown.leaving_now() => {}
        }
    }
}
