//! How far a task has come in this process: what it took and the pairs that it has, also of tries that ended by
//! handing it back. Somebody paid for them, and the task may come again.
//!
//! It must not know what comes of it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use qa_shared::model::{Failure, Outcome, Pair, TaskKey, TaskResult, Usage};

/// Tasks that are remembered at most; the oldest are forgotten first, they were finished elsewhere.
const MOST_TASKS: usize = 4096;

/// What a task took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// Model calls that count.
    pub attempts: u32,
    /// Tokens and time of the calls that were answered, or paid for without an answer.
    pub usage: Usage,
}

/// How far a task has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskProgress {
    /// What it took.
    pub spent: Spent,
    /// Its valid pairs.
    pub pairs: Vec<Pair>,
    /// Tries that ended because the server failed, while it answered others.
    pub faults: u32,
}

impl TaskProgress {
    /// What it comes to where nothing more will come: its pairs, or the failure.
    pub(crate) fn outcome_or(&self, failure: Failure) -> Outcome {
        if self.pairs.is_empty() {
            Outcome::Failed { failure }
        } else {
            Outcome::Completed { pairs: self.pairs.clone() }
        }
    }

    /// How far the task of a result had come, which could not be stored.
    pub(crate) fn of(result: &TaskResult) -> Self {
        let pairs = match &result.outcome {
            Outcome::Completed { pairs } => pairs.clone(),
            Outcome::Failed { .. } => Vec::new(),
        };
        Self { spent: Spent { attempts: result.attempts, usage: result.usage }, pairs, faults: 0 }
    }
}

/// Tasks that were begun here and handed back.
#[derive(Debug, Default)]
pub(crate) struct UnfinishedTasks(Mutex<Memory>);

#[derive(Debug, Default)]
struct Memory {
    tasks: HashMap<TaskKey, TaskProgress>,
    oldest_first: VecDeque<TaskKey>,
}

impl UnfinishedTasks {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A task is handed back.
    pub(crate) fn keep(&self, key: &TaskKey, progress: TaskProgress) {
        if progress == TaskProgress::default() {
            return;
        }
        let mut memory = self.memory();
        memory.tasks.insert(key.clone(), progress);
        memory.oldest_first.push_back(key.clone());
        while memory.oldest_first.len() > MOST_TASKS {
            if let Some(oldest) = memory.oldest_first.pop_front() {
                memory.tasks.remove(&oldest);
            }
        }
    }

    /// A task is here again, or for the first time.
    pub(crate) fn take(&self, key: &TaskKey) -> TaskProgress {
        let mut memory = self.memory();
        let progress = memory.tasks.remove(key);
        if progress.is_some() {
            memory.oldest_first.retain(|other| other != key);
        }
        progress.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use qa_shared::model::{DocumentName, JobId};

    use super::*;

    fn key(chunk: u32) -> TaskKey {
        let document = DocumentName::new("d").token();
        TaskKey { job: JobId::from_random(1), document, chunk, round: 1 }
    }

    fn spent(attempts: u32) -> TaskProgress {
        TaskProgress { spent: Spent { attempts, ..Spent::default() }, ..TaskProgress::default() }
    }

    #[test]
    fn progress_is_given_out_once() {
        let tasks = UnfinishedTasks::default();
        tasks.keep(&key(1), spent(2));
        assert_eq!(tasks.take(&key(1)), spent(2));
        assert_eq!(tasks.take(&key(1)), TaskProgress::default());
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let tasks = UnfinishedTasks::default();
        for chunk in 0..=4096 {
            tasks.keep(&key(chunk), spent(1));
        }
        assert_eq!(tasks.take(&key(0)), TaskProgress::default());
        assert_eq!((tasks.take(&key(1)), tasks.take(&key(4096))), (spent(1), spent(1)));
    }
}
