//! What Ollama's error texts mean: a table of statuses and substrings.
//!
//! PURE. Newer servers pass on llama-server's own JSON inside the text, therefore substrings. It must not
//! know what is done about an error.

use std::time::Duration;

use serde_json::Value;

use super::foreign::{is_page, page_words};
use super::reply::Reply;
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
    "requires more gpu memory",
    "out of memory",
    "outofdevicememory",
    "cudamalloc failed",
    "unable to allocate",
    "failed to allocate",
    "cannot allocate memory",
    "insufficient memory",
    "not enough memory",
];
/// Texts that say that a model of Ollama's cloud is not free of charge.
const SUBSCRIPTION: &[&str] = &["requires a subscription", "upgrade for access", "ollama.com/upgrade"];
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

/// Classifies an error reply, whoever wrote it: Ollama, or something before it.
pub(crate) fn classify_reply(reply: &Reply, retry_after: Option<Duration>, context: Context<'_>) -> LlmError {
    use LlmErrorKind as Kind;
    let body = String::from_utf8_lossy(&reply.body);
    // Ollama refuses unknown names of its host without a word.
    let is_own = error_member(&body).is_some() || (reply.status == 403 && body.trim().is_empty());
    if is_own {
        return classify(reply.status, &error_text(&body), retry_after, context);
    }
    let kind = match reply.status {
        401 | 403 => Kind::KeyRefused,
        408 | 504 | 524 => Kind::Timeout,
        413 => Kind::PromptTooLong,
        429 | 503 => Kind::Overloaded { retry_after },
        _ => Kind::ProxyReply,
    };
    let hint = match (reply.status, kind) {
        (401, _) => CREDENTIALS,
        (403, _) => {
            ": a proxy before the server refuses access; check its rules, and the credentials in the address"
        }
        (404, _) => ": is this an Ollama server? A proxy or tunnel before it may have lost it",
        (413, _) => ": a proxy limits the size of requests (nginx: client_max_body_size)",
        (_, Kind::Timeout) => ": a proxy gave up waiting; raise its read timeout",
        _ => "",
    };
    let is_page = is_page(reply.headers.get("content-type"), &reply.body);
    let from = if is_page { "with a page, not with Ollama's words" } else { "not in Ollama's words" };
    let Context { server, .. } = context;
    let (status, words) = (reply.status, page_words(&body));
    LlmError::new(kind, format!("{server} {}, {from}: {words}{hint}", said(status)))
}

/// What a status says, in a word.
fn said(status: u16) -> String {
    if status == 401 { "refuses the request (401)".to_owned() } else { format!("answered {status}") }
}

/// A reply under status 200 that is a page, such as that of a login.
pub(crate) fn page_instead_of_answer(server: &str, body: &str) -> LlmError {
    let words = page_words(body);
    LlmError::new(
        LlmErrorKind::ProxyReply,
        format!("{server} answered with a page, not with Ollama's words: {words}: is this an Ollama server?"),
    )
}

/// Classifies an error in Ollama's words: its status (200 for an error line within an answer), its text, and
/// how long the server asks to wait.
pub(crate) fn classify(
    status: u16,
    text: &str,
    retry_after: Option<Duration>,
    context: Context<'_>,
) -> LlmError {
    let lower = text.to_lowercase();
    let has = |parts: &[&str]| parts.iter().any(|part| lower.contains(part));
    let is_inside = status == 200;
    let status = if is_inside { status_inside(text).unwrap_or(status) } else { status };
    let kind = if has(TOO_LONG) {
        LlmErrorKind::PromptTooLong
    } else if has(SUBSCRIPTION) {
        LlmErrorKind::SubscriptionRequired
    } else if has(BUSY) || status == 429 {
        LlmErrorKind::Overloaded { retry_after }
    } else if has(MEMORY) {
        LlmErrorKind::OutOfMemory
    } else if has(SCHEMA) || has(REFUSED) {
        LlmErrorKind::Rejected
    } else {
        kind_of_status(status, &lower, retry_after, context)
    };
    let what = if is_inside { "failed within its answer".to_owned() } else { said(status) };
    let hint = hint(status, kind, &lower, context.model);
    LlmError::new(kind, format!("{} {what}: {}{hint}", context.server, shortened(text)))
}

/// What a status means where the text says nothing more.
fn kind_of_status(
    status: u16,
    text: &str,
    retry_after: Option<Duration>,
    context: Context<'_>,
) -> LlmErrorKind {
    match status {
        404 if !context.model.is_empty() && text.contains("not found") && text.contains("model") => {
            LlmErrorKind::ModelNotFound
        }
        // A model of Ollama's cloud that was retired.
        410 if !context.model.is_empty() => LlmErrorKind::ModelNotFound,
        401 | 403 => LlmErrorKind::KeyRefused,
        300..=399 | 404 | 405 | 502 => LlmErrorKind::ProxyReply,
        413 => LlmErrorKind::PromptTooLong,
        503 if text.contains("loading model") => LlmErrorKind::ModelLoading,
        503 => LlmErrorKind::Overloaded { retry_after },
        504 => LlmErrorKind::Timeout,
        200 | 408 | 499..=599 => LlmErrorKind::ServerFault,
        _ => LlmErrorKind::Rejected,
    }
}

/// How credentials reach a server that wants some.
const CREDENTIALS: &str = ": the server, or a proxy before it, wants credentials; set OLLAMA_API_KEY, or write \
                           USER:PASSWORD@ before its host";

/// What helps, for the end of a message: one remedy for each cause.
fn hint(status: u16, kind: LlmErrorKind, text: &str, model: &str) -> String {
    match (status, kind) {
        (_, LlmErrorKind::ModelNotFound) => format!(
            ": the server does not have the model; run `ollama pull {model}` there, use --pull, or choose another \
             one with --model"
        ),
        (_, LlmErrorKind::SubscriptionRequired) => {
            ": choose a model that runs without a subscription (--model), or upgrade the account".to_owned()
        }
        (_, LlmErrorKind::OutOfMemory) => {
            ": choose a smaller model (--model), or free memory there (`ollama ps` lists what is loaded)".to_owned()
        }
        (401, _) if text.contains("sign in") || text.contains("signin") || text == "unauthorized" => {
            format!("{CREDENTIALS}, or run `ollama signin` there for a model of Ollama's cloud")
        }
        (401, _) => CREDENTIALS.to_owned(),
        (403, _) if text.is_empty() => {
            ": the server answers local names only; set OLLAMA_HOST=0.0.0.0 there, or let its proxy rewrite the Host header"
                .to_owned()
        }
        (403, _) => ": the server refuses access to this".to_owned(),
        (404, _) => ": is this an Ollama server?".to_owned(),
        (504, _) => ": a proxy gave up waiting; raise its read timeout".to_owned(),
        _ => String::new(),
    }
}

/// The status within an error's text, where it is JSON that has one: of llama-server, or of a server of Ollama's
/// cloud.
fn status_inside(text: &str) -> Option<u16> {
    let value: Value = serde_json::from_str(text).ok()?;
    let names = ["code", "status", "StatusCode", "status_code"];
    let code = [&value["error"], &value]
        .iter()
        .find_map(|error| names.iter().find_map(|name| error[*name].as_u64()))?;
    u16::try_from(code).ok().filter(|code| (400..600).contains(code))
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
    error_member(body).unwrap_or_else(|| body.trim().to_owned())
}

/// The same where the body is an error in Ollama's form.
fn error_member(body: &str) -> Option<String> {
    match serde_json::from_str::<Value>(body) {
        Ok(Value::Object(members)) => members.get("error").map(|error| match error {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }),
        _ => None,
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
            (404, "404 page not found", Kind::ProxyReply),
            (403, "", Kind::KeyRefused),
            (
                403,
                "this model requires a subscription, upgrade for access: https://ollama.com/upgrade",
                Kind::SubscriptionRequired,
            ),
            (401, "unauthorized", Kind::KeyRefused),
            (405, "", Kind::ProxyReply),
            (301, "", Kind::ProxyReply),
            (410, "model m was retired", Kind::ModelNotFound),
            (413, "", Kind::PromptTooLong),
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
            (502, "Bad Gateway", Kind::ProxyReply),
            (504, "Gateway Time-out", Kind::Timeout),
            (200, r#"{"error":{"code":503,"message":"Loading model"}}"#, Kind::ModelLoading),
            (200, r#"{"code":429,"message":"slow down"}"#, busy),
            (200, r#"{"error":"x","StatusCode":502}"#, Kind::ProxyReply),
            (200, r#"{"error":"x","StatusCode":7}"#, Kind::ServerFault),
            (200, r#"{"status":502,"message":"upstream"}"#, Kind::ProxyReply),
        ] {
            let error = classify(status, text, None, Context { server: "http://gpu1:11434", model: "m" });
            assert_eq!(error.kind, kind, "{status} {text}");
            assert!(error.message.starts_with("http://gpu1:11434 "), "{}", error.message);
        }
    }

    fn of(status: u16, content_type: &str, body: &str) -> LlmError {
        let headers = [("content-type", content_type)].into_iter().collect();
        let reply = Reply { status, headers, body: body.as_bytes().to_vec() };
        classify_reply(&reply, None, Context { server: "http://gpu1:11434", model: "m" })
    }

    #[test]
    fn what_stands_before_the_server_never_refuses_the_request() {
        use LlmErrorKind as Kind;
        let busy = Kind::Overloaded { retry_after: None };
        let cloudflare =
            "<!DOCTYPE html><html><head><title>Error 1033: Cloudflare Tunnel error</title></head></html>";
        for (status, content_type, body, kind) in [
            (530, "text/html", cloudflare, Kind::ProxyReply),
            (521, "text/html", cloudflare, Kind::ProxyReply),
            (522, "text/html", cloudflare, Kind::ProxyReply),
            (524, "text/html", cloudflare, Kind::Timeout),
            (504, "text/html", "<html>Gateway Time-out</html>", Kind::Timeout),
            (
                404,
                "text/html",
                "The endpoint abc.ngrok-free.app is offline.\n\nERR_NGROK_3200\n",
                Kind::ProxyReply,
            ),
            (404, "text/plain", "404 page not found\n", Kind::ProxyReply),
            (404, "application/json", r#"{"detail":"Not Found"}"#, Kind::ProxyReply),
            (
                400,
                "text/html",
                "<html>400 The plain HTTP request was sent to HTTPS port</html>",
                Kind::ProxyReply,
            ),
            (502, "text/html", "<html><body>502 Bad Gateway</body></html>", Kind::ProxyReply),
            (500, "text/html", "<html>Internal Server Error</html>", Kind::ProxyReply),
            (405, "text/html", "<html>405 Not Allowed</html>", Kind::ProxyReply),
            (302, "text/html", "", Kind::ProxyReply),
            (418, "text/plain", "I am a teapot", Kind::ProxyReply),
            (503, "text/plain", "no available server", busy),
            (429, "text/plain", "Too Many Requests", busy),
            (401, "text/html", "<html>401 Authorization Required</html>", Kind::KeyRefused),
            (
                403,
                "text/html",
                "<html><title>Forbidden. You do not have access</title></html>",
                Kind::KeyRefused,
            ),
            (413, "text/html", "<html>413 Request Entity Too Large</html>", Kind::PromptTooLong),
            (404, "application/json", r#"{"error":"model 'm' not found"}"#, Kind::ModelNotFound),
            (403, "text/plain", "", Kind::KeyRefused),
        ] {
            let error = of(status, content_type, body);
            assert_eq!(error.kind, kind, "{status} {body}: {error}");
        }
        let message = of(530, "text/html", cloudflare).message;
        assert!(
            message.contains("530") && message.contains("Error 1033: Cloudflare Tunnel error"),
            "{message}"
        );
    }

    #[test]
    fn each_cause_has_its_own_remedy() {
        let all = [
            (403, "text/plain", "", "OLLAMA_HOST=0.0.0.0"),
            (
                403,
                "application/json",
                r#"{"error":"this model requires a subscription"}"#,
                "without a subscription",
            ),
            (403, "text/html", "<html>403 Forbidden</html>", "a proxy before the server refuses access"),
            (401, "text/html", "<html>401</html>", "USER:PASSWORD@"),
            (401, "application/json", r#"{"error":"unauthorized"}"#, "ollama signin"),
            (
                500,
                "application/json",
                r#"{"error":"model requires more system memory (9 GiB)"}"#,
                "a smaller model",
            ),
            (404, "application/json", r#"{"error":"model 'm' not found"}"#, "ollama pull m"),
        ];
        for (status, content_type, body, remedy) in all {
            let message = of(status, content_type, body).message;
            assert!(message.contains(remedy), "{message}");
            for (_, _, _, other) in all.iter().filter(|(.., other)| *other != remedy) {
                let shares_a_way = remedy == "ollama signin" && *other == "USER:PASSWORD@";
                assert!(shares_a_way || !message.contains(other), "{message}: {other}");
            }
        }
    }

    #[test]
    fn a_401_is_a_refusal_that_tells_both_ways_to_give_credentials() {
        let context = Context { server: "http://gpu1:11434", model: "m" };
        let error = classify(401, "invalid token", None, context);
        for part in ["http://gpu1:11434 refuses the request (401)", "OLLAMA_API_KEY", "USER:PASSWORD@"] {
            assert!(error.message.contains(part), "{}", error.message);
        }
        assert!(!classify(403, "", None, context).message.contains("refuses"));
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
