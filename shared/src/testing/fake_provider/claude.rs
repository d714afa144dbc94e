//! Anthropic's messages: routes, key, answers and lists. What it refuses is in [`request`], [`thinking`],
//! [`blocks`] and [`schema`], how it says so in [`faults`].

mod blocks;
mod faults;
mod request;
mod schema;
mod thinking;

use axum::http::Method;
use serde_json::{Map, Value, json};

use super::config::FakeProviderConfig;
use super::fault::Fault;
use super::limits::{Level, Levels};
use super::llm::FakeLlm;
use super::reply::{End, Reply};
use super::request::{Asked, Form};
use super::wire::{Headers, Incoming, Route, Trouble, Wire};

const VERSION: &str = "2023-06-01";

/// Anthropic's API.
pub(super) struct Claude;

impl Wire for Claude {
    fn route(&self, method: &Method, path: &str) -> Route {
        match (method.as_str(), path) {
            ("POST", "/v1/messages") => Route::Generate(None),
            ("GET", "/v1/models") => Route::Models,
            ("GET", path) => match path.strip_prefix("/v1/models/") {
                Some(name) if !name.is_empty() => Route::Model(name.to_owned()),
                _ => Route::Nowhere,
            },
            _ => Route::Nowhere,
        }
    }

    fn admit(&self, key: Option<&str>, headers: &Headers) -> Result<(), Fault> {
        if let Some(key) = key {
            let sent = headers.get("x-api-key").ok_or_else(|| self.fault(Trouble::NoKey))?;
            if sent != key {
                return Err(self.fault(Trouble::WrongKey { key: sent.clone(), in_full: false }));
            }
        }
        match headers.get("anthropic-version").map(String::as_str) {
            Some(VERSION) => Ok(()),
            Some(other) => {
                Err(faults::invalid(format!("anthropic-version: \"{other}\" is not a valid version")))
            }
            None => Err(faults::invalid("anthropic-version: header is required")),
        }
    }

    fn read(&self, incoming: &Incoming<'_>) -> Result<Asked, Fault> {
        request::read(incoming)
    }

    fn answer(&self, asked: &Asked, reply: &Reply, number: u64) -> Value {
        let (content, stop) = content(asked, reply);
        let cached = reply.cached;
        let mut answer = json!({
            "id": format!("msg_{number:020}"), "type": "message", "role": "assistant", "model": asked.model.name,
            "content": content, "stop_reason": stop, "stop_sequence": null,
            "usage": {
                "input_tokens": reply.prompt_tokens.saturating_sub(cached.read + cached.written),
                "cache_creation_input_tokens": cached.written, "cache_read_input_tokens": cached.read,
                "output_tokens": reply.output_tokens(), "service_tier": "standard",
            },
        });
        if let End::Refused(reason) = &reply.end {
            answer["stop_details"] = json!({ "type": "refusal", "category": "other", "explanation": reason });
        }
        answer
    }

    fn fault(&self, trouble: Trouble) -> Fault {
        faults::of(trouble)
    }

    fn error(&self, fault: &Fault, _config: &FakeProviderConfig, request_id: &str) -> Value {
        let mut error = json!({ "type": fault.kind, "message": fault.message });
        for (name, value) in fault.more.iter() {
            error[name] = value.clone();
        }
        json!({ "type": "error", "error": error, "request_id": request_id })
    }

    fn models(&self, config: &FakeProviderConfig) -> Value {
        let models: Vec<Value> = config.models.iter().map(|model| self.model(model)).collect();
        let id = |model: Option<&FakeLlm>| model.map(|model| model.name.clone());
        let (first, last) = (id(config.models.first()), id(config.models.last()));
        json!({ "data": models, "has_more": false, "first_id": first, "last_id": last })
    }

    fn model(&self, model: &FakeLlm) -> Value {
        let supported = |is: bool| json!({ "supported": is });
        let mut effort = Map::from_iter([("supported".to_owned(), json!(!model.efforts.is_empty()))]);
        effort.extend(model.efforts.iter().map(|level| (level.clone(), supported(true))));
        json!({
            "type": "model", "id": model.name, "display_name": model.name,
            "created_at": "2026-01-01T00:00:00Z",
            "max_input_tokens": model.context, "max_tokens": model.max_output,
            "capabilities": {
                "structured_outputs": supported(model.supports_schema),
                "thinking": {
                    "supported": model.can_reason(),
                    "types": {
                        "adaptive": supported(model.adaptive), "enabled": supported(model.budget.is_some()),
                    },
                },
                "effort": effort,
            },
        })
    }

    fn headers(&self, levels: &Levels, request_id: &str) -> Vec<(String, String)> {
        let mut headers = vec![("request-id".to_owned(), request_id.to_owned())];
        let of_tokens = ["tokens", "input-tokens", "output-tokens"].map(|of| (of, levels.tokens));
        for (of, level) in [("requests", levels.requests)].into_iter().chain(of_tokens) {
            let Some(Level { limit, remaining, reset }) = level else { continue };
            let reset = crate::clock::now() + reset;
            let name = |what: &str| format!("anthropic-ratelimit-{of}-{what}");
            headers.push((name("limit"), limit.to_string()));
            headers.push((name("remaining"), remaining.to_string()));
            headers.push((name("reset"), format!("{reset:.0}")));
        }
        headers
    }
}

/// The blocks of an answer and why it ended.
fn content(asked: &Asked, reply: &Reply) -> (Vec<Value>, &'static str) {
    let mut blocks = Vec::new();
    if reply.end == End::Empty {
        return (blocks, "end_turn");
    }
    if reply.reasoning_tokens > 0 {
        let thought = reply.thought.as_deref().unwrap_or_default();
        blocks.push(json!({ "type": "thinking", "thinking": thought, "signature": "c2lnbmF0dXJl" }));
    }
    let stop = match &reply.end {
        End::Stop | End::Empty => "end_turn",
        End::Length => "max_tokens",
        End::ContextFull => "model_context_window_exceeded",
        End::Refused(_) | End::Filtered | End::Recitation => "refusal",
    };
    if let Form::Tool(name, _) = &asked.form
        && matches!(reply.end, End::Stop | End::Length | End::ContextFull)
        && !reply.text.is_empty()
    {
        // An input that was cut is no JSON any more.
        let input = serde_json::from_str::<Value>(&reply.text).ok().filter(Value::is_object);
        let input = input.unwrap_or_else(|| json!({}));
        blocks.push(json!({ "type": "tool_use", "id": "toolu_fake", "name": name, "input": input }));
        return (blocks, if reply.end == End::Stop { "tool_use" } else { stop });
    }
    if !reply.text.is_empty() {
        blocks.push(json!({ "type": "text", "text": reply.text }));
    }
    (blocks, stop)
}
