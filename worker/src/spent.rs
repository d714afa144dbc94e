//! What tasks took: model calls, tokens, time. Also of tries that were handed back, which somebody paid for.
//!
//! It must not know what came of it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use qa_shared::model::{TaskKey, Usage};

/// Tasks that are remembered at most; those of long ago are not coming back here.
const MOST_TASKS: usize = 4096;

/// What a task took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// Model calls that count.
    pub attempts: u32,
    /// Tokens and time of the calls that were answered.
    pub usage: Usage,
}

impl Spent {
    /// Adds another try at the same task.
    pub fn add(&mut self, other: Self) {
        self.attempts = self.attempts.saturating_add(other.attempts);
        self.usage.add(other.usage);
    }
}

/// What tasks took in this process before they were handed back: the result of a later try tells it too.
#[derive(Debug, Default)]
pub(crate) struct SpentBefore(Mutex<HashMap<TaskKey, Spent>>);

impl SpentBefore {
    /// A try was handed back.
    pub(crate) fn keep(&self, key: &TaskKey, spent: Spent) {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spent != Spent::default() && (tasks.len() < MOST_TASKS || tasks.contains_key(key)) {
            tasks.entry(key.clone()).or_default().add(spent);
        }
    }

    /// A try came to a result: what the earlier ones took is told with it, once.
    pub(crate) fn take(&self, key: &TaskKey) -> Spent {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use qa_shared::model::{DocumentName, JobId};

    use super::*;

    #[test]
    fn earlier_tries_are_told_once() {
        let document = DocumentName::new("d").token();
        let key = TaskKey { job: JobId::from_random(1), document, chunk: 0, round: 1 };
        let usage = Usage { output_tokens: 5, ..Usage::default() };
        let before = SpentBefore::default();
        before.keep(&key, Spent { attempts: 1, usage });
        before.keep(&key, Spent { attempts: 2, usage });
        let taken = before.take(&key);
        assert_eq!((taken.attempts, taken.usage.output_tokens), (3, 10));
        assert_eq!(before.take(&key), Spent::default());
    }
}
