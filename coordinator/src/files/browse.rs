//! Single chunks with everything that the files tell of them: text, record, pairs. Also beside a run that writes
//! these files.
//!
//! Of a document it keeps places only, some hundred bytes for each chunk; texts and pairs are read one by one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};

use qa_shared::model::{DocumentName, JobId, Pair, TextHash};
use serde::Deserialize;

use super::json_repair;
use super::listing::chunk_path;
use super::records::precedence;
use super::span::SpanReader;
use super::{
    Chunk, ChunkFile, ChunkRecord, Entry, FileError, Fingerprint, IdHash, JobFolder, JobFolderError,
    JournalError, JournalReader, Journalled, JournalledResult, QaFile, QaFileError, RecordEntry,
    RecordStatus, Scanned, each_record, find_chunk_files, find_qa_files, journalled, qa_path,
};

/// A file may be replaced between two looks at it; then it is read anew.
const TRIES: usize = 5;

/// Why a chunk cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum BrowseError {
    /// The file system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// The job cannot be read.
    #[error(transparent)]
    Folder(#[from] JobFolderError),
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The Q&A file cannot be read.
    #[error(transparent)]
    Qa(#[from] QaFileError),
    /// It was replaced again and again.
    #[error("the files of document `{0}` change faster than they can be read: try again")]
    Restless(DocumentName),
}

/// The documents of an output directory.
#[derive(Debug)]
pub struct Browser {
    directory: PathBuf,
    folder: JobFolder,
    job: Option<JobId>,
    chunks_directory: Option<PathBuf>,
}

/// How far a chunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It has pairs.
    Completed,
    /// It has none for good.
    Failed,
    /// It has not been asked, or not answered yet.
    Outstanding,
}

/// A chunk with everything that is known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct SeenChunk {
    /// Its position.
    pub chunk: u32,
    /// How far it is.
    pub stage: Stage,
    /// The text that was asked about, or is to be; absent where no file has it any more.
    pub text: Option<String>,
    /// Whether the chunk file has another text by now.
    pub is_changed: bool,
    /// How it came about; the Python program wrote none.
    pub record: Option<ChunkRecord>,
    /// Its pairs.
    pub pairs: Vec<Pair>,
}

impl Browser {
    /// `chunks_directory` is where the last run read chunk files, if that is known.
    pub fn open(directory: &Path, chunks_directory: Option<PathBuf>) -> Result<Self, BrowseError> {
        let folder = JobFolder::of(directory);
        let job = folder.load_job()?.map(|job| job.job);
        Ok(Self { directory: directory.to_owned(), folder, job, chunks_directory })
    }

    /// Every document that has a file or a result.
    pub fn documents(&self) -> Result<BTreeSet<DocumentName>, BrowseError> {
        let mut names: BTreeSet<_> = self.journalled(None)?.into_keys().map(|(name, _)| name).collect();
        names.extend(find_qa_files(&self.directory)?.files.into_iter().map(|file| file.name));
        let chunk_files = self.chunks_directory.as_deref().map(find_chunk_files);
        if let Some(Ok(listing)) = chunk_files {
            names.extend(listing.files.into_iter().map(|file| file.name));
        }
        Ok(names)
    }

    /// Gives document and position of each chunk with pairs and a record to `each`; one may come twice. Files
    /// that cannot be read are given to `unreadable`.
    pub fn each_completed(
        &self,
        mut each: impl FnMut(&DocumentName, u32),
        mut unreadable: impl FnMut(QaFileError),
    ) -> Result<(), BrowseError> {
        for ((document, chunk), found) in self.journalled(None)? {
            if found.record.status == RecordStatus::Completed {
                each(&document, chunk);
            }
        }
        for file in find_qa_files(&self.directory)?.files {
            let read = each_record(&file.path, |record| {
                if record.status == RecordStatus::Completed {
                    each(&file.name, record.chunk);
                }
            });
            if let Err(error) = read {
                unreadable(error);
            }
        }
        Ok(())
    }

    /// Opens a document; nothing of it need be there.
    pub fn document(&self, name: &DocumentName) -> Result<OpenDocument, BrowseError> {
        // Before the Q&A file: what the journal lets go of meanwhile is in it.
        let newer = self.journalled(Some(name))?;
        let newer = newer.into_iter().map(|((_, chunk), found)| (chunk, found)).collect();
        Ok(OpenDocument {
            newer,
            journal: JournalReader::of(self.folder.path()),
            written: Written::open(&qa_path(&self.directory, name), name)?,
            source: self.chunks_directory.as_deref().and_then(|directory| Source::open(directory, name)),
        })
    }

    fn journalled(&self, only: Option<&DocumentName>) -> Result<Journalled, BrowseError> {
        match &self.job {
            Some(job) => Ok(journalled(self.folder.path(), job, only)?),
            None => Ok(Journalled::new()),
        }
    }
}

/// An open document.
pub struct OpenDocument {
    newer: BTreeMap<u32, JournalledResult>,
    journal: JournalReader,
    written: Option<Written>,
    source: Option<Source>,
}

impl OpenDocument {
    /// How many chunks it has, as far as the files tell.
    pub fn chunks(&self) -> u32 {
        let written = self.written.iter().flat_map(|written| {
            let recorded = written.records.last_key_value().map(|(chunk, _)| *chunk);
            [recorded, written.file.completed.last().copied(), written.file.failed.last().copied()]
        });
        let newer = self.newer.last_key_value().map(|(chunk, _)| *chunk);
        let last = written.chain([newer]).flatten().max();
        let source = self.source.as_ref().map_or(0, |source| source.file.chunks.len());
        last.map_or(0, |last| last.saturating_add(1)).max(u32::try_from(source).unwrap_or(u32::MAX))
    }

    /// The chunk at a position.
    pub fn read(&mut self, chunk: u32) -> Result<SeenChunk, BrowseError> {
        let current = self.source.as_mut().and_then(|source| source.read(chunk));
        let in_file = self.written.as_ref().and_then(|written| written.records.get(&chunk).copied());
        let newer = self.newer.get(&chunk).filter(|newer| {
            in_file.is_none_or(|(entry, _)| {
                precedence(newer.record.status, newer.record.round) >= precedence(entry.status, entry.round)
            })
        });
        let mut asked_about = None;
        let (record, pairs) = match (newer, in_file, &mut self.written) {
            (Some(newer), ..) => match self.journal.read(newer.location)? {
                Entry::Result { record, pairs, .. } => (Some(*record), pairs),
                Entry::Rounds { .. } => (None, Vec::new()),
            },
            (None, Some((entry, first)), Some(written)) => {
                let record = written.record(entry)?;
                let pairs = written.pairs(entry.text, first, entry.got as usize, None)?;
                asked_about = pairs.first().map(|pair| pair.source_text.clone());
                (Some(record), pairs.into_iter().map(WrittenPair::into_pair).collect())
            }
            // The Python program's pairs are known by their text.
            (None, None, Some(written)) if written.file.completed.binary_search(&chunk).is_ok() => {
                let pairs = match &current {
                    Some((text, id)) => written.pairs(TextHash::of(text), 0, usize::MAX, Some(*id))?,
                    None => Vec::new(),
                };
                (None, pairs.into_iter().map(WrittenPair::into_pair).collect())
            }
            (None, _, _) => (None, Vec::new()),
        };
        let is_listed = |list: fn(&QaFile) -> &Vec<u32>| {
            self.written.as_ref().is_some_and(|written| list(&written.file).binary_search(&chunk).is_ok())
        };
        let stage = match record.as_ref().map(|record| record.status) {
            Some(RecordStatus::Completed) => Stage::Completed,
            Some(RecordStatus::Failed) => Stage::Failed,
            None if is_listed(|file| &file.completed) => Stage::Completed,
            None if is_listed(|file| &file.failed) => Stage::Failed,
            None => Stage::Outstanding,
        };
        let current = current.map(|(text, _)| text);
        let is_changed = match (&record, &current) {
            (Some(record), Some(text)) => TextHash::of(text) != record.text_hash,
            _ => false,
        };
        let text = if is_changed { asked_about } else { current.or(asked_about) };
        Ok(SeenChunk { chunk, stage, text, is_changed, record, pairs })
    }
}

/// A Q&A file with the places of its records and pairs.
struct Written {
    file: QaFile,
    spans: SpanReader,
    /// Each record with the place of its first pair among the pairs about the same text.
    records: BTreeMap<u32, (RecordEntry, usize)>,
    /// Pairs about one text, in the file's order, which is that of the chunks.
    by_text: HashMap<TextHash, Vec<usize>>,
    piece: Vec<u8>,
}

#[derive(Deserialize)]
struct WrittenPair {
    question: String,
    answer: String,
    source_text: String,
}

impl WrittenPair {
    fn into_pair(self) -> Pair {
        Pair { question: self.question, answer: self.answer }
    }
}

impl Written {
    fn open(path: &Path, name: &DocumentName) -> Result<Option<Self>, BrowseError> {
        for _ in 0..TRIES {
            let Some(file) = QaFile::load_if_there(path)? else { return Ok(None) };
            let spans = SpanReader::open(path).map_err(FileError::during("read", path))?;
            let fingerprint =
                Fingerprint::of_file(spans.file()).map_err(FileError::during("look at", path))?;
            if fingerprint == file.source.fingerprint {
                return Ok(Some(Self::new(file, spans)));
            }
        }
        Err(BrowseError::Restless(name.clone()))
    }

    fn new(file: QaFile, spans: SpanReader) -> Self {
        let mut by_text: HashMap<TextHash, Vec<usize>> = HashMap::new();
        for (index, pair) in file.pairs.iter().enumerate() {
            by_text.entry(pair.text).or_default().push(index);
        }
        let mut ordered: BTreeMap<u32, RecordEntry> = BTreeMap::new();
        ordered.extend(file.records.iter().map(|entry| (entry.chunk, *entry)));
        let mut taken: HashMap<TextHash, usize> = HashMap::new();
        let place = |(chunk, entry): (u32, RecordEntry)| {
            let taken = taken.entry(entry.text).or_default();
            let first = *taken;
            *taken += entry.got as usize;
            (chunk, (entry, first))
        };
        let records = ordered.into_iter().map(place).collect();
        Self { file, spans, records, by_text, piece: Vec::new() }
    }

    fn record(&mut self, entry: RecordEntry) -> Result<ChunkRecord, BrowseError> {
        self.parse(entry.span)
    }

    /// Pairs about a text: from the first on, so many, and with this id where one is given and any has it.
    fn pairs(
        &mut self,
        text: TextHash,
        first: usize,
        number: usize,
        id: Option<IdHash>,
    ) -> Result<Vec<WrittenPair>, BrowseError> {
        let about = self.by_text.get(&text).map(Vec::as_slice).unwrap_or_default();
        let entries: Vec<_> =
            about.iter().skip(first).take(number).map(|index| self.file.pairs[*index]).collect();
        let has_id = |id: IdHash| entries.iter().any(|entry| entry.id == id);
        let id = id.filter(|id| has_id(*id));
        let chosen = entries.into_iter().filter(|entry| id.is_none_or(|id| entry.id == id));
        let spans: Vec<_> = chosen.map(|entry| entry.span).collect();
        spans.into_iter().map(|span| self.parse(span)).collect()
    }

    fn parse<T: serde::de::DeserializeOwned>(&mut self, span: super::Span) -> Result<T, BrowseError> {
        let path = &self.file.source.path;
        self.spans.read(span, &mut self.piece).map_err(FileError::during("read", path))?;
        let parsed = json_repair::from_slice(&self.piece).map_err(io::Error::from);
        Ok(parsed.map_err(FileError::during("read", path))?)
    }
}

/// A chunk file with the places of its chunks.
struct Source {
    file: ChunkFile,
    spans: SpanReader,
    piece: Vec<u8>,
}

impl Source {
    /// Nothing where it is not there or no chunk file (any more): that is no reason to show less.
    fn open(directory: &Path, name: &DocumentName) -> Option<Self> {
        let path = chunk_path(directory, name)?;
        let Ok(Scanned::Ready(file)) = ChunkFile::scan(&path, name.clone()) else { return None };
        let spans = SpanReader::open(&path).ok()?;
        Some(Self { file: *file, spans, piece: Vec::new() })
    }

    /// Text and id of a chunk; nothing where the file was edited since it was opened.
    fn read(&mut self, chunk: u32) -> Option<(String, IdHash)> {
        let entry = self.file.chunks.get(chunk as usize)?;
        self.spans.read(entry.span, &mut self.piece).ok()?;
        let read = Chunk::read(&self.piece).ok()?;
        let text = read.text.as_ref().ok().filter(|_| read.text_hash() == entry.text)?;
        Some((text.clone(), entry.id))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Journal;
    use super::super::fixtures::{Document, completed_result, failed_result, settings};
    use super::*;

    #[test]
    fn chunks_of_a_python_file_are_found_by_their_text() {
        let folder = qa_shared::testing::temporary_folder();
        let (chunks, qa) = (folder.path().join("chunks"), folder.path().join("qa"));
        std::fs::create_dir_all(&chunks).unwrap();
        std::fs::create_dir_all(&qa).unwrap();
        let document = Document::plain("a", &["one", "two", "three"]);
        document.write_chunks(&chunks);
        document.write_python_qa(&qa, &[1], &[2], 3);
        let browser = Browser::open(&qa, Some(chunks)).unwrap();
        let name = DocumentName::new("a");
        assert_eq!(browser.documents().unwrap(), BTreeSet::from([name.clone()]));
        let mut open = browser.document(&name).unwrap();
        assert_eq!(open.chunks(), 3);
        let seen: Vec<_> = (0..3).map(|chunk| open.read(chunk).unwrap()).collect();
        let stages: Vec<_> = seen.iter().map(|chunk| (chunk.stage, chunk.pairs.len())).collect();
        assert_eq!(stages, [(Stage::Outstanding, 0), (Stage::Completed, 3), (Stage::Failed, 0)]);
        assert_eq!(seen[1].text.as_deref(), Some("two"));
    }

    #[test]
    fn what_only_the_journal_holds_is_seen_and_beats_an_older_failure() {
        let folder = qa_shared::testing::temporary_folder();
        let qa = folder.path().join("qa");
        std::fs::create_dir(&qa).unwrap();
        let job_folder = JobFolder::create(&qa).unwrap();
        let job = JobId::from_random(5);
        let pool = qa_shared::model::PoolName::new("p");
        let file = super::super::JobFile::new(job.clone(), "now".to_owned(), pool, settings());
        job_folder.save_job(&file).unwrap();
        let (mut journal, _) = Journal::open(job_folder.path(), &job, 1 << 20, |_, _| {}).unwrap();
        let name = DocumentName::new("a");
        for result in [failed_result("a", 2, 1, "t"), completed_result("a", 2, 2, "t", 3)] {
            let record = ChunkRecord::from_result(&result, TextHash::of("t"), &settings(), "now".into());
            let pairs = match result.outcome {
                qa_shared::model::Outcome::Completed { pairs } => pairs,
                qa_shared::model::Outcome::Failed { .. } => Vec::new(),
            };
            let record = Box::new(record);
            journal.append(&Entry::Result { document: name.clone(), record, pairs }).unwrap();
        }
        let browser = Browser::open(&qa, None).unwrap();
        let mut open = browser.document(&name).unwrap();
        let seen = open.read(2).unwrap();
        assert_eq!((open.chunks(), seen.stage, seen.pairs.len()), (3, Stage::Completed, 3));
        assert_eq!((seen.record.unwrap().round, seen.text), (2, None));
        let mut completed = Vec::new();
        browser.each_completed(|name, chunk| completed.push((name.to_string(), chunk)), |_| {}).unwrap();
        assert_eq!(completed, [("a".to_owned(), 2)]);
    }
}
