//! Keeps the job's lease while the run goes on.

use std::time::{Duration, Instant};

use qa_shared::queue::{Lease, RenewError};
use tokio::sync::{mpsc, watch};

use crate::done::Done;

/// When the lease was last known to be ours: who acts for the job looks at it first. A process that was
/// paused wakes up believing that no time has passed.
#[derive(Debug, Clone)]
pub(crate) struct LeaseClock {
    renewed: watch::Receiver<Instant>,
    valid_for: Duration,
}

impl LeaseClock {
    /// A clock that begins now, and what sets it.
    pub(crate) fn new(valid_for: Duration) -> (watch::Sender<Instant>, Self) {
        let (sender, renewed) = watch::channel(Instant::now());
        (sender, Self { renewed, valid_for })
    }

    /// Completes at once while the lease is fresh, else when it is renewed; never if that will not be.
    pub(crate) async fn fresh(&mut self) {
        let valid_for = self.valid_for;
        if self.renewed.wait_for(|renewed| renewed.elapsed() < valid_for).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Renews until the driver is gone. A lease that expired while the queue server was away is taken again,
/// unless somebody else has it.
pub(crate) async fn keep_lease(
    mut lease: Lease,
    every: Duration,
    renewed: watch::Sender<Instant>,
    done: mpsc::Sender<Done>,
) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = done.closed() => break,
        }
        match lease.renew().await {
            Ok(()) => drop(renewed.send_replace(Instant::now())),
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

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_lease_that_was_not_renewed_in_time_holds_back_until_it_is() {
        let (renewed, mut clock) = LeaseClock::new(Duration::from_secs(30));
        assert!(clock.fresh().now_or_never().is_some());
        let long_ago = Instant::now().checked_sub(Duration::from_secs(31)).unwrap();
        renewed.send_replace(long_ago);
        assert!(clock.fresh().now_or_never().is_none());
        renewed.send_replace(Instant::now());
        assert!(clock.fresh().now_or_never().is_some());
        renewed.send_replace(long_ago);
        drop(renewed);
        assert!(clock.fresh().now_or_never().is_none(), "a lease that nobody renews any more stays stale");
    }
}
