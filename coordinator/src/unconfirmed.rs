//! Tasks that are ordered and of which nobody knows yet whether the queue has them.
//!
//! An answer of the queue server may be lost with the server, while the task itself is stored and even done.
//! Such a task is not lost, and once its result is here it must not be published again: that would be paid
//! for twice. It must not know how tasks are published.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::core::TaskRef;

/// The set, shared by whoever orders, publishes, and receives results. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unconfirmed(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    tasks: Mutex<BTreeSet<TaskRef>>,
    stored: AtomicU64,
}

impl Unconfirmed {
    fn tasks(&self) -> MutexGuard<'_, BTreeSet<TaskRef>> {
        self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The task is ordered.
    pub(crate) fn add(&self, task: TaskRef) {
        self.tasks().insert(task);
    }

    /// The queue has it, or had it, or never will.
    pub(crate) fn settle(&self, task: TaskRef) {
        self.tasks().remove(&task);
    }

    /// The queue has confirmed one.
    pub(crate) fn count_stored(&self) {
        self.0.stored.fetch_add(1, Ordering::Relaxed);
    }

    /// How many the queue has confirmed so far.
    pub(crate) fn stored(&self) -> u64 {
        self.0.stored.load(Ordering::Relaxed)
    }

    /// Whether nothing is being published.
    pub(crate) fn is_empty(&self) -> bool {
        self.tasks().is_empty()
    }

    /// Whether publishing it is still under way and wanted.
    pub(crate) fn contains(&self, task: TaskRef) -> bool {
        self.tasks().contains(&task)
    }
}
