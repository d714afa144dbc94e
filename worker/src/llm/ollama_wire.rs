//! The JSON of Ollama's native API: only what is read or sent, everything that is read optional.

use std::borrow::Cow;
use std::time::Duration;

use qa_shared::model::{Provider, Usage, normalised_model};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ollama_version::Version;
use super::usage::lenient;
use super::{ChatReply, ChatRequest, Finish, Role};

/// How long a model stays loaded after a call.
const KEEP_ALIVE: &str = "30m";
/// What is sent where the user gives no option of his own; the same for every server and version.
const TOP_P: f64 = 0.9;
const TOP_K: u32 = 40;
const MIN_P: f64 = 0.0;
const REPEAT_PENALTY: f64 = 1.0;
/// What is added after each answer that repeated itself; more than the most spoils the JSON around the text.
const REPEAT_STEP: f64 = 0.15;
const MOST_REPEAT_PENALTY: f64 = 1.5;
/// The penalty looks back this many tokens then: a repeated clause is longer than Ollama's default of 64.
const REPEAT_WINDOW: u32 = 256;

#[derive(Debug, Serialize)]
pub(super) struct ChatBody<'a> {
    pub(super) model: &'a str,
    pub(super) messages: Vec<MessageBody<'a>>,
    pub(super) stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) think: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) format: Option<&'a Value>,
    pub(super) keep_alive: Value,
    pub(super) truncate: bool,
    pub(super) shift: bool,
    pub(super) options: Options<'a>,
}

#[derive(Debug, Serialize)]
pub(super) struct MessageBody<'a> {
    pub(super) role: &'static str,
    pub(super) content: &'a str,
}

#[derive(Debug, Serialize)]
pub(super) struct Options<'a> {
    pub(super) num_ctx: u32,
    pub(super) num_predict: u32,
    pub(super) temperature: f64,
    pub(super) top_p: f64,
    pub(super) top_k: u32,
    pub(super) min_p: f64,
    pub(super) repeat_penalty: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) repeat_last_n: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) seed: Option<i64>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub(super) stop: &'a [String],
}

/// One line of an answer, or all of it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ChatLine {
    pub(super) error: Option<Value>,
    pub(super) message: Option<MessageLine>,
    pub(super) model: Option<String>,
    pub(super) done: bool,
    pub(super) done_reason: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub(super) load_duration: Option<u64>,
    #[serde(deserialize_with = "lenient")]
    pub(super) prompt_eval_count: Option<u64>,
    #[serde(deserialize_with = "lenient")]
    pub(super) prompt_eval_duration: Option<u64>,
    #[serde(deserialize_with = "lenient")]
    pub(super) eval_count: Option<u64>,
    #[serde(deserialize_with = "lenient")]
    pub(super) eval_duration: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct MessageLine {
    pub(super) content: Option<String>,
    pub(super) thinking: Option<String>,
    pub(super) tool_calls: Option<Value>,
}

impl MessageLine {
    /// The text; where there is none, what a tool is called with although none was offered.
    pub(super) fn said(&self) -> Cow<'_, str> {
        match (self.content.as_deref(), &self.tool_calls) {
            (None | Some(""), Some(Value::Array(calls))) => {
                calls.iter().map(super::openai::arguments_of).collect::<Vec<_>>().join("\n").into()
            }
            (content, _) => content.unwrap_or_default().into(),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct VersionReply {
    pub(super) version: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ModelsReply {
    pub(super) models: Option<Vec<ModelLine>>,
}

/// A model in `/api/tags` or `/api/ps`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ModelLine {
    pub(super) name: Option<String>,
    pub(super) model: Option<String>,
    pub(super) digest: Option<String>,
    pub(super) size: Option<u64>,
    pub(super) size_vram: Option<u64>,
    pub(super) context_length: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ShowReply {
    pub(super) capabilities: Option<Vec<String>>,
    pub(super) details: Option<Details>,
    pub(super) model_info: Option<serde_json::Map<String, Value>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Details {
    pub(super) family: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PullLine {
    pub(super) error: Option<Value>,
    pub(super) status: Option<String>,
    pub(super) digest: Option<String>,
    pub(super) total: Option<u64>,
    pub(super) completed: Option<u64>,
}

impl ModelLine {
    pub(super) fn normalised_name(self) -> Option<String> {
        self.name.or(self.model).map(|name| normalised_model(Provider::Local, &name))
    }

    pub(super) fn gpu_percent(&self) -> Option<u8> {
        let size = self.size.filter(|&size| size > 0)?;
        u8::try_from(u128::from(self.size_vram?) * 100 / u128::from(size))
            .ok()
            .map(|percent| percent.min(100))
    }
}

/// Ollama takes a bare number for seconds, and in a text only a time with its unit.
pub(super) fn keep_alive(wanted: Option<&str>) -> Value {
    let wanted = wanted.unwrap_or(KEEP_ALIVE);
    wanted.parse::<i64>().map_or_else(|_| Value::from(wanted), Value::from)
}

/// The body of a model call.
pub(super) fn chat_body<'a>(
    request: &'a ChatRequest,
    think: Option<Value>,
    format: Option<&'a Value>,
) -> ChatBody<'a> {
    let messages = request.messages.iter().map(|message| MessageBody {
        role: match message.role {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        },
        content: &message.content,
    });
    let sampling = &request.sampling;
    ChatBody {
        model: &request.model,
        messages: messages.collect(),
        stream: true,
        think,
        format,
        keep_alive: keep_alive(sampling.keep_alive.as_deref()),
        truncate: false,
        shift: false,
        options: Options {
            num_ctx: request.num_ctx,
            num_predict: request.max_output,
            temperature: request.temperature,
            top_p: sampling.top_p.unwrap_or(TOP_P),
            top_k: sampling.top_k.unwrap_or(TOP_K),
            min_p: MIN_P,
            repeat_penalty: repeat_penalty(request),
            repeat_last_n: (request.repetitions > 0).then_some(REPEAT_WINDOW),
            seed: request.seed,
            stop: &sampling.stop,
        },
    }
}

/// The user's penalty for repetitions, raised after each answer that repeated itself without end.
fn repeat_penalty(request: &ChatRequest) -> f64 {
    let wished = request.sampling.repeat_penalty.unwrap_or(REPEAT_PENALTY);
    let raised = wished.max(REPEAT_PENALTY) + REPEAT_STEP * f64::from(request.repetitions);
    if request.repetitions == 0 { wished } else { raised.min(MOST_REPEAT_PENALTY).max(wished) }
}

/// The reply of which no more is read, since it repeats itself. Ollama sends one piece per token.
pub(super) fn given_up(content: String, thinking: String, pieces: u32) -> ChatReply {
    ChatReply {
        content,
        thinking: (!thinking.is_empty()).then_some(thinking),
        finish: Finish::Repetition,
        usage: Usage { output_tokens: pieces.into(), ..Usage::default() },
        prompt_tokens: None,
        model: None,
        id: None,
        held: Duration::ZERO,
    }
}

/// The reply that ends with `line`.
pub(super) fn reply(line: &ChatLine, content: String, thinking: String, version: Version) -> ChatReply {
    let finish = match line.done_reason.as_deref() {
        Some("stop") => Finish::Stop,
        Some("length") => Finish::Length,
        Some(other) if !other.is_empty() => Finish::Other(other.to_owned()),
        // Old servers give no reason; later ones leave it out when something went wrong.
        _ if !version.tells_done_reason() => Finish::Stop,
        _ => Finish::Other("no reason".to_owned()),
    };
    let ms = |nanoseconds: Option<u64>| nanoseconds.unwrap_or(0) / 1_000_000;
    ChatReply {
        content,
        thinking: (!thinking.is_empty()).then_some(thinking),
        finish,
        usage: Usage {
            input_tokens: line.prompt_eval_count.unwrap_or(0),
            output_tokens: line.eval_count.unwrap_or(0),
            load_ms: ms(line.load_duration),
            prompt_ms: ms(line.prompt_eval_duration),
            generation_ms: ms(line.eval_duration),
            ..Usage::default()
        },
        prompt_tokens: line.prompt_eval_count.and_then(|count| u32::try_from(count).ok()),
        model: line.model.clone(),
        id: None,
        held: Duration::ZERO,
    }
}

/// The text of an error, which may be an object.
pub(super) fn text_of(error: &Value) -> String {
    error.as_str().map_or_else(|| error.to_string(), str::to_owned)
}
