//! What an error reply means: whether and how the request is made again. The one table for all services but
//! Ollama (whose texts are in `ollama_errors`).
//!
//! PURE. Statuses decide unless a code or a text says more. It must not know what is done about it, nor put a
//! credential into a message: whoever has the key takes it out.

use std::time::Duration;

use qa_shared::model_table::Service;
use serde_json::Value;

use super::LlmErrorKind;
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
        let error = outer.get("error").filter(|error| !error.is_null()).unwrap_or(outer);
        let message = error
            .as_str()
            .or_else(|| error.get("message").and_then(Value::as_str))
            .map(str::to_owned)
            .or_else(|| outer.get("message").and_then(Value::as_str).map(str::to_owned))
            .or_else(|| outer.get("detail").map(Value::to_string))
            .unwrap_or_else(|| text.trim().to_owned());
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
const FILTER: &[&str] =
    &["content_filter", "content_policy_violation", "flagged by moderation", "moderation_blocked"];
const MODEL_CODES: &[&str] = &["model_not_found"];
const LOADING: &[&str] = &["loading model", "model is loading"];
const MEMORY: &[&str] = &["out of memory", "insufficient memory"];

/// Classifies an error reply. `asked_to_wait` is what [`super::retry_after`] found in it.
pub(crate) fn kind_of(reply: &Reply, info: &ErrorInfo, asked_to_wait: Option<Duration>) -> LlmErrorKind {
    use LlmErrorKind as Kind;
    let overloaded = Kind::Overloaded { retry_after: asked_to_wait };
    let is_overloaded = matches!(reply.status, 429 | 503 | 529)
        || (reply.status == 200 && info.is(&["overloaded_error", "rate_limit_error"]));
    let kind = if info.is(TOO_LONG_CODES) || info.says(TOO_LONG) || says_input_too_long(info) {
        Kind::PromptTooLong
    } else if matches!(reply.status, 400 | 403) && info.says(FILTER) {
        Kind::Refused
    } else if info.is(QUOTA_CODES) || reply.status == 402 || (is_limit(reply.status) && info.says(QUOTA)) {
        Kind::QuotaExhausted
    } else if matches!(reply.status, 403 | 404) && info.is(MODEL_CODES) {
        Kind::ModelNotFound
    } else if reply.status == 401 || info.is(KEY_CODES) || info.says(KEY) {
        Kind::KeyRefused
    } else {
        match reply.status {
            403 => Kind::KeyRefused,
            404 if info.says(&["model"]) => Kind::ModelNotFound,
            413 => Kind::PromptTooLong,
            503 if info.says(LOADING) => Kind::ModelLoading,
            _ if is_overloaded => overloaded,
            502 => Kind::Unreachable,
            504 | 408 => Kind::Timeout,
            500 if info.says(MEMORY) => Kind::OutOfMemory,
            200 | 409 | 500 | 505..=599 => Kind::ServerFault,
            _ => Kind::Rejected,
        }
    };
    // The service knows better than a table which of its faults pass.
    match (reply.headers.get("x-should-retry"), kind) {
        (Some("false"), Kind::ServerFault | Kind::Timeout) => Kind::Rejected,
        (Some("true"), Kind::Rejected) => Kind::ServerFault,
        (_, kind) => kind,
    }
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
        LlmErrorKind::PromptTooLong if service == Service::Compatible => {
            "; load the model with a larger context there, or use smaller chunks".to_owned()
        }
        LlmErrorKind::Timeout if status == 504 => {
            "; a proxy gave up waiting: raise its read timeout".to_owned()
        }
        LlmErrorKind::Rejected if status == 404 => {
            "; is this the right address? Expected one that ends before /chat/completions".to_owned()
        }
        _ => String::new(),
    }
}

#[cfg(test)]
#[path = "retry_tests.rs"]
mod tests;
