//! Documents with the structure of real ones: chunk files, Q&A files as the Python program leaves them,
//! results as workers send them.

use std::fs;
use std::path::{Path, PathBuf};

use qa_shared::model::{
    DocumentName, Failure, FailureReason, GenerationSettings, InstanceId, JobId, OllamaOptions, Outcome,
    Pair, PromptSettings, Provider, TaskKey, TaskResult, TextHash, Usage,
};
use serde_json::{Value, json};

use super::{ChunkFile, Scanned};

pub(crate) struct Document {
    pub(crate) name: String,
    /// Text and page of each chunk; ids and indices restart on every page.
    pub(crate) chunks: Vec<(String, usize)>,
}

impl Document {
    pub(crate) fn plain(name: &str, texts: &[&str]) -> Self {
        Self { name: name.into(), chunks: texts.iter().map(|text| ((*text).to_owned(), 0)).collect() }
    }

    /// A PDF: ids are `0_0`, `0_1`, ... again on every page.
    pub(crate) fn pages(name: &str, pages: &[&[&str]]) -> Self {
        let chunk = |(page, texts): (usize, &&[&str])| -> Vec<(String, usize)> {
            texts.iter().map(|text| ((*text).to_owned(), page)).collect()
        };
        Self { name: name.into(), chunks: pages.iter().enumerate().flat_map(chunk).collect() }
    }

    pub(crate) fn metadata(&self) -> Value {
        json!({
            "file_name": format!("{}.txt", self.name), "source_file": format!("/data/incoming/{}.txt", self.name),
            "file_type": ".txt", "file_size": 22252, "processed_at": "2026-11-23T03:11:32.973654",
        })
    }

    fn processing_info(&self) -> Value {
        json!({
            "splitting_strategy": "recursive", "chunk_size": 1000, "chunk_overlap": 200,
            "total_chunks": self.chunks.len(),
        })
    }

    fn chunk(&self, position: usize) -> Value {
        let (text, page) = &self.chunks[position];
        // Pages follow each other, so the chunks of this one are the nearest.
        let index = self.chunks[..position].iter().rev().take_while(|(_, other)| other == page).count();
        json!({
            "text": text, "start_char": index * 800, "end_char": index * 800 + text.len(),
            "chunk_id": format!("0_{index}"), "chunk_index": index, "document_index": 0,
            "metadata": {"page": page}, "word_count": 1, "char_count": text.chars().count(),
        })
    }

    pub(crate) fn write_chunks(&self, folder: &Path) -> PathBuf {
        let chunks: Vec<_> = (0..self.chunks.len()).map(|position| self.chunk(position)).collect();
        let file = json!({
            "status": "completed", "metadata": self.metadata(), "processing_info": self.processing_info(),
            "chunks": chunks,
            "qa_generation_status": {"completed_chunks": [], "is_complete": false},
        });
        let path = folder.join(format!("{}_chunks.json", self.name));
        fs::write(&path, serde_json::to_vec_pretty(&file).unwrap()).unwrap();
        path
    }

    pub(crate) fn python_pair(&self, position: usize, number: usize) -> Value {
        let (chunk, metadata) = (self.chunk(position), self.metadata());
        json!({
            "question": format!("Q{number} about „{}“?", chunk["text"].as_str().unwrap()),
            "answer": format!("A{number} of {position}."),
            "source_file": metadata["source_file"], "file_name": metadata["file_name"],
            "file_type": metadata["file_type"], "chunk_id": chunk["chunk_id"],
            "chunk_index": chunk["chunk_index"], "chunk_start": chunk["start_char"],
            "chunk_end": chunk["end_char"], "source_text": chunk["text"],
        })
    }

    /// As the Python program leaves it: `completed` with a summary if every chunk is in a list, else
    /// `interrupted`; pairs in the order of `completed`.
    pub(crate) fn write_python_qa(
        &self,
        folder: &Path,
        completed: &[usize],
        failed: &[usize],
        pairs_each: usize,
    ) -> PathBuf {
        let pair = |position: &usize| -> Vec<Value> {
            (0..pairs_each).map(|number| self.python_pair(*position, number)).collect()
        };
        let pairs: Vec<_> = completed.iter().flat_map(pair).collect();
        let total = self.chunks.len();
        let done = completed.len() + failed.len() >= total;
        let mut file = json!({
            "metadata": self.metadata(), "processing_info": self.processing_info(),
            "qa_generation_info": {
                "provider": "local", "model": "qwen3:14b", "questions_per_chunk": pairs_each,
                "temperature": 0.3, "max_tokens": 2000, "generated_at": "2026-11-23T03:11:50.676565",
            },
            "chunks": [], "training_pairs": pairs,
            "status": if done { "completed" } else { "interrupted" },
            "completed_chunks": completed, "failed_chunks": failed,
        });
        if done {
            file["completion_time"] = json!("2026-11-23T03:11:51.942308");
            file["summary"] = json!({
                "total_chunks": total, "completed_chunks": completed.len(), "failed_chunks": failed.len(),
                "total_qa_pairs": file["training_pairs"].as_array().unwrap().len(),
            });
        }
        let path = folder.join(format!("{}_qa.json", self.name));
        fs::write(&path, serde_json::to_vec_pretty(&file).unwrap()).unwrap();
        path
    }
}

/// Scans a chunk file that is a good one.
pub(crate) fn ready(path: &Path) -> ChunkFile {
    let name = path.file_name().unwrap().to_str().unwrap().strip_suffix("_chunks.json").unwrap();
    match ChunkFile::scan(path, DocumentName::new(name)).unwrap() {
        Scanned::Ready(file) => *file,
        Scanned::Skipped { status } => panic!("skipped: {status:?}"),
    }
}

pub(crate) fn settings() -> GenerationSettings {
    GenerationSettings {
        provider: Provider::Local,
        model: "qwen3:14b".into(),
        questions_per_chunk: 3,
        temperature: 0.3,
        max_tokens: 2000,
        reasoning: None,
        prompt: PromptSettings::default(),
        ollama: OllamaOptions::default(),
    }
}

pub(crate) fn completed_result(document: &str, chunk: u32, round: u32, text: &str, pairs: u32) -> TaskResult {
    let pair = |number| Pair {
        question: format!("Neue Frage {number} zu {chunk}, round {round}?"),
        answer: "An \"answer\"\nof two lines.".into(),
    };
    TaskResult {
        key: TaskKey {
            job: JobId::from_random(1),
            document: DocumentName::new(document).token(),
            chunk,
            round,
        },
        text_hash: Some(TextHash::of(text)),
        outcome: Outcome::Completed { pairs: (0..pairs).map(pair).collect() },
        asked: 3,
        worker: InstanceId::new("gpu1", 4711, 1),
        host: "gpu1".into(),
        server: Some("http://gpu1:11434".into()),
        provider: Some(Provider::Local),
        model: Some("qwen3:14b".into()),
        attempts: 1,
        usage: Usage { input_tokens: 500, output_tokens: 120, ..Usage::default() },
        started_at_ms: 1_000,
        duration_ms: 1_500,
        deliveries: 1,
        unusable: Vec::new(),
    }
}

pub(crate) fn failed_result(document: &str, chunk: u32, round: u32, text: &str) -> TaskResult {
    let failure = Failure { reason: FailureReason::NoUsableAnswer, message: "no pair in 3 answers".into() };
    TaskResult { outcome: Outcome::Failed { failure }, ..completed_result(document, chunk, round, text, 0) }
}
