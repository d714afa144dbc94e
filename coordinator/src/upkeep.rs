//! Keeps a shared queue server clean: what dead jobs have left is removed by any coordinator, after a long time.

use std::time::Duration;

use qa_shared::model::JobId;
use qa_shared::queue::{Queue, Removed, dead_jobs};

use crate::forget::removed;
use crate::run_error::RunError;

/// How often it is looked for.
const PAUSE: Duration = Duration::from_secs(6 * 3600);

/// Looks at the start of a run and every few hours. What is removed can be asked for again: the files hold what a
/// coordinator has received.
pub(crate) async fn remove_dead_jobs(queue: Queue) {
    loop {
        match dead_jobs(&queue).await {
            Ok(jobs) => {
                for job in jobs {
                    tell(&job, &removed(&queue, &job).await);
                }
            }
            Err(error) => tracing::debug!(%error, "dead jobs could not be looked for"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn tell(job: &JobId, outcome: &Result<Removed, RunError>) {
    match outcome {
        Ok(Removed { tasks, results, .. }) => tracing::warn!(
            %job,
            tasks,
            results,
            "a job of which nothing was heard for a month was removed from the queue; a resume asks again for what \
             its files do not hold"
        ),
        Err(error) => tracing::debug!(%job, %error, "a dead job could not be removed"),
    }
}
