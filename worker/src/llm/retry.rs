//! What an error reply means: whether and how the request is made again. The one table for all services but
//! Ollama (whose texts are in `ollama_errors`).
//!
//! PURE. Statuses decide unless a code or a text says more. It must not know what is done about it, nor put a
//! credential into a message: whoever has the key takes it out.

use std::time::Duration;

use qa_shared::model_table::Service;
use serde_json::Value;

use super::LlmErrorKind;
use super::foreign::{is_page, page_words};
use super::ollama_errors::shortened;
use super::reply::Reply;

/// What an error reply says, whichever form it has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ErrorInfo {
    /// For people.
    pub(crate) message: String,
    /// Words that classify: type, code, status; lower case.
    pub(crate) codes: Vec<String>,
    /// The parameter that it is about.
    pub(crate) parameter: Option<String>,
    /// The whole body in lower case, for what stands in details.
    text: String,
}

impl ErrorInfo {
    /// Reads `{"error": {...}}`, `{"error": "text"}`, the same in a list, vLLM's older flat form, FastAPI's
    /// `detail`, an SSE `event: error`, or any text.
    pub(crate) fn read(body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body);
        let value = error_json(&text);
        let outer = value.get(0).unwrap_or(&value);
        // OpenRouter puts an error of the provider behind it into the choice.
        let in_choice = || outer.pointer("/choices/0/error");
        let own = outer.get("error").filter(|error| !error.is_null());
        let error = own.or_else(|| in_choice().filter(|error| !error.is_null())).unwrap_or(outer);
        let message = error
            .as_str()
            .or_else(|| error.get("message").and_then(Value::as_str))
            .map(str::to_owned)
            .or_else(|| outer.get("message").and_then(Value::as_str).map(str::to_owned))
            .or_else(|| outer.get("detail").map(Value::to_string))
            .unwrap_or_else(|| page_words(&text));
        let codes = ["type", "code", "status"]
            .iter()
            .filter_map(|name| match error.get(name)? {
                Value::String(word) => Some(word.to_ascii_lowercase()),
                Value::Number(number) => Some(number.to_string()),
                _ => None,
            })
            .collect();
        let parameter = error.get("param").and_then(Value::as_str).map(str::to_owned);
        Self { message: shortened(&message), codes, parameter, text: text.to_lowercase() }
    }

    fn is(&self, codes: &[&str]) -> bool {
        self.codes.iter().any(|code| codes.contains(&code.as_str()))
    }

    fn says(&self, parts: &[&str]) -> bool {
        parts.iter().any(|part| self.text.contains(part))
    }

    /// Whether the error's own words hold one of these: the rest of the body may repeat the chunk.
    fn message_says(&self, parts: &[&str]) -> bool {
        let message = self.message.to_lowercase();
        parts.iter().any(|part| message.contains(part))
    }

    /// The HTTP status of an error that came under another one.
    fn status(&self) -> Option<u16> {
        self.codes.iter().find_map(|code| code.parse().ok().filter(|code| (400..600).contains(code)))
    }
}

/// The JSON of an error, which LM Studio wraps into a server-sent event.
fn error_json(text: &str) -> Value {
    let parse = |text: &str| serde_json::from_str(text.trim()).ok();
    parse(text)
        .or_else(|| text.lines().filter_map(|line| line.strip_prefix("data:")).find_map(parse))
        .unwrap_or_default()
}

const TOO_LONG_CODES: &[&str] =
    &["context_length_exceeded", "exceed_context_size_error", "string_above_max_length"];
const TOO_LONG: &[&str] = &[
    "exceed_context_size_error",
    "exceeds the available context size",
    "maximum context length is",
    "prompt is too long",
    "exceeds the maximum number of tokens",
    "exceed context limit",
    "greater than the context length",
    "larger than the context",
    // LM Studio's own words.
    "loaded with context length of only",
    // OpenAI, where a single request exceeds the tokens per minute.
    "request too large",
];
const QUOTA_CODES: &[&str] = &["insufficient_quota", "billing_error", "billing_hard_limit_reached"];
const QUOTA: &[&str] =
    &["enforced_spend_limit_reached", "credit balance is too low", "credits exhausted", "perday"];
const KEY_CODES: &[&str] =
    &["invalid_api_key", "authentication_error", "unauthenticated", "permission_denied"];
const KEY: &[&str] = &["api key not valid", "api_key_invalid", "invalid api key", "incorrect api key"];
/// Filters say so with statuses of their own liking.
const FILTER: &[&str] = &[
    "content_filter",
    "content_policy_violation",
    "flagged by moderation",
    "flagged_input",
    "moderation_blocked",
];
const MODEL_CODES: &[&str] = &[
    "model_not_found",
    "model_not_supported",
    "model_not_available",
    "invalid_model",
    "unknown_model",
    "deploymentnotfound",
];
/// What gateways say of a name that they do not route.
const MODEL_UNKNOWN: &[&str] = &[
    "is not a valid model id",
    "invalid model name",
    "invalid model identifier",
    "invalid model:",
    "model not exist",
    "model not found",
    "model does not exist",
    "no such model",
    "unknown model",
    "could not find real modelid",
    "no router for requested model",
    "deployment for this resource does not exist",
];
const LOADING: &[&str] = &["loading model", "model is loading"];
/// LM Studio answers 400 where it has no model in memory, which it loads anew for the next request or not.
const UNLOADED: &[&str] = &[
    "no models loaded",
    "no model loaded",
    "model unloaded",
    "model is unloaded",
    "model has been unloaded",
    "model not loaded",
    "model is not loaded",
];
/// What engines say when they fail, whatever the status: it is no word about the request.
const BROKEN: &[&str] = &[
    "model has crashed",
    "channel error",
    "channel closed",
    "enginecore",
    "enginedead",
    "engine is dead",
    "background loop has errored",
    "engine process exited",
    "failed to load model",
    "error loading model",
];
const MEMORY: &[&str] = &[
    "out of memory",
    "insufficient memory",
    "insufficient system resources",
    "not enough memory",
    "failed to allocate",
    "cannot allocate memory",
];

/// Classifies an error reply. `asked_to_wait` is what [`super::retry_after`] found in it.
pub(crate) fn kind_of(reply: &Reply, info: &ErrorInfo, asked_to_wait: Option<Duration>) -> LlmErrorKind {
    use LlmErrorKind as Kind;
    // An error within an answer, or within a choice of it, says the status that it would have had.
    let is_inside = (200..300).contains(&reply.status);
    let status = if is_inside { info.status().unwrap_or(200) } else { reply.status };
    let kind = if info.is(TOO_LONG_CODES) || info.says(TOO_LONG) || says_input_too_long(info) {
        Kind::PromptTooLong
    } else if matches!(status, 400 | 403) && info.says(FILTER) {
        Kind::Refused
    } else if info.is(QUOTA_CODES) || status == 402 || (is_limit(status) && info.says(QUOTA)) {
        Kind::QuotaExhausted
    } else if matches!(status, 400 | 403 | 404 | 422) && (info.is(MODEL_CODES) || says_model_unknown(info)) {
        Kind::ModelNotFound
    } else if status == 401 || info.is(KEY_CODES) || info.says(KEY) {
        Kind::KeyRefused
    } else if is_servers(status) && info.message_says(MEMORY) {
        Kind::OutOfMemory
    } else if is_servers(status) && (info.message_says(LOADING) || info.message_says(UNLOADED)) {
        Kind::ModelLoading
    } else if is_servers(status) && info.message_says(BROKEN) {
        Kind::ServerFault
    } else if is_page(reply.headers.get("content-type"), &reply.body) && is_no_limit(status) {
        Kind::ProxyReply
    } else {
        kind_of_status(status, info, asked_to_wait)
    };
    // The service knows better than a table which of its faults pass.
    match (reply.headers.get("x-should-retry"), kind) {
        (Some("false"), Kind::ServerFault | Kind::Timeout) => Kind::Rejected,
        (Some("true"), Kind::Rejected) => Kind::ServerFault,
        (_, kind) => kind,
    }
}

/// What a status means where nothing else in the reply says more.
fn kind_of_status(status: u16, info: &ErrorInfo, asked_to_wait: Option<Duration>) -> LlmErrorKind {
    use LlmErrorKind as Kind;
    let is_busy = status == 200 && info.is(&["overloaded_error", "rate_limit_error"]);
    match status {
        403 => Kind::KeyRefused,
        404 if info.says(&["model"]) => Kind::ModelNotFound,
        413 => Kind::PromptTooLong,
        429 | 503 | 529 => Kind::Overloaded { retry_after: asked_to_wait },
        _ if is_busy => Kind::Overloaded { retry_after: asked_to_wait },
        // No route of the API: what stands there is not the server, or its address is wrong.
        300..=399 | 404 | 405 | 502 | 520..=523 | 525..=527 | 530 => Kind::ProxyReply,
        504 | 408 | 524 => Kind::Timeout,
        200 | 409 | 500 | 505..=599 => Kind::ServerFault,
        _ => Kind::Rejected,
    }
}

/// Also: the requested model 'x' does not exist.
fn says_model_unknown(info: &ErrorInfo) -> bool {
    info.message_says(MODEL_UNKNOWN)
        || (info.message_says(&["model"]) && info.message_says(&["does not exist"]))
}

/// Statuses with which servers speak of themselves; LM Studio and older engines use 400 for it.
fn is_servers(status: u16) -> bool {
    matches!(status, 200 | 400 | 404 | 409 | 500..=599)
}

/// Statuses whose meaning does not depend on who says it.
fn is_no_limit(status: u16) -> bool {
    !matches!(status, 401 | 403 | 408 | 413 | 429 | 503 | 504 | 524 | 529)
}

/// Statuses with which services say that money or a quota is spent.
fn is_limit(status: u16) -> bool {
    matches!(status, 400 | 403 | 429)
}

/// Gemini: "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)".
fn says_input_too_long(info: &ErrorInfo) -> bool {
    info.says(&["input token count"]) && info.says(&["exceeds"])
}

/// What to do about it, for the end of a message.
pub(crate) fn remedy(service: Service, kind: LlmErrorKind, status: u16, model: &str) -> String {
    let name = match service {
        Service::OpenAi => "OpenAI",
        Service::Claude => "Anthropic",
        Service::Gemini => "Google",
        Service::Compatible => "the server",
        Service::Ollama => "Ollama",
    };
    match kind {
        LlmErrorKind::KeyRefused => {
            let variable = match service {
                Service::Claude => "ANTHROPIC_API_KEY",
                Service::Gemini => "GEMINI_API_KEY",
                Service::OpenAi | Service::Compatible | Service::Ollama => "OPENAI_API_KEY",
            };
            format!("; {name} does not accept the key: set a valid one ({variable}) and start again")
        }
        LlmErrorKind::QuotaExhausted => format!(
            "; the account's quota or credit is used up: raise it with {name} (or wait for the next period); \
             tasks wait in the queue meanwhile"
        ),
        LlmErrorKind::ModelNotFound => {
            format!("; check the name `{model}`, or whether the account may use it")
        }
        LlmErrorKind::OutOfMemory => "; choose a smaller model, or free memory there".to_owned(),
        LlmErrorKind::ModelLoading => "; load the model there, if it does not load it by itself".to_owned(),
        LlmErrorKind::PromptTooLong if service == Service::Compatible => {
            "; load the model with a larger context there, or use smaller chunks".to_owned()
        }
        LlmErrorKind::Timeout if matches!(status, 504 | 524) => {
            "; a proxy gave up waiting: raise its read timeout".to_owned()
        }
        LlmErrorKind::ProxyReply if matches!(status, 404 | 405) => {
            "; is this the right address? Expected one that ends before /chat/completions".to_owned()
        }
        _ => String::new(),
    }
}

#[cfg(test)]
#[path = "retry_tests.rs"]
mod tests;
