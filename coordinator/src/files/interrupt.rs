//! Marks documents that nobody works on any more.
//!
//! Only the status changes. A Q&A file may be larger than the memory, so it is scanned and copied as a stream.

use std::fs::File;
use std::io::{BufReader, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use super::atomic::AtomicFile;
use super::json_scan::{Event, ScanError, Scanner};
use super::{FileError, JobFolder, Span, find_qa_files};
use crate::core::FileStatus;

/// The arrays that grow with a document.
const STREAMED: [&str; 4] = ["chunks", "training_pairs", "completed_chunks", "failed_chunks"];
const BUFFER_BYTES: usize = 64 * 1024;

/// Gives every `in_progress` Q&A file of the folder's directory the status `interrupted`; returns how many.
/// The caller holds the directory's lock.
pub fn interrupt_documents(folder: &JobFolder) -> Result<u64, FileError> {
    let mut marked = 0;
    for file in find_qa_files(folder.directory())?.files {
        if mark(&file.path)? {
            marked += 1;
        }
    }
    Ok(marked)
}

/// Whether the file was in progress. What cannot be read is for the next run to tell.
fn mark(path: &Path) -> Result<bool, FileError> {
    let read = |error| FileError::during("read", path)(error);
    let mut old = File::open(path).map_err(read)?;
    let Ok(Some(status)) = status_in_progress(&old) else { return Ok(false) };
    let mut new = AtomicFile::create(path)?;
    old.rewind().map_err(read)?;
    copy((&old).take(status.offset), &mut new, path)?;
    new.put(format!("\"{}\"", FileStatus::Interrupted.as_str()).as_bytes())?;
    old.seek(SeekFrom::Start(status.offset + status.len)).map_err(read)?;
    copy(&old, &mut new, path)?;
    new.commit()?;
    Ok(true)
}

/// Where the file's own status stands, if it is `in_progress`. Of a field that stands there twice the last one
/// counts.
fn status_in_progress(file: &File) -> Result<Option<Span>, ScanError> {
    let mut found = None;
    let mut scanner = Scanner::new(BufReader::with_capacity(BUFFER_BYTES, file), &STREAMED);
    while let Some(event) = scanner.next()? {
        if let Event::Field { key, value } = event
            && key == "status"
        {
            let status: serde_json::Value = value.parse()?;
            found = (status == FileStatus::InProgress.as_str()).then_some(value.span);
        }
    }
    Ok(found)
}

fn copy(mut from: impl std::io::Read, to: &mut AtomicFile, path: &Path) -> Result<(), FileError> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let read = from.read(&mut buffer).map_err(FileError::during("read", path))?;
        if read == 0 {
            return Ok(());
        }
        to.put(&buffer[..read])?;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::QaFile;
    use super::*;

    fn marked(text: &str) -> (bool, String) {
        let folder = qa_shared::testing::temporary_folder();
        let path = folder.path().join("a_qa.json");
        fs::write(&path, text).unwrap();
        (mark(&path).unwrap(), fs::read_to_string(&path).unwrap())
    }

    #[test]
    fn only_the_files_own_status_changes_wherever_it_stands() {
        let with = |status: &str| {
            format!(
                r#"{{"status":   "{status}", "training_pairs": [{{"question": "\"status\": \"in_progress\""}}],
                   "chunks": [{{"status": "in_progress"}}], "metadata": {{"status": "in_progress"}}}}"#
            )
        };
        assert_eq!(marked(&with("in_progress")), (true, with("interrupted")));
        for other in ["completed", "failed", "interrupted"] {
            assert_eq!(marked(&with(other)), (false, with(other)));
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_or_has_no_status_stays() {
        for text in ["", "{\"status\": \"in_progress\"", "{}", "[]", "{\"status\": 7}"] {
            assert_eq!(marked(text), (false, text.to_owned()));
        }
    }

    #[test]
    fn of_two_statuses_the_last_one_counts_as_for_every_other_reader() {
        let text = r#"{"status": "in_progress", "status": "completed"}"#;
        assert_eq!(marked(text), (false, text.to_owned()));
        let folder = qa_shared::testing::temporary_folder();
        let path = folder.path().join("a_qa.json");
        fs::write(&path, text).unwrap();
        assert_eq!(QaFile::load(&path).unwrap().status.as_deref(), Some("completed"));
    }

    #[test]
    fn a_file_of_many_buffers_is_copied_whole() {
        let pair = r#"{"question": "q", "answer": "a"},"#.repeat(20_000);
        let with = |status: &str| {
            format!(
                r#"{{"training_pairs": [{pair}{{}}], "status": "{status}", "x": "{}"}}"#,
                "y".repeat(200_000)
            )
        };
        assert!(marked(&with("in_progress")) == (true, with("interrupted")));
    }
}
