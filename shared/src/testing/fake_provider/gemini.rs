//! Google's generateContent: routes, key, answers and lists. What it refuses is in [`request`],
//! [`generation`] and [`schema`], how it says so in [`faults`].

mod faults;
mod generation;
mod request;
mod schema;

use axum::http::Method;
use serde_json::{Value, json};

use super::config::FakeProviderConfig;
use super::fault::Fault;
use super::llm::FakeLlm;
use super::reply::{End, Reply};
use super::request::Asked;
use super::wire::{Headers, Incoming, Route, Trouble, Wire};

const MODELS: &str = "/v1beta/models";

/// Google's API for Gemini.
pub(super) struct Gemini;

impl Wire for Gemini {
    fn route(&self, method: &Method, path: &str) -> Route {
        let path = path.replace("%3A", ":");
        let below = path.strip_prefix(MODELS).and_then(|rest| rest.strip_prefix('/'));
        let is_name = |name: &&str| !name.is_empty() && !name.contains([':', '/']);
        match (method.as_str(), below) {
            ("GET", None) if path == MODELS => Route::Models,
            ("GET", Some(name)) if is_name(&name) => Route::Model(name.to_owned()),
            ("POST", Some(rest)) => match rest.strip_suffix(":generateContent").filter(is_name) {
                Some(name) => Route::Generate(Some(name.to_owned())),
                None => Route::Nowhere,
            },
            _ => Route::Nowhere,
        }
    }

    fn admit(&self, key: Option<&str>, headers: &Headers) -> Result<(), Fault> {
        let Some(key) = key else { return Ok(()) };
        match headers.get("x-goog-api-key") {
            None => Err(self.fault(Trouble::NoKey)),
            Some(sent) if sent == key => Ok(()),
            Some(sent) => Err(self.fault(Trouble::WrongKey { key: sent.clone(), in_full: false })),
        }
    }

    fn read(&self, incoming: &Incoming<'_>) -> Result<Asked, Fault> {
        request::read(incoming)
    }

    fn answer(&self, asked: &Asked, reply: &Reply, number: u64) -> Value {
        let mut answer = json!({});
        match &reply.end {
            End::Filtered => answer["promptFeedback"] = json!({ "blockReason": "PROHIBITED_CONTENT" }),
            End::Empty => {}
            _ => answer["candidates"] = (0..asked.answers).map(|index| candidate(reply, index)).collect(),
        }
        answer["usageMetadata"] = usage(reply);
        answer["modelVersion"] = json!(asked.model.name);
        answer["responseId"] = json!(format!("fake-{number}"));
        answer
    }

    fn fault(&self, trouble: Trouble) -> Fault {
        faults::of(trouble)
    }

    fn error(&self, fault: &Fault, config: &FakeProviderConfig, _request_id: &str) -> Value {
        let mut error = json!({ "code": fault.status, "message": fault.message, "status": fault.kind });
        for (name, value) in fault.more.iter() {
            error[name] = value.clone();
        }
        let error = json!({ "error": error });
        if config.wrapped_errors { json!([error]) } else { error }
    }

    fn models(&self, config: &FakeProviderConfig) -> Value {
        let models: Vec<Value> = config.models.iter().map(|model| self.model(model)).collect();
        json!({ "models": models })
    }

    fn model(&self, model: &FakeLlm) -> Value {
        json!({
            "name": format!("models/{}", model.name), "version": "001", "displayName": model.name,
            "inputTokenLimit": model.context, "outputTokenLimit": model.max_output,
            "supportedGenerationMethods": ["generateContent", "countTokens"], "thinking": model.can_reason(),
        })
    }
}

fn candidate(reply: &Reply, index: usize) -> Value {
    let finish = match &reply.end {
        End::Stop | End::Filtered | End::Empty => "STOP",
        End::Length | End::ContextFull => "MAX_TOKENS",
        End::Refused(_) => "SAFETY",
        End::Recitation => "RECITATION",
    };
    let mut candidate = json!({ "finishReason": finish, "index": index });
    match &reply.end {
        End::Refused(reason) => candidate["finishMessage"] = json!(reason),
        End::Recitation => {}
        _ => candidate["content"] = json!({ "role": "model" }),
    }
    let mut parts = Vec::new();
    if let Some(thought) = &reply.thought {
        parts.push(json!({ "text": thought, "thought": true }));
    }
    if !reply.text.is_empty() {
        parts.push(json!({ "text": reply.text }));
    }
    // Without a single part there is no member for them.
    if candidate.get("content").is_some() && !parts.is_empty() {
        candidate["content"]["parts"] = json!(parts);
    }
    candidate
}

/// Counts of nothing are left out.
fn usage(reply: &Reply) -> Value {
    let is_blocked = reply.end == End::Filtered;
    let (text, thoughts) = if is_blocked { (0, 0) } else { (reply.text_tokens, reply.reasoning_tokens) };
    let counts = [
        ("promptTokenCount", reply.prompt_tokens),
        ("cachedContentTokenCount", reply.cached.read),
        ("candidatesTokenCount", text),
        ("thoughtsTokenCount", thoughts),
        ("totalTokenCount", reply.prompt_tokens + text + thoughts),
    ];
    let some = counts.into_iter().filter(|(_, count)| *count > 0);
    Value::Object(some.map(|(name, count)| (name.to_owned(), json!(count))).collect())
}
