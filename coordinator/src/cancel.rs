//! The `cancel` command: stops a job from anywhere, with and without a coordinator that runs it.

use qa_shared::clock;
use qa_shared::connecting::connect_options;
use qa_shared::console::Console;
use qa_shared::model::{JobId, JobState};
use qa_shared::queue::{Jobs, Queue, Tasks};
use qa_shared::settings::variables::Program;

use crate::config::{CancelConfig, CancelTarget};
use crate::exit::ExitCode;
use crate::files::{
    EventLog, Holder, JobFolder, JobFolderError, existing_output_directory, input_directory,
    interrupt_documents,
};
use crate::format::counted;
use crate::happening::Happening;
use crate::run_error::RunError;

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
    match jobs.get(job).await.map_err(RunError::queue)? {
        Some(mut entry) => {
            entry.state = JobState::Cancelled;
            entry.updated_at_ms = clock::unix_millis();
            jobs.put(&entry).await.map_err(RunError::queue)?;
            let dropped = Tasks::new(queue).purge_job(job).await.map_err(RunError::queue)?;
            console
                .say(&format!("job {job} is cancelled; {} dropped from the queue", counted(dropped, "task")));
        }
        None if must_be_there => {
            let message = format!("job {job} is not in the queue: it is finished, or was never begun there");
            return Err(RunError::new(ExitCode::Configuration, message));
        }
        None => {
            console.say(&format!("job {job} is not in the queue: it is finished, or was never begun there"));
        }
    }
    Ok(())
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
