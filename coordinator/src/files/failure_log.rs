//! The failure log: every unusable answer with its reason, one JSON line each, for people.
//!
//! Bounded: a full file is set aside and only the last two are kept. It may lose lines in a crash and never
//! decides anything.

use std::fs;
use std::path::{Path, PathBuf};

use qa_shared::model::DocumentName;
use serde::{Deserialize, Serialize};

use super::FileError;
use super::log_file::{LogFile, read_lines};

/// When a file is set aside, in bytes.
pub const FAILURE_LOG_BYTES: u64 = 16 * 1024 * 1024;

/// The name of the log's current file.
pub const FAILURE_LOG_NAME: &str = "failures.jsonl";

/// One line of the log.
#[derive(Debug, Serialize)]
pub struct FailureLine<'a> {
    /// When, see [`super::naive_local`].
    pub at: &'a str,
    /// The document.
    pub document: &'a DocumentName,
    /// The chunk's position.
    pub chunk: u32,
    /// The round.
    pub round: u32,
    /// Which model call of the task, from 1; 0 for the task's own end.
    pub attempt: u32,
    /// What was wrong, in words.
    pub reason: &'a str,
    /// The answer, cut by the worker.
    pub answer: &'a str,
    /// The model that was asked.
    pub model: &'a str,
    /// The LLM server that answered; empty where none was asked.
    pub server: &'a str,
    /// The worker's host.
    pub host: &'a str,
    /// The trace.
    pub trace_id: String,
}

/// A line as it is read again. What is missing is empty.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct LoggedFailure {
    /// When, see [`super::naive_local`].
    pub at: String,
    /// The document.
    pub document: String,
    /// The chunk's position.
    pub chunk: u32,
    /// What was wrong, in words.
    pub reason: String,
    /// The answer, cut by the worker.
    pub answer: String,
    /// The model that was asked.
    pub model: String,
    /// The LLM server that answered.
    pub server: String,
    /// The worker's host.
    pub host: String,
    /// The trace.
    pub trace_id: String,
}

/// Where the failure log of a job folder may be: what was set aside, and the current file.
pub fn failure_log_paths(job_folder: &Path) -> [PathBuf; 2] {
    let current = job_folder.join(FAILURE_LOG_NAME);
    [current.with_extension("jsonl.1"), current]
}

/// Gives every line of a job folder's failure log that can be read to `each`, the oldest first; returns how
/// many could not be.
pub fn read_failures(job_folder: &Path, mut each: impl FnMut(LoggedFailure)) -> Result<u64, FileError> {
    let mut unreadable = 0;
    for path in failure_log_paths(job_folder) {
        unreadable += read_lines(&path, FAILURE_LOG_BYTES * 2, &mut each)?;
    }
    Ok(unreadable)
}

/// Appends to `failures.jsonl` in one or two directories.
#[derive(Debug)]
pub struct FailureLog {
    files: Vec<LogFile>,
}

impl FailureLog {
    /// Logs into the job folder and, if given, into a second directory (`QA_LOG_DIR`), which is made if it
    /// is missing. `limit` is [`FAILURE_LOG_BYTES`] but in tests.
    pub fn new(job_folder: &Path, second: Option<&Path>, limit: u64) -> Result<Self, FileError> {
        let mut files = Vec::new();
        for directory in [Some(job_folder), second].into_iter().flatten() {
            fs::create_dir_all(directory).map_err(FileError::during("create", directory))?;
            files.push(LogFile::new(directory.join(FAILURE_LOG_NAME), limit));
        }
        Ok(Self { files })
    }

    /// Appends a line to every file. All are tried; the first error is returned.
    pub fn append(&mut self, line: &FailureLine<'_>) -> Result<(), FileError> {
        let mut text = serde_json::to_vec(line).expect("a line holds plain fields only");
        text.push(b'\n');
        let mut outcome = Ok(());
        for file in &mut self.files {
            outcome = outcome.and(file.append(&text));
        }
        outcome
    }

    /// Where people find it.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(LogFile::path)
    }
}

/// Those of the paths at which something stands, as text.
pub fn existing(paths: &[PathBuf]) -> Vec<String> {
    paths.iter().filter(|path| path.exists()).map(|path| path.display().to_string()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn append(log: &mut FailureLog, chunk: u32) {
        let document = DocumentName::new("FAQ 概要");
        log.append(&FailureLine {
            at: "2026-11-23T03:11:32.979477",
            document: &document,
            chunk,
            round: 1,
            attempt: 1,
            reason: "no pair",
            answer: "I cannot\nhelp",
            model: "qwen3:14b",
            server: "http://gpu1:11434",
            host: "gpu1",
            trace_id: "0".repeat(32),
        })
        .unwrap();
    }

    fn chunks(path: &Path) -> Vec<u64> {
        let text = fs::read_to_string(path).unwrap();
        text.lines().map(|l| serde_json::from_str::<Value>(l).unwrap()["chunk"].as_u64().unwrap()).collect()
    }

    #[test]
    fn lines_go_to_both_directories_and_only_the_last_two_files_stay() {
        let folder = qa_shared::testing::temporary_folder();
        let second = folder.path().join("logs/here");
        let mut log = FailureLog::new(folder.path(), Some(&second), 770).unwrap();
        for chunk in 0..7 {
            append(&mut log, chunk);
        }
        for directory in [folder.path(), &second] {
            let now = chunks(&directory.join("failures.jsonl"));
            let before = chunks(&directory.join("failures.jsonl.1"));
            assert_eq!([before, now].concat(), [3, 4, 5, 6]);
        }
    }
}
