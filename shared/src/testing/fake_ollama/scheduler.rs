//! One loaded model at a time with its slots, loads one after the other, a bounded queue only for those who
//! wait for a load.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedRwLockReadGuard, OwnedSemaphorePermit, RwLock, Semaphore};

use super::Shared;
use crate::testing::fake_server::{lock, pause};

/// What belongs to the loaded runner: another value makes a reload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Runner {
    pub(super) model: String,
    pub(super) num_ctx: u32,
    pub(super) shift: bool,
}

/// A place at the loaded model.
pub(super) struct Slot {
    /// How long the model was being loaded for it.
    pub(super) loading: Duration,
    _permit: OwnedSemaphorePermit,
    _use: OwnedRwLockReadGuard<()>,
}

/// The queue for loading is full.
pub(super) struct Busy;

#[derive(Debug, Default)]
pub(super) struct Scheduler {
    loaded: Mutex<Option<Loaded>>,
    loading: tokio::sync::Mutex<()>,
    waiting: AtomicUsize,
}

#[derive(Debug, Clone)]
struct Loaded {
    runner: Runner,
    slots: Arc<Semaphore>,
    /// Held by everyone who works with the model or waits for a slot; unloading waits for them.
    users: Arc<RwLock<()>>,
}

impl Scheduler {
    /// The runner in memory.
    pub(super) fn loaded(&self) -> Option<Runner> {
        lock(&self.loaded).as_ref().map(|loaded| loaded.runner.clone())
    }

    /// Loads the model where necessary and waits for a slot.
    pub(super) async fn slot(&self, wanted: &Runner, shared: &Shared) -> Result<Slot, Busy> {
        let mut loading = Duration::ZERO;
        loop {
            let current = lock(&self.loaded).clone();
            let Some(loaded) = current.filter(|loaded| loaded.runner == *wanted) else {
                let begun = Instant::now();
                self.load(wanted, shared).await?;
                loading += begun.elapsed();
                continue;
            };
            let used = Arc::clone(&loaded.users).read_owned().await;
            if self.loaded().as_ref() != Some(wanted) {
                continue;
            }
            if let Ok(permit) = Arc::clone(&loaded.slots).acquire_owned().await {
                return Ok(Slot { loading, _permit: permit, _use: used });
            }
        }
    }

    async fn load(&self, wanted: &Runner, shared: &Shared) -> Result<(), Busy> {
        let (max_queue, load_time, slots) = {
            let config = lock(&shared.config);
            (config.max_queue, config.load_time, config.slots)
        };
        let place = Place::take(&self.waiting);
        if place.others >= max_queue {
            return Err(Busy);
        }
        let _alone = self.loading.lock().await;
        if self.loaded().as_ref() == Some(wanted) {
            return Ok(());
        }
        let old = lock(&self.loaded).clone();
        if let Some(old) = old {
            drop(old.users.write().await);
        }
        *lock(&self.loaded) = None;
        shared.record.change(|stats| stats.loads_begun += 1);
        let mut load = Load { shared, complete: false };
        pause(load_time).await;
        load.complete = true;
        *lock(&self.loaded) = Some(Loaded {
            runner: wanted.clone(),
            slots: Arc::new(Semaphore::new(slots)),
            users: Arc::default(),
        });
        shared.record.change(|stats| stats.loads.push((wanted.model.clone(), wanted.num_ctx)));
        Ok(())
    }
}

/// A place in the queue for loading, given up when dropped.
struct Place<'a> {
    waiting: &'a AtomicUsize,
    others: usize,
}

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Self {
        Self { waiting, others: waiting.fetch_add(1, Ordering::SeqCst) }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A load in progress; a client that leaves ends it.
struct Load<'a> {
    shared: &'a Shared,
    complete: bool,
}

impl Drop for Load<'_> {
    fn drop(&mut self) {
        if !self.complete {
            self.shared.record.change(|stats| stats.loads_aborted += 1);
        }
    }
}
