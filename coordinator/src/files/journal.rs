//! A job's journal: every result that was applied and every round that was begun, in the order they came,
//! until a snapshot holds them.
//!
//! Segments `journal-NNNNNN.jsonl` begin with a header line; each entry is one JSON line. A crash may tear
//! the end that was not yet synced: that is cut off when the journal is opened again. It does not know what
//! an entry means to a chunk.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use qa_shared::failpoint::{CrashPoint, crash, crash_halfway};
use qa_shared::model::{DocumentName, JobId, Pair};
use serde::{Deserialize, Serialize};

use self::replay::{replay_segment, segment_numbers, segment_path, truncate};
use super::atomic::sync_directory;
use super::span::SpanReader;
use super::{ChunkRecord, FileError, Span};

mod replay;

/// The format that this program writes and reads.
const VERSION: u32 = 1;

/// When a new segment begins, in bytes.
pub const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;

/// What the journal keeps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Entry {
    /// A result was applied.
    Result {
        /// The document.
        document: DocumentName,
        /// How it came about.
        record: Box<ChunkRecord>,
        /// The pairs, none if it failed.
        pairs: Vec<Pair>,
    },
    /// A round is about to be published for these chunks.
    Rounds {
        /// The document.
        document: DocumentName,
        /// Positions of the chunks.
        chunks: Vec<u32>,
        /// The round.
        round: u32,
    },
}

/// Where an entry stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EntryLocation {
    /// The segment's number.
    pub segment: u32,
    /// Where its line begins, in bytes.
    pub offset: u64,
    /// The line's length in bytes, without its newline.
    pub len: u32,
}

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file system refused; [`FileError::is_full`] tells a full disk, after which the journal is whole.
    #[error(transparent)]
    File(#[from] FileError),
    /// Written by a newer program.
    #[error(
        "journal `{}` has version {found}, this program reads version {VERSION}: use the newer program",
        path.display()
    )]
    Version {
        /// The segment.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// Of another job.
    #[error("journal `{}` belongs to job {found}, not to {expected}: move it out of the job folder", path.display())]
    OtherJob {
        /// The segment.
        path: PathBuf,
        /// Its job.
        found: JobId,
        /// The folder's job.
        expected: JobId,
    },
    /// A line that is not at the torn end cannot be read.
    #[error(
        "journal `{}` is damaged at byte {offset} ({problem}): restore it from a backup, or move it out of \
         the job folder to have its chunks generated again",
        path.display()
    )]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Where the line begins.
        offset: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// A sync failed earlier: what came after the last good one may or may not be on disk.
    #[error("journal `{}` failed to reach the disk before: end this run and go on with --resume", path.display())]
    Unsound {
        /// The job folder.
        path: PathBuf,
    },
}

/// An end that a crash tore and that was cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornEnd {
    /// The segment.
    pub path: PathBuf,
    /// The length that was kept, in bytes.
    pub kept: u64,
    /// How much was cut, in bytes.
    pub cut: u64,
}

#[derive(Serialize, Deserialize)]
struct Header {
    qa_fleet_journal: u32,
    job: JobId,
}

struct Segment {
    number: u32,
    file: File,
    len: u64,
}

/// The writing end of a job's journal; the directory's lock makes it the only one.
pub struct Journal {
    directory: PathBuf,
    job: JobId,
    segment_bytes: u64,
    current: Option<Segment>,
    next_number: u32,
    uncovered: BTreeMap<u32, u64>,
    directory_dirty: bool,
    dirty: bool,
    unsound: bool,
}

impl Journal {
    /// Reads all entries in order into `replay`, cuts torn ends, and gets ready to append. A new segment
    /// begins with the first append and after every `segment_bytes` bytes (normally [`SEGMENT_BYTES`]).
    pub fn open(
        directory: &Path,
        job: &JobId,
        segment_bytes: u64,
        mut replay: impl FnMut(EntryLocation, Entry),
    ) -> Result<(Self, Vec<TornEnd>), JournalError> {
        let mut journal = Self {
            directory: directory.to_owned(),
            job: job.clone(),
            segment_bytes,
            current: None,
            next_number: 1,
            uncovered: BTreeMap::new(),
            directory_dirty: false,
            dirty: false,
            unsound: false,
        };
        let mut torn = Vec::new();
        for number in segment_numbers(directory)? {
            let path = segment_path(directory, number);
            let (entries, cut) = replay_segment(&path, number, job, &mut replay)?;
            journal.next_number = number.saturating_add(1);
            journal.uncovered.insert(number, entries);
            if let Some(cut) = cut {
                truncate(&path, cut.kept)?;
                torn.push(cut);
            }
        }
        journal.remove_covered(None)?;
        Ok((journal, torn))
    }

    /// Reads all entries in order without changing anything.
    pub fn look(
        directory: &Path,
        job: &JobId,
        mut replay: impl FnMut(EntryLocation, Entry),
    ) -> Result<(), JournalError> {
        for number in segment_numbers(directory)? {
            replay_segment(&segment_path(directory, number), number, job, &mut replay)?;
        }
        Ok(())
    }

    /// The segments that are there, in order.
    pub fn segments(directory: &Path) -> Result<Vec<PathBuf>, FileError> {
        let numbers = segment_numbers(directory)?;
        Ok(numbers.into_iter().map(|number| segment_path(directory, number)).collect())
    }

    /// Appends an entry; it is durable after the next [`Journal::sync`]. After an error nothing of it is
    /// left, and a later append works again once there is room.
    pub fn append(&mut self, entry: &Entry) -> Result<EntryLocation, JournalError> {
        self.check_sound()?;
        let mut line = Vec::with_capacity(2048);
        serde_json::to_writer(&mut line, entry).expect("an entry holds no map with keys that are no strings");
        let len = u32::try_from(line.len()).expect("a message is bounded far below 4 GiB");
        line.push(b'\n');
        let mut segment = self.segment_with_room()?;
        let offset = segment.len;
        crash_halfway(CrashPoint::EntryTorn, || drop(segment.file.write_all(&line[..line.len() / 2])));
        if let Err(error) = segment.file.write_all(&line) {
            let path = segment_path(&self.directory, segment.number);
            let restored =
                segment.file.set_len(offset).and_then(|()| segment.file.seek(SeekFrom::Start(offset)));
            if restored.is_ok() {
                self.current = Some(segment);
            } else {
                // The next entry begins a new segment; this one's torn end is cut when it is opened again.
                self.unsound = segment.file.sync_data().is_err();
            }
            return Err(FileError::during("append to", &path)(error).into());
        }
        segment.len += u64::from(len) + 1;
        let location = EntryLocation { segment: segment.number, offset, len };
        *self.uncovered.entry(segment.number).or_default() += 1;
        self.current = Some(segment);
        self.dirty = true;
        Ok(location)
    }

    /// Makes every entry so far durable. After an error the journal refuses everything: the system may have
    /// dropped what it could not write.
    pub fn sync(&mut self) -> Result<(), JournalError> {
        self.check_sound()?;
        if let Some(segment) = self.current.as_ref().filter(|_| self.dirty) {
            let path = segment_path(&self.directory, segment.number);
            self.unsound = true;
            segment.file.sync_data().map_err(FileError::during("sync", &path))?;
            if self.directory_dirty {
                crash(CrashPoint::SegmentSynced);
                sync_directory(&self.directory)?;
                self.directory_dirty = false;
            }
            self.unsound = false;
            self.dirty = false;
        }
        Ok(())
    }

    /// Forgets entries that durable snapshots hold (each once); a segment of which nothing is left is
    /// deleted, the current one excepted. Returns how many segments went.
    pub fn release(&mut self, covered: &[EntryLocation]) -> Result<usize, JournalError> {
        for location in covered {
            if let Some(entries) = self.uncovered.get_mut(&location.segment) {
                *entries = entries.saturating_sub(1);
            }
        }
        let current = self.current.as_ref().map(|segment| segment.number);
        self.remove_covered(current)
    }

    /// Deletes the current segment too if nothing in it is needed: for the end of a run.
    pub fn tidy(&mut self) -> Result<usize, JournalError> {
        if self.current.as_ref().is_some_and(|segment| self.uncovered.get(&segment.number) == Some(&0)) {
            self.current = None;
            self.dirty = false;
        }
        let current = self.current.as_ref().map(|segment| segment.number);
        self.remove_covered(current)
    }

    /// Entries that no snapshot holds.
    pub fn uncovered(&self) -> u64 {
        self.uncovered.values().sum()
    }

    /// A reader of single entries, for any thread.
    pub fn reader(&self) -> JournalReader {
        JournalReader { directory: self.directory.clone(), open: None }
    }

    fn check_sound(&self) -> Result<(), JournalError> {
        if self.unsound { Err(JournalError::Unsound { path: self.directory.clone() }) } else { Ok(()) }
    }

    fn segment_with_room(&mut self) -> Result<Segment, JournalError> {
        if self.current.as_ref().is_some_and(|segment| segment.len >= self.segment_bytes) {
            self.sync()?;
            self.current = None;
        }
        match self.current.take() {
            Some(segment) => Ok(segment),
            None => self.new_segment(),
        }
    }

    fn new_segment(&mut self) -> Result<Segment, JournalError> {
        let number = self.next_number;
        let path = segment_path(&self.directory, number);
        let header = Header { qa_fleet_journal: VERSION, job: self.job.clone() };
        let mut line = serde_json::to_vec(&header).expect("a header holds plain fields only");
        line.push(b'\n');
        let begun = File::create_new(&path).and_then(|mut file| file.write_all(&line).map(|()| file));
        let file = begun.map_err(|error| {
            // A header that is not whole would be cut at the next open as well.
            drop(fs::remove_file(&path));
            FileError::during("create", &path)(error)
        })?;
        self.next_number += 1;
        self.uncovered.insert(number, 0);
        self.directory_dirty = true;
        crash(CrashPoint::SegmentBegun);
        Ok(Segment { number, file, len: line.len() as u64 })
    }

    fn remove_covered(&mut self, current: Option<u32>) -> Result<usize, JournalError> {
        let covered: Vec<_> = self
            .uncovered
            .iter()
            .filter(|(number, entries)| **entries == 0 && Some(**number) != current)
            .map(|(number, _)| *number)
            .collect();
        for number in &covered {
            let path = segment_path(&self.directory, *number);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(FileError::during("remove", &path)(error).into());
                }
                _ => self.uncovered.remove(number),
            };
            crash(CrashPoint::SegmentRemoved);
        }
        Ok(covered.len())
    }
}

/// Reads single entries; each thread has its own.
#[derive(Debug)]
pub struct JournalReader {
    directory: PathBuf,
    open: Option<OpenSegment>,
}

#[derive(Debug)]
struct OpenSegment {
    number: u32,
    path: PathBuf,
    spans: SpanReader,
}

impl OpenSegment {
    fn open(directory: &Path, number: u32) -> Result<Self, FileError> {
        let path = segment_path(directory, number);
        let spans = SpanReader::open(&path).map_err(FileError::during("read", &path))?;
        Ok(Self { number, path, spans })
    }
}

impl Clone for JournalReader {
    fn clone(&self) -> Self {
        Self { directory: self.directory.clone(), open: None }
    }
}

impl JournalReader {
    /// Of a job folder whose journal somebody else may be writing.
    pub(super) fn of(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), open: None }
    }

    /// The entry at a place that [`Journal::append`] or the replay gave and that was not released.
    pub fn read(&mut self, location: EntryLocation) -> Result<Entry, JournalError> {
        let open = match self.open.take() {
            Some(open) if open.number == location.segment => open,
            _ => OpenSegment::open(&self.directory, location.segment)?,
        };
        let mut line = Vec::new();
        let span = Span { offset: location.offset, len: u64::from(location.len) };
        open.spans.read(span, &mut line).map_err(FileError::during("read", &open.path))?;
        let entry = serde_json::from_slice(&line).map_err(|error| JournalError::Damaged {
            path: open.path.clone(),
            offset: location.offset,
            problem: error.to_string(),
        });
        self.open = Some(open);
        entry
    }
}

#[cfg(test)]
mod tests;
