//! OpenAI's chat completions: routes, key, answers and lists. What it refuses is in [`request`] and
//! [`schema`], how it says so in [`faults`].

pub(super) mod body;
pub(super) mod faults;
pub(super) mod form;
pub(super) mod request;
mod schema;

use std::time::Duration;

use axum::http::Method;
use serde_json::{Value, json};

use super::config::FakeProviderConfig;
use super::fault::Fault;
use super::limits::{Level, Levels};
use super::llm::FakeLlm;
use super::reply::Reply;
use super::request::Asked;
use super::wire::{Headers, Incoming, Route, Trouble, Wire};

/// OpenAI's own API.
pub(super) struct OpenAi;

impl Wire for OpenAi {
    fn route(&self, method: &Method, path: &str) -> Route {
        route(method, path)
    }

    fn admit(&self, key: Option<&str>, headers: &Headers) -> Result<(), Fault> {
        admit(key, headers).map_err(|trouble| self.fault(trouble))
    }

    fn read(&self, incoming: &Incoming<'_>) -> Result<Asked, Fault> {
        request::read(incoming)
    }

    fn answer(&self, asked: &Asked, reply: &Reply, number: u64) -> Value {
        let mut answer = body::completion(asked, reply, number, &body::OPENAI);
        answer["usage"] = body::usage(reply);
        answer["usage"]["prompt_tokens_details"] = json!({ "cached_tokens": reply.cached.read });
        answer["usage"]["completion_tokens_details"] = json!({ "reasoning_tokens": reply.reasoning_tokens });
        answer["service_tier"] = json!("default");
        answer["system_fingerprint"] = json!("fp_fake");
        answer
    }

    fn fault(&self, trouble: Trouble) -> Fault {
        faults::of(trouble)
    }

    fn error(&self, fault: &Fault, _config: &FakeProviderConfig, _request_id: &str) -> Value {
        let mut error = json!({
            "message": fault.message, "type": fault.kind, "param": fault.param, "code": fault.code,
        });
        for (name, value) in fault.more.iter() {
            error[name] = value.clone();
        }
        json!({ "error": error })
    }

    fn models(&self, config: &FakeProviderConfig) -> Value {
        let models: Vec<Value> = config.models.iter().map(|model| self.model(model)).collect();
        json!({ "object": "list", "data": models })
    }

    fn model(&self, model: &FakeLlm) -> Value {
        json!({ "id": model.name, "object": "model", "created": 1_700_000_000, "owned_by": "system" })
    }

    fn headers(&self, levels: &Levels, request_id: &str) -> Vec<(String, String)> {
        let mut headers = vec![("x-request-id".to_owned(), request_id.to_owned())];
        for (of, level) in [("requests", levels.requests), ("tokens", levels.tokens)] {
            let Some(Level { limit, remaining, reset }) = level else { continue };
            headers.push((format!("x-ratelimit-limit-{of}"), limit.to_string()));
            headers.push((format!("x-ratelimit-remaining-{of}"), remaining.to_string()));
            headers.push((format!("x-ratelimit-reset-{of}"), reset_text(reset)));
        }
        headers
    }
}

/// The places of OpenAI's API and of those who speak it.
pub(super) fn route(method: &Method, path: &str) -> Route {
    match (method.as_str(), path) {
        ("POST", "/v1/chat/completions") => Route::Generate(None),
        ("GET", "/v1/models") => Route::Models,
        ("GET", path) => match path.strip_prefix("/v1/models/") {
            Some(name) if !name.is_empty() => Route::Model(name.replace("%2F", "/").replace("%2f", "/")),
            _ => Route::Nowhere,
        },
        _ => Route::Nowhere,
    }
}

/// Whether the bearer's key is the right one.
pub(super) fn admit(key: Option<&str>, headers: &Headers) -> Result<(), Trouble> {
    let Some(key) = key else { return Ok(()) };
    let sent = headers.get("authorization").and_then(|value| value.strip_prefix("Bearer "));
    match sent {
        None => Err(Trouble::NoKey),
        Some(sent) if sent == key => Ok(()),
        Some(sent) => Err(Trouble::WrongKey { key: sent.to_owned(), in_full: false }),
    }
}

/// A duration as OpenAI writes it: `20ms`, `1.5s`, `6m0s`.
fn reset_text(reset: Duration) -> String {
    let (seconds, milliseconds) = (reset.as_secs(), reset.subsec_millis());
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0) => format!("{milliseconds}ms"),
        (0, 0, seconds) if milliseconds > 0 => format!("{seconds}.{milliseconds:03}s"),
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds}s"),
        (hours, minutes, seconds) => format!("{hours}h{minutes}m{seconds}s"),
    }
}
