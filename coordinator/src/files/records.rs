//! Records of finished chunks, one after the other: of a Q&A file, and of what only the journal holds yet.
//!
//! They are read beside a run that writes both, so the journal has to be read first: what it lets go of
//! meanwhile is in the Q&A file that is read afterwards.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, ErrorKind};
use std::path::Path;

use qa_shared::model::{DocumentName, JobId};

use super::json_scan::{Event, ScanError, Scanner};
use super::{ChunkRecord, Entry, EntryLocation, Journal, JournalError, QaFileError, RecordStatus};

/// A segment may go while the journal is being read; then it is read anew.
const TRIES: usize = 5;

/// Gives each record of a Q&A file to `each`, in the file's order, and reads no further than they go.
pub fn each_record(path: &Path, mut each: impl FnMut(ChunkRecord)) -> Result<(), QaFileError> {
    let unreadable = |error: io::Error| QaFileError::Unreadable { path: path.to_owned(), error };
    let file = File::open(path).map_err(unreadable)?;
    scan(file, &mut each).map_err(|error| match error {
        ScanError::Io(error) => unreadable(error),
        error => QaFileError::Damaged { path: path.to_owned(), error },
    })
}

fn scan(file: File, each: &mut impl FnMut(ChunkRecord)) -> Result<(), ScanError> {
    let streamed = ["chunks", "training_pairs"];
    let mut scanner = Scanner::new(BufReader::with_capacity(64 * 1024, file), &streamed);
    let mut in_records = false;
    while let Some(event) = scanner.next()? {
        match event {
            Event::ArrayStart { key } => in_records = key == "chunks",
            Event::Element(piece) if in_records => each(piece.parse()?),
            Event::ArrayEnd if in_records => return Ok(()),
            Event::Element(_) | Event::ArrayEnd | Event::Field { .. } => {}
        }
    }
    Ok(())
}

/// Where the results stand that only the journal holds, with what tells the better of two.
pub type Journalled = BTreeMap<(DocumentName, u32), JournalledResult>;

/// A result in the journal.
#[derive(Debug, Clone, PartialEq)]
pub struct JournalledResult {
    /// Where.
    pub location: EntryLocation,
    /// Its record.
    pub record: Box<ChunkRecord>,
}

/// The results in a job's journal, the best of each chunk; of one document, or of all.
pub fn journalled(
    job_folder: &Path,
    job: &JobId,
    only: Option<&DocumentName>,
) -> Result<Journalled, JournalError> {
    let mut tries = 0;
    loop {
        let mut found = Journalled::new();
        let looked = Journal::look(job_folder, job, |location, entry| {
            let Entry::Result { document, record, .. } = entry else { return };
            if only.is_some_and(|only| *only != document) {
                return;
            }
            let key = (document, record.chunk);
            if found.get(&key).is_none_or(|known: &JournalledResult| beats(&record, &known.record)) {
                found.insert(key, JournalledResult { location, record });
            }
        });
        tries += 1;
        match looked {
            Ok(()) => return Ok(found),
            Err(JournalError::File(error)) if error.kind() == ErrorKind::NotFound && tries < TRIES => {}
            Err(error) => return Err(error),
        }
    }
}

/// Whether a result of a chunk counts and not the other: success beats failure, a later round an earlier one.
pub fn beats(one: &ChunkRecord, other: &ChunkRecord) -> bool {
    precedence(one.status, one.round) >= precedence(other.status, other.round)
}

/// Of two results of a chunk the one with the greater precedence counts.
pub(super) fn precedence(status: RecordStatus, round: u32) -> (bool, u32) {
    (status == RecordStatus::Completed, round)
}

#[cfg(test)]
mod tests {
    use qa_shared::model::TextHash;

    use super::super::fixtures::{completed_result, failed_result, settings};
    use super::*;

    fn record(result: &qa_shared::model::TaskResult) -> Box<ChunkRecord> {
        Box::new(ChunkRecord::from_result(result, TextHash::of("t"), &settings(), "now".into()))
    }

    #[test]
    fn records_come_one_by_one_and_the_rest_of_the_file_is_not_read() {
        let folder = qa_shared::testing::temporary_folder();
        let path = folder.path().join("a_qa.json");
        let one = serde_json::to_string(&record(&completed_result("a", 0, 1, "t", 3))).unwrap();
        let two = serde_json::to_string(&record(&failed_result("a", 1, 2, "t"))).unwrap();
        std::fs::write(&path, format!(r#"{{"metadata": {{}}, "chunks": [{one}, {two}], "training_"#))
            .unwrap();
        let mut seen = Vec::new();
        each_record(&path, |record| seen.push((record.chunk, record.status))).unwrap();
        assert_eq!(seen, [(0, RecordStatus::Completed), (1, RecordStatus::Failed)]);
        std::fs::write(&path, r#"{"chunks": [{"chunk": "x"}]}"#).unwrap();
        assert!(each_record(&path, |_| {}).unwrap_err().to_string().contains("damaged"));
    }

    #[test]
    fn of_a_chunks_results_in_the_journal_the_best_counts() {
        let folder = qa_shared::testing::temporary_folder();
        let job = JobId::from_random(1);
        let (mut journal, _) = Journal::open(folder.path(), &job, 1024, |_, _| {}).unwrap();
        for result in [
            failed_result("a", 0, 1, "t"),
            completed_result("a", 0, 2, "t", 3),
            failed_result("a", 0, 3, "t"),
            failed_result("b", 0, 1, "t"),
        ] {
            let document = if result.key.document.as_str().starts_with('a') { "a" } else { "b" };
            let document = DocumentName::new(document);
            journal.append(&Entry::Result { document, record: record(&result), pairs: Vec::new() }).unwrap();
        }
        journal.sync().unwrap();
        let found = journalled(folder.path(), &job, None).unwrap();
        let rounds: Vec<_> =
            found.iter().map(|((document, _), found)| (document.as_str(), found.record.round)).collect();
        assert_eq!(rounds, [("a", 2), ("b", 1)]);
        assert_eq!(journalled(folder.path(), &job, Some(&DocumentName::new("b"))).unwrap().len(), 1);
    }
}
