//! Tasks that are ordered and of which nobody knows yet whether the queue has them.
//!
//! An answer of the queue server may be lost with the server, while the task itself is stored and even done.
//! Such a task is not lost, and once its result is here it must not be published again: that would be paid
//! for twice. It must not know how tasks are published.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::core::TaskRef;

/// The set, shared by whoever orders, publishes, and receives results. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unconfirmed(Arc<Mutex<BTreeSet<TaskRef>>>);

impl Unconfirmed {
    fn tasks(&self) -> MutexGuard<'_, BTreeSet<TaskRef>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The task is ordered.
    pub(crate) fn add(&self, task: TaskRef) {
        self.tasks().insert(task);
    }

    /// The queue has it, or had it, or never will.
    pub(crate) fn settle(&self, task: TaskRef) {
        self.tasks().remove(&task);
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
