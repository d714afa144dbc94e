//! What a job keeps besides what its pairs depend on, so that `--resume` alone goes on with it: where it reads and
//! writes, and what limits it. Keys and addresses are never kept.

use serde::{Deserialize, Serialize};

/// Settings that are kept in `job.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeptSettings {
    /// Directory of the chunk files, absolute; absent where its name is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chunks_dir: Option<String>,
    /// The combined file: absolute, or relative to the directory of the Q&A files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_file: Option<String>,
    /// Second place of the failure log, absolute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_dir: Option<String>,
    /// File with rows for the table of models, absolute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_table: Option<String>,
    /// What the job may cost in US dollars.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_cost: Option<f64>,
    /// What it may use in tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens_total: Option<u64>,
    /// The percentage of failed chunks that stops a run; absent: nothing does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_failure_rate: Option<f64>,
    /// Whether chunks that seem stuck are tried by a second server.
    pub speculation: bool,
    /// Whether a fleet does the work, and not this machine alone.
    pub fleet: bool,
}
