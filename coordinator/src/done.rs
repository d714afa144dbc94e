//! What threads and tasks report to the driver.

use qa_shared::model::Failure;
use qa_shared::queue::{ReceivedResult, TopologyError};

use crate::core::{FileStatus, ReceiptId, TaskRef};
use crate::reconcile::Findings;
use crate::tail::Waiting;

/// Something that was under way has happened.
#[derive(Debug)]
pub(crate) enum Done {
    /// Results arrived.
    Received(Vec<ReceivedResult>),
    /// Journal entries are on disk: the messages, with their documents.
    Durable(Vec<(ReceiptId, u32)>),
    /// The beginnings of these rounds are on disk.
    Begun(Vec<TaskRef>),
    /// What waits; nothing where it could not be asked.
    Waiting(Option<Waiting>),
    /// A Q&A file was replaced.
    SnapshotWritten {
        /// The document.
        document: u32,
        /// The status that the file shows.
        status: FileStatus,
    },
    /// A document cannot go on.
    DocumentBroken {
        /// The document.
        document: u32,
        /// Why, and what to do.
        error: String,
    },
    /// A task can never be published.
    Unpublishable {
        /// The task.
        task: TaskRef,
        /// What its chunk fails with.
        failure: Failure,
    },
    /// The queue server has no room: for this task, or for what was tried.
    StoreFull {
        /// The task, which is not queued.
        task: Option<TaskRef>,
        /// The server's words.
        reason: String,
    },
    /// These tasks were taken back to make room.
    MadeRoom(Vec<TaskRef>),
    /// What the queue holds was compared with what was published, or could not be.
    Compared(Box<Result<Findings, TopologyError>>),
    /// After a stop: tasks that no worker will do, and nothing more will come.
    Drained(Vec<TaskRef>),
    /// Another coordinator has this job.
    LeaseLost(String),
    /// Files cannot be written; the run cannot go on.
    FilesFailed(String),
}
