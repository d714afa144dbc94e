//! Marks documents that nobody works on any more.
//!
//! Only the status changes; a Q&A file is rewritten from its own spans.

use std::path::Path;

use super::atomic::AtomicFile;
use super::{FileError, JobFolder, QaFile, find_qa_files};
use crate::core::FileStatus;

/// Gives every `in_progress` Q&A file of the folder's directory the status `interrupted`; returns how many.
/// The caller holds the directory's lock.
pub fn interrupt_documents(folder: &JobFolder) -> Result<u64, FileError> {
    let mut marked = 0;
    for file in find_qa_files(folder.directory())?.files {
        // What cannot be read is for the next run to tell.
        let Ok(loaded) = QaFile::load(&file.path) else { continue };
        if loaded.status.as_deref() == Some(FileStatus::InProgress.as_str()) && mark(&file.path)? {
            marked += 1;
        }
    }
    Ok(marked)
}

fn mark(path: &Path) -> Result<bool, FileError> {
    const OLD: &[u8] = b"\"status\": \"in_progress\"";
    const NEW: &[u8] = b"\"status\": \"interrupted\"";
    let text = std::fs::read(path).map_err(FileError::during("read", path))?;
    // After the arrays: the top level's own status is the last one in the file.
    let Some(at) = text.windows(OLD.len()).rposition(|window| window == OLD) else { return Ok(false) };
    let mut file = AtomicFile::create(path)?;
    file.put(&text[..at])?;
    file.put(NEW)?;
    file.put(&text[at + OLD.len()..])?;
    file.commit()?;
    Ok(true)
}
