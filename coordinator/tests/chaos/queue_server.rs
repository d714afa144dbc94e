//! The queue server of a fleet, and the networks to it: how it is harmed and healed.

use qa_shared::testing::TestNats;

use crate::processes::signal;
use crate::proxy::Proxy;

/// The queue server of a fleet.
pub(crate) struct QueueServer {
    pub(crate) nats: TestNats,
    is_up: bool,
    lost: bool,
    pub(crate) coordinator: Proxy,
    pub(crate) workers: Vec<Proxy>,
}

impl QueueServer {
    /// With a way for the coordinator and one for each worker.
    pub(crate) async fn for_workers(worker_count: usize) -> Self {
        let nats = TestNats::start().await;
        let mut workers = Vec::new();
        for _ in 0..worker_count {
            workers.push(Proxy::to(&nats.url()).await);
        }
        let coordinator = Proxy::to(&nats.url()).await;
        Self { nats, is_up: true, lost: false, coordinator, workers }
    }

    /// Copies its store as it is at this moment, whatever is being written.
    pub(crate) fn copy_store(&mut self) -> bool {
        if self.is_up {
            signal(self.nats.pid(), "STOP");
            self.nats.copy_store();
            signal(self.nats.pid(), "CONT");
        }
        self.is_up
    }

    /// Kills it; it will come back with the store that was copied.
    pub(crate) fn set_back(&mut self) {
        self.kill(false);
        self.nats.set_store_back();
    }

    /// Whether that took something away: a server that is down can still lose its store.
    pub(crate) fn kill(&mut self, and_lose_the_store: bool) -> bool {
        let loses = and_lose_the_store && !self.lost;
        self.lost |= and_lose_the_store;
        self.nats.kill();
        std::mem::replace(&mut self.is_up, false) || loses
    }

    pub(crate) async fn start(&mut self) {
        if !std::mem::replace(&mut self.is_up, true) {
            if std::mem::take(&mut self.lost) {
                self.nats.wipe_and_restart().await;
            } else {
                self.nats.restart().await;
            }
        }
    }

    pub(crate) fn signal(&self, name: &str) -> bool {
        if self.is_up {
            signal(self.nats.pid(), name);
        }
        self.is_up
    }
}
