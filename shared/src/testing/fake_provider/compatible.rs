//! Servers of one's own that speak OpenAI's API: llama.cpp, vLLM, LM Studio. They ignore members that they
//! do not know; what they refuse is in [`request`].

mod faults;
mod request;
mod schema;

use axum::http::Method;
use serde_json::{Value, json};

use super::config::FakeProviderConfig;
use super::fault::Fault;
use super::llm::FakeLlm;
use super::openai::body::{Style, completion, usage};
use super::openai::{admit, route};
use super::reply::Reply;
use super::request::Asked;
use super::wire::{Headers, Incoming, Route, Trouble, Wire};

const HEALTH: &str = "/health";
const PROPS: &str = "/props";

/// Which server it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compatible {
    LlamaCpp,
    Vllm,
    LmStudio,
}

impl Compatible {
    fn style(self) -> Style {
        Style {
            reasoning: if self == Self::Vllm { "reasoning" } else { "reasoning_content" },
            no_text_is_null: self == Self::Vllm,
            has_refusal: self == Self::Vllm,
            is_openai: false,
        }
    }
}

impl Wire for Compatible {
    fn route(&self, method: &Method, path: &str) -> Route {
        match (method.as_str(), path) {
            ("GET", HEALTH) if *self == Self::LlamaCpp => Route::Other(HEALTH),
            ("GET", PROPS) if *self == Self::LlamaCpp => Route::Other(PROPS),
            _ => route(method, path),
        }
    }

    fn admit(&self, key: Option<&str>, headers: &Headers) -> Result<(), Fault> {
        admit(key, headers).map_err(|trouble| self.fault(trouble))
    }

    fn read(&self, incoming: &Incoming<'_>) -> Result<Asked, Fault> {
        request::read(*self, incoming)
    }

    fn answer(&self, asked: &Asked, reply: &Reply, number: u64) -> Value {
        let mut answer = completion(asked, reply, number, &self.style());
        answer["usage"] = usage(reply);
        let cached = reply.cached.read;
        match self {
            Self::LlamaCpp => {
                answer["usage"]["prompt_tokens_details"] = json!({ "cached_tokens": cached });
                answer["timings"] = json!({
                    "cache_n": cached, "prompt_n": reply.prompt_tokens - cached, "prompt_ms": 10.0,
                    "predicted_n": reply.output_tokens(), "predicted_ms": 100.0,
                });
            }
            Self::Vllm => answer["usage"]["prompt_tokens_details"] = Value::Null,
            Self::LmStudio => answer["stats"] = json!({}),
        }
        answer
    }

    fn fault(&self, trouble: Trouble) -> Fault {
        faults::of(*self, trouble)
    }

    fn error(&self, fault: &Fault, config: &FakeProviderConfig, _request_id: &str) -> Value {
        let (message, kind, code) = (&fault.message, fault.kind, fault.status);
        let mut error = match self {
            Self::LlamaCpp => json!({ "code": code, "message": message, "type": kind }),
            Self::Vllm if config.flat_errors => {
                json!({ "object": "error", "message": message, "type": kind, "param": fault.param, "code": code })
            }
            Self::Vllm => json!({ "message": message, "type": kind, "param": fault.param, "code": code }),
            Self::LmStudio => {
                json!({ "message": message, "type": kind, "param": fault.param, "code": fault.code })
            }
        };
        for (name, value) in fault.more.iter() {
            error[name] = value.clone();
        }
        if *self == Self::Vllm && config.flat_errors { error } else { json!({ "error": error }) }
    }

    fn models(&self, config: &FakeProviderConfig) -> Value {
        let listed = config.models.iter().filter(|model| !config.unlisted.contains(&model.name));
        let models: Vec<Value> = listed.map(|model| self.model(model)).collect();
        json!({ "object": "list", "data": models })
    }

    fn model(&self, model: &FakeLlm) -> Value {
        let owner = match self {
            Self::LlamaCpp => "llamacpp",
            Self::Vllm => "vllm",
            Self::LmStudio => "organization_owner",
        };
        let mut entry = json!({ "id": model.name, "object": "model", "owned_by": owner });
        match self {
            Self::LlamaCpp => {
                entry["created"] = json!(1_700_000_000);
                entry["meta"] = json!({ "n_ctx_train": model.context });
            }
            Self::Vllm => {
                entry["created"] = json!(1_700_000_000);
                entry["max_model_len"] = json!(model.context);
            }
            Self::LmStudio => {}
        }
        entry
    }

    fn other(&self, place: &str, config: &FakeProviderConfig) -> Result<Value, Fault> {
        if config.loading && *self == Self::LlamaCpp {
            return Err(self.fault(Trouble::Overloaded));
        }
        if place == HEALTH {
            return Ok(json!({ "status": "ok" }));
        }
        let model = config.models.first();
        Ok(json!({
            "total_slots": config.slots.unwrap_or(1),
            "default_generation_settings": { "n_ctx": model.map_or(0, |model| model.context) },
            "model_path": model.map_or("", |model| model.name.as_str()),
            "chat_template": "{% for message in messages %}{{ message.content }}{% endfor %}",
        }))
    }

    fn error_in_200(&self, config: &FakeProviderConfig, request_id: &str) -> (&'static str, String) {
        let error = self.error(&self.fault(Trouble::Server(500)), config, request_id);
        match self {
            Self::LmStudio => ("text/event-stream", format!("event: error\ndata: {error}\n\n")),
            Self::LlamaCpp | Self::Vllm => ("application/json", error.to_string()),
        }
    }
}
