//! The words of design and code: ids, tasks, results, pairs, failures.
//!
//! Pure data with serde; no I/O, no clock, no async. Everything here is understood by both programs.

mod failure;
mod ids;
mod job;
mod money;
mod pair;
mod provider;
mod result;
mod settings;
mod task;
mod worker;

pub use failure::{Failure, FailureReason};
pub use ids::{
    DocumentName, DocumentToken, InstanceId, InvalidId, JobId, PoolName, TaskKey, TextHash, TraceId,
};
pub use job::{JobEntry, JobState};
pub use money::{NanoUsd, Price};
pub use pair::Pair;
pub use provider::{Provider, UnknownProvider, is_same_model, normalised_model};
pub use result::{Outcome, TaskResult, UnusableAnswer, Usage};
pub use settings::{GenerationSettings, OllamaOptions, PromptSettings, Reasoning};
pub use task::{SecondRound, Task};
pub use worker::{Obstacle, RunningTask, ServedModel, ServerPresence, UnservedPool, WorkerPresence};
