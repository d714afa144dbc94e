//! `events.jsonl` in the job folder: what happened to the job, one JSON line each, for people and for `status`.
//!
//! It decides nothing; losing a line loses nothing but the memory of it.

use std::path::Path;

use serde_json::{Map, Value};

use super::log_file::LogFile;
use super::{FileError, now};

/// The log's name in the job folder.
const EVENT_LOG_NAME: &str = "events.jsonl";

/// When the file is set aside, in bytes.
const LIMIT: u64 = 4 * 1024 * 1024;

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

    /// Appends an event: `at` and `event`, then its details.
    pub fn append(&mut self, event: &str, details: &Map<String, Value>) -> Result<(), FileError> {
        let mut line = Map::new();
        line.insert("at".to_owned(), Value::String(now()));
        line.insert("event".to_owned(), Value::String(event.to_owned()));
        line.extend(details.iter().map(|(key, value)| (key.clone(), value.clone())));
        let mut text = Value::Object(line).to_string();
        text.push('\n');
        self.file.append(text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_are_lines_with_their_details() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = EventLog::new(folder.path());
        let details = json!({"host": "gpu1\n", "slots": 2});
        log.append("worker_present", details.as_object().unwrap()).unwrap();
        log.append("finished", &Map::new()).unwrap();
        let text = std::fs::read_to_string(folder.path().join(EVENT_LOG_NAME)).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((&lines[0]["event"], &lines[0]["slots"]), (&json!("worker_present"), &json!(2)));
        assert_eq!(lines[1]["event"], "finished");
        assert!(lines[0]["at"].as_str().unwrap().len() == 26);
    }
}
