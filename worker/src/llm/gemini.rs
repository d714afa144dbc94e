//! Google's `generateContent`.
//!
//! PURE: requests and replies as JSON; wire names stay here. It must not send anything, nor decide what a
//! reply is good for.

use std::time::Duration;

use qa_shared::model::{Reasoning, Usage};
use qa_shared::model_table::{ModelTraits, ReasoningControl, Structured, Temperature};
use serde_json::{Map, Value, json};

use super::schema::{Keywords, portable};
use super::system_role::without_system;
use super::usage::count;
use super::{ChatReply, ChatRequest, Finish, Role};

/// Reasons of the service's filters; the same request meets them again.
const BLOCKED: [&str; 6] = ["SAFETY", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY", "LANGUAGE"];

/// The body of `POST /v1beta/models/MODEL:generateContent`.
pub(super) fn body(request: &ChatRequest, traits: &ModelTraits) -> Value {
    let mut body = Map::new();
    let mut contents: Vec<Value> = Vec::new();
    let messages =
        if traits.system_role { request.messages.clone() } else { without_system(&request.messages) };
    for message in &messages {
        let parts = json!([{ "text": message.content }]);
        match message.role {
            Role::System => {
                body.insert("systemInstruction".to_owned(), json!({ "parts": parts }));
            }
            Role::User => contents.push(json!({ "role": "user", "parts": parts })),
            Role::Assistant => contents.push(json!({ "role": "model", "parts": parts })),
        }
    }
    body.insert("contents".to_owned(), Value::Array(contents));
    let mut config = Map::new();
    config.insert("maxOutputTokens".to_owned(), json!(request.max_output));
    let takes_temperature = match traits.temperature {
        Temperature::Always => true,
        Temperature::WithoutReasoning => !traits.reasons(request.reasoning),
        Temperature::Never => false,
    };
    if takes_temperature {
        config.insert("temperature".to_owned(), json!(request.temperature));
    }
    if let Some(schema) = &request.schema {
        if !matches!(traits.structured, Structured::Tool | Structured::Prompt) {
            config.insert("responseMimeType".to_owned(), json!("application/json"));
        }
        if traits.structured >= Structured::Schema {
            let is_bounded = traits.structured == Structured::BoundedSchema;
            let schema = portable(schema, if is_bounded { Keywords::COUNTS } else { Keywords::NONE });
            config.insert("responseJsonSchema".to_owned(), schema);
        }
    }
    if request.repetitions > 0 && traits.frequency_penalty {
        config.insert("frequencyPenalty".to_owned(), json!(0.5));
    }
    if let Some(thinking) = thinking(request, traits) {
        config.insert("thinkingConfig".to_owned(), thinking);
    }
    body.insert("generationConfig".to_owned(), Value::Object(config));
    Value::Object(body)
}

fn thinking(request: &ChatRequest, traits: &ModelTraits) -> Option<Value> {
    match traits.reasoning {
        ReasoningControl::Budget => {
            let wanted = match request.reasoning.unwrap_or(Reasoning::Off) {
                Reasoning::Off => 0,
                Reasoning::Minimal => 512,
                Reasoning::Low => 1024,
                Reasoning::Medium => 4096,
                Reasoning::High => 16_384,
            };
            // Thoughts count as output: half of the ceiling stays for the answer.
            let budget = wanted.min(request.max_output / 2).max(traits.least_budget);
            Some(json!({ "thinkingBudget": budget }))
        }
        ReasoningControl::Effort => {
            let level = traits.level(request.reasoning)?;
            Some(json!({ "thinkingLevel": level.as_str() }))
        }
        ReasoningControl::None
        | ReasoningControl::Adaptive
        | ReasoningControl::Template
        | ReasoningControl::Switch
        | ReasoningControl::Switches => None,
    }
}

/// The reply's meaning; `None` where it is none of this API's replies.
pub(super) fn reply(body: &Value) -> Option<ChatReply> {
    let members = body.as_object()?;
    let is_reply =
        ["candidates", "promptFeedback", "usageMetadata"].iter().any(|name| members.contains_key(*name));
    if !is_reply {
        return None;
    }
    let candidate = &body["candidates"][0];
    let (mut content, mut thinking) = (String::new(), String::new());
    for part in candidate["content"]["parts"].as_array().into_iter().flatten() {
        let text = match &part["functionCall"]["args"] {
            // A call although no function was offered is the answer.
            arguments @ Value::Object(_) => arguments.to_string(),
            _ => part["text"].as_str().unwrap_or_default().to_owned(),
        };
        if part["thought"].as_bool() == Some(true) {
            thinking.push_str(&text);
        } else {
            content.push_str(&text);
        }
    }
    let finish = match (body["promptFeedback"]["blockReason"].as_str(), candidate["finishReason"].as_str()) {
        (Some(reason), _) => Finish::Refused(format!("the prompt was blocked: {reason}")),
        (_, Some("STOP")) => Finish::Stop,
        (_, Some("MAX_TOKENS")) => Finish::Length,
        (_, Some(reason)) if BLOCKED.contains(&reason) => Finish::Refused(reason.to_owned()),
        (_, Some(reason)) => Finish::Other(reason.to_owned()),
        (_, None) if candidate.is_null() => Finish::Other("no candidate".to_owned()),
        (_, None) => Finish::Other("no reason".to_owned()),
    };
    let text = |name: &str| body[name].as_str().map(str::to_owned);
    let (model, id) = (text("modelVersion"), text("responseId"));
    let usage = usage(&body["usageMetadata"]);
    let prompt_tokens = u32::try_from(usage.input_tokens).ok().filter(|tokens| *tokens > 0);
    let thinking = (!thinking.is_empty()).then_some(thinking);
    Some(ChatReply { content, thinking, finish, usage, prompt_tokens, model, id, held: Duration::ZERO })
}

fn usage(usage: &Value) -> Usage {
    let count = |name: &str| count(&usage[name]).unwrap_or(0);
    let (input, thoughts) = (count("promptTokenCount"), count("thoughtsTokenCount"));
    Usage {
        input_tokens: input,
        cached_tokens: count("cachedContentTokenCount").min(input),
        output_tokens: count("candidatesTokenCount").saturating_add(thoughts),
        reasoning_tokens: thoughts,
        ..Usage::default()
    }
}

#[cfg(test)]
#[path = "gemini_tests.rs"]
mod tests;
