//! The merge itself: the fields in the Python program's order, chunk after chunk.
//!
//! It notes the new place of everything that it writes, so that the file need not be read again.

use qa_shared::model::{Failure, FailureReason, Pair};
use serde::Serialize;
use serde_json::{Value, json};

use super::super::atomic::AtomicFile;
use super::super::chunk_file::ChunkReader;
use super::super::fingerprint::Hashing;
use super::super::json_repair::repaired;
use super::super::pretty::pretty;
use super::super::provenance::Provenance;
use super::super::qa_file::QaSource;
use super::super::record::count;
use super::super::source::{ChunkSource, Finished, FinishedChunk, RecordPlace};
use super::super::span::SpanReader;
use super::super::usage::DocumentUsage;
use super::super::{ChunkRecord, Entry, EntryLocation, FileError, Fingerprint, RecordStatus, Span};
use super::{Snapshot, SnapshotError, Written, keep_aside};
use crate::core::FileStatus;

/// A file being written.
pub(super) struct Writer<'a> {
    input: Snapshot<'a>,
    out: AtomicFile,
    content: Hashing<()>,
    texts: ChunkReader<'a>,
    old: Option<SpanReader>,
    piece: Vec<u8>,
    done: Vec<ChunkSource>,
    covered: Vec<EntryLocation>,
    pairs: u64,
    /// Of a finished document.
    usage: Option<DocumentUsage<'a>>,
}

impl<'a> Writer<'a> {
    /// Opens everything.
    pub(super) fn begin(input: Snapshot<'a>) -> Result<Self, SnapshotError> {
        let texts = ChunkReader::open(input.chunk_file)?;
        let old = match input.previous {
            Some(previous) if input.chunks.iter().any(|chunk| matches!(chunk, ChunkSource::Previous(_))) => {
                Some(open_previous(previous)?)
            }
            _ => None,
        };
        Ok(Self {
            out: AtomicFile::create(input.target)?,
            content: Hashing::new(()),
            texts,
            old,
            piece: Vec::new(),
            done: vec![ChunkSource::Outstanding; input.chunk_file.chunks.len()],
            covered: Vec::new(),
            pairs: 0,
            usage: input.status.is_finished().then(|| DocumentUsage::new(input.models)),
            input,
        })
    }

    /// Writes all of it and puts it in its place.
    pub(super) fn write(mut self) -> Result<Written, SnapshotError> {
        self.put(b"{\n  \"metadata\": ")?;
        let metadata = self.input.chunk_file.metadata.value();
        self.put_value(&metadata, 1)?;
        self.field("processing_info", &self.input.chunk_file.processing_info.value())?;
        self.field("qa_generation_info", self.input.generation_info)?;
        self.put(b",\n  \"chunks\": ")?;
        self.records()?;
        self.put(b",\n  \"training_pairs\": ")?;
        self.pairs(&metadata)?;
        self.rest()?;
        self.finish()
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        self.content.add(bytes);
        self.out.put(bytes)
    }

    fn put_value<T: Serialize + ?Sized>(&mut self, value: &T, depth: usize) -> Result<Span, FileError> {
        let text = pretty(value, depth).expect("a value with text keys can be written");
        self.put_span(&text)
    }

    fn put_span(&mut self, bytes: &[u8]) -> Result<Span, FileError> {
        let span = Span { offset: self.out.written(), len: bytes.len() as u64 };
        self.put(bytes)?;
        Ok(span)
    }

    fn field<T: Serialize + ?Sized>(&mut self, key: &str, value: &T) -> Result<(), FileError> {
        self.put(b",\n  ")?;
        self.put_value(key, 0)?;
        self.put(b": ")?;
        self.put_value(value, 1)?;
        Ok(())
    }

    fn element(&mut self, first: &mut bool) -> Result<(), FileError> {
        self.put(if *first { b"[\n    " } else { b",\n    " })?;
        *first = false;
        Ok(())
    }

    fn end_array(&mut self, empty: bool) -> Result<(), FileError> {
        self.put(if empty { b"[]" } else { b"\n  ]" })
    }

    fn records(&mut self) -> Result<(), SnapshotError> {
        let mut first = true;
        for position in 0..self.input.chunk_file.chunks.len() {
            let done = match self.input.chunks.get(position) {
                None | Some(ChunkSource::Outstanding) => continue,
                Some(ChunkSource::Previous(chunk)) => {
                    let (chunk, text) = (chunk.clone(), self.previous_record(position, chunk.record)?);
                    self.element(&mut first)?;
                    let record = match text {
                        Some(text) => {
                            self.add_usage(position, &text)?;
                            self.put_span(&text)?
                        }
                        None => self.put_value(&self.synthesised(position, &chunk), 2)?,
                    };
                    let record = Some(RecordPlace { span: record, is_exact: true });
                    // The pairs' new places follow when they are written.
                    FinishedChunk { record, ..chunk }
                }
                Some(ChunkSource::Journal(location)) => {
                    let (location, (record, _)) = (*location, self.result(position, *location)?);
                    self.covered.push(location);
                    self.element(&mut first)?;
                    if let Some(usage) = &mut self.usage {
                        usage.add(&record);
                    }
                    let span = self.put_value(&record, 2)?;
                    let finished = match (&record.status, &record.error) {
                        (RecordStatus::Completed, _) => Finished::Completed { pairs: Vec::new() },
                        (RecordStatus::Failed, Some(error)) => Finished::Failed { reason: error.reason },
                        (RecordStatus::Failed, None) => Finished::Failed { reason: FailureReason::Other },
                    };
                    FinishedChunk {
                        record: Some(RecordPlace { span, is_exact: true }),
                        round: record.round,
                        asked: record.asked,
                        finished,
                    }
                }
            };
            self.done[position] = ChunkSource::Previous(done);
        }
        self.end_array(first)?;
        Ok(())
    }

    /// Adds what a record that is copied says was used.
    fn add_usage(&mut self, position: usize, record: &[u8]) -> Result<(), SnapshotError> {
        let Some(usage) = &mut self.usage else { return Ok(()) };
        match serde_json::from_slice(record) {
            Ok(record) => usage.add(&record),
            Err(_) => return Err(self.misplaced(position, "no record")),
        }
        Ok(())
    }

    /// The old record with its position and its number of pairs put right.
    fn previous_record(
        &mut self,
        position: usize,
        place: Option<RecordPlace>,
    ) -> Result<Option<Vec<u8>>, SnapshotError> {
        let Some(place) = place else { return Ok(None) };
        self.read_old(place.span, position)?;
        if place.is_exact {
            return Ok(Some(std::mem::take(&mut self.piece)));
        }
        let mut record: ChunkRecord =
            serde_json::from_slice(&self.piece).map_err(|_| self.misplaced(position, "no record"))?;
        record.chunk = count(position);
        if let Some(ChunkSource::Previous(chunk)) = self.input.chunks.get(position) {
            record.got = chunk.finished.got();
        }
        Ok(Some(pretty(&record, 2).expect("a record with text keys can be written")))
    }

    /// A record for a chunk of the Python program: what its file knows about every chunk.
    fn synthesised(&self, position: usize, chunk: &FinishedChunk) -> ChunkRecord {
        let text = self.input.chunk_file.chunks[position].text;
        let made_by = |key: &str| self.input.previous.and_then(|previous| previous.generation_info.get(key));
        let (status, error) = match &chunk.finished {
            Finished::Completed { .. } => (RecordStatus::Completed, None),
            Finished::Failed { reason } => {
                let message = "failed before this program took the document over".to_owned();
                (RecordStatus::Failed, Some(Failure { reason: *reason, message }))
            }
        };
        ChunkRecord {
            round: chunk.round,
            asked: chunk.asked,
            got: chunk.finished.got(),
            provider: made_by("provider").and_then(Value::as_str).map(str::to_owned),
            model: made_by("model").and_then(Value::as_str).map(str::to_owned),
            temperature: made_by("temperature").and_then(Value::as_f64),
            error,
            ..ChunkRecord::bare(count(position), text, status)
        }
    }

    fn pairs(&mut self, metadata: &Value) -> Result<(), SnapshotError> {
        let mut first = true;
        for position in 0..self.done.len() {
            let source = match self.input.chunks.get(position) {
                Some(source) if self.is_completed(position) => source.clone(),
                _ => continue,
            };
            let (name, chunk) = (&self.input.chunk_file.name, self.texts.read(position)?);
            let provenance = Provenance::new(name, metadata, &chunk, position);
            let mut spans = Vec::new();
            match source {
                ChunkSource::Outstanding => {}
                ChunkSource::Previous(chunk) => {
                    let Finished::Completed { pairs } = chunk.finished else { continue };
                    for span in pairs {
                        self.read_old(span, position)?;
                        let text = provenance
                            .applied_to(std::mem::take(&mut self.piece))
                            .ok_or_else(|| self.misplaced(position, "no pair"))?;
                        self.element(&mut first)?;
                        spans.push(self.put_span(&text)?);
                        self.piece = text;
                    }
                }
                ChunkSource::Journal(location) => {
                    let (_, pairs) = self.result(position, location)?;
                    for pair in &pairs {
                        self.element(&mut first)?;
                        spans.push(self.put_span(&provenance.pair(pair))?);
                    }
                }
            }
            self.pairs += spans.len() as u64;
            if let ChunkSource::Previous(chunk) = &mut self.done[position] {
                chunk.finished = Finished::Completed { pairs: spans };
            }
        }
        self.end_array(first)?;
        Ok(())
    }

    fn is_completed(&self, position: usize) -> bool {
        matches!(
            &self.done[position],
            ChunkSource::Previous(FinishedChunk { finished: Finished::Completed { .. }, .. })
        )
    }

    fn rest(&mut self) -> Result<(), SnapshotError> {
        let mut completed = Vec::new();
        let mut failed = Vec::new();
        for (position, source) in self.done.iter().enumerate() {
            match source {
                ChunkSource::Previous(_) if self.is_completed(position) => completed.push(position),
                ChunkSource::Previous(_) => failed.push(position),
                ChunkSource::Outstanding | ChunkSource::Journal(_) => {}
            }
        }
        self.field("status", self.input.status.as_str())?;
        self.field("completed_chunks", &completed)?;
        self.field("failed_chunks", &failed)?;
        if self.input.status.is_finished() {
            if let Some(time) = self.input.completion_time {
                self.field("completion_time", time)?;
            }
            let mut summary = json!({
                "total_chunks": self.done.len(),
                "completed_chunks": completed.len(),
                "failed_chunks": failed.len(),
                "total_qa_pairs": self.pairs,
            });
            if let Some(usage) = self.usage.take().and_then(DocumentUsage::into_figures) {
                summary["usage"] = json!(usage);
            }
            self.field("summary", &summary)?;
        }
        if let Some(error) = self.input.error.filter(|_| self.input.status == FileStatus::Failed) {
            self.field("error", error)?;
        }
        if let Some(previous) = self.input.previous {
            for (key, raw) in &previous.unknown {
                self.put(b",\n  ")?;
                self.put_value(key, 0)?;
                self.put(b": ")?;
                self.put(raw.get().as_bytes())?;
            }
        }
        self.put(b"\n}")?;
        Ok(())
    }

    fn finish(self) -> Result<Written, SnapshotError> {
        self.texts.check_unedited()?;
        if let Some(previous) = self.input.previous {
            check_unchanged(previous)?;
        }
        if let Some(folder) = self.input.keep_previous_in {
            keep_aside(self.input.target, folder)?;
            qa_shared::failpoint::crash(qa_shared::failpoint::CrashPoint::PreviousKept);
        }
        let (bytes, content) = (self.out.written(), self.content.hash());
        let file = self.out.commit()?;
        let fingerprint =
            Fingerprint::of_file(&file).map_err(FileError::during("read", self.input.target))?;
        let unknown = self.input.previous.map(|previous| previous.unknown.clone()).unwrap_or_default();
        let generation_info = self.input.generation_info.clone();
        let path = self.input.target.to_owned();
        let source = QaSource { path, fingerprint, content, generation_info, unknown, is_flawed: false };
        Ok(Written { source, chunks: self.done, bytes, pairs: self.pairs, covered: self.covered })
    }

    fn read_old(&mut self, span: Span, position: usize) -> Result<(), SnapshotError> {
        let read = self.old.as_ref().map(|old| old.read(span, &mut self.piece));
        let Some(Ok(())) = read else {
            return Err(self.misplaced(position, "no place in the previous file"));
        };
        if self.input.previous.is_some_and(|previous| previous.is_flawed)
            && let Some((text, _)) = repaired(&self.piece)
        {
            self.piece = text;
        }
        Ok(())
    }

    fn result(
        &mut self,
        position: usize,
        location: EntryLocation,
    ) -> Result<(ChunkRecord, Vec<Pair>), SnapshotError> {
        let text = self.input.chunk_file.chunks[position].text;
        match self.input.journal.read(location)? {
            Entry::Result { mut record, pairs, .. }
                if record.text_hash == text
                    && (record.status == RecordStatus::Completed) != pairs.is_empty() =>
            {
                // The text may have moved since it was asked about.
                record.chunk = count(position);
                Ok((*record, pairs))
            }
            _ => Err(self.misplaced(position, "another entry of the journal")),
        }
    }

    fn misplaced(&self, position: usize, problem: &'static str) -> SnapshotError {
        SnapshotError::Misplaced { path: self.input.target.to_owned(), position, problem }
    }
}

fn open_previous(previous: &QaSource) -> Result<SpanReader, SnapshotError> {
    check_unchanged(previous)?;
    Ok(SpanReader::open(&previous.path).map_err(FileError::during("read", &previous.path))?)
}

fn check_unchanged(previous: &QaSource) -> Result<(), SnapshotError> {
    match previous.fingerprint.still_holds(&previous.path, previous.content) {
        Ok(true) => Ok(()),
        Ok(false) | Err(_) => Err(SnapshotError::Changed { path: previous.path.clone() }),
    }
}
