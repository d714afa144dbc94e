//! The only code of the coordinator that touches files: chunk files, the journal, Q&A files, the combined
//! file, the job folder.
//!
//! Synchronous; the driver calls it from blocking threads. Large files are read and written as streams and
//! known by places in them, so memory holds neither a document's texts nor its pairs. It decides nothing
//! about a running job: what counts as done is for the core.

pub mod adopt;
mod atomic;
pub mod browse;
mod chunk;
pub mod chunk_file;
mod columns;
pub mod combined;
mod combined_owner;
pub mod directories;
mod directory_lock;
mod event_log;
pub mod failure_log;
mod file_error;
mod fingerprint;
#[cfg(test)]
pub(crate) mod fixtures;
mod interrupt;
pub mod job_folder;
pub mod journal;
mod json_repair;
mod json_scan;
mod json_text;
mod kept_settings;
mod known_documents;
pub mod listing;
mod log_file;
mod namesakes;
mod new_directories;
mod output_place;
mod pretty;
mod provenance;
pub mod qa_file;
pub mod qa_writer;
mod record;
pub mod records;
#[cfg(test)]
mod scale_tests;
mod source;
mod span;
pub mod summary;
mod timestamp;
mod usage;

pub use adopt::{Adopted, AdoptedCounts, adopt};
pub use atomic::{AtomicFile, remove_file, remove_unfinished, sync_directory, write_file};
pub use browse::{BrowseError, Browser, OpenDocument, SeenChunk, Stage};
pub use chunk::Chunk;
pub use chunk_file::{
    ChunkEntry, ChunkFile, ChunkFileError, ChunkReader, DataUris, EXPECTED, IdHash, Scanned, Textless,
};
pub use combined::{Combine, CombineError, CombineReport, check_output, claim_output, combine};
pub use directories::{
    Directory, DirectoryError, QaDirectory, existing_output_directory, future_output_directory,
    input_directory, needed_directory, output_directory, qa_directory,
};
pub use directory_lock::{DirectoryLock, Holder};
pub use event_log::{EventLog, Logged, read_events};
pub use failure_log::{
    FAILURE_LOG_BYTES, FailureLine, FailureLog, LoggedFailure, existing, failure_log_paths, read_failures,
};
pub use file_error::FileError;
pub use fingerprint::{ContentHash, Fingerprint};
pub use interrupt::interrupt_documents;
pub use job_folder::{FOLDER, JobFile, JobFolder, JobFolderError};
pub use journal::{Entry, EntryLocation, Journal, JournalError, JournalReader, SEGMENT_BYTES, TornEnd};
pub use json_repair::Repairs;
pub use json_scan::{Event, Piece, ScanError, Scanner};
pub use json_text::JsonText;
pub use kept_settings::KeptSettings;
pub use known_documents::KnownDocuments;
pub use listing::{
    DocumentPath, Listing, QA_ENDING, Unusable, chunk_path, find_chunk_files, find_qa_files, qa_path,
};
pub use namesakes::{Namesakes, first_double, one_file};
pub use new_directories::NewDirectories;
pub use output_place::{PlaceError, check_summary};
pub use qa_file::{Defects, PairEntry, QaFile, QaFileError, QaSource, RecordEntry};
pub use qa_writer::{
    Snapshot, SnapshotError, Written, generation_info, keep_aside, write_snapshot, write_unprocessable,
};
pub use record::{ChunkRecord, RecordStatus, prompt_hash};
pub use records::{Journalled, JournalledResult, beats, each_record, journalled};
pub use source::{ChunkSource, Finished, FinishedChunk, RecordPlace};
pub use span::Span;
pub use summary::{
    ChunkFigures, CombinedFigures, MissingDocument, PairFigures, RunSummary, SampleFigures, SlowChunk,
    SpeculationFigures, SpentFigures, UsageFigures, load_summary, write_summary,
};
pub use timestamp::{local_time, naive_local, now};
