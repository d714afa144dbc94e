//! Writes a document's Q&A file: a streaming merge of the chunk file, the file's previous version and the
//! journal, in the Python program's layout.
//!
//! Pairs that are already right are copied byte for byte. It holds places, one chunk and one entry at a
//! time; it does not decide a document's state.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use qa_shared::model::GenerationSettings;
use qa_shared::model_table::ModelTable;
use serde_json::{Value, json};

use self::merge::Writer;
use super::chunk_file::{ChunkFile, ChunkFileError};
use super::pretty::pretty;
use super::qa_file::{QaFile, QaSource};
use super::source::ChunkSource;
use super::{EntryLocation, FileError, JournalError, JournalReader};
use crate::core::FileStatus;

mod merge;

/// Why a snapshot was not written; the file on disk is the one that was there before.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The file system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// The chunk file is not what it was.
    #[error(transparent)]
    Chunks(#[from] ChunkFileError),
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Somebody else wrote the Q&A file.
    #[error(
        "Q&A file `{}` was changed by another program while this run was using it; see that only one program \
         writes there, then go on with --resume",
        path.display()
    )]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// A place that was given holds something else than it should: a defect of this program.
    #[error("chunk {position} of `{}` points at {problem}", path.display())]
    Misplaced {
        /// The Q&A file.
        path: PathBuf,
        /// The chunk's position.
        position: usize,
        /// What was found.
        problem: &'static str,
    },
}

/// What a Q&A file is made from.
pub struct Snapshot<'a> {
    /// Where it goes.
    pub target: &'a Path,
    /// The scanned chunk file.
    pub chunk_file: &'a ChunkFile,
    /// One per chunk, by position.
    pub chunks: &'a [ChunkSource],
    /// The file that [`ChunkSource::Previous`] speaks of; its unknown fields are kept.
    pub previous: Option<&'a QaSource>,
    /// The journal that [`ChunkSource::Journal`] speaks of.
    pub journal: &'a mut JournalReader,
    /// The document's status. A finished one has no outstanding chunks.
    pub status: FileStatus,
    /// `qa_generation_info`, see [`generation_info`].
    pub generation_info: &'a Value,
    /// When a finished document was finished, see [`super::naive_local`].
    pub completion_time: Option<&'a str>,
    /// Why a failed document failed.
    pub error: Option<&'a str>,
    /// Where the file that this snapshot replaces is kept; `None` where it need not be.
    pub keep_previous_in: Option<&'a Path>,
    /// What results cost.
    pub models: &'a ModelTable,
}

/// A Q&A file that was written.
#[derive(Debug, Clone)]
pub struct Written {
    /// The file as the next snapshot's `previous`.
    pub source: QaSource,
    /// Where every outcome is now; outstanding ones stay so. The next snapshot's `chunks`, once later
    /// results are put in.
    pub chunks: Vec<ChunkSource>,
    /// Its length in bytes.
    pub bytes: u64,
    /// Pairs in it.
    pub pairs: u64,
    /// Journal entries that it holds, for [`super::Journal::release`].
    pub covered: Vec<EntryLocation>,
}

/// `qa_generation_info` as the Python program writes it.
pub fn generation_info(settings: &GenerationSettings, generated_at: &str) -> Value {
    json!({
        "provider": settings.provider,
        "model": settings.model,
        "questions_per_chunk": settings.questions_per_chunk,
        "temperature": settings.temperature,
        "max_tokens": settings.max_tokens,
        "generated_at": generated_at,
    })
}

/// Writes the file, durably and at once.
pub fn write_snapshot(snapshot: Snapshot<'_>) -> Result<Written, SnapshotError> {
    Writer::begin(snapshot)?.write()
}

/// Writes the Q&A file of a document that cannot be processed (`error` says why), unless a file with
/// finished chunks stands there. Returns whether it was written.
pub fn write_unprocessable(target: &Path, error: &str, generation_info: &Value) -> Result<bool, FileError> {
    match fs::exists(target) {
        Ok(false) => {}
        Ok(true) if QaFile::load(target).is_ok_and(|old| old.pairs.is_empty() && old.records.is_empty()) => {}
        _ => return Ok(false),
    }
    let body = json!({
        "metadata": {}, "processing_info": {}, "qa_generation_info": generation_info,
        "chunks": [], "training_pairs": [], "status": FileStatus::Failed.as_str(),
        "completed_chunks": [], "failed_chunks": [], "error": error,
    });
    let text = pretty(&body, 0).expect("a value with text keys can be written");
    super::atomic::write_file(target, &text)?;
    Ok(true)
}

/// Keeps a file under its own name in a numbered folder of its own; nothing that is kept is ever replaced.
pub fn keep_aside(path: &Path, folder: &Path) -> Result<Option<PathBuf>, FileError> {
    let Some(name) = path.file_name().filter(|_| path.is_file()) else { return Ok(None) };
    let failed = |error| FileError::during("keep a copy of", path)(error);
    for number in 1_u32.. {
        let kept = folder.join(number.to_string()).join(name);
        if fs::exists(&kept).map_err(failed)? {
            continue;
        }
        fs::create_dir_all(folder.join(number.to_string())).map_err(failed)?;
        // A copy and no link: another program may write into the file that stands there.
        fs::copy(path, &kept).and_then(|_| File::open(&kept)?.sync_all()).map_err(failed)?;
        return Ok(Some(kept));
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
