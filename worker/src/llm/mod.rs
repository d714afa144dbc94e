//! The words in which the worker talks with any kind of LLM server, and the trait that servers implement.
//!
//! [`client`] is any of them: [`ollama`] speaks Ollama's own API, [`remote`] those of OpenAI (and of servers
//! that copy it), Anthropic and Google, whose wire forms stay in `openai`, `claude` and `gemini`. This module
//! must not know about tasks, the queue or what an answer is good for.

use std::fmt;
use std::time::Duration;

use qa_shared::model::{Obstacle, OllamaOptions, Reasoning, ServedModel, Usage};
use serde_json::Value;

mod adapt;
mod claude;
pub mod client;
mod failed_generation;
mod foreign;
#[cfg(test)]
mod fuzz_tests;
mod gemini;
pub mod http;
mod near_names;
pub mod ollama;
mod ollama_errors;
mod ollama_memory;
pub mod ollama_models;
mod ollama_version;
mod ollama_wire;
mod openai;
pub mod rate_limit;
pub mod remote;
mod remote_models;
mod repetition;
mod reply;
mod retry;
mod retry_after;
mod schema;
mod sse;
mod system_role;
mod token_counts;
mod truncation;
mod usage;
mod usage_limit;
mod way;

pub use near_names::near;

/// What an answer's schema, or the tool that takes it, is called where it needs a name.
const SCHEMA_NAME: &str = "qa_pairs";

/// A server that continues conversations.
pub trait LlmServer: Sync {
    /// Asks for the next message. Dropping the future cancels the request at the server.
    fn chat(&self, request: &ChatRequest) -> impl Future<Output = Result<ChatReply, LlmError>> + Send;

    /// Who is asked: the provider as OpenTelemetry calls it, and the address without credentials.
    fn who(&self) -> (&'static str, &str) {
        ("unknown", "")
    }
}

/// Who says a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The rules of the conversation.
    System,
    /// We.
    User,
    /// The model.
    Assistant,
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What is said.
    pub content: String,
    /// Of `content` this many bytes from its start are the same for every chunk of a job, so that a provider
    /// may cache them.
    pub constant: usize,
}

impl Message {
    /// A message.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into(), constant: 0 }
    }

    /// The beginning that is the same for every chunk of a job; perhaps empty.
    pub fn constant_part(&self) -> &str {
        let part = self.content.get(..self.constant).unwrap_or_default();
        // Blank parts are refused, and worth nothing.
        if part.trim().is_empty() { "" } else { part }
    }

    /// What follows the constant part.
    pub fn variable_part(&self) -> &str {
        &self.content[self.constant_part().len()..]
    }
}

/// A model call.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatRequest {
    /// The model's name at this server.
    pub model: String,
    /// The conversation so far.
    pub messages: Vec<Message>,
    /// The JSON schema that the answer has to follow.
    pub schema: Option<Value>,
    /// Sampling temperature.
    pub temperature: f64,
    /// Output ceiling in tokens, reasoning included.
    pub max_output: u32,
    /// How much the model may reason; absent: as little as it allows.
    pub reasoning: Option<Reasoning>,
    /// Context of the loaded model in tokens, prompt and output together; one constant per server and model.
    pub num_ctx: u32,
    /// Ollama's sampling options; its `num_predict` is not read here, `max_output` is what counts.
    pub sampling: OllamaOptions,
    /// Makes sampling repeatable where the server supports it.
    pub seed: Option<i64>,
    /// Answers so far that repeated themselves without end: the next one is kept from it where the API can.
    pub repetitions: u32,
}

impl ChatRequest {
    /// One question to a model, within 256 tokens.
    pub fn of(model: &str, question: &str) -> Self {
        Self {
            model: model.to_owned(),
            messages: vec![Message::new(Role::User, question)],
            schema: None,
            temperature: 0.0,
            max_output: 256,
            reasoning: None,
            num_ctx: 2048,
            sampling: OllamaOptions::default(),
            seed: None,
            repetitions: 0,
        }
    }
}

/// Why a server stopped generating.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finish {
    /// The model was done.
    Stop,
    /// The model repeated itself without end, and the answer was given up.
    Repetition,
    /// The output ceiling or the end of the context was reached.
    Length,
    /// The model declines, or a filter of its provider blocked prompt or answer; the text is the provider's.
    Refused(String),
    /// The service's own check refused the answer; the text is its word for that.
    Invalid(String),
    /// What else the server calls it.
    Other(String),
}

/// A model's message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatReply {
    /// Its text; perhaps empty.
    pub content: String,
    /// Its reasoning where the server tells it apart.
    pub thinking: Option<String>,
    /// Why it ended.
    pub finish: Finish,
    /// Tokens and time.
    pub usage: Usage,
    /// Prompt tokens that the server reports.
    pub prompt_tokens: Option<u32>,
    /// The model that answered, in the server's words.
    pub model: Option<String>,
    /// What the server calls this answer.
    pub id: Option<String>,
    /// How long the request was held back here, for the account's limits.
    pub held: Duration,
}

/// A model call without an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct LlmError {
    /// What to do about it depends on this.
    pub kind: LlmErrorKind,
    /// For people; holds no credentials.
    pub message: String,
    /// What the call cost all the same, as far as that is known.
    pub usage: Usage,
}

impl LlmError {
    pub(crate) fn new(kind: LlmErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), usage: Usage::default() }
    }

    /// The same with what the call cost.
    pub(crate) fn costing(self, usage: Usage) -> Self {
        Self { usage, ..self }
    }
}

/// What an error says about server and request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LlmErrorKind {
    /// The server has more requests than it takes.
    Overloaded {
        /// How long it asks to wait, where it says so.
        retry_after: Option<Duration>,
    },
    /// No connection, or it broke before an answer began.
    Unreachable,
    /// Something before the server answers in its place: a proxy, a tunnel, a login page.
    ProxyReply,
    /// The server has not loaded the model yet, or not any more, and takes no requests for it meanwhile.
    ModelLoading,
    /// The server does not have the model.
    ModelNotFound,
    /// The model runs only for accounts with a subscription.
    SubscriptionRequired,
    /// The account's key is missing, wrong, or not allowed to do this.
    KeyRefused,
    /// The account's quota or credit is used up; only its owner or time helps.
    QuotaExhausted,
    /// The prompt does not fit, or the server cut it.
    PromptTooLong,
    /// The server refuses requests like this one; the same again is pointless.
    Rejected,
    /// A filter of the provider refuses the prompt.
    Refused,
    /// The worker is being stopped, and the call had not begun.
    NotBegun,
    /// The model does not fit into the server's memory.
    OutOfMemory,
    /// The server failed; the same again may work.
    ServerFault,
    /// The server's reply breaks its own protocol.
    Malformed,
    /// No complete answer within the time that a request may take.
    Timeout,
    /// The answer began and then stood still.
    IdleTimeout,
}

impl LlmErrorKind {
    /// Whether only the account's owner can help.
    pub fn is_about_the_account(self) -> bool {
        matches!(self, Self::KeyRefused | Self::QuotaExhausted)
    }

    /// The same for the coordinator, which only wants to know what lasts.
    pub fn obstacle(self) -> Obstacle {
        match self {
            Self::Unreachable => Obstacle::NothingListens,
            Self::ModelNotFound => Obstacle::ModelUnknown,
            Self::OutOfMemory => Obstacle::OutOfMemory,
            Self::SubscriptionRequired => Obstacle::SubscriptionRequired,
            Self::KeyRefused => Obstacle::CredentialsRefused,
            Self::Overloaded { .. }
            | Self::ProxyReply
            | Self::ModelLoading
            | Self::QuotaExhausted
            | Self::PromptTooLong
            | Self::Rejected
            | Self::Refused
            | Self::NotBegun
            | Self::ServerFault
            | Self::Malformed
            | Self::Timeout
            | Self::IdleTimeout => Obstacle::Other,
        }
    }
}

impl fmt::Display for LlmErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Overloaded { .. } => "overloaded",
            Self::Unreachable => "unreachable",
            Self::ProxyReply => "proxy_reply",
            Self::ModelLoading => "model_loading",
            Self::ModelNotFound => "model_not_found",
            Self::SubscriptionRequired => "subscription_required",
            Self::KeyRefused => "key_refused",
            Self::QuotaExhausted => "quota_exhausted",
            Self::PromptTooLong => "prompt_too_long",
            Self::Rejected => "rejected",
            Self::Refused => "refused",
            Self::NotBegun => "not_begun",
            Self::OutOfMemory => "out_of_memory",
            Self::ServerFault => "server_fault",
            Self::Malformed => "malformed",
            Self::Timeout => "timeout",
            Self::IdleTimeout => "idle_timeout",
        })
    }
}

/// What a server says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerInfo {
    /// Its version, where it tells one.
    pub version: Option<String>,
    /// Models that it has, by normalised name, with digest, and the share in GPU memory where loaded.
    pub models: Vec<ServedModel>,
}

/// What a server says about a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInfo {
    /// The largest context that the model was made for, in tokens.
    pub context_length: Option<u32>,
    /// Whether it reasons before it answers.
    pub thinking: bool,
    /// Whether it generates text at all.
    pub completion: bool,
    /// The digest of its weights.
    pub digest: Option<String>,
}
