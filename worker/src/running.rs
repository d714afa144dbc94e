//! What an LLM server works on and for how long, and how long it usually takes for a chunk.
//!
//! It must not know what a task is about. What follows from it is decided by the coordinator.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use qa_shared::model::{RunningTask, TaskKey};
use tokio::time::Instant;

use crate::written::Counter;

/// Tasks in a heartbeat, at most.
const MOST_TOLD: usize = 64;
/// The latest of so many chunks say how long one usually takes.
const REMEMBERED: usize = 15;
/// A task that has taken so many times as long as usual is news.
const OVERDUE: u32 = 2;
/// And at least this long.
const OVERDUE_FROM: Duration = Duration::from_secs(1);

/// The tasks of one server.
#[derive(Debug, Default)]
pub(crate) struct Running(Mutex<Tasks>);

#[derive(Debug, Default)]
struct Tasks {
    running: BTreeMap<TaskKey, InWork>,
    recent: VecDeque<Duration>,
}

#[derive(Debug)]
struct InWork {
    since: Instant,
    written: Counter,
}

impl Tasks {
    fn typical(&self) -> Option<Duration> {
        let mut recent: Vec<_> = self.recent.iter().copied().collect();
        recent.sort_unstable();
        recent.get(recent.len() / 2).copied()
    }
}

impl Running {
    fn tasks(&self) -> MutexGuard<'_, Tasks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A task is worked on until the guard is dropped.
    pub(crate) fn begin(&self, key: &TaskKey) -> Begun<'_> {
        let written = Counter::default();
        let in_work = InWork { since: Instant::now(), written: written.clone() };
        self.tasks().running.insert(key.clone(), in_work);
        Begun { running: self, key: key.clone(), written }
    }

    /// Whether another round of this task's chunk is worked on.
    pub(crate) fn has_other_round(&self, key: &TaskKey) -> bool {
        self.tasks().running.keys().any(|running| {
            running.round != key.round && TaskKey { round: key.round, ..running.clone() } == *key
        })
    }

    /// A chunk was answered in this time.
    pub(crate) fn answered(&self, took: Duration) {
        let mut tasks = self.tasks();
        tasks.recent.push_back(took);
        if tasks.recent.len() > REMEMBERED {
            tasks.recent.pop_front();
        }
    }

    /// How long a chunk usually takes: the median of the latest; nothing before the first.
    pub(crate) fn typical(&self) -> Option<Duration> {
        self.tasks().typical()
    }

    /// How many tasks take much longer than usual.
    pub(crate) fn overdue(&self) -> usize {
        let tasks = self.tasks();
        let Some(typical) = tasks.typical() else { return 0 };
        let limit = (typical * OVERDUE).max(OVERDUE_FROM);
        tasks.running.values().filter(|task| task.since.elapsed() >= limit).count()
    }

    /// Tokens of all answers that are being written.
    pub(crate) fn tokens(&self) -> u64 {
        self.tasks().running.values().map(|task| task.written.tokens()).sum()
    }

    /// The heartbeat's part about it: the longest first.
    pub(crate) fn told(&self) -> Vec<RunningTask> {
        let tasks = self.tasks();
        let mut told: Vec<_> = tasks
            .running
            .iter()
            .map(|(key, task)| RunningTask {
                key: key.clone(),
                for_ms: u64::try_from(task.since.elapsed().as_millis()).unwrap_or(u64::MAX),
                tokens: task.written.tokens(),
            })
            .collect();
        told.sort_by_key(|task| std::cmp::Reverse(task.for_ms));
        told.truncate(MOST_TOLD);
        told
    }
}

/// A task is worked on until this is dropped.
#[derive(Debug)]
#[must_use = "the task counts as ended when this is dropped"]
pub(crate) struct Begun<'a> {
    running: &'a Running,
    key: TaskKey,
    written: Counter,
}

impl Begun<'_> {
    /// Counts the tokens of its answer.
    pub(crate) fn counter(&self) -> Counter {
        self.written.clone()
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.running.tasks().running.remove(&self.key);
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

    #[tokio::test(start_paused = true)]
    async fn what_runs_is_told_with_its_age_until_it_ends() {
        let running = Running::default();
        let old = running.begin(&key(1));
        tokio::time::advance(Duration::from_secs(3)).await;
        let young = running.begin(&key(0));
        let told = |running: &Running| {
            running.told().into_iter().map(|task| (task.key.chunk, task.for_ms)).collect::<Vec<_>>()
        };
        assert_eq!(told(&running), [(1, 3000), (0, 0)]);
        let second = TaskKey { round: 2, ..key(1) };
        assert!(running.has_other_round(&second) && !running.has_other_round(&key(1)));
        drop(old);
        assert!(!running.has_other_round(&second));
        assert_eq!(told(&running), [(0, 0)]);
        drop(young);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_is_overdue_at_twice_the_usual_time() {
        let running = Running::default();
        let _task = running.begin(&key(1));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(running.overdue(), 0, "nobody knows what is usual");
        for seconds in [29, 300, 31] {
            running.answered(Duration::from_secs(seconds));
        }
        assert_eq!(running.typical(), Some(Duration::from_secs(31)));
        assert_eq!(running.overdue(), 0);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(running.overdue(), 1);
    }
}
