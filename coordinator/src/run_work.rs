//! The run proper, from the first event to the end of everything that works for it.

use qa_shared::queue::stores_messages;
use qa_shared::shutdown::Shutdown;

use crate::core::{Core, Finish, TaskRef};
use crate::crew::Crew;
use crate::driver::{Driver, End};
use crate::exit::ExitCode;
use crate::local::PrivateQueue;
use crate::run_error::RunError;

/// The run proper.
pub(crate) async fn work(driver: &mut Driver, private: Option<&mut PrivateQueue>) -> Result<End, RunError> {
    Ok(match private {
        Some(private) => {
            let queue = driver.queue.clone();
            let failure = private.server.fails(async || stores_messages(&queue).await);
            tokio::select! {
                end = driver.run() => end,
                failure = failure => End::QueueFailed(failure),
            }
        }
        None => driver.run().await,
    })
}

/// What is left of a run that has ended.
pub(crate) struct Ended {
    pub(crate) core: Core,
    pub(crate) examples: Vec<String>,
    /// Tasks that living workers are about to drop.
    pub(crate) dropping: Vec<TaskRef>,
}

/// Ends what works for the run; gives back the core for the figures, and what a sample shows.
pub(crate) async fn end_run(
    mut driver: Driver,
    crew: Crew,
    worker_stop: Option<Shutdown>,
    end: &End,
) -> Ended {
    driver.measure_the_last();
    let Driver { core, performer, done, reporter, announcement, tail, .. } = driver;
    let examples = reporter.finish();
    drop((performer, done));
    announcement.end().await;
    if let Some(stop) = worker_stop {
        // Nothing is left for it to do, or nobody waits for it any more.
        stop.leave_now();
    }
    crew.end(!matches!(end, End::LeftAtOnce | End::LeaseLost(_))).await;
    Ended { core, examples, dropping: tail.into_dropping() }
}

pub(crate) fn finish_of(end: End) -> Result<Finish, RunError> {
    match end {
        End::Finished(finish) => Ok(finish),
        End::LeaseLost(reason) => Err(RunError::queue(format!("{reason}; this coordinator stops"))),
        End::FilesFailed(reason) => {
            Err(RunError::files(format!("{reason} (nothing is lost: results wait in the queue)")))
        }
        End::QueueFailed(failure) => Err(failure.into()),
        End::LeftAtOnce => Err(RunError::new(ExitCode::SecondSignal, "left at once; go on with --resume")),
    }
}
