//! Why a chunk has no pairs.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A chunk's failure: what kind, and what happened in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The kind.
    pub reason: FailureReason,
    /// One sentence for people; holds no secret.
    pub message: String,
}

/// The kinds of failure. A kind that this version does not know reads as [`FailureReason::Other`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureReason {
    /// No answer of any attempt held a valid pair.
    NoUsableAnswer,
    /// Every answer was cut by the output limit before the first complete pair.
    OutputLimit,
    /// The model repeated itself without end, and its answers were given up.
    Repetition,
    /// The prompt does not fit the model's context, or the server cut it.
    PromptTooLong,
    /// The chunk has no text to ask about.
    EmptyChunk,
    /// The chunk file has no text for the chunk.
    InvalidChunk,
    /// The model or its server refuses requests like this one (unknown model, invalid option).
    Rejected,
    /// The model, or a filter of its provider, declines to answer about this chunk.
    Refused,
    /// The server failed again and again in a way that is not overload.
    ServerError,
    /// The task's deadline passed.
    Deadline,
    /// The task was lost with its worker again and again.
    Poison,
    /// The message exceeds what the queue server accepts.
    TaskTooLarge,
    /// The worker could not read the task.
    UnreadableTask,
    /// A kind from a newer version, or none of these.
    #[serde(other)]
    Other,
}

impl FailureReason {
    /// The kind as it stands in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoUsableAnswer => "no_usable_answer",
            Self::OutputLimit => "output_limit",
            Self::Repetition => "repetition",
            Self::PromptTooLong => "prompt_too_long",
            Self::EmptyChunk => "empty_chunk",
            Self::InvalidChunk => "invalid_chunk",
            Self::Rejected => "rejected",
            Self::Refused => "refused",
            Self::ServerError => "server_error",
            Self::Deadline => "deadline",
            Self::Poison => "poison",
            Self::TaskTooLarge => "task_too_large",
            Self::UnreadableTask => "unreadable_task",
            Self::Other => "other",
        }
    }

    /// Whether the chunk's own text is the cause: trying again without a change is pointless.
    pub fn caused_by_input(self) -> bool {
        match self {
            Self::EmptyChunk | Self::InvalidChunk | Self::TaskTooLarge => true,
            Self::NoUsableAnswer
            | Self::OutputLimit
            | Self::Repetition
            | Self::PromptTooLong
            | Self::Rejected
            | Self::Refused
            | Self::ServerError
            | Self::Deadline
            | Self::Poison
            | Self::UnreadableTask
            | Self::Other => false,
        }
    }

    /// What the user can do about it.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::NoUsableAnswer => {
                "look at the raw answers in the failure log; try a larger model, fewer questions or a lower temperature"
            }
            Self::OutputLimit => "raise --max-tokens (or --ollama-num-predict), or ask for fewer questions",
            Self::Repetition => "use a larger model; with Ollama, set --ollama-repeat-penalty to 1.1 or more",
            Self::PromptTooLong => "use smaller chunks, a shorter prompt, or a model with a larger context",
            Self::EmptyChunk => "nothing to do, or remove the chunk from its file",
            Self::InvalidChunk => "make the chunk file again: the `text` of each chunk has to be a text",
            Self::Rejected => "read the message: the model or an option is not accepted by the server",
            Self::Refused => "read the provider's reason; another model may answer, or leave the chunk out",
            Self::ServerError => "look at the LLM server's own log",
            Self::Deadline => "raise the worker's --task-timeout, or use a faster machine",
            Self::Poison => "this chunk ended its worker again and again: look at the workers' logs",
            Self::TaskTooLarge => {
                "use smaller chunks, or raise what the message names: max_payload of the nats-server, or max_msg_size of the stream"
            }
            Self::UnreadableTask => "bring coordinator and workers to the same version",
            Self::Other => "read the message",
        }
    }
}

impl fmt::Display for FailureReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
