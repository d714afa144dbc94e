//! Why a run cannot be planned, in words that say what to do.

use std::collections::BTreeMap;
use std::path::PathBuf;

use qa_shared::model::{DocumentName, JobId};

use crate::changes::Change;
use crate::files::{EXPECTED, FileError, JobFolderError, JournalError};
use crate::format::{counted, line};

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// There is nothing to do anything with.
    #[error(
        "no file named *_chunks.json or *_chunks.jsonl in `{}` or its folders: check --chunks-dir, or run the \
         chunker first",
        directory.display()
    )]
    NoChunkFiles {
        /// The directory.
        directory: PathBuf,
    },
    /// There are chunk files, and none of them is finished.
    #[error(
        "nothing to do: of {} in `{}` none has the status `completed`{}\n{EXPECTED}",
        counted(skipped.len() as u64, "chunk file"),
        directory.display(),
        list_skipped(skipped)
    )]
    NothingFinished {
        /// The directory.
        directory: PathBuf,
        /// Their names and statuses.
        skipped: BTreeMap<String, String>,
    },
    /// Output exists and nobody said what to do with it.
    #[error(
        "output exists in `{}` ({found}): use --resume to go on with it, or --restart to begin anew \
         (the old files are kept in .qa-fleet/previous)",
        directory.display()
    )]
    OutputExists {
        /// The directory.
        directory: PathBuf,
        /// What is there.
        found: String,
    },
    /// Settings differ from the job's.
    #[error(
        "the settings differ from those that job {job} was begun with:\n{}\n  use the old settings, or \
         --accept-changes to use the new ones for the {outstanding} outstanding chunks, or --restart",
        list_changes(changes)
    )]
    SettingsChanged {
        /// The job.
        job: JobId,
        /// What differs.
        changes: Vec<Change>,
        /// Chunks that are not accounted for.
        outstanding: u64,
    },
    /// Two documents would have one Q&A file.
    #[error(
        "documents `{first}` and `{second}` would have one Q&A file, since the file system of `{}` takes both names for \
         one: rename one of their chunk files",
        directory.display()
    )]
    SameOutput {
        /// A document.
        first: DocumentName,
        /// Another one.
        second: DocumentName,
        /// The directory of the Q&A files.
        directory: PathBuf,
    },
    /// Two documents would have one name in the queue.
    #[error(
        "documents `{first}` and `{second}` would have one name in the queue: rename one of their chunk files"
    )]
    SameToken {
        /// A document.
        first: DocumentName,
        /// Another one.
        second: DocumentName,
    },
    /// A Q&A file would be removed as one that was left unfinished.
    #[error(
        "the name of chunk file `{}` begins like those of this program's temporary files (.qa-fleet): rename it",
        path.display()
    )]
    ReservedName {
        /// The chunk file.
        path: PathBuf,
    },
    /// The file system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// The job folder cannot be used.
    #[error(transparent)]
    Folder(#[from] JobFolderError),
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

fn list_skipped(skipped: &BTreeMap<String, String>) -> String {
    let lines: Vec<_> = skipped
        .iter()
        .map(|(name, status)| format!("\n  {} has {}", line(name, 120), line(status, 40)))
        .collect();
    lines.concat()
}

fn list_changes(changes: &[Change]) -> String {
    let lines: Vec<_> = changes
        .iter()
        .map(|change| format!("  {}: {} before, {} now", change.setting, change.before, change.now))
        .collect();
    lines.join("\n")
}
