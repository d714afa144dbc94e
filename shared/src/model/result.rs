//! What a worker publishes for a task.

use serde::{Deserialize, Serialize};

use super::{Failure, InstanceId, Pair, Provider, TaskKey, TextHash};

/// The answer to a task: pairs or a failure, with how it came about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskResult {
    /// The task's key.
    pub key: TaskKey,
    /// The hash of the text that was asked about; absent where the task could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_hash: Option<TextHash>,
    /// Pairs or failure.
    pub outcome: Outcome,
    /// Pairs asked for.
    pub asked: u32,
    /// The worker process.
    pub worker: InstanceId,
    /// The worker's host.
    pub host: String,
    /// The LLM server that answered, without credentials; absent where none was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// The kind of service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Provider>,
    /// The model that answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Model calls made, the unusable ones included.
    pub attempts: u32,
    /// Tokens and time of all attempts together.
    pub usage: Usage,
    /// When the worker began, in milliseconds since 1970 UTC.
    pub started_at_ms: u64,
    /// From begin to end on the worker, in milliseconds.
    pub duration_ms: u64,
    /// How often the task was delivered, this time included; 0 where the worker does not tell.
    #[serde(default, skip_serializing_if = "is_once")]
    pub deliveries: u64,
    /// Answers that held nothing usable, each bounded, the last few only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unusable: Vec<UnusableAnswer>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_once(deliveries: &u64) -> bool {
    *deliveries <= 1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_none(tokens: &u64) -> bool {
    *tokens == 0
}

impl TaskResult {
    /// A failure that came about without a model call.
    pub fn failed_without_call(
        key: TaskKey,
        failure: Failure,
        worker: InstanceId,
        host: String,
        now_ms: u64,
    ) -> Self {
        Self {
            key,
            text_hash: None,
            outcome: Outcome::Failed { failure },
            asked: 0,
            worker,
            host,
            server: None,
            provider: None,
            model: None,
            attempts: 0,
            usage: Usage::default(),
            started_at_ms: now_ms,
            duration_ms: 0,
            deliveries: 0,
            unusable: Vec::new(),
        }
    }
}

/// Pairs or a failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "status")]
pub enum Outcome {
    /// At least one valid pair; perhaps fewer than asked for.
    Completed {
        /// The pairs, in the order the model gave them.
        pairs: Vec<Pair>,
    },
    /// No pair.
    Failed {
        /// Why.
        failure: Failure,
    },
}

/// Tokens and time of model calls. A count that the server did not report is 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Prompt tokens, cached ones included.
    #[serde(default)]
    pub input_tokens: u64,
    /// Prompt tokens among them that the provider had cached and read at a lower price.
    #[serde(default)]
    pub cached_tokens: u64,
    /// Prompt tokens among them that the provider wrote to its cache, some at a higher price.
    #[serde(default)]
    pub cache_write_tokens: u64,
    /// Generated tokens, reasoning included.
    #[serde(default)]
    pub output_tokens: u64,
    /// Generated tokens among them that the model spent on reasoning, where the provider tells.
    #[serde(default)]
    pub reasoning_tokens: u64,
    /// Prompt tokens among them that are estimated, because the server does not report them.
    #[serde(default, skip_serializing_if = "is_none")]
    pub estimated_input_tokens: u64,
    /// Generated tokens among them that are estimated.
    #[serde(default, skip_serializing_if = "is_none")]
    pub estimated_output_tokens: u64,
    /// Time the server spent loading the model, in milliseconds.
    #[serde(default)]
    pub load_ms: u64,
    /// Time the server spent on the prompt, in milliseconds.
    #[serde(default)]
    pub prompt_ms: u64,
    /// Time the server spent generating, in milliseconds.
    #[serde(default)]
    pub generation_ms: u64,
}

impl Usage {
    /// Prompt and generated tokens together.
    pub fn tokens(&self) -> u64 {
        self.input_tokens.saturating_add(self.output_tokens)
    }

    /// Those of both that are estimated.
    pub fn estimated_tokens(&self) -> u64 {
        self.estimated_input_tokens.saturating_add(self.estimated_output_tokens)
    }

    /// Adds another call's figures.
    pub fn add(&mut self, other: Usage) {
        self.input_tokens = self.input_tokens.saturating_add(other.input_tokens);
        self.cached_tokens = self.cached_tokens.saturating_add(other.cached_tokens);
        self.cache_write_tokens = self.cache_write_tokens.saturating_add(other.cache_write_tokens);
        self.output_tokens = self.output_tokens.saturating_add(other.output_tokens);
        self.reasoning_tokens = self.reasoning_tokens.saturating_add(other.reasoning_tokens);
        self.estimated_input_tokens =
            self.estimated_input_tokens.saturating_add(other.estimated_input_tokens);
        self.estimated_output_tokens =
            self.estimated_output_tokens.saturating_add(other.estimated_output_tokens);
        self.load_ms = self.load_ms.saturating_add(other.load_ms);
        self.prompt_ms = self.prompt_ms.saturating_add(other.prompt_ms);
        self.generation_ms = self.generation_ms.saturating_add(other.generation_ms);
    }
}

/// An answer that could not be used, kept for the failure log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnusableAnswer {
    /// Which attempt, from 1.
    pub attempt: u32,
    /// What was wrong with it, in words.
    pub reason: String,
    /// The answer itself, cut to a few kilobytes.
    pub answer: String,
}
