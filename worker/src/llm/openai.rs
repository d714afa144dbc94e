//! OpenAI's chat completions, as the service itself and the servers that copy it speak them.
//!
//! PURE: requests and replies as JSON; wire names stay here. It must not send anything, nor decide what a
//! reply is good for.

use std::time::Duration;

use qa_shared::model::Reasoning;
use qa_shared::model_table::{ModelTraits, OutputLimit, ReasoningControl, Structured, Temperature};
use serde_json::{Map, Value, json};

use super::schema::{Keywords, portable};
use super::usage::read;
use super::{ChatReply, ChatRequest, Finish, Role, SCHEMA_NAME};

/// The body of `POST /v1/chat/completions`.
pub(super) fn body(request: &ChatRequest, traits: &ModelTraits) -> Value {
    let mut messages: Vec<Value> = request
        .messages
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
    match traits.reasoning {
        ReasoningControl::Effort => {
            if let Some(level) = traits.level(request.reasoning) {
                body.insert("reasoning_effort".to_owned(), json!(effort(level)));
            }
        }
        ReasoningControl::Template => {
            let thinks = request.reasoning.is_some_and(|wish| wish > Reasoning::Off);
            body.insert("chat_template_kwargs".to_owned(), json!({ "enable_thinking": thinks }));
        }
        ReasoningControl::None | ReasoningControl::Budget | ReasoningControl::Adaptive => {}
    }
    if let Some(schema) = &request.schema {
        match traits.structured {
            Structured::BoundedSchema | Structured::Schema => {
                let is_bounded = traits.structured == Structured::BoundedSchema;
                let schema = portable(schema, if is_bounded { Keywords::ALL } else { Keywords::NONE });
                let format = json!({ "name": SCHEMA_NAME, "strict": true, "schema": schema });
                body.insert(
                    "response_format".to_owned(),
                    json!({ "type": "json_schema", "json_schema": format }),
                );
            }
            Structured::Json => {
                name_json(&mut messages);
                body.insert("response_format".to_owned(), json!({ "type": "json_object" }));
            }
            Structured::Tool | Structured::Prompt => {}
        }
    }
    body.insert("messages".to_owned(), Value::Array(messages));
    Value::Object(body)
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
    let mut content = text_of(&message["content"]);
    let reasoning = ["reasoning_content", "reasoning"].iter().find_map(|name| message[*name].as_str());
    let finish = match (message["refusal"].as_str(), choice["finish_reason"].as_str()) {
        (Some(refusal), _) if !refusal.trim().is_empty() => Finish::Refused(refusal.to_owned()),
        (_, Some("content_filter")) => Finish::Refused("content_filter".to_owned()),
        (_, Some("length")) => Finish::Length,
        // Some servers leave the reason out.
        (_, Some("stop") | None) => Finish::Stop,
        (_, Some(other)) => Finish::Other(other.to_owned()),
    };
    // vLLM with a reasoning parser may put a structured answer there (vllm issue 41132).
    if content.trim().is_empty()
        && finish == Finish::Stop
        && let Some(answer) = reasoning.filter(|text| text.trim_start().starts_with('{'))
    {
        answer.clone_into(&mut content);
    }
    let thinking = reasoning.filter(|text| !text.is_empty()).map(str::to_owned);
    Some(ChatReply { content, thinking, finish, usage, prompt_tokens, model, id, held: Duration::ZERO })
}

/// A text, or a list of parts of which some are texts.
fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => String::new(),
    }
}

#[cfg(test)]
#[path = "openai_tests.rs"]
mod tests;
