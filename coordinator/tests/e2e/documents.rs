//! Documents of the tests: chunk files with the structure of real ones and text of a real one's size, and
//! Q&A files as the Python program leaves them. Deterministic; no two chunks of a test are alike.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

const SUBJECTS: [&str; 12] = [
    "The stream",
    "A consumer",
    "Each server",
    "The operator",
    "An acknowledgement",
    "The retention policy",
    "A mirror",
    "Every subject",
    "The client library",
    "A work queue",
    "The cluster's leader",
    "A message",
];
const VERBS: [&str; 10] = [
    "stores",
    "delivers",
    "rejects",
    "describes",
    "replaces",
    "acknowledges",
    "counts",
    "moves",
    "limits",
    "remembers",
];
const OBJECTS: [&str; 11] = [
    "the messages of the last hour",
    "what was published twice",
    "its position in the log",
    "größere Blöcke als erlaubt",
    "the headers and the payload",
    "every delivery that timed out",
    "a copy on another machine",
    "the sequence number",
    "the subjects it listens to",
    "all but the newest value of a key",
    "requests over the limit",
];

/// A document before it is written.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    pub(crate) name: String,
    pub(crate) texts: Vec<String>,
    /// Chunks per page: ids and indices restart on every page, as in files made from a PDF.
    per_page: usize,
}

impl Document {
    pub(crate) fn new(name: &str, chunks: usize) -> Self {
        let texts = (0..chunks).map(|chunk| prose(name, chunk)).collect();
        Self { name: name.to_owned(), texts, per_page: usize::MAX }
    }

    pub(crate) fn pdf(name: &str, chunks: usize, per_page: usize) -> Self {
        Self { per_page, ..Self::new(name, chunks) }
    }

    fn metadata(&self) -> Value {
        let ending = if self.per_page == usize::MAX { "md" } else { "pdf" };
        json!({
            "file_name": format!("{}.{ending}", self.name),
            "source_file": format!("/data/incoming/{}.{ending}", self.name), "file_type": format!(".{ending}"),
            "file_size": 22252, "processed_at": "2026-11-23T03:11:32.973654",
        })
    }

    fn processing_info(&self) -> Value {
        json!({
            "splitting_strategy": "recursive", "chunk_size": 1000, "chunk_overlap": 200,
            "total_chunks": self.texts.len(),
        })
    }

    fn chunk(&self, position: usize) -> Value {
        let (text, index) = (&self.texts[position], position % self.per_page);
        json!({
            "text": text, "start_char": index * 800, "end_char": index * 800 + text.chars().count(),
            "chunk_id": format!("0_{index}"), "chunk_index": index, "document_index": 0,
            "metadata": {"page": position / self.per_page}, "word_count": text.split_whitespace().count(),
            "char_count": text.chars().count(),
        })
    }

    /// The chunk file.
    pub(crate) fn write(&self, directory: &Path) -> PathBuf {
        let chunks: Vec<_> = (0..self.texts.len()).map(|position| self.chunk(position)).collect();
        let file = json!({
            "status": "completed", "metadata": self.metadata(), "processing_info": self.processing_info(),
            "chunks": chunks, "qa_generation_status": {"completed_chunks": [], "is_complete": false},
        });
        write(directory, &format!("{}_chunks.json", self.name), &file)
    }

    /// A pair as the Python program made it.
    pub(crate) fn python_pair(&self, position: usize, number: usize) -> Value {
        let (chunk, metadata) = (self.chunk(position), self.metadata());
        json!({
            "question": format!("Python's question {number} about {} {position}?", self.name),
            "answer": format!("Python's answer {number}."), "source_file": metadata["source_file"],
            "file_name": metadata["file_name"], "file_type": metadata["file_type"],
            "chunk_id": chunk["chunk_id"], "chunk_index": chunk["chunk_index"],
            "chunk_start": chunk["start_char"], "chunk_end": chunk["end_char"], "source_text": chunk["text"],
        })
    }

    /// The Q&A file as the Python program leaves it: `interrupted`, or `completed` once every chunk was tried.
    /// Pairs stand in the order of `completed`, three for each.
    pub(crate) fn write_python_qa(&self, directory: &Path, completed: &[usize], failed: &[usize]) -> PathBuf {
        let pairs: Vec<_> = completed
            .iter()
            .flat_map(|position| (1..=3).map(|number| self.python_pair(*position, number)))
            .collect();
        let is_done = completed.len() + failed.len() >= self.texts.len();
        let mut file = json!({
            "metadata": self.metadata(), "processing_info": self.processing_info(),
            "qa_generation_info": {
                "provider": "local", "model": "qwen3:8b", "questions_per_chunk": 3, "temperature": 0.3,
                "max_tokens": 2000, "generated_at": "2026-11-23T03:11:50.676565",
            },
            "chunks": [], "training_pairs": pairs,
            "status": if is_done { "completed" } else { "interrupted" },
            "completed_chunks": completed, "failed_chunks": failed,
        });
        if is_done {
            file["completion_time"] = json!("2026-11-23T03:11:51.942308");
            file["summary"] = json!({
                "total_chunks": self.texts.len(), "completed_chunks": completed.len(),
                "failed_chunks": failed.len(), "total_qa_pairs": pairs.len(),
            });
        }
        write(directory, &format!("{}_qa.json", self.name), &file)
    }
}

fn write(directory: &Path, name: &str, file: &Value) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, serde_json::to_vec_pretty(file).unwrap()).unwrap();
    path
}

/// About 900 characters.
fn prose(name: &str, chunk: usize) -> String {
    let mut text = format!("{name}, section {chunk}.");
    let mut state = name.bytes().fold(chunk + 7, |state, byte| state * 31 % 1_000_003 + usize::from(byte));
    while text.chars().count() < 850 {
        state = (state * 48_271 + 11) % 2_147_483_647;
        let (subject, verb) = (SUBJECTS[state % 12], VERBS[state / 12 % 10]);
        let sentence = format!(" {subject} {verb} {} ({}).", OBJECTS[state / 120 % 11], state % 1000);
        text.push_str(&sentence);
    }
    text
}
