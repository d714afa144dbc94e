//! What the core is told and what it asks for.

use qa_shared::model::{FailureReason, TextHash, Usage};

use super::FileStatus;

/// One task: a chunk of a document in a round. `document` is the position in the job's sorted documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskRef {
    /// The document's position in the job.
    pub document: u32,
    /// The chunk's position in the document.
    pub chunk: u32,
    /// Which try this is.
    pub round: u32,
}

/// The driver's name for a received message that waits for its fate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReceiptId(pub u64);

/// What a result says, without the pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResultFact {
    /// What it is a result of.
    pub task: TaskRef,
    /// The text that was asked about; absent where the worker could not read the task.
    pub text_hash: Option<TextHash>,
    /// Pairs or failure.
    pub verdict: Verdict,
    /// Pairs asked for.
    pub asked: u32,
    /// Model calls made.
    pub attempts: u32,
    /// Tokens and time.
    pub usage: Usage,
    /// Whether it was made while this run was there to stop it: others do not count for the failure rate.
    pub is_of_this_run: bool,
}

/// Pairs or failure, in figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// This many pairs, at least one.
    Completed {
        /// Number of pairs.
        got: u32,
    },
    /// No pairs.
    Failed {
        /// The kind of failure.
        reason: FailureReason,
    },
}

/// Why a run stops before everything is accounted for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopCause {
    /// A signal, or Ctrl-C.
    Signal,
    /// `cancel` from anywhere.
    Cancelled,
    /// Too many chunks failed; the text gives the figures.
    FailureRate(String),
    /// `--max-cost` or `--max-tokens-total`: the text gives the figures.
    Budget(String),
    /// `--detach`: the fleet goes on without this coordinator.
    Detached,
    /// No LLM server can serve, for reasons that stay; the text gives them.
    NoServer(String),
    /// The queue server's store is full, and nothing of this job's is left that would make room; the text gives the
    /// limit and what to do.
    StoreFull(String),
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The plan is loaded, the journal replayed: begin.
    Start,
    /// A result arrived.
    Result {
        /// What it says.
        fact: ResultFact,
        /// The message to record and ack.
        receipt: ReceiptId,
    },
    /// These results are in the journal, on disk.
    Durable {
        /// Their messages and documents.
        results: Vec<(ReceiptId, u32)>,
    },
    /// A Q&A file was replaced, as [`Effect::Snapshot`] asked; it holds every result that was durable then.
    SnapshotWritten {
        /// The document.
        document: u32,
        /// The status that the file now shows.
        status: FileStatus,
    },
    /// A document cannot go on, for example because its chunk file was edited during the run.
    DocumentBroken {
        /// The document.
        document: u32,
        /// What is wrong and what to do.
        error: String,
    },
    /// This many tasks may be out at once from now on.
    Window(u32),
    /// This many bytes of tasks may be out at once from now on; one task always may.
    MostBytes(u64),
    /// These tasks are not queued: there was no room for them, or they were taken back to make room.
    TakenBack(Vec<TaskRef>),
    /// The queue holds these tasks of ours already.
    AlreadyQueued(Vec<TaskRef>),
    /// These tasks are neither queued nor answered: the queue lost them.
    Lost(Vec<TaskRef>),
    /// These tasks were delivered and are neither worked on nor delivered again; they were removed from the
    /// queue. Each chunk gets a new round.
    Withheld(Vec<TaskRef>),
    /// These tasks seem stuck while slots are free: let each have a second round beside it, as far as that is
    /// allowed.
    Speculate(Vec<TaskRef>),
    /// The beginning of these rounds is in the journal, on disk.
    Begun(Vec<TaskRef>),
    /// Stop, for this reason.
    Stop(StopCause),
    /// After a stop: queued tasks are taken back, and every result that will still come has come.
    Drained {
        /// Tasks that no worker has or will have.
        taken_back: Vec<TaskRef>,
    },
}

/// What is to be done. The driver performs effects in order.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub enum Effect {
    /// Publish this task; again if need be, until the queue has it.
    Publish(TaskRef),
    /// Append to the journal that this round begins; [`Event::Begun`] follows.
    Begin(TaskRef),
    /// Nobody waits for this task any more: take it back, or have its worker drop it.
    Withdraw(TaskRef),
    /// Append this result to the journal; [`Event::Durable`] follows.
    Record(ReceiptId),
    /// This result changes nothing but the account: have that written; [`Event::Durable`] follows.
    Account(ReceiptId),
    /// The message has had its effect, or will never have one: ack it.
    Ack(ReceiptId),
    /// Replace the document's Q&A file by one that holds everything journalled so far.
    Snapshot {
        /// The document.
        document: u32,
        /// The status to write.
        status: FileStatus,
    },
    /// Publishing has ended: take queued tasks back, let running ones end as the mode demands, then report
    /// [`Event::Drained`].
    TakeBack(StopCause),
    /// The message is about a result that is on its way to the disk: leave it to be delivered again, since an
    /// ack now would be one before the result is durable.
    Leave(ReceiptId),
    /// The run is over. Emitted once.
    Finish(Finish),
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finish {
    /// Every chunk of every document is accounted for.
    Complete,
    /// The sample is done.
    Sampled,
    /// Stopped before the end; everything received is in the files.
    Stopped(StopCause),
}

/// What became of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It changed the chunk's state.
    Accepted,
    /// The chunk was accounted for already.
    Duplicate,
    /// A failure of an earlier round: a newer try is under way.
    OldRound,
    /// It is about a text that the chunk no longer has.
    OtherText,
    /// There is no such document or chunk in this job.
    Unknown,
}
