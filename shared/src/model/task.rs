//! "Generate the pairs of this chunk, round n", as it travels through the queue.

use serde::{Deserialize, Serialize};

use super::{DocumentName, GenerationSettings, PoolName, TaskKey, TextHash};

/// One unit of work for a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// What the task and its result are known by.
    pub key: TaskKey,
    /// The document's name, for people.
    pub document: DocumentName,
    /// The pool that it was published to.
    pub pool: PoolName,
    /// The chunk's text: data, never instructions.
    pub text: String,
    /// The hash of `text`; comes back in the result.
    pub text_hash: TextHash,
    /// How to generate.
    pub settings: GenerationSettings,
    /// Model calls at most, where a budget of the job counts on it; the worker's own limit applies as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_calls: Option<u32>,
    /// The context that its chunk needs in tokens, where that is far more than the job's other chunks need; workers
    /// may ignore it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_ctx: Option<u32>,
    /// Whom it is meant for, if another server has the chunk already; workers may ignore that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second: Option<SecondRound>,
    /// When the coordinator published it, in milliseconds since 1970 UTC.
    pub published_at_ms: u64,
}

/// A round beside another one of the same chunk, which seems stuck at its server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecondRound {
    /// The address of the server that has the other one; absent where nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_server: Option<String>,
    /// A server that usually takes longer for a chunk is of no help, in milliseconds.
    pub within_ms: u64,
}
