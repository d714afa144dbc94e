//! A chunk file, the input: what it says about its document, and where each chunk's text lies in it.
//!
//! The scan keeps places and hashes, never texts; a reader fetches single chunks later and refuses a file
//! that was edited in between. It knows nothing of results.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use qa_shared::data_uris::leave_out;
use qa_shared::model::{DocumentName, TextHash};
use qa_shared::tokens::estimate_tokens;
use serde_json::{Map, Value};

use super::chunk::{Chunk, TEXT_NAMES};
use super::fingerprint::Hashing;
use super::json_repair::Repairs;
use super::json_scan::{END_OF_FILE, Event, Piece, ScanError, Scanner};
use super::span::SpanReader;
use super::{ContentHash, Fingerprint, JsonText, Span};

/// What a chunk file may look like, for messages.
pub const EXPECTED: &str = "expected {\"status\": \"completed\", \"chunks\": [{\"text\": \"...\"}]}, \
     a list of such chunks, or one chunk per line (JSON Lines)";

/// Chunks without text that are named at most.
const MOST_NAMED: usize = 3;

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
    #[error("chunk file `{}` has no list `chunks`: {EXPECTED}", path.display())]
    NoChunks {
        /// The file.
        path: PathBuf,
    },
    /// A list or lines of something else than chunks.
    #[error("chunk file `{}` has no chunk with a text (element 0: {found}): {EXPECTED}", path.display())]
    NoTexts {
        /// The file.
        path: PathBuf,
        /// What the first element is instead.
        found: String,
    },
    /// More chunks than positions are counted for.
    #[error("chunk file `{}` has more than {} chunks; split the document", path.display(), u32::MAX)]
    TooManyChunks {
        /// The file.
        path: PathBuf,
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
    /// Its content then.
    pub content: ContentHash,
    /// `metadata` as it stands there; an empty object where it is missing.
    pub metadata: JsonText,
    /// `processing_info` as it stands there; an empty object where it is missing.
    pub processing_info: JsonText,
    /// One entry per chunk, by position.
    pub chunks: Vec<ChunkEntry>,
    /// `data:` addresses that prompts do without.
    pub data_uris: DataUris,
    /// What was read as something else than what stands there.
    pub repairs: Repairs,
    /// Chunks without a text.
    pub textless: Textless,
}

/// `data:` addresses in the texts of a document, see [`qa_shared::data_uris`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DataUris {
    /// Chunks with any.
    pub chunks: usize,
    /// How many there are.
    pub number: usize,
    /// Their length in bytes, all together.
    pub bytes: usize,
}

/// Chunks without a text: each is a failed chunk, not a failed document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Textless {
    /// How many there are.
    pub number: usize,
    /// Positions of the first few, with what stands there.
    pub first: Vec<(usize, String)>,
}

/// One chunk: its place and what it is recognised by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkEntry {
    /// The chunk's value in the file.
    pub span: Span,
    /// Of its text.
    pub text: TextHash,
    /// [`IdHash`] of its `chunk_id`; ids repeat in documents made from PDF pages.
    pub id: IdHash,
    /// What its text takes in a prompt, in estimated tokens.
    pub tokens: u32,
    /// What a task sends of its text, in bytes.
    pub bytes: u32,
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

/// How the chunks stand in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// An object with a status and a list of chunks.
    Object,
    /// A list of chunks, or chunks one after the other.
    Bare,
}

impl ChunkFile {
    /// Reads a chunk file once from end to end (JSON Lines: its first line twice). `name` is the document's, as
    /// the listing gave it.
    pub fn scan(path: &Path, name: DocumentName) -> Result<Scanned, ChunkFileError> {
        let unreadable = |error| ChunkFileError::Unreadable { path: path.to_owned(), error };
        let wrong = |error| match error {
            ScanError::Io(error) => unreadable(error),
            error => ChunkFileError::Damaged { path: path.to_owned(), error },
        };
        let file = File::open(path).map_err(unreadable)?;
        let mut bytes = Hashing::new(&file);
        let state = (Fingerprint::of_file(&file).map_err(unreadable)?, bytes.hash());
        let mut scan = Scan::new(path, name, state);
        let buffered = BufReader::with_capacity(64 * 1024, &mut bytes);
        let read = scan.read(Scanner::or_list(buffered, &["chunks"], BARE_LIST));
        scan.found.content = bytes.finish().map_err(unreadable)?;
        let is_followed =
            matches!(read, Err(ScanError::Unexpected { found: b'{' | b'"', expected: END_OF_FILE, .. }));
        if !is_followed {
            read.map_err(wrong)?;
        }
        if is_followed || scan.is_one_line() {
            let state = (scan.found.fingerprint, scan.found.content);
            scan = Scan { form: Form::Bare, ..Scan::new(path, scan.found.name, state) };
            (&file).seek(SeekFrom::Start(0)).map_err(unreadable)?;
            let buffered = BufReader::with_capacity(64 * 1024, &file);
            scan.read(Scanner::lines(buffered)).map_err(wrong)?;
        }
        scan.finish()
    }
}

/// The name of a list that is the whole file: no field that is streamed has it.
const BARE_LIST: &str = "";

/// A chunk file that is being read.
struct Scan {
    found: ChunkFile,
    form: Form,
    status: Option<String>,
    has_status: bool,
    has_chunks: bool,
    /// Whether the top-level object has a text of its own.
    has_text: bool,
}

impl Scan {
    fn new(path: &Path, name: DocumentName, (fingerprint, content): (Fingerprint, ContentHash)) -> Self {
        let nothing = JsonText::of(&Value::Object(Map::new()));
        let found = ChunkFile {
            path: path.to_owned(),
            name,
            fingerprint,
            content,
            metadata: nothing.clone(),
            processing_info: nothing,
            chunks: Vec::new(),
            data_uris: DataUris::default(),
            repairs: Repairs::default(),
            textless: Textless::default(),
        };
        Self {
            found,
            form: Form::Object,
            status: None,
            has_status: false,
            has_chunks: false,
            has_text: false,
        }
    }

    fn read<R: BufRead>(&mut self, mut scanner: Scanner<'_, R>) -> Result<(), ScanError> {
        while let Some(event) = scanner.next()? {
            match event {
                Event::Field { key, value } => self.field(&key, value)?,
                Event::ArrayStart { key } => {
                    self.form = if key == BARE_LIST { Form::Bare } else { Form::Object };
                    self.has_chunks = true;
                    self.found.clear();
                }
                Event::Element(piece) => self.found.add(piece)?,
                Event::ArrayEnd => {}
            }
        }
        Ok(())
    }

    fn field(&mut self, key: &str, value: Piece<'_>) -> Result<(), ScanError> {
        match key {
            "metadata" => self.found.metadata = self.kept(value)?,
            "processing_info" => self.found.processing_info = self.kept(value)?,
            _ => {
                let parsed: Value = value.parse()?;
                match key {
                    "status" => {
                        self.has_status = true;
                        self.status = parsed.as_str().map(str::to_owned);
                    }
                    "chunks" => self.has_chunks = false,
                    _ => self.has_text |= TEXT_NAMES.contains(&key) && parsed.is_string(),
                }
            }
        }
        Ok(())
    }

    fn kept(&mut self, value: Piece<'_>) -> Result<JsonText, ScanError> {
        let (text, repairs) = JsonText::read(value)?;
        self.found.repairs += repairs;
        Ok(text)
    }

    /// Whether the object is not a document but a chunk, alone in a file of JSON Lines.
    fn is_one_line(&self) -> bool {
        self.form == Form::Object && self.has_text && !self.has_status && !self.has_chunks
    }

    fn finish(self) -> Result<Scanned, ChunkFileError> {
        let Self { mut found, form, status, has_chunks, .. } = self;
        let path = found.path.clone();
        if form == Form::Object {
            if status.as_deref() != Some("completed") {
                return Ok(Scanned::Skipped { status });
            }
            if !has_chunks {
                return Err(ChunkFileError::NoChunks { path });
            }
        } else if found.textless.number == found.chunks.len() {
            let first = found.textless.first.into_iter().next();
            let found = first.map_or_else(|| "there is none".to_owned(), |(_, found)| found);
            return Err(ChunkFileError::NoTexts { path, found });
        }
        if u32::try_from(found.chunks.len()).is_err() {
            return Err(ChunkFileError::TooManyChunks { path });
        }
        found.chunks.shrink_to_fit();
        Ok(Scanned::Ready(Box::new(found)))
    }
}

impl ChunkFile {
    fn clear(&mut self) {
        self.chunks.clear();
        self.data_uris = DataUris::default();
        self.textless = Textless::default();
    }

    fn add(&mut self, piece: Piece<'_>) -> Result<(), ScanError> {
        let chunk = Chunk::read(piece.raw).map_err(|error| piece.wrong(error))?;
        self.repairs += piece.repairs();
        let (tokens, bytes) = match &chunk.text {
            Ok(text) => {
                let (sent, left_out) = leave_out(text);
                self.data_uris.chunks += usize::from(left_out.uris > 0);
                self.data_uris.number += left_out.uris;
                self.data_uris.bytes += left_out.bytes;
                (estimate_tokens(&sent), u32::try_from(sent.len()).unwrap_or(u32::MAX))
            }
            Err(problem) => {
                self.textless.number += 1;
                if self.textless.first.len() < MOST_NAMED {
                    self.textless.first.push((self.chunks.len(), problem.clone()));
                }
                (0, 0)
            }
        };
        self.chunks.push(ChunkEntry {
            span: piece.span,
            text: chunk.text_hash(),
            id: IdHash::of(&chunk.chunk_id),
            tokens,
            bytes,
        });
        Ok(())
    }
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
        match Chunk::read(&self.piece) {
            Ok(chunk) if chunk.text_hash() == entry.text => Ok(chunk),
            _ => Err(edited()),
        }
    }

    /// [`ChunkFileError::Edited`] if the file's content changed since the scan.
    pub fn check_unedited(&self) -> Result<(), ChunkFileError> {
        let path = &self.file.path;
        let unreadable = |error| ChunkFileError::Unreadable { path: path.clone(), error };
        if self.file.fingerprint.still_holds(path, self.file.content).map_err(unreadable)? {
            Ok(())
        } else {
            Err(ChunkFileError::Edited { path: path.clone() })
        }
    }
}

#[cfg(test)]
mod tests;
