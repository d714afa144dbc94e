//! Keeps the job's lease while the run goes on.

use std::time::Duration;

use qa_shared::queue::{Lease, RenewError};
use tokio::sync::mpsc;

use crate::done::Done;

/// Renews until the driver is gone. A lease that expired while the queue server was away is taken again,
/// unless somebody else has it.
pub(crate) async fn keep_lease(mut lease: Lease, every: Duration, done: mpsc::Sender<Done>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = done.closed() => break,
        }
        match lease.renew().await {
            Ok(()) => {}
            Err(error @ RenewError::Lost { .. }) => {
                drop(done.send(Done::LeaseLost(error.to_string())).await);
                return;
            }
            Err(RenewError::Unknown(error)) => tracing::debug!(%error, "the lease could not be renewed yet"),
        }
    }
    if let Err(error) = lease.release().await {
        tracing::debug!(%error, "the lease was not given back; it expires");
    }
}
