//! The job's entry in the queue, by which workers know what is wanted; written again while the run lasts.
//!
//! It must not decide when.

use std::sync::Arc;
use std::time::{Duration, Instant};

use qa_shared::clock;
use qa_shared::model::{JobEntry, TaskKey};
use qa_shared::queue::{Jobs, Queue, Renewal};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;

use crate::guard::LeaseClock;

/// Tasks in the entry that workers are to drop: the latest.
const MOST_DROPPED: usize = 128;
/// How long what is being written at the end of a run may take.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The entry, and who writes it at the moment.
pub(crate) struct Announcement {
    entry: watch::Sender<JobEntry>,
    /// One at a time, so that the last one that writes writes the newest.
    turn: Arc<Mutex<()>>,
    writing: JoinSet<()>,
    at: Instant,
}

impl Announcement {
    pub(crate) fn new(entry: JobEntry) -> Self {
        Self {
            entry: watch::Sender::new(entry),
            turn: Arc::default(),
            writing: JoinSet::new(),
            at: Instant::now(),
        }
    }

    /// How long ago it was written last, or was to be.
    pub(crate) fn age(&self) -> Duration {
        self.at.elapsed()
    }

    /// From the next time on, workers drop this task.
    pub(crate) fn add_dropped(&self, key: TaskKey) {
        self.entry.send_modify(|entry| {
            entry.dropped.push(key);
            entry.dropped.drain(..entry.dropped.len().saturating_sub(MOST_DROPPED));
        });
    }

    /// Writes the entry again, in the background. A queue server that lost its disk, or got an old one back, has
    /// forgotten the job, and without its entry no worker works for it.
    pub(crate) fn renew(&mut self, queue: &Queue, lease: &LeaseClock) {
        while self.writing.try_join_next().is_some() {}
        self.at = Instant::now();
        let (jobs, turn, entry) = (Jobs::new(queue), Arc::clone(&self.turn), self.entry.subscribe());
        let mut lease = lease.clone();
        self.writing.spawn(async move {
            let _turn = turn.lock().await;
            // Whoever has the lease by now says how the job stands.
            lease.fresh().await;
            let mut entry = entry.borrow().clone();
            entry.updated_at_ms = clock::unix_millis();
            match jobs.renew(&entry).await {
                Ok(Renewal::Restored) => tracing::warn!("the queue forgot the job, it is announced again"),
                Ok(Renewal::Renewed | Renewal::Cancelled) => {}
                Err(error) => tracing::debug!(%error, "the job is not announced yet"),
            }
        });
    }

    /// Nothing is written any more: the entry belongs to whoever concludes the run.
    pub(crate) async fn end(mut self) {
        let written = async { while self.writing.join_next().await.is_some() {} };
        drop(tokio::time::timeout(LAST_WORDS, written).await);
        self.writing.shutdown().await;
    }
}
