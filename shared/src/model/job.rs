//! What the job bucket says about a job: whether workers are wanted, and for what.

use serde::{Deserialize, Serialize};

use super::{JobId, PoolName, Provider, TaskKey};

/// A job as workers and other coordinators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobEntry {
    /// The job.
    pub job: JobId,
    /// Whether its tasks are wanted.
    pub state: JobState,
    /// The pool that its tasks go to.
    pub pool: PoolName,
    /// The kind of service that the pool needs.
    pub provider: Provider,
    /// The model that the pool needs.
    pub model: String,
    /// Context that the job's largest chunk needs, prompt and answer together, in tokens (an estimate).
    pub context_tokens: u32,
    /// The context of every request in tokens, where the user has fixed it (`--ollama-num-ctx`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_ctx: Option<u32>,
    /// The coordinator's host.
    pub host: String,
    /// The output directory on that host, for people.
    pub directory: String,
    /// Tasks whose answers are not wanted any more, since another round was faster; the latest of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dropped: Vec<TaskKey>,
    /// When this entry was written, in milliseconds since 1970 UTC.
    pub updated_at_ms: u64,
}

/// Whether a job's tasks are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Tasks are published and results awaited; with `--detach` perhaps by nobody at the moment.
    Active,
    /// Stopped; what is running finishes and waits for a resume.
    Interrupted,
    /// Cancelled: running calls are dropped too.
    Cancelled,
}
