//! `qa_generation_summary.json`: the run in figures, the Python program's fields first.
//!
//! It adds nothing up; the figures are given.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::FileError;
use super::atomic::write_file;
use super::pretty::pretty;
use super::record::is_zero;

/// The file's name in the output directory.
pub const SUMMARY_NAME: &str = "qa_generation_summary.json";

/// A run in figures.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RunSummary {
    /// Documents: all chunk files that are `completed` or cannot be read.
    pub total_files: usize,
    /// Documents with a completed Q&A file.
    pub successful_files: usize,
    /// Documents that failed or cannot be read.
    pub failed_files: usize,
    /// Names of the Q&A files of successful documents.
    pub qa_files_created: Vec<String>,
    /// The output directory.
    pub qa_directory: PathBuf,
    /// When the run ended, see [`super::naive_local`].
    pub processed_at: String,
    /// How the run ended, such as `completed` or `interrupted`.
    pub status: String,
    /// The job.
    pub job: String,
    /// Names and reasons of documents that failed.
    pub failed_documents: BTreeMap<String, String>,
    /// Documents of the job whose chunk file is missing while something of them is outstanding.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub missing_documents: BTreeMap<String, MissingDocument>,
    /// Names and statuses of chunk files that the chunker has not finished.
    pub skipped_files: BTreeMap<String, String>,
    /// Chunks, and what became of them.
    pub chunks: ChunkFigures,
    /// With `--sample`: the sample's own chunks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<SampleFigures>,
    /// Pairs of all completed chunks.
    #[serde(default)]
    pub total_qa_pairs: u64,
    /// Pairs asked for and got in the chunks that this run completed.
    pub pairs: PairFigures,
    /// Failed chunks by reason.
    pub failures: BTreeMap<String, usize>,
    /// Model calls of this run, tokens and time.
    pub usage: UsageFigures,
    /// Second rounds beside chunks that seemed stuck; absent where there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speculation: Option<SpeculationFigures>,
    /// What all runs of the job have used; a result that came twice counts twice.
    #[serde(default)]
    pub all_runs: SpentFigures,
    /// The job's chunks that took longest, by their records: those of earlier runs count too.
    #[serde(default)]
    pub slowest_chunks: Vec<SlowChunk>,
    /// The combined file, if one was written.
    pub combined_file: Option<PathBuf>,
    /// What is in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub combined: Option<CombinedFigures>,
}

/// The combined file's pairs: those of all completed chunks, without `left_out` and with `others`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CombinedFigures {
    /// Its documents.
    pub documents: usize,
    /// Its pairs.
    pub pairs: u64,
    /// Q&A files of the job with pairs that are not in it, and how many: a resume brings them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub left_out: BTreeMap<String, u64>,
    /// Q&A files in it that are no documents of the job, and their pairs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub others: BTreeMap<String, u64>,
}

/// A document whose chunk file is missing while something of it is outstanding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingDocument {
    /// All chunks.
    pub chunks: usize,
    /// With pairs.
    pub completed: usize,
    /// Without pairs for good.
    pub failed: usize,
    /// Not asked, or not answered yet.
    pub outstanding: usize,
}

/// A chunk that took long.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SlowChunk {
    /// Its document.
    pub document: String,
    /// Its position there.
    pub chunk: u32,
    /// From begin to end on the worker, in seconds.
    pub duration_seconds: f64,
    /// The worker's host.
    pub host: Option<String>,
    /// The worker process.
    pub worker: Option<String>,
    /// The trace.
    pub trace_id: Option<String>,
    /// Where it can be looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_url: Option<String>,
}

/// `completed + failed + outstanding = total`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkFigures {
    /// All.
    pub total: usize,
    /// With pairs.
    pub completed: usize,
    /// Without pairs for good.
    pub failed: usize,
    /// Not asked, or not answered yet.
    pub outstanding: usize,
}

/// The chunks that `--sample` chose.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleFigures {
    /// All of them.
    pub chunks: u32,
    /// Those that are completed or failed.
    pub done: u32,
    /// Those that failed.
    pub failed: u32,
}

/// Pairs of completed chunks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairFigures {
    /// Asked for.
    pub asked: u64,
    /// Got.
    pub got: u64,
}

/// What a run used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct UsageFigures {
    /// Model calls.
    pub calls: u64,
    /// Prompt tokens.
    pub input_tokens: u64,
    /// Prompt tokens among them that the provider had cached.
    #[serde(default)]
    pub cached_tokens: u64,
    /// Prompt tokens among them that the provider wrote to its cache.
    #[serde(default)]
    pub cache_write_tokens: u64,
    /// Generated tokens.
    pub output_tokens: u64,
    /// Generated tokens among them that the model spent on reasoning.
    #[serde(default)]
    pub reasoning_tokens: u64,
    /// Prompt tokens among them that are estimated, because a server does not report them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub estimated_input_tokens: u64,
    /// Generated tokens among them that are estimated.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub estimated_output_tokens: u64,
    /// Prompt and generated tokens of all calls, the useless ones included, per pair that was accepted; absent
    /// where none was.
    #[serde(default)]
    pub tokens_per_pair: Option<f64>,
    /// What they cost in US dollars; absent where no price is known.
    #[serde(default)]
    pub cost_usd: Option<f64>,
    /// Time from begin to end of the run, in seconds.
    pub seconds: f64,
}

/// Second rounds of a run beside chunks that seemed stuck at their servers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SpeculationFigures {
    /// Begun.
    pub started: u64,
    /// Those that were answered first.
    pub won: u64,
    /// Those that were for nothing.
    pub lost: u64,
}

/// What all runs of a job have used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct SpentFigures {
    /// Model calls.
    pub calls: u64,
    /// Prompt and generated tokens.
    pub tokens: u64,
    /// In US dollars; absent where no price is known.
    pub cost_usd: Option<f64>,
}

/// The summary of the last run in an output directory; nothing where none can be read.
pub fn load_summary(directory: &Path) -> Option<RunSummary> {
    serde_json::from_slice(&fs::read(directory.join(SUMMARY_NAME)).ok()?).ok()
}

/// Writes the summary into the output directory.
pub fn write_summary(directory: &Path, summary: &RunSummary) -> Result<(), FileError> {
    let path = directory.join(SUMMARY_NAME);
    let text = pretty(summary, 0).map_err(std::io::Error::from);
    write_file(&path, &text.map_err(FileError::during("write", &path))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_python_programs_fields_come_first_and_in_its_order() {
        let folder = qa_shared::testing::temporary_folder();
        let files = vec!["FAQ 概要_qa.json".to_owned()];
        let summary = RunSummary { total_files: 1, qa_files_created: files, ..RunSummary::default() };
        write_summary(folder.path(), &summary).unwrap();
        let text = fs::read_to_string(folder.path().join(SUMMARY_NAME)).unwrap();
        let keys: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix("  \"")?.split_once('"').map(|(key, _)| key))
            .take(6)
            .collect();
        let expected = [
            "total_files",
            "successful_files",
            "failed_files",
            "qa_files_created",
            "qa_directory",
            "processed_at",
        ];
        assert_eq!(keys, expected);
        assert!(text.contains("FAQ 概要"), "{text}");
        assert_eq!(serde_json::from_str::<RunSummary>(&text).unwrap(), summary);
    }
}
