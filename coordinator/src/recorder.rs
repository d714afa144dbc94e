//! The thread that owns the journal: appends results, makes them durable in groups, at most once a second, except
//! where somebody waits for that: the beginning of a round, the last results.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use qa_shared::failpoint::{CrashPoint, Mistake, crash, lag_if};
use qa_shared::model::{DocumentName, JobId, UnusableAnswer};
use qa_shared::telemetry::instruments::{JOURNAL_BYTES, JOURNAL_SYNC};
use tokio::sync::mpsc;

use crate::core::{ReceiptId, Spent, TaskRef};
use crate::done::Done;
use crate::files::{
    Entry, EntryLocation, EventLog, FailureLine, FailureLog, JobFolder, Journal, JournalError,
};
use crate::happening::Happening;
use crate::snapshots::SnapshotCommand;
use crate::view::View;

/// Groups for which nobody waits are made durable at most this often.
const GROUP: Duration = Duration::from_secs(1);

/// A result on its way into the journal.
#[derive(Debug)]
pub(crate) struct Recording {
    pub(crate) receipt: ReceiptId,
    pub(crate) document: u32,
    pub(crate) chunk: u32,
    pub(crate) entry: Entry,
    pub(crate) unusable: Vec<UnusableAnswer>,
}

/// What the recorder is asked to do.
#[derive(Debug)]
pub(crate) enum RecorderCommand {
    Record(Box<Recording>),
    /// A round of this chunk begins; to be on disk soon, since somebody waits to publish it.
    Begin {
        task: TaskRef,
        document: DocumentName,
    },
    /// Nothing more is awaited: make durable what there is, without waiting for a group to fill.
    Flush,
    Release(Vec<EntryLocation>),
    /// The job's account: on disk before any result that is recorded after it.
    Spent(Box<Spent>),
    /// Tell when the account is on disk that came before this; the message is about no chunk.
    Account(ReceiptId),
    /// Something for the event log.
    Event(Box<Happening>),
    /// The figures for `status`.
    Progress(Box<View>),
    /// Nothing more will come: remove what is not needed and end.
    Close,
}

pub(crate) struct Recorder {
    pub(crate) journal: Journal,
    pub(crate) failure_log: FailureLog,
    pub(crate) event_log: EventLog,
    pub(crate) folder: JobFolder,
    pub(crate) job: JobId,
    pub(crate) commands: Receiver<RecorderCommand>,
    pub(crate) snapshots: Sender<SnapshotCommand>,
    pub(crate) done: mpsc::Sender<Done>,
}

/// What is not on disk yet.
#[derive(Default)]
pub(crate) struct Unsynced {
    results: Vec<Appended>,
    begun: Vec<TaskRef>,
    spent: Option<Box<Spent>>,
    /// Messages whose results are in the account only.
    accounted: Vec<ReceiptId>,
}

struct Appended {
    receipt: ReceiptId,
    document: u32,
    chunk: u32,
    location: EntryLocation,
}

impl Unsynced {
    fn is_empty(&self) -> bool {
        self.results.is_empty() && self.begun.is_empty() && self.spent.is_none() && self.accounted.is_empty()
    }
}

impl Recorder {
    /// Works until it is closed, or until the journal cannot be written.
    pub(crate) fn run(mut self) {
        if let Err(error) = self.serve() {
            if let JournalError::File(file) = &error
                && file.is_full()
            {
                self.note(&Happening::DiskFull { problem: file.to_string() });
            }
            if self.done.blocking_send(Done::FilesFailed(error.to_string())).is_err() {
                // The run is over, and all that it needs was on the disk before.
                tracing::warn!(%error, "the journal could not be closed: the next --resume tidies it up");
            }
        }
    }

    fn serve(&mut self) -> Result<(), JournalError> {
        let mut unsynced = Unsynced::default();
        let mut last_sync: Option<Instant> = None;
        let mut waiting_since = Instant::now();
        let mut is_urgent = false;
        loop {
            // Also while results keep coming.
            if !unsynced.is_empty() && waiting_since.elapsed() >= GROUP {
                self.sync(&mut unsynced)?;
                last_sync = Some(Instant::now());
                is_urgent = false;
            }
            let due = match last_sync {
                Some(last) if !is_urgent => GROUP.saturating_sub(last.elapsed()),
                Some(_) | None => Duration::ZERO,
            };
            let command = if unsynced.is_empty() {
                self.commands.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                self.commands.recv_timeout(due)
            };
            match command {
                Err(RecvTimeoutError::Timeout) => {
                    self.sync(&mut unsynced)?;
                    last_sync = Some(Instant::now());
                    is_urgent = false;
                }
                Ok(RecorderCommand::Close) | Err(RecvTimeoutError::Disconnected) => {
                    self.sync(&mut unsynced)?;
                    self.journal.tidy()?;
                    return Ok(());
                }
                Ok(command) => {
                    if unsynced.is_empty() {
                        waiting_since = Instant::now();
                    }
                    is_urgent |= matches!(command, RecorderCommand::Begin { .. } | RecorderCommand::Flush);
                    self.handle(command, &mut unsynced)?;
                }
            }
        }
    }

    /// Does what needs no clock.
    pub(crate) fn handle(
        &mut self,
        command: RecorderCommand,
        unsynced: &mut Unsynced,
    ) -> Result<(), JournalError> {
        match command {
            RecorderCommand::Record(recording) => unsynced.results.push(self.append(*recording)?),
            RecorderCommand::Begin { task, document } => {
                self.begin(task, document)?;
                unsynced.begun.push(task);
            }
            RecorderCommand::Spent(spent) => unsynced.spent = Some(spent),
            RecorderCommand::Account(receipt) => unsynced.accounted.push(receipt),
            RecorderCommand::Release(covered) => drop(self.journal.release(&covered)?),
            RecorderCommand::Event(happening) => self.note(&happening),
            RecorderCommand::Progress(view) => {
                if let Err(error) = self.folder.save_progress(&*view) {
                    tracing::debug!(%error, "progress was not saved");
                }
            }
            RecorderCommand::Flush | RecorderCommand::Close => {}
        }
        Ok(())
    }

    /// A log that cannot be written must not stop the run.
    fn note(&mut self, happening: &Happening) {
        if let Err(error) = self.event_log.append(happening) {
            tracing::debug!(%error, "the event log could not be written");
        }
    }

    fn append(&mut self, recording: Recording) -> Result<Appended, JournalError> {
        let Recording { receipt, document, chunk, entry, unusable } = recording;
        lag_if(Mistake::AckBeforeJournal);
        let location = self.journal.append(&entry)?;
        JOURNAL_BYTES.add(u64::from(location.len) + 1, Vec::new);
        crash(CrashPoint::EntryAppended);
        if let Entry::Result { document, record, .. } = &entry {
            for answer in &unusable {
                let line = FailureLine {
                    at: record.completed_at.as_deref().unwrap_or_default(),
                    document,
                    chunk: record.chunk,
                    round: record.round,
                    attempt: answer.attempt,
                    reason: &answer.reason,
                    answer: &answer.answer,
                    model: record.model.as_deref().unwrap_or_default(),
                    server: record.server.as_deref().unwrap_or_default(),
                    host: record.host.as_deref().unwrap_or_default(),
                    trace_id: record.trace_id.clone().unwrap_or_default(),
                };
                if let Err(error) = self.failure_log.append(&line) {
                    tracing::warn!(%error, "the failure log could not be written");
                }
            }
        }
        Ok(Appended { receipt, document, chunk, location })
    }

    fn begin(&mut self, task: TaskRef, document: DocumentName) -> Result<(), JournalError> {
        let entry = Entry::Rounds { document, chunks: vec![task.chunk], round: task.round };
        let location = self.journal.append(&entry)?;
        JOURNAL_BYTES.add(u64::from(location.len) + 1, Vec::new);
        crash(CrashPoint::RoundsAppended);
        // Before any result of the chunk: the snapshot that settles its document releases it.
        drop(self.snapshots.send(SnapshotCommand::Round { document: task.document, location }));
        Ok(())
    }

    /// Makes everything durable and tells.
    pub(crate) fn sync(&mut self, unsynced: &mut Unsynced) -> Result<(), JournalError> {
        if let Some(spent) = unsynced.spent.take() {
            self.folder.save_spent(&self.job, &spent)?;
            crash(CrashPoint::SpentSaved);
        }
        let mut results: Vec<_> = unsynced.accounted.drain(..).map(|receipt| (receipt, u32::MAX)).collect();
        if !unsynced.results.is_empty() || !unsynced.begun.is_empty() {
            let begun = Instant::now();
            self.journal.sync()?;
            JOURNAL_SYNC.record(begun.elapsed().as_secs_f64(), Vec::new);
            crash(CrashPoint::JournalSynced);
        }
        if !unsynced.begun.is_empty() {
            crash(CrashPoint::RoundsSynced);
            drop(self.done.blocking_send(Done::Begun(std::mem::take(&mut unsynced.begun))));
        }
        for Appended { receipt, document, chunk, location } in unsynced.results.drain(..) {
            // Before the driver hears of it: a snapshot that it asks for then holds this result.
            drop(self.snapshots.send(SnapshotCommand::Place { document, chunk, location }));
            results.push((receipt, document));
        }
        if !results.is_empty() {
            drop(self.done.blocking_send(Done::Durable(results)));
        }
        Ok(())
    }
}
