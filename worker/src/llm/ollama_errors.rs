//! What Ollama's error texts mean: a table of statuses and substrings.
//!
//! PURE. Newer servers pass on llama-server's own JSON inside the text, therefore substrings. It must not
//! know what is done about an error.

use std::time::Duration;

use serde_json::Value;

use super::{LlmError, LlmErrorKind};

/// Error texts are cut to this many characters.
const MAX_TEXT_CHARS: usize = 500;

/// Texts of any status that say that the prompt does not fit.
const TOO_LONG: &[&str] = &[
    "exceed_context_size_error",
    "exceeds the available context size",
    "input length exceeds the context length",
    "the prompt is longer than the context length",
];
/// Texts that say that the schema is not understood.
const SCHEMA: &[&str] = &[
    "failed to parse grammar",
    "invalid json schema",
    "invalid format",
    "chatrequest.format",
    "failed to load model vocabulary required for format",
];
/// Texts of status 500 that are refusals all the same.
const REFUSED: &[&str] =
    &["must be of type", "does not support", "unknown model architecture", "unsupported"];
/// Texts that speak of memory.
const MEMORY: &[&str] = &[
    "requires more system memory",
    "out of memory",
    "cudamalloc failed",
    "unable to allocate",
    "insufficient memory",
];
/// What is busy rather than broken.
const BUSY: &[&str] = &["server busy", "maximum pending requests"];

/// Where an error came from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    /// The server's address without credentials.
    pub(crate) server: &'a str,
    /// The model that was asked for; empty where none was.
    pub(crate) model: &'a str,
}

/// Classifies an error reply: its status (200 for an error line within an answer), its text, and how long
/// the server asks to wait.
pub(crate) fn classify(
    status: u16,
    text: &str,
    retry_after: Option<Duration>,
    context: Context<'_>,
) -> LlmError {
    let Context { server, model } = context;
    let lower = text.to_lowercase();
    let has = |parts: &[&str]| parts.iter().any(|part| lower.contains(part));
    let kind = if has(TOO_LONG) {
        LlmErrorKind::PromptTooLong
    } else if has(BUSY) || status == 429 {
        LlmErrorKind::Overloaded { retry_after }
    } else if has(MEMORY) {
        LlmErrorKind::OutOfMemory
    } else if has(SCHEMA) || has(REFUSED) {
        LlmErrorKind::Rejected
    } else {
        match status {
            404 if !model.is_empty() && lower.contains("not found") && lower.contains("model") => {
                LlmErrorKind::ModelNotFound
            }
            502 => LlmErrorKind::Unreachable,
            503 if lower.contains("loading model") => LlmErrorKind::ModelLoading,
            503 => LlmErrorKind::Overloaded { retry_after },
            504 => LlmErrorKind::Timeout,
            200 | 408 | 499..=599 => LlmErrorKind::ServerFault,
            _ => LlmErrorKind::Rejected,
        }
    };
    let text = shortened(text);
    let hint = match (status, kind) {
        (_, LlmErrorKind::ModelNotFound) => format!(
            ": the server does not have the model; run `ollama pull {model}` there, or start the worker with --pull"
        ),
        (401, _) => ": the server wants credentials; set OLLAMA_API_KEY, or write USER:PASSWORD@ before its host".to_owned(),
        (403, _) => {
            ": the server answers local names only; set OLLAMA_HOST=0.0.0.0 there, or let its proxy rewrite the Host header"
                .to_owned()
        }
        (404, _) => ": is this an Ollama server?".to_owned(),
        (504, _) => ": a proxy gave up waiting; raise its read timeout".to_owned(),
        _ => String::new(),
    };
    let what =
        if status == 200 { "failed within its answer".to_owned() } else { format!("answered {status}") };
    LlmError::new(kind, format!("{server} {what}: {text}{hint}"))
}

/// How many tokens a prompt has that the server refuses as too long, where it says so.
pub(crate) fn told_prompt_tokens(text: &str) -> Option<u32> {
    let behind = ["n_prompt_tokens", "request ("].iter().find_map(|mark| text.split(mark).nth(1))?;
    let digits = behind.trim_start_matches(|c: char| !c.is_ascii_digit());
    digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Whether an error is about the schema in `format`, and nothing else.
pub(crate) fn is_about_schema(error: &LlmError) -> bool {
    let lower = error.message.to_lowercase();
    error.kind == LlmErrorKind::Rejected && SCHEMA.iter().any(|part| lower.contains(part))
}

/// The text in an error reply's body: `{"error": "text"}`, `{"error": {...}}`, or the body itself.
pub(crate) fn error_text(body: &str) -> String {
    match serde_json::from_str::<Value>(body) {
        Ok(Value::Object(members)) => match members.get("error") {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => body.trim().to_owned(),
        },
        _ => body.trim().to_owned(),
    }
}

/// One line of bounded length.
pub(crate) fn shortened(text: &str) -> String {
    let line: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_TEXT_CHARS).collect();
    if line.trim().is_empty() { "(no text)".to_owned() } else { line.trim().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_refused_prompt_is_read_where_it_is_said() {
        let said =
            r#"{"error":{"message":"request (13392 tokens) exceeds","n_prompt_tokens":13392,"n_ctx":8192}}"#;
        assert_eq!(told_prompt_tokens(said), Some(13_392));
        assert_eq!(told_prompt_tokens("request (13392 tokens) exceeds the context"), Some(13_392));
        for silent in ["input length exceeds the context length", "request (", "n_prompt_tokens", ""] {
            assert_eq!(told_prompt_tokens(silent), None, "{silent}");
        }
    }

    #[test]
    fn the_table_of_errors() {
        use LlmErrorKind as Kind;
        let busy = Kind::Overloaded { retry_after: None };
        for (status, text, kind) in [
            (
                400,
                r#"{"error":{"code":400,"message":"request (13392 tokens) exceeds the available context size (8192 tokens), try increasing it","type":"exceed_context_size_error"}}"#,
                Kind::PromptTooLong,
            ),
            (400, "the input length exceeds the context length", Kind::PromptTooLong),
            (400, "the prompt is longer than the context length currently available", Kind::PromptTooLong),
            (500, "exceed_context_size_error", Kind::PromptTooLong),
            (400, "\"m\" does not support thinking", Kind::Rejected),
            (400, "Failed to initialize samplers: failed to parse grammar", Kind::Rejected),
            (400, "invalid character 'x' looking for beginning of value", Kind::Rejected),
            (404, "model 'm' not found", Kind::ModelNotFound),
            (404, "model \"m\" not found, try pulling it first", Kind::ModelNotFound),
            (404, "404 page not found", Kind::Rejected),
            (403, "", Kind::Rejected),
            (401, "unauthorized", Kind::Rejected),
            (405, "", Kind::Rejected),
            (301, "", Kind::Rejected),
            (413, "", Kind::Rejected),
            (500, "option \"temperature\" must be of type float32", Kind::Rejected),
            (
                500,
                "invalid format: \"yaml\"; expected \"json\" or a valid JSON Schema object",
                Kind::Rejected,
            ),
            (500, "invalid JSON schema in format", Kind::Rejected),
            (
                500,
                "model requires more system memory (9.9 GiB) than is available (3.4 GiB)",
                Kind::OutOfMemory,
            ),
            (500, "llama runner process has terminated: CUDA error: out of memory", Kind::OutOfMemory),
            (
                500,
                "model runner has unexpectedly stopped, this may be due to resource limitations",
                Kind::ServerFault,
            ),
            (500, "timed out waiting for llama-server to start", Kind::ServerFault),
            (500, "context canceled", Kind::ServerFault),
            (499, "request canceled", Kind::ServerFault),
            (200, "an error was encountered while running the model", Kind::ServerFault),
            (503, "server busy, please try again.  maximum pending requests exceeded", busy),
            (503, "upstream gone", busy),
            (503, "Loading model", Kind::ModelLoading),
            (429, "slow down", busy),
            (502, "Bad Gateway", Kind::Unreachable),
            (504, "Gateway Time-out", Kind::Timeout),
        ] {
            let error = classify(status, text, None, Context { server: "http://gpu1:11434", model: "m" });
            assert_eq!(error.kind, kind, "{status} {text}");
            assert!(error.message.starts_with("http://gpu1:11434 "), "{}", error.message);
        }
    }

    #[test]
    fn a_missing_model_tells_how_to_get_it() {
        let context = Context { server: "http://gpu1:11434", model: "qwen3:8b" };
        let error = classify(404, "model 'qwen3:8b' not found", None, context);
        assert!(error.message.contains("ollama pull qwen3:8b"), "{}", error.message);
    }

    #[test]
    fn texts_are_found_bounded_and_on_one_line() {
        assert_eq!(error_text(r#"{"error":"a"}"#), "a");
        assert_eq!(error_text(r#"{"error":{"message":"b"}}"#), r#"{"message":"b"}"#);
        assert_eq!(error_text("<html>\n"), "<html>");
        assert_eq!(shortened("a\nb"), "a b");
        assert_eq!(shortened(&"x".repeat(9_999)).len(), MAX_TEXT_CHARS);
    }
}
