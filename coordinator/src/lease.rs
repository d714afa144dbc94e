//! Becoming the one who consumes a job's results: waits for whoever has the lease, or takes over from the dead.

use std::time::Duration;

use qa_shared::console::Console;
use qa_shared::model::JobId;
use qa_shared::queue::{AcquireError, Lease, LeaseHolder, Queue};
use qa_shared::shutdown::Shutdown;

use crate::exit::ExitCode;
use crate::run_error::RunError;

/// The lease and its epoch. It is taken over at once from a holder on this host and directory: the directory's
/// lock proves that it is dead.
pub(crate) async fn acquire(
    queue: &Queue,
    job: &JobId,
    holder: LeaseHolder,
    console: &Console,
    shutdown: &Shutdown,
) -> Result<(Lease, u64), RunError> {
    let mut said = false;
    loop {
        let is_dead = |other: &LeaseHolder| other.host == holder.host && other.directory == holder.directory;
        match Lease::acquire(queue, job, holder.clone()).await {
            Ok(acquired) => return Ok((acquired.lease, acquired.epoch)),
            Err(AcquireError::HeldBy { holder: other, .. }) if is_dead(&other) => {
                let taken = Lease::take_over(queue, job, holder.clone(), &other).await;
                let taken = taken.map_err(RunError::queue)?;
                return Ok((taken.lease, taken.epoch));
            }
            Err(error @ AcquireError::HeldBy { .. }) => {
                if !said {
                    said = true;
                    console.say(&format!("waiting: {error}"));
                }
            }
            Err(error) => return Err(RunError::queue(error)),
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(2)) => {}
            () = shutdown.stopping() => {
                return Err(RunError::new(ExitCode::Interrupted, "stopped while waiting for the lease"));
            }
        }
    }
}
