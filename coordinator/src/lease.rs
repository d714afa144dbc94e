//! Becoming the one who consumes a job's results: waits for whoever has the lease, or takes over from the dead.

use std::time::Duration;

use qa_shared::console::Console;
use qa_shared::model::JobId;
use qa_shared::queue::{AcquireError, Lease, LeaseHolder, Queue, RenewError};
use qa_shared::shutdown::Shutdown;

use crate::exit::ExitCode;
use crate::format;
use crate::run_error::RunError;

/// How often a lease that another one has is looked at.
const LOOK: Duration = Duration::from_secs(2);

/// The lease of a job, taken by this process.
pub(crate) struct Taken {
    pub(crate) job: JobId,
    pub(crate) lease: Lease,
    pub(crate) epoch: u64,
}

/// The lease and its epoch. It is taken over at once from a holder of the very lock that this process has now: that one
/// is dead. From any other it is taken once it has expired.
pub(crate) async fn acquire(
    queue: &Queue,
    job: &JobId,
    holder: LeaseHolder,
    console: &Console,
    shutdown: &Shutdown,
) -> Result<Taken, RunError> {
    let taken = |lease, epoch| Taken { job: job.clone(), lease, epoch };
    let mut said = false;
    loop {
        match Lease::acquire(queue, job, holder.clone()).await {
            Ok(acquired) => return Ok(taken(acquired.lease, acquired.epoch)),
            Err(AcquireError::HeldBy { holder: other, .. }) if holder.outlives(&other) => {
                let acquired = Lease::take_over(queue, job, holder.clone(), &other).await;
                let acquired = acquired.map_err(RunError::queue)?;
                return Ok(taken(acquired.lease, acquired.epoch));
            }
            Err(error @ AcquireError::HeldBy { .. }) => {
                if !said {
                    said = true;
                    let age = format::duration(queue.timing().presence_age.as_secs_f64());
                    console.say(&format!(
                        "waiting: {error}\n  it expires {age} after the last sign of life; a copy of an output \
                         directory has the job of the original: remove .qa-fleet in the copy for a job of its own"
                    ));
                }
            }
            Err(error) => return Err(RunError::queue(error)),
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = shutdown.stopping() => {
                return Err(RunError::new(ExitCode::Interrupted, "stopped while waiting for the lease"));
            }
        }
    }
}

impl Taken {
    /// Keeps the lease while something else is done; an error if another process takes it meanwhile.
    pub(crate) async fn kept_during<T>(
        &mut self,
        queue: &Queue,
        work: impl Future<Output = Result<T, RunError>>,
    ) -> Result<T, RunError> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep(queue.timing().renewal()) => match self.lease.renew().await {
                    Ok(()) => {}
                    Err(error @ RenewError::Lost { .. }) => return Err(RunError::queue(error)),
                    Err(RenewError::Unknown(error)) => {
                        tracing::debug!(%error, "the lease could not be renewed yet");
                    }
                }
            }
        }
    }

    /// Gives it back; one that cannot be given back expires.
    pub(crate) async fn release(self) {
        if let Err(error) = self.lease.release().await {
            tracing::debug!(%error, "the lease was not given back; it expires");
        }
    }
}
