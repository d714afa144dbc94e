//! OpenAI's chat completions, as the service itself and the servers that copy it speak them.
//!
//! PURE: requests and replies as JSON; wire names stay here. It must not send anything, nor decide what a
//! reply is good for.

use std::time::Duration;

use qa_shared::model::Reasoning;
use qa_shared::model_table::{
    ModelTraits, OutputLimit, ReasoningControl, Streaming, Structured, Temperature,
};
use serde_json::{Map, Value, json};

use super::schema::{Keywords, portable};
use super::system_role::without_system;
use super::usage::read;
use super::{ChatReply, ChatRequest, Finish, Role, SCHEMA_NAME};

/// What is sent after an answer that repeated itself, and added after each further one.
const FREQUENCY_PENALTY: f64 = 0.5;
/// More makes models avoid the commas and quotation marks of their own JSON.
const MOST_FREQUENCY_PENALTY: f64 = 1.0;

/// The body of `POST /v1/chat/completions`.
pub(super) fn body(request: &ChatRequest, traits: &ModelTraits) -> Value {
    let conversation =
        if traits.system_role { request.messages.clone() } else { without_system(&request.messages) };
    let mut messages: Vec<Value> = conversation
        .iter()
        .map(|message| {
            let role = match message.role {
                Role::System => "system",
                Role::User => "user",
                Role::Assistant => "assistant",
            };
            json!({ "role": role, "content": message.content })
        })
        .collect();
    let mut body = Map::new();
    body.insert("model".to_owned(), json!(request.model));
    let limit = match traits.output_limit {
        OutputLimit::MaxTokens => "max_tokens",
        OutputLimit::MaxCompletionTokens => "max_completion_tokens",
    };
    body.insert(limit.to_owned(), json!(request.max_output));
    let takes_temperature = match traits.temperature {
        Temperature::Always => true,
        Temperature::WithoutReasoning => !traits.reasons(request.reasoning),
        Temperature::Never => false,
    };
    if takes_temperature {
        body.insert("temperature".to_owned(), json!(request.temperature));
    }
    add_reasoning(&mut body, request, traits);
    if traits.stream != Streaming::Never {
        body.insert("stream".to_owned(), json!(true));
    }
    if traits.stream == Streaming::WithUsage {
        body.insert("stream_options".to_owned(), json!({ "include_usage": true }));
    }
    if request.repetitions > 0 && traits.frequency_penalty {
        let penalty = FREQUENCY_PENALTY * f64::from(request.repetitions);
        body.insert("frequency_penalty".to_owned(), json!(penalty.min(MOST_FREQUENCY_PENALTY)));
    }
    add_format(&mut body, &mut messages, request, traits);
    body.insert("messages".to_owned(), Value::Array(messages));
    Value::Object(body)
}

/// Says which form the answer has.
fn add_format(
    body: &mut Map<String, Value>,
    messages: &mut [Value],
    request: &ChatRequest,
    traits: &ModelTraits,
) {
    let Some(schema) = &request.schema else { return };
    match traits.structured {
        Structured::BoundedSchema | Structured::Schema => {
            let is_bounded = traits.structured == Structured::BoundedSchema;
            let schema = portable(schema, if is_bounded { Keywords::ALL } else { Keywords::NONE });
            let format = json!({ "name": SCHEMA_NAME, "strict": true, "schema": schema });
            let format = json!({ "type": "json_schema", "json_schema": format });
            body.insert("response_format".to_owned(), format);
        }
        Structured::Json => {
            name_json(messages);
            body.insert("response_format".to_owned(), json!({ "type": "json_object" }));
        }
        Structured::Tool | Structured::Prompt => {}
    }
}

fn add_reasoning(body: &mut Map<String, Value>, request: &ChatRequest, traits: &ModelTraits) {
    let thinks = request.reasoning.is_some_and(|wish| wish > Reasoning::Off);
    match traits.reasoning {
        ReasoningControl::Effort => {
            if let Some(level) = traits.level(request.reasoning) {
                body.insert("reasoning_effort".to_owned(), json!(effort(level)));
            }
        }
        ReasoningControl::Template | ReasoningControl::Switch | ReasoningControl::Switches => {
            if traits.reasoning != ReasoningControl::Switch {
                body.insert("chat_template_kwargs".to_owned(), json!({ "enable_thinking": thinks }));
            }
            if traits.reasoning != ReasoningControl::Template {
                body.insert("enable_thinking".to_owned(), json!(thinks));
            }
        }
        ReasoningControl::None | ReasoningControl::Budget | ReasoningControl::Adaptive => {}
    }
}

/// The service refuses `json_object` unless the word stands in a message; a user's own prompt may lack it.
fn name_json(messages: &mut [Value]) {
    let has_word = messages.iter().any(|message| {
        message["content"].as_str().is_some_and(|content| content.to_lowercase().contains("json"))
    });
    if !has_word
        && let Some(last) = messages.last_mut()
        && let Some(content) = last["content"].as_str()
    {
        last["content"] = json!(format!("{content}\n\nReply with JSON."));
    }
}

fn effort(level: Reasoning) -> &'static str {
    match level {
        Reasoning::Off => "none",
        other => other.as_str(),
    }
}

/// Whether a reply is an error, which gateways put beside an empty or broken choice, or into the choice.
pub(super) fn names_error(body: &Value) -> bool {
    let choice = &body["choices"][0];
    !body["error"].is_null() || !choice["error"].is_null() || choice["finish_reason"] == "error"
}

/// The reply's meaning; `None` where it is an error or none of this API's replies.
pub(super) fn reply(body: &Value) -> Option<ChatReply> {
    if names_error(body) {
        return None;
    }
    let choices = body.get("choices")?.as_array()?;
    let text = |name: &str| body[name].as_str().map(str::to_owned);
    let (model, id) = (text("model"), text("id"));
    let usage = read(body);
    let prompt_tokens = u32::try_from(usage.input_tokens).ok().filter(|tokens| *tokens > 0);
    let Some(choice) = choices.first() else {
        let finish = Finish::Other("no choice".to_owned());
        return Some(ChatReply {
            content: String::new(),
            thinking: None,
            finish,
            usage,
            prompt_tokens,
            model,
            id,
            held: Duration::ZERO,
        });
    };
    let message = &choice["message"];
    let content = [text_of(&message["content"]), text_of(&choice["text"]), calls_of(message)]
        .into_iter()
        .find(|text| !text.trim().is_empty())
        .unwrap_or_default();
    let finish = match (message["refusal"].as_str(), choice["finish_reason"].as_str()) {
        (Some(refusal), _) if !refusal.trim().is_empty() => Finish::Refused(refusal.to_owned()),
        (_, Some("content_filter")) => Finish::Refused("content_filter".to_owned()),
        (_, Some("length")) => Finish::Length,
        (_, Some("repetition")) => Finish::Repetition,
        // Some servers leave the reason out, and some make a call of the answer.
        (_, Some("stop") | None) => Finish::Stop,
        (_, Some("tool_calls" | "function_call")) if text_of(&message["content"]).trim().is_empty() => {
            Finish::Stop
        }
        (_, Some(other)) => Finish::Other(other.to_owned()),
    };
    let thinking = reasoning_of(message).filter(|text| !text.is_empty());
    Some(ChatReply { content, thinking, finish, usage, prompt_tokens, model, id, held: Duration::ZERO })
}

/// A text, a list of parts of which some are texts, or the answer itself as JSON.
pub(super) fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        Value::Object(members) => match members.get("text") {
            Some(Value::String(text)) => text.clone(),
            _ => content.to_string(),
        },
        _ => String::new(),
    }
}

/// The reasoning beside an answer.
pub(super) fn reasoning_of(message: &Value) -> Option<String> {
    ["reasoning_content", "reasoning"].iter().find_map(|name| message[*name].as_str()).map(str::to_owned)
}

/// What a tool is called with, although none was offered: the answer.
fn calls_of(message: &Value) -> String {
    let calls = message["tool_calls"].as_array().into_iter().flatten();
    let all: Vec<String> =
        calls.chain(message.get("function_call")).map(arguments_of).filter(|text| !text.is_empty()).collect();
    all.join("\n")
}

/// The arguments of one call, as a text or as an object.
pub(super) fn arguments_of(call: &Value) -> String {
    let inner = call.get("function").unwrap_or(call);
    match inner.get("arguments").or_else(|| inner.get("parameters")).or_else(|| inner.get("input")) {
        Some(Value::String(text)) => text.clone(),
        Some(arguments @ (Value::Object(_) | Value::Array(_))) => arguments.to_string(),
        _ => String::new(),
    }
}

#[cfg(test)]
#[path = "openai_tests.rs"]
mod tests;
