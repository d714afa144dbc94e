//! A chunk file, the input: what it says about its document, and where each chunk's text lies in it.
//!
//! The scan keeps places and hashes, never texts; a reader fetches single chunks later and refuses a file
//! that was edited in between. It knows nothing of results.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use qa_shared::model::{DocumentName, TextHash};
use qa_shared::tokens::estimate_tokens;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::json_scan::{Event, Piece, ScanError, Scanner};
use super::span::SpanReader;
use super::{Fingerprint, JsonText, Span};

/// Why a chunk file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ChunkFileError {
    /// The system could not read it.
    #[error("chunk file `{}` cannot be read: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's words.
        error: io::Error,
    },
    /// Truncated, not JSON, or not an object.
    #[error("chunk file `{}` is damaged: {error}; make it again with the chunker", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where and what.
        error: ScanError,
    },
    /// It has no `chunks`, or they are no list.
    #[error("chunk file `{}` has no list `chunks`; make it again with the chunker", path.display())]
    NoChunks {
        /// The file.
        path: PathBuf,
    },
    /// More chunks than positions are counted for.
    #[error("chunk file `{}` has more than {} chunks; split the document", path.display(), u32::MAX)]
    TooManyChunks {
        /// The file.
        path: PathBuf,
    },
    /// A chunk without a usable text.
    #[error("chunk file `{}`: chunk {position} {problem}; make the file again with the chunker", path.display())]
    BadChunk {
        /// The file.
        path: PathBuf,
        /// The chunk's position in `chunks`, from 0.
        position: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// It changed after it was scanned.
    #[error(
        "chunk file `{}` was edited while this run was using it; stop editing and go on with --resume",
        path.display()
    )]
    Edited {
        /// The file.
        path: PathBuf,
    },
}

/// What a scan of a chunk file found.
#[derive(Debug)]
pub enum Scanned {
    /// A document to work on.
    Ready(Box<ChunkFile>),
    /// The chunker has not finished it: to be listed, not an error.
    Skipped {
        /// The status that it has; `None` where it has none or one that is no text.
        status: Option<String>,
    },
}

/// A scanned chunk file.
#[derive(Debug, Clone)]
pub struct ChunkFile {
    /// Where it is.
    pub path: PathBuf,
    /// The document's name.
    pub name: DocumentName,
    /// Its state when it was scanned.
    pub fingerprint: Fingerprint,
    /// `metadata` as it stands there; an empty object where it is missing.
    pub metadata: JsonText,
    /// `processing_info` as it stands there; an empty object where it is missing.
    pub processing_info: JsonText,
    /// One entry per chunk, by position.
    pub chunks: Vec<ChunkEntry>,
    /// What the longest text takes, in estimated tokens.
    pub longest_tokens: u32,
}

/// One chunk: its place and what it is recognised by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkEntry {
    /// The chunk's object in the file.
    pub span: Span,
    /// Of its text.
    pub text: TextHash,
    /// [`IdHash`] of its `chunk_id`; ids repeat in documents made from PDF pages.
    pub id: IdHash,
    /// What its text takes, in estimated tokens.
    pub tokens: u32,
}

/// One chunk as it stands in the file. What is missing is null.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Chunk {
    /// The text.
    pub text: String,
    /// Such as `0_12`.
    #[serde(default)]
    pub chunk_id: Value,
    /// Restarts on every page of a PDF.
    #[serde(default)]
    pub chunk_index: Value,
    /// Where the text begins in the document, in characters.
    #[serde(default)]
    pub start_char: Value,
    /// Where it ends.
    #[serde(default)]
    pub end_char: Value,
}

/// By which a `chunk_id` of any type is compared; means something within this process only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IdHash(u64);

impl IdHash {
    /// Of a `chunk_id`.
    pub fn of(id: &Value) -> Self {
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        Self(hasher.finish())
    }
}

impl ChunkFile {
    /// Reads a chunk file once from end to end. `name` is the document's, as the listing gave it.
    pub fn scan(path: &Path, name: DocumentName) -> Result<Scanned, ChunkFileError> {
        let unreadable = |error| ChunkFileError::Unreadable { path: path.to_owned(), error };
        let damaged = |error| match error {
            ScanError::Io(error) => ChunkFileError::Unreadable { path: path.to_owned(), error },
            error => ChunkFileError::Damaged { path: path.to_owned(), error },
        };
        let file = File::open(path).map_err(unreadable)?;
        let fingerprint = Fingerprint::of_file(&file).map_err(unreadable)?;
        let mut scanner = Scanner::new(BufReader::with_capacity(64 * 1024, file), &["chunks"]);
        let mut status = None;
        let mut has_chunks = false;
        let mut first_bad = None;
        let mut found = Self {
            path: path.to_owned(),
            name,
            fingerprint,
            metadata: JsonText::of(&Value::Object(Map::new())),
            processing_info: JsonText::of(&Value::Object(Map::new())),
            chunks: Vec::new(),
            longest_tokens: 0,
        };
        while let Some(event) = scanner.next().map_err(damaged)? {
            match event {
                Event::Field { key, value } => match key.as_str() {
                    "metadata" => found.metadata = JsonText::read(value).map_err(damaged)?,
                    "processing_info" => found.processing_info = JsonText::read(value).map_err(damaged)?,
                    field => {
                        let parsed: Value = value.parse().map_err(damaged)?;
                        match field {
                            "status" => status = parsed.as_str().map(str::to_owned),
                            "chunks" => has_chunks = false,
                            _ => {}
                        }
                    }
                },
                Event::ArrayStart { .. } => {
                    has_chunks = true;
                    first_bad = None;
                    found.chunks.clear();
                    found.longest_tokens = 0;
                }
                Event::Element(piece) => match read_chunk(piece) {
                    Ok(chunk) => found.add(piece.span, &chunk),
                    Err(problem) if first_bad.is_none() => first_bad = Some((found.chunks.len(), problem)),
                    Err(_) => {}
                },
                Event::ArrayEnd => {}
            }
        }
        if status.as_deref() != Some("completed") {
            return Ok(Scanned::Skipped { status });
        }
        let path = || path.to_owned();
        if !has_chunks {
            return Err(ChunkFileError::NoChunks { path: path() });
        }
        if let Some((position, problem)) = first_bad {
            return Err(ChunkFileError::BadChunk { path: path(), position, problem });
        }
        if u32::try_from(found.chunks.len()).is_err() {
            return Err(ChunkFileError::TooManyChunks { path: path() });
        }
        found.chunks.shrink_to_fit();
        Ok(Scanned::Ready(Box::new(found)))
    }

    fn add(&mut self, span: Span, chunk: &Chunk) {
        let tokens = estimate_tokens(&chunk.text);
        self.longest_tokens = self.longest_tokens.max(tokens);
        self.chunks.push(ChunkEntry {
            span,
            text: TextHash::of(&chunk.text),
            id: IdHash::of(&chunk.chunk_id),
            tokens,
        });
    }
}

fn read_chunk(piece: Piece<'_>) -> Result<Chunk, String> {
    piece.parse().map_err(|error| match piece.parse::<Value>() {
        Err(_) => error.to_string(),
        Ok(Value::Object(fields)) => match fields.get("text") {
            None => "has no `text`".to_owned(),
            Some(Value::String(_)) => error.to_string(),
            Some(_) => "has a `text` that is no string".to_owned(),
        },
        Ok(_) => "is no object".to_owned(),
    })
}

/// Fetches single chunks of a scanned file.
#[derive(Debug)]
pub struct ChunkReader<'f> {
    file: &'f ChunkFile,
    spans: SpanReader,
    piece: Vec<u8>,
}

impl<'f> ChunkReader<'f> {
    /// Opens the file again; [`ChunkFileError::Edited`] if it is not the one that was scanned.
    pub fn open(file: &'f ChunkFile) -> Result<Self, ChunkFileError> {
        let unreadable = |error| ChunkFileError::Unreadable { path: file.path.clone(), error };
        let spans = SpanReader::open(&file.path).map_err(unreadable)?;
        let reader = Self { file, spans, piece: Vec::new() };
        reader.check_unedited()?;
        Ok(reader)
    }

    /// The scanned file.
    pub fn file(&self) -> &'f ChunkFile {
        self.file
    }

    /// The chunk at a position. Its text is the one that was hashed.
    pub fn read(&mut self, position: usize) -> Result<Chunk, ChunkFileError> {
        let edited = || ChunkFileError::Edited { path: self.file.path.clone() };
        let entry = self.file.chunks.get(position).ok_or_else(edited)?;
        self.spans.read(entry.span, &mut self.piece).map_err(|_| edited())?;
        match serde_json::from_slice::<Chunk>(&self.piece) {
            Ok(chunk) if TextHash::of(&chunk.text) == entry.text => Ok(chunk),
            _ => Err(edited()),
        }
    }

    /// [`ChunkFileError::Edited`] if the file changed or was replaced since the scan.
    pub fn check_unedited(&self) -> Result<(), ChunkFileError> {
        let path = &self.file.path;
        let unreadable = |error| ChunkFileError::Unreadable { path: path.clone(), error };
        let opened = Fingerprint::of_file(self.spans.file()).map_err(unreadable)?;
        let on_disk = Fingerprint::of(path).map_err(unreadable)?;
        if opened == self.file.fingerprint && on_disk == self.file.fingerprint {
            Ok(())
        } else {
            Err(ChunkFileError::Edited { path: path.clone() })
        }
    }
}

#[cfg(test)]
mod tests;
