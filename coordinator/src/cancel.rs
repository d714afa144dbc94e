//! The `cancel` command: stops a job from anywhere, with and without a coordinator that runs it.

use std::time::{Duration, Instant};

use qa_shared::clock;
use qa_shared::connecting::connect_options;
use qa_shared::console::Console;
use qa_shared::model::{JobId, JobState};
use qa_shared::queue::{Jobs, JobsError, Lease, LeaseHolder, Queue, QueueError, Results, Tasks};
use qa_shared::settings::variables::Program;

use crate::config::{CancelConfig, CancelTarget};
use crate::exit::ExitCode;
use crate::files::{
    EventLog, Holder, JobFolder, JobFolderError, existing_output_directory, input_directory,
    interrupt_documents,
};
use crate::forget::{describe, has_any, removed};
use crate::format::{counted, duration};
use crate::happening::Happening;
use crate::run_error::RunError;

/// How often a lease is looked at.
const PAUSE: Duration = Duration::from_millis(500);
/// How much longer than its age a lease may be seen.
const MARGIN: Duration = Duration::from_secs(5);
/// How long a coordinator may take to end: the model calls that run are paid for and waited for.
const LAST_CALLS: Duration = Duration::from_secs(300);

/// Cancels.
pub(crate) async fn cancel(config: CancelConfig, console: &Console) -> Result<ExitCode, RunError> {
    let folder = match &config.target {
        CancelTarget::Directory(directory) => {
            let base = std::env::current_dir().map_err(RunError::files)?;
            let directory =
                input_directory(&existing_output_directory(directory, &base), &base, "a job", "--qa-dir")
                    .map_err(|error| RunError::new(ExitCode::Configuration, error))?;
            let folder = JobFolder::open(&directory.path);
            let missing = format!("no job in `{}`: check --qa-dir", directory.path.display());
            Some(folder.ok_or_else(|| RunError::new(ExitCode::Configuration, missing))?)
        }
        CancelTarget::Job(_) => None,
    };
    let job = match (&config.target, &folder) {
        (CancelTarget::Job(job), _) => job.clone(),
        (CancelTarget::Directory(directory), Some(folder)) => {
            let job = folder.load_job().map_err(RunError::files)?;
            let missing = format!("no job in `{}`: check --qa-dir", directory.display());
            job.ok_or_else(|| RunError::new(ExitCode::Configuration, missing))?.job
        }
        (CancelTarget::Directory(_), None) => return Err(RunError::new(ExitCode::Internal, "no job folder")),
    };
    if let Some(nats) = &config.nats {
        let options = connect_options(nats, Program::Coordinator, "qa-coordinator cancel");
        let queue = Queue::connect(&options, config.common.timing.clone()).await.map_err(RunError::queue)?;
        cancel_in_queue(&queue, &job, folder.is_none(), console).await?;
        if config.purge || folder.is_none() {
            remove_from_queue(&queue, &job, config.purge, console).await?;
        }
    }
    if let Some(folder) = folder {
        interrupt_files(&folder, config.nats.is_some(), console)?;
    }
    Ok(ExitCode::Success)
}

async fn cancel_in_queue(
    queue: &Queue,
    job: &JobId,
    must_be_there: bool,
    console: &Console,
) -> Result<(), RunError> {
    let jobs = Jobs::new(queue);
    let entry = match jobs.get(job).await {
        // No job has used this server yet.
        Err(JobsError::Queue(QueueError::Missing { .. })) => None,
        found => found.map_err(RunError::queue)?,
    };
    if let Some(mut entry) = entry {
        entry.state = JobState::Cancelled;
        entry.updated_at_ms = clock::unix_millis();
        jobs.put(&entry).await.map_err(RunError::queue)?;
        let dropped = Tasks::new(queue).purge_job(job).await.map_err(RunError::queue)?;
        console.say(&format!("job {job} is cancelled; {} dropped from the queue", counted(dropped, "task")));
        return Ok(());
    }
    let message = format!("job {job} is not in the queue: it is finished, or was never begun there");
    if must_be_there && !has_any(queue, job).await? {
        return Err(RunError::new(ExitCode::Configuration, message));
    }
    console.say(&message);
    Ok(())
}

/// Removes what a dead job has left; with `purge` also what one that was stopped in good order keeps for a resume.
async fn remove_from_queue(
    queue: &Queue,
    job: &JobId,
    purge: bool,
    console: &Console,
) -> Result<(), RunError> {
    if let Some(holder) = still_at_work(queue, job, purge, console).await? {
        let who = format!("process {} on {}", holder.pid, holder.host);
        let then = format!("`forget --job {job}` removes then what is left in the queue");
        if purge {
            let message = format!("the coordinator ({who}) has not ended yet; {then}");
            return Err(RunError::new(ExitCode::Held, message));
        }
        console.say(&format!("its coordinator ({who}) stops by itself; {then}"));
        return Ok(());
    }
    // A coordinator that ended in good order has removed its consumer, and what it left waits for the resume.
    let was_killed = Results::new(queue).have_consumer(job).await.map_err(RunError::queue)?;
    if purge || was_killed || !has_entry(queue, job).await? {
        console.say(&describe(job, removed(queue, job).await?));
    } else {
        console.say("results that wait for a resume stay; `cancel --purge` removes them too");
    }
    Ok(())
}

async fn has_entry(queue: &Queue, job: &JobId) -> Result<bool, RunError> {
    Ok(Jobs::new(queue).get(job).await.map_err(RunError::queue)?.is_some())
}

/// The coordinator that lives, if one does: it asks for results or renews its lease. One that was killed is known by
/// its lease's expiry. With `until_end` a living one is waited for.
async fn still_at_work(
    queue: &Queue,
    job: &JobId,
    until_end: bool,
    console: &Console,
) -> Result<Option<LeaseHolder>, RunError> {
    let expiry = queue.timing().presence_age + MARGIN;
    let (begun, mut first, mut said) = (Instant::now(), None, false);
    loop {
        let look = Lease::look(queue, job).await.map_err(RunError::queue)?;
        let Some((holder, revision)) = look else { return Ok(None) };
        let is_renewed = *first.get_or_insert(revision) != revision;
        let lives = is_renewed || Results::new(queue).are_awaited(job).await.map_err(RunError::queue)?;
        let limit = if until_end { LAST_CALLS.max(expiry) } else { expiry };
        if (lives && !until_end) || begun.elapsed() > limit {
            return Ok(Some(holder));
        }
        if !said && begun.elapsed() > PAUSE {
            said = true;
            let LeaseHolder { pid, host, .. } = &holder;
            let what = if lives { "has ended" } else { "gives a sign of life, or its lease has expired" };
            let most = duration(limit.as_secs_f64());
            console.say(&format!("waiting until process {pid} on {host} {what}; at most {most}"));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Without a coordinator nobody else would mark the documents.
fn interrupt_files(folder: &JobFolder, has_queue: bool, console: &Console) -> Result<(), RunError> {
    match folder.lock(&Holder::of("cancel", qa_shared::host::name())) {
        Ok(_lock) => {
            let marked = interrupt_documents(folder).map_err(RunError::files)?;
            // Whoever looks at the night later shall find it.
            let told = EventLog::new(folder.path()).append(&Happening::Cancelled);
            if let Err(error) = told {
                tracing::debug!(%error, "the event log could not be written");
            }
            console.say(&format!(
                "{} marked as interrupted; `generate --resume` goes on",
                counted(marked, "document")
            ));
            Ok(())
        }
        Err(JobFolderError::Locked { .. }) if has_queue => {
            console.say("its coordinator stops by itself and marks its documents");
            Ok(())
        }
        Err(error @ JobFolderError::Locked { .. }) => {
            let message = format!("{error}; send it SIGTERM, or name its NATS server with --nats-url");
            Err(RunError::new(ExitCode::Held, message))
        }
        Err(error) => Err(RunError::files(error)),
    }
}
