//! `events.jsonl` in the job folder: what happened to the job, one JSON line each, for people and for `status`.
//!
//! It decides nothing; losing a line loses nothing but the memory of it.

use std::path::Path;

use qa_shared::clock;
use serde::{Deserialize, Serialize};

use super::log_file::{LogFile, read_lines};
use super::{FileError, now};
use crate::happening::Happening;

/// The log's name in the job folder.
const EVENT_LOG_NAME: &str = "events.jsonl";

/// When the file is set aside, in bytes.
const LIMIT: u64 = 4 * 1024 * 1024;

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Logged {
    /// When, see [`super::naive_local`].
    pub at: String,
    /// The same in milliseconds since 1970 UTC.
    pub unix_ms: u64,
    /// What.
    #[serde(flatten)]
    pub what: Happening,
}

/// Appends to the event log.
#[derive(Debug)]
pub struct EventLog {
    file: LogFile,
}

impl EventLog {
    /// The log of a job folder.
    pub fn new(job_folder: &Path) -> Self {
        Self { file: LogFile::new(job_folder.join(EVENT_LOG_NAME), LIMIT) }
    }

    /// Appends an event with the time of now.
    pub fn append(&mut self, what: &Happening) -> Result<(), FileError> {
        let line = Logged { at: now(), unix_ms: clock::unix_millis(), what: what.clone() };
        let mut text = serde_json::to_vec(&line).expect("an event holds plain fields only");
        text.push(b'\n');
        self.file.append(&text)
    }
}

/// Gives every line of a job folder's log that can be read to `each`, the oldest first; returns how many could
/// not be. No log is an empty one.
pub fn read_events(job_folder: &Path, mut each: impl FnMut(Logged)) -> Result<u64, FileError> {
    let current = job_folder.join(EVENT_LOG_NAME);
    let mut unreadable = 0;
    for path in [current.with_extension("jsonl.1"), current] {
        unreadable += read_lines(&path, LIMIT * 2, &mut each)?;
    }
    Ok(unreadable)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use super::*;

    fn read(folder: &Path) -> (Vec<Logged>, u64) {
        let mut lines = Vec::new();
        let unreadable = read_events(folder, |line| lines.push(line)).unwrap();
        (lines, unreadable)
    }

    #[test]
    fn what_is_appended_is_read_again_and_damaged_lines_are_counted() {
        let folder = qa_shared::testing::temporary_folder();
        assert_eq!(read(folder.path()), (Vec::new(), 0));
        let mut log = EventLog::new(folder.path());
        let present = Happening::WorkerPresent { host: "gpu1\n".to_owned(), slots: 2 };
        log.append(&present).unwrap();
        let path = folder.path().join(EVENT_LOG_NAME);
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(b"{\"at\": \"half\n\n\xff\xfe\0\n{}\n").unwrap();
        log.append(&Happening::QueueLost).unwrap();
        let (lines, unreadable) = read(folder.path());
        assert_eq!(unreadable, 3);
        assert_eq!(
            lines.iter().map(|line| &line.what).collect::<Vec<_>>(),
            [&present, &Happening::QueueLost]
        );
        assert!(lines[0].at.len() == 26 && lines[0].unix_ms > 1_700_000_000_000);
    }

    #[test]
    fn the_file_that_was_set_aside_is_read_first() {
        let folder = qa_shared::testing::temporary_folder();
        let mut log = EventLog::new(folder.path());
        log.append(&Happening::QueueLost).unwrap();
        let path = folder.path().join(EVENT_LOG_NAME);
        std::fs::rename(&path, path.with_extension("jsonl.1")).unwrap();
        EventLog::new(folder.path()).append(&Happening::QueueBack { seconds: 3.5 }).unwrap();
        let whats: Vec<_> = read(folder.path()).0.into_iter().map(|line| line.what).collect();
        assert_eq!(whats, [Happening::QueueLost, Happening::QueueBack { seconds: 3.5 }]);
    }
}
