//! Whatever a service or something in between sends, mutated: bodies, errors, headers.

use jiff::Timestamp;
use qa_shared::model::Reasoning;
use qa_shared::model_table::{ModelTable, Service};
use qa_shared::testing::fuzz::Fuzz;
use serde_json::{Value, json};

use super::adapt::adapt;
use super::ollama_errors::{Context, classify, error_text};
use super::ollama_wire::{ChatLine, ModelsReply, PullLine, ShowReply};
use super::rate_limit::{PerMinute, RateLimit, ToldLimits};
use super::reply::{Headers, Reply};
use super::retry::{ErrorInfo, kind_of};
use super::retry_after::retry_after;
use super::{claude, gemini, openai};

const OPENAI: &str = r#"{"choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"{\"pairs\":[]}","refusal":null,"reasoning_content":"x"}}],"usage":{"prompt_tokens":10,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":4}},"timings":{"prompt_ms":1.5}}"#;
const CLAUDE: &str = r#"{"type":"message","content":[{"type":"thinking","thinking":"hm"},{"type":"text","text":"{}"},{"type":"tool_use","input":{"pairs":[]}}],"stop_reason":"end_turn","stop_details":{"category":"x"},"usage":{"input_tokens":1,"cache_read_input_tokens":2,"output_tokens":3}}"#;
const GEMINI: &str = r#"{"candidates":[{"content":{"parts":[{"text":"a","thought":true},{"text":"{}"}]},"finishReason":"STOP"}],"promptFeedback":{"blockReason":"SAFETY"},"usageMetadata":{"promptTokenCount":9,"thoughtsTokenCount":1}}"#;
const OLLAMA: &str = r#"{"model":"m","message":{"role":"assistant","content":"{}","thinking":""},"done":true,"done_reason":"stop","prompt_eval_count":9,"eval_count":5,"eval_duration":4000000000}"#;
const ERROR: &str = r#"[{"error":{"code":429,"message":"Unsupported parameter: temperature, response_format, thinking","param":"temperature","type":"rate_limit_error","status":"RESOURCE_EXHAUSTED","details":[{"retryDelay":"37s"}]}}]"#;

#[test]
fn answers() {
    Fuzz::of("answers").example(OPENAI).example(CLAUDE).example(GEMINI).run(|bytes| {
        let Ok(body) = serde_json::from_slice::<Value>(bytes) else { return };
        for reply in [openai::reply(&body), claude::reply(&body), gemini::reply(&body)].into_iter().flatten()
        {
            assert!(reply.content.len() <= 2 * bytes.len(), "no answer is longer than what was sent");
            assert!(reply.usage.cached_tokens <= reply.usage.input_tokens);
        }
    });
}

#[test]
fn streams() {
    let delta = r#"data: {"choices":[{"index":0,"delta":{"content":"{}","tool_calls":[{"index":1,"function":{"arguments":"x"}}]},"finish_reason":null}]}"#;
    let fuzz = Fuzz::of("streams").example(format!("{delta}\n\n{delta}\n\ndata: [DONE]\n\n")).example(OPENAI);
    fuzz.example("event: error\ndata: {\"error\":{\"message\":\"x\"}}\n\n").run(|bytes| {
        let mut incoming = super::sse::Incoming::default();
        let added: usize = bytes.chunks(7).map(|piece| incoming.take(piece).len()).sum();
        assert!(added <= 4 * bytes.len(), "no answer is longer than what was sent");
        let whole = incoming.finish(false);
        let _failed = super::failed_generation::read(400, &whole);
    });
}

#[test]
fn ollamas_lines() {
    Fuzz::of("Ollama's lines").example(OLLAMA).example(r#"{"error":"x"}"#).run(|bytes| {
        let _chat: Result<ChatLine, _> = serde_json::from_slice(bytes);
        let _pull: Result<PullLine, _> = serde_json::from_slice(bytes);
        let _show: Result<ShowReply, _> = serde_json::from_slice(bytes);
        let _models: Result<ModelsReply, _> = serde_json::from_slice(bytes);
        let text = error_text(&String::from_utf8_lossy(bytes));
        let error = classify(500, &text, None, Context { server: "http://gpu1", model: "m" });
        assert!(error.message.len() < 3000, "{} bytes", error.message.len());
    });
}

#[test]
fn errors() {
    let traits = ModelTable::default().traits(Service::OpenAi, "gpt-5.1");
    let sent = json!({"temperature": 1, "response_format": {}, "reasoning_effort": "low"});
    let event = "event: error\ndata: {\"error\":{\"message\":\"x\"}}\n\n";
    Fuzz::of("errors").example(ERROR).example(event).example("<html>").run(|bytes| {
        let info = ErrorInfo::read(bytes);
        assert!(info.message.chars().count() <= 500 && !info.message.contains('\n'), "{}", info.message);
        for status in [200, 400, 403, 404, 429, 500, 503] {
            let reply = Reply { status, headers: Headers::default(), body: bytes.to_vec() };
            let _kind = kind_of(&reply, &info, None);
        }
        drop(adapt(Service::OpenAi, &traits, Some(Reasoning::Low), &sent, &info));
        let body: Value = serde_json::from_slice(bytes).unwrap_or_default();
        let _wait = retry_after(&Headers::default(), &body, Timestamp::UNIX_EPOCH);
    });
}

#[test]
fn headers() {
    let names = [
        "retry-after",
        "retry-after-ms",
        "x-ratelimit-limit-requests",
        "x-ratelimit-remaining-requests",
        "x-ratelimit-reset-requests",
        "anthropic-ratelimit-tokens-remaining",
        "anthropic-ratelimit-tokens-reset",
    ];
    let fuzz = Fuzz::of("headers").example("6m0s").example("Mon, 23 Nov 2026 10:00:30 GMT");
    fuzz.example("2026-11-23T10:00:00Z").example("120").run(|bytes| {
        let value = String::from_utf8_lossy(bytes);
        let headers: Headers = names.iter().map(|name| (name, &value)).collect();
        let wait = retry_after(&headers, &Value::Null, Timestamp::UNIX_EPOCH);
        assert!(wait.is_none_or(|wait| wait.as_secs() <= 24 * 3600), "{wait:?}");
        let mut limit = RateLimit::new(PerMinute::default());
        limit.learn(&ToldLimits::read(&headers, Timestamp::UNIX_EPOCH), std::time::Duration::ZERO);
        let _taken: Result<_, _> = limit.take(std::time::Duration::ZERO, 1000);
    });
}
