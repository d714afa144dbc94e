//! The thread that replaces Q&A files, each by one that holds everything journalled so far.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Instant;

use qa_shared::failpoint::{CrashPoint, crash};
use qa_shared::model_table::ModelTable;
use qa_shared::telemetry::instruments::{SNAPSHOT_BYTES, SNAPSHOT_TIME};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::core::FileStatus;
use crate::done::Done;
use crate::files::{
    ChunkFile, ChunkFileError, ChunkSource, EntryLocation, Finished, FinishedChunk, JournalReader, QaSource,
    Snapshot, SnapshotError, now, write_snapshot,
};
use crate::happening::Happening;
use crate::recorder::RecorderCommand;

/// What it takes to write one document's Q&A file.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) target: PathBuf,
    pub(crate) chunk_file: Arc<ChunkFile>,
    /// By the chunks' positions; empty as long as nothing has come.
    pub(crate) sources: Vec<ChunkSource>,
    pub(crate) previous: Option<Box<QaSource>>,
    pub(crate) generation_info: Arc<Value>,
    /// Where the file that stands there is kept before it is replaced for the first time, if it must be.
    pub(crate) keep_previous_in: Option<PathBuf>,
    /// Journalled beginnings of rounds; needed until every chunk is accounted for.
    pub(crate) rounds: Vec<EntryLocation>,
}

impl Desk {
    /// Notes where a chunk's outcome is, and gives the place that it takes the place of.
    pub(crate) fn place(&mut self, chunk: u32, source: ChunkSource) -> ChunkSource {
        if self.sources.is_empty() {
            self.sources = vec![ChunkSource::Outstanding; self.chunk_file.chunks.len()];
        }
        let place = self.sources.get_mut(chunk as usize);
        place.map_or(ChunkSource::Outstanding, |place| std::mem::replace(place, source))
    }
}

/// What the snapshot thread is asked to do.
#[derive(Debug)]
pub(crate) enum SnapshotCommand {
    /// This result of a chunk is in the journal.
    Place { document: u32, chunk: u32, location: EntryLocation },
    /// The beginning of a round of a chunk is in the journal.
    Round { document: u32, location: EntryLocation },
    /// Replace the document's file.
    Write { document: u32, status: FileStatus },
    /// Nothing more will come.
    Close,
}

pub(crate) struct Snapshots {
    /// By the documents' positions; none for a document that cannot be processed.
    pub(crate) desks: Vec<Option<Box<Desk>>>,
    /// What results cost.
    pub(crate) models: Arc<ModelTable>,
    pub(crate) journal: JournalReader,
    pub(crate) commands: Receiver<SnapshotCommand>,
    pub(crate) recorder: Sender<RecorderCommand>,
    pub(crate) done: mpsc::Sender<Done>,
}

impl Snapshots {
    /// Works until it is closed.
    pub(crate) fn run(mut self) {
        while let Ok(command) = self.commands.recv() {
            if matches!(command, SnapshotCommand::Close) {
                return;
            }
            self.handle(&command);
        }
    }

    /// Does one command.
    pub(crate) fn handle(&mut self, command: &SnapshotCommand) {
        match *command {
            SnapshotCommand::Place { document, chunk, location } => self.place(document, chunk, location),
            SnapshotCommand::Round { document, location } => match self.desks.get_mut(document as usize) {
                Some(Some(desk)) => desk.rounds.push(location),
                Some(None) | None => drop(self.recorder.send(RecorderCommand::Release(vec![location]))),
            },
            SnapshotCommand::Write { document, status } => {
                let done = self.write(document, status);
                drop(self.done.blocking_send(done));
            }
            SnapshotCommand::Close => {}
        }
    }

    fn place(&mut self, document: u32, chunk: u32, location: EntryLocation) {
        let Some(Some(desk)) = self.desks.get_mut(document as usize) else { return };
        // A success after a failure: the failure's entry is not needed any more.
        if let ChunkSource::Journal(replaced) = desk.place(chunk, ChunkSource::Journal(location)) {
            drop(self.recorder.send(RecorderCommand::Release(vec![replaced])));
        }
    }

    fn write(&mut self, document: u32, status: FileStatus) -> Done {
        let Some(Some(desk)) = self.desks.get_mut(document as usize) else {
            return Done::DocumentBroken { document, error: "the document has no files open".to_owned() };
        };
        let completion_time = status.is_finished().then(now);
        let every_chunk_failed = "every chunk failed; see the records in `chunks`";
        let begun = Instant::now();
        let written = write_snapshot(Snapshot {
            target: &desk.target,
            chunk_file: &desk.chunk_file,
            chunks: &desk.sources,
            previous: desk.previous.as_deref(),
            journal: &mut self.journal,
            status,
            generation_info: &desk.generation_info,
            completion_time: completion_time.as_deref(),
            error: (status == FileStatus::Failed).then_some(every_chunk_failed),
            models: &self.models,
            keep_previous_in: desk.keep_previous_in.as_deref(),
        });
        match written {
            Ok(written) => {
                SNAPSHOT_TIME.record(begun.elapsed().as_secs_f64(), Vec::new);
                SNAPSHOT_BYTES.add(written.bytes, Vec::new);
                crash(CrashPoint::SnapshotWritten);
                let mut covered = written.covered;
                let is_settled = !written.chunks.contains(&ChunkSource::Outstanding);
                if is_settled {
                    covered.append(&mut desk.rounds);
                }
                drop(self.recorder.send(RecorderCommand::Release(covered)));
                let has_failures = written.chunks.iter().any(is_failed);
                if is_settled && !has_failures {
                    // Nothing of this document can change any more in this run.
                    self.desks[document as usize] = None;
                } else {
                    desk.sources = written.chunks;
                    desk.previous = Some(Box::new(written.source));
                    desk.keep_previous_in = None;
                }
                Done::SnapshotWritten { document, status }
            }
            Err(SnapshotError::Chunks(error @ ChunkFileError::Edited { .. })) => {
                Done::DocumentBroken { document, error: error.to_string() }
            }
            Err(error @ (SnapshotError::Chunks(_) | SnapshotError::Changed { .. })) => {
                Done::DocumentBroken { document, error: error.to_string() }
            }
            Err(error) => {
                if let SnapshotError::File(file) = &error
                    && file.is_full()
                {
                    let full = Happening::DiskFull { problem: error.to_string() };
                    drop(self.recorder.send(RecorderCommand::Event(Box::new(full))));
                }
                Done::FilesFailed(error.to_string())
            }
        }
    }
}

fn is_failed(source: &ChunkSource) -> bool {
    matches!(source, ChunkSource::Previous(FinishedChunk { finished: Finished::Failed { .. }, .. }))
}
