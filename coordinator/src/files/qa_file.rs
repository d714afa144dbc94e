//! A Q&A file, ours or the Python program's: what it says about its document, and where its records and
//! pairs lie.
//!
//! Loading keeps places, hashes and figures, never questions or texts. Which chunk a pair belongs to today
//! is decided in [`mod@super::adopt`].

use std::collections::BTreeSet;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use qa_shared::model::{Failure, FailureReason, TextHash, Usage};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::chunk_file::IdHash;
use super::fingerprint::Hashing;
use super::json_scan::{Event, ScanError, Scanner};
use super::output_place::no_file;
use super::{ContentHash, Fingerprint, RecordStatus, Span};

/// Why a Q&A file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum QaFileError {
    /// The system could not read it.
    #[error("Q&A file `{}` cannot be read: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's words.
        error: io::Error,
    },
    /// Truncated, not JSON, or with a record or pair that is none.
    #[error(
        "Q&A file `{}` is damaged: {error}; restore it from a backup, or move it away to have its document \
         generated again",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where and what.
        error: ScanError,
    },
}

/// A loaded Q&A file.
#[derive(Debug, Clone)]
pub struct QaFile {
    /// Where it is, in which state, who made it, its unknown fields: what a snapshot needs of it.
    pub source: QaSource,
    /// `status` as it stands there.
    pub status: Option<String>,
    /// `metadata` as it stands there; null if missing.
    pub metadata: Value,
    /// `processing_info` as it stands there; null if missing.
    pub processing_info: Value,
    /// `summary` as it stands there; null if missing.
    pub summary: Value,
    /// `completion_time` as it stands there.
    pub completion_time: Option<String>,
    /// One entry per record; a Python file has none.
    pub records: Vec<RecordEntry>,
    /// One entry per usable pair, in the file's order.
    pub pairs: Vec<PairEntry>,
    /// `completed_chunks`, sorted, each once.
    pub completed: Vec<u32>,
    /// `failed_chunks`, sorted, each once, without those that are completed too.
    pub failed: Vec<u32>,
    /// What was put right while reading.
    pub defects: Defects,
}

/// The file that a snapshot takes finished chunks from.
#[derive(Debug, Clone)]
pub struct QaSource {
    /// Where it is.
    pub path: PathBuf,
    /// Its state when it was read or written.
    pub fingerprint: Fingerprint,
    /// Its content then.
    pub content: ContentHash,
    /// `qa_generation_info` as it stands there; null if missing.
    pub generation_info: Value,
    /// Top-level fields that this version does not know, with their values as they stand there.
    pub unknown: Vec<(String, Box<RawValue>)>,
    /// Whether it holds what is no JSON and was read repaired, see [`super::Repairs`]: copies have to be repaired.
    pub is_flawed: bool,
}

/// A record and its place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RecordEntry {
    /// The record's object in the file.
    pub span: Span,
    /// Position of the chunk when the record was written.
    pub chunk: u32,
    /// Of the text that was asked about.
    pub text: TextHash,
    /// Pairs or none.
    pub status: RecordStatus,
    /// The round.
    pub round: u32,
    /// Pairs asked for; 0 if unknown.
    pub asked: u32,
    /// Pairs that there were.
    pub got: u32,
    /// Why there are none.
    pub reason: Option<FailureReason>,
    /// Model calls made.
    pub attempts: u32,
    /// Tokens of all attempts.
    pub usage: Usage,
}

/// A pair and its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PairEntry {
    /// The pair's object in the file.
    pub span: Span,
    /// Of its `source_text`.
    pub text: TextHash,
    /// Of its `chunk_id`.
    pub id: IdHash,
    /// Of question and answer; means something within this process only.
    pub words: u64,
}

/// What a file holds that it should not; counted for the user, harmless to the run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Defects {
    /// Entries of `completed_chunks` or `failed_chunks` that stand there twice or in both.
    pub doubled_chunks: usize,
    /// Entries there that are no positions.
    pub not_positions: usize,
    /// Pairs without question, answer or source text.
    pub unusable_pairs: usize,
    /// Values, records and pairs that are no JSON and were read repaired.
    pub repaired: usize,
}

#[derive(Deserialize)]
struct RecordView {
    chunk: u32,
    text_hash: TextHash,
    status: RecordStatus,
    #[serde(default)]
    round: u32,
    #[serde(default)]
    asked: u32,
    #[serde(default)]
    got: u32,
    #[serde(default)]
    attempts: u32,
    #[serde(default)]
    input_tokens: u64,
    #[serde(default)]
    cached_tokens: u64,
    #[serde(default)]
    cache_write_tokens: u64,
    #[serde(default)]
    output_tokens: u64,
    #[serde(default)]
    reasoning_tokens: u64,
    #[serde(default)]
    estimated_input_tokens: u64,
    #[serde(default)]
    estimated_output_tokens: u64,
    #[serde(default)]
    error: Option<Failure>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PairView {
    question: Value,
    answer: Value,
    chunk_id: Value,
    source_text: Value,
}

impl QaFile {
    /// Reads a Q&A file once from end to end.
    pub fn load(path: &Path) -> Result<Self, QaFileError> {
        let unreadable = |error| QaFileError::Unreadable { path: path.to_owned(), error };
        let file = File::open(path).map_err(unreadable)?;
        let fingerprint = Fingerprint::of_file(&file).map_err(unreadable)?;
        let mut bytes = Hashing::new(file);
        let source = QaSource {
            path: path.to_owned(),
            fingerprint,
            content: bytes.hash(),
            generation_info: Value::Null,
            unknown: Vec::new(),
            is_flawed: false,
        };
        let mut loaded = Self::empty(source);
        loaded.read(BufReader::with_capacity(64 * 1024, &mut bytes)).map_err(|error| match error {
            ScanError::Io(error) => unreadable(error),
            error => QaFileError::Damaged { path: path.to_owned(), error },
        })?;
        loaded.source.content = bytes.finish().map_err(unreadable)?;
        Ok(loaded)
    }

    /// The same, or nothing where there is no such file.
    pub fn load_if_there(path: &Path) -> Result<Option<Self>, QaFileError> {
        if matches!(std::fs::exists(path), Ok(false)) {
            return Ok(None);
        }
        if let Some(found) = no_file(path) {
            // Opening a FIFO would wait for a writer.
            let error = io::Error::new(ErrorKind::InvalidInput, format!("it {found}"));
            return Err(QaFileError::Unreadable { path: path.to_owned(), error });
        }
        Self::load(path).map(Some)
    }

    /// A file in which nothing stands.
    pub(crate) fn empty(source: QaSource) -> Self {
        Self {
            source,
            status: None,
            metadata: Value::Null,
            processing_info: Value::Null,
            summary: Value::Null,
            completion_time: None,
            records: Vec::new(),
            pairs: Vec::new(),
            completed: Vec::new(),
            failed: Vec::new(),
            defects: Defects::default(),
        }
    }

    /// `questions_per_chunk` of the settings that the file was begun with.
    pub fn questions_per_chunk(&self) -> Option<u32> {
        self.source.generation_info.get("questions_per_chunk")?.as_u64()?.try_into().ok()
    }

    fn read(&mut self, file: BufReader<impl Read>) -> Result<(), ScanError> {
        let mut scanner = Scanner::new(file, &["chunks", "training_pairs"]);
        let mut completed = Vec::new();
        let mut failed = Vec::new();
        let mut in_pairs = false;
        let mut texts = None;
        while let Some(event) = scanner.next()? {
            if let Event::Field { value: piece, .. } | Event::Element(piece) = &event {
                self.defects.repaired += usize::from(piece.repairs().any());
            }
            match event {
                Event::Field { key, value } => match key.as_str() {
                    "status" => self.status = value.parse::<Value>()?.as_str().map(str::to_owned),
                    "metadata" => self.metadata = value.parse()?,
                    "processing_info" => self.processing_info = value.parse()?,
                    "qa_generation_info" => self.source.generation_info = value.parse()?,
                    "summary" => self.summary = value.parse()?,
                    "completion_time" => {
                        self.completion_time = value.parse::<Value>()?.as_str().map(str::to_owned);
                    }
                    "completed_chunks" => {
                        completed = value.parse::<Option<Vec<Value>>>()?.unwrap_or_default();
                    }
                    "failed_chunks" => {
                        failed = value.parse::<Option<Vec<Value>>>()?.unwrap_or_default();
                    }

                    "chunks" | "training_pairs" | "error" => drop(value.parse::<Value>()?),
                    _ => {
                        let (raw, _) = value.text()?;
                        self.source.unknown.retain(|(known, _)| *known != key);
                        self.source.unknown.push((key, raw));
                    }
                },
                Event::ArrayStart { key } => {
                    in_pairs = key == "training_pairs";
                    if in_pairs {
                        self.pairs.clear();
                    } else {
                        self.records.clear();
                    }
                }
                Event::Element(piece) if in_pairs => self.add_pair(piece.span, &piece.parse()?, &mut texts),
                Event::Element(piece) => self.records.push(record_entry(piece.span, &piece.parse()?)),
                Event::ArrayEnd => {}
            }
        }
        self.source.is_flawed = self.defects.repaired > 0;
        let completed = self.positions(&completed);
        let mut failed = self.positions(&failed);
        let before = failed.len();
        failed.retain(|position| !completed.contains(position));
        self.defects.doubled_chunks += before - failed.len();
        self.completed = completed.into_iter().collect();
        self.failed = failed.into_iter().collect();
        Ok(())
    }

    fn positions(&mut self, listed: &[Value]) -> BTreeSet<u32> {
        let mut positions = BTreeSet::new();
        for value in listed {
            match value.as_u64().and_then(|position| u32::try_from(position).ok()) {
                None => self.defects.not_positions += 1,
                Some(position) if !positions.insert(position) => self.defects.doubled_chunks += 1,
                Some(_) => {}
            }
        }
        positions
    }

    /// `texts` is the last pair's source text with its hash: pairs of one chunk follow each other.
    fn add_pair(&mut self, span: Span, pair: &PairView, texts: &mut Option<(String, TextHash)>) {
        let said = |value: &Value| value.as_str().is_some_and(|words| !words.trim().is_empty());
        let (true, true, Value::String(source)) =
            (said(&pair.question), said(&pair.answer), &pair.source_text)
        else {
            self.defects.unusable_pairs += 1;
            return;
        };
        let mut words = DefaultHasher::new();
        (&pair.question, &pair.answer).hash(&mut words);
        let text = match texts {
            Some((text, hash)) if text == source => *hash,
            _ => texts.insert((source.clone(), TextHash::of(source))).1,
        };
        let id = IdHash::of(&pair.chunk_id);
        self.pairs.push(PairEntry { span, text, id, words: words.finish() });
    }
}

fn record_entry(span: Span, view: &RecordView) -> RecordEntry {
    let failed = view.status == RecordStatus::Failed;
    let reason = view.error.as_ref().map_or(FailureReason::Other, |error| error.reason);
    RecordEntry {
        span,
        chunk: view.chunk,
        text: view.text_hash,
        status: view.status,
        round: view.round,
        asked: view.asked,
        got: view.got,
        reason: failed.then_some(reason),
        attempts: view.attempts,
        usage: Usage {
            input_tokens: view.input_tokens,
            cached_tokens: view.cached_tokens,
            cache_write_tokens: view.cache_write_tokens,
            output_tokens: view.output_tokens,
            reasoning_tokens: view.reasoning_tokens,
            estimated_input_tokens: view.estimated_input_tokens,
            estimated_output_tokens: view.estimated_output_tokens,
            ..Usage::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::fixtures::Document;
    use super::*;

    fn load_text(text: &str) -> Result<QaFile, QaFileError> {
        let folder = qa_shared::testing::temporary_folder();
        let path = folder.path().join("a_qa.json");
        fs::write(&path, text).unwrap();
        QaFile::load(&path)
    }

    #[test]
    fn a_python_file_is_read_with_the_places_of_its_pairs() {
        let folder = qa_shared::testing::temporary_folder();
        let path = Document::plain("a", &["one", "two"]).write_python_qa(folder.path(), &[0, 1], &[], 3);
        let file = QaFile::load(&path).unwrap();
        assert_eq!(
            (file.records.len(), file.pairs.len(), file.completed.as_slice()),
            (0, 6, [0, 1].as_slice())
        );
        assert_eq!((file.status.as_deref(), file.questions_per_chunk()), (Some("completed"), Some(3)));
        let bytes = fs::read(&path).unwrap();
        let span = file.pairs[5].span;
        let start = usize::try_from(span.offset).unwrap();
        let pair: Value =
            serde_json::from_slice(&bytes[start..start + usize::try_from(span.len).unwrap()]).unwrap();
        assert_eq!((&pair["source_text"], &pair["chunk_id"]), (&"two".into(), &"0_1".into()));
        assert_eq!((file.pairs[5].text, file.pairs[5].id), (TextHash::of("two"), IdHash::of(&"0_1".into())));
    }

    #[test]
    fn doubled_and_contradictory_lists_are_put_right() {
        let text = r#"{"completed_chunks": [2, 0, 2], "failed_chunks": [1, 1, 2, -1, "x"],
            "training_pairs": [{"question": "q", "answer": " ", "source_text": "t"}, {"question": ["q"]}]}"#;
        let file = load_text(text).unwrap();
        assert_eq!((file.completed.as_slice(), file.failed.as_slice()), ([0, 2].as_slice(), [1].as_slice()));
        assert_eq!(
            file.defects,
            Defects { doubled_chunks: 3, not_positions: 2, unusable_pairs: 2, repaired: 0 }
        );
    }

    #[test]
    fn unknown_fields_are_kept_as_they_stand() {
        let file = load_text(r#"{"later": {"b": 1.50, "a": []}, "chunks": [], "status": "x"}"#).unwrap();
        let [(key, raw)] = file.source.unknown.as_slice() else { panic!() };
        assert_eq!((key.as_str(), raw.get()), ("later", r#"{"b": 1.50, "a": []}"#));
    }

    #[test]
    fn a_damaged_file_is_an_error_that_names_it() {
        for (text, words) in [
            ("{\"training_pairs\": [", "truncated"),
            (r#"{"chunks": [{"chunk": 1}]}"#, "at byte 12"),
            (r#"{"training_pairs": [1]}"#, "at byte 20"),
        ] {
            let error = load_text(text).unwrap_err().to_string();
            assert!(error.contains("a_qa.json") && error.contains(words), "{error}");
        }
    }
}
