//! Tells the fleet that this worker lives, and what it has.

use std::collections::BTreeSet;
use std::sync::Arc;

use qa_shared::model::WorkerPresence;
use qa_shared::queue::{Presence, Queue};
use qa_shared::shutdown::Shutdown;
use tokio::sync::watch;

use crate::assigner::Assignment;
use crate::driver::WorkerSetup;

/// Announces until the stop has been asked for and every server is idle, then says goodbye.
pub(crate) async fn run(
    setup: Arc<WorkerSetup>,
    queue: Queue,
    mut assignments: Vec<watch::Receiver<Option<Assignment>>>,
    shutdown: Shutdown,
) {
    let presence = Presence::new(&queue);
    let every = queue.timing().renewal();
    let is_busy = || setup.servers.iter().any(|server| server.busy() > 0);
    loop {
        let draining = shutdown.is_stopping();
        if draining && !is_busy() {
            break;
        }
        let announced = presence.announce(&describe(&setup, &assignments, draining)).await;
        if let Err(error) = announced {
            tracing::debug!(%error, "heartbeat was not stored");
        }
        let news =
            futures_util::future::select_all(assignments.iter_mut().map(|one| Box::pin(one.changed())));
        let idle = async {
            while is_busy() {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        };
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            (changed, ..) = news, if !draining => drop(changed),
            () = shutdown.stopping(), if !draining => {}
            () = idle, if draining => {}
        }
    }
    if let Err(error) = presence.withdraw(&setup.instance).await {
        tracing::debug!(%error, "could not say goodbye");
    }
}

fn describe(
    setup: &WorkerSetup,
    assignments: &[watch::Receiver<Option<Assignment>>],
    draining: bool,
) -> WorkerPresence {
    let pools: BTreeSet<_> = assignments
        .iter()
        .filter_map(|assignment| assignment.borrow().as_ref().map(|assignment| assignment.pool.clone()))
        .collect();
    WorkerPresence {
        instance: setup.instance.clone(),
        host: setup.host.clone(),
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        servers: setup.servers.iter().map(|server| server.presence()).collect(),
        pools: pools.into_iter().collect(),
        named_pools: setup.restrictions.pools.clone(),
        draining,
    }
}
