//! The `forget` command: removes what a dead job has left on a queue server, and the same for `cancel`.

use qa_shared::connecting::connect_options;
use qa_shared::console::Console;
use qa_shared::model::{InstanceId, JobId};
use qa_shared::queue::{AcquireError, Lease, LeaseHolder, Queue, QueueError, Removed, forget_job, remains};
use qa_shared::settings::variables::Program;

use crate::config::ForgetConfig;
use crate::exit::ExitCode;
use crate::format::counted;
use crate::run_error::RunError;

/// Removes and tells what was there.
pub(crate) async fn forget(config: ForgetConfig, console: &Console) -> Result<ExitCode, RunError> {
    let Some(nats) = &config.nats else { return Err(RunError::new(ExitCode::Internal, "no NATS server")) };
    let options = connect_options(nats, Program::Coordinator, "qa-coordinator forget");
    let queue = Queue::connect(&options, config.common.timing.clone()).await.map_err(RunError::queue)?;
    let told = if has_any(&queue, &config.job).await? {
        describe(&config.job, removed(&queue, &config.job).await?)
    } else {
        format!("nothing of job {} is on this queue server", config.job)
    };
    console.say(&told);
    Ok(ExitCode::Success)
}

/// Whether a queue server has anything of a job.
pub(crate) async fn has_any(queue: &Queue, job: &JobId) -> Result<bool, RunError> {
    Ok(remains(queue).await.map_err(RunError::queue)?.contains_key(job))
}

/// Removes everything of a job, under its lease: a coordinator that begins meanwhile waits.
pub(crate) async fn removed(queue: &Queue, job: &JobId) -> Result<Removed, RunError> {
    let host = qa_shared::host::name();
    let pid = std::process::id();
    let instance = InstanceId::new(&host, pid, rand::random());
    let holder =
        LeaseHolder { instance, host, directory: "none: it removes the job".to_owned(), pid, lock: None };
    let lease = match Lease::acquire(queue, job, holder).await {
        Ok(acquired) => Some(acquired.lease),
        Err(error @ AcquireError::HeldBy { .. }) => {
            let message = format!("nothing was removed: {error}; `cancel --job {job}` stops it");
            return Err(RunError::new(ExitCode::Held, message));
        }
        // Without the bucket of leases there is no coordinator.
        Err(AcquireError::Queue(QueueError::Missing { .. })) => None,
        Err(error) => return Err(RunError::queue(error)),
    };
    let forgotten = forget_job(queue, job).await.map_err(RunError::queue);
    if let Some(lease) = lease
        && let Err(error) = lease.release().await
    {
        tracing::debug!(%error, "the lease was not given back; it expires");
    }
    forgotten
}

/// What was removed, in words.
pub(crate) fn describe(job: &JobId, removed: Removed) -> String {
    let Removed { tasks, results, consumers, notes } = removed;
    let parts = [(tasks, "task"), (results, "result"), (consumers, "consumer"), (notes, "note")];
    let parts: Vec<_> = parts.into_iter().map(|(number, what)| counted(number, what)).collect();
    let paid = if results > 0 {
        "\n  the results were received by no coordinator: a resume of the job asks for these chunks again"
    } else {
        ""
    };
    format!("job {job} is removed from the queue: its entry, {}{paid}", parts.join(", "))
}
