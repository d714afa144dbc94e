//! Anthropic's messages.
//!
//! PURE: requests and replies as JSON; wire names stay here. It must not send anything, nor decide what a
//! reply is good for.

use std::time::Duration;

use qa_shared::model::{Reasoning, Usage};
use qa_shared::model_table::{ModelTraits, ReasoningControl, ReasoningOff, Structured, Temperature};
use qa_shared::tokens::estimate_tokens;
use serde_json::{Map, Value, json};

use super::schema::{Keywords, portable};
use super::usage::count;
use super::{ChatReply, ChatRequest, Finish, Message, Role, SCHEMA_NAME};

/// The smallest budget of reasoning tokens.
const LEAST_BUDGET: u32 = 1024;

/// The body of `POST /v1/messages`.
pub(super) fn body(request: &ChatRequest, traits: &ModelTraits) -> Value {
    let mut body = Map::new();
    body.insert("model".to_owned(), json!(request.model));
    body.insert("max_tokens".to_owned(), json!(request.max_output));
    let caches = caches(request, traits);
    let mut systems = request.messages.iter().filter(|message| message.role == Role::System);
    if let Some(system) = systems.next() {
        // The breakpoint ends the longest constant part: a user's message that begins with one has it.
        let is_last = request.messages.iter().all(|message| message.constant_part().is_empty());
        body.insert("system".to_owned(), json!([block(&system.content, caches && is_last)]));
    }
    let turns = request.messages.iter().filter(|message| message.role != Role::System);
    body.insert("messages".to_owned(), turns.map(|message| turn(message, caches)).collect());

    let thinks = add_thinking(&mut body, request, traits);
    let takes_temperature = match traits.temperature {
        Temperature::Always | Temperature::WithoutReasoning => !thinks,
        Temperature::Never => false,
    };
    if takes_temperature {
        body.insert("temperature".to_owned(), json!(request.temperature.min(1.0)));
    }
    if let Some(schema) = &request.schema {
        let schema = portable(schema, Keywords::NONE);
        match traits.structured {
            Structured::BoundedSchema | Structured::Schema => {
                let config = body.entry("output_config").or_insert_with(|| json!({}));
                config["format"] = json!({ "type": "json_schema", "schema": schema });
            }
            // A tool cannot be forced while the model thinks.
            Structured::Tool if !thinks => {
                let tool = json!({
                    "name": SCHEMA_NAME, "description": "Takes the question-answer pairs.", "input_schema": schema
                });
                body.insert("tools".to_owned(), json!([tool]));
                body.insert("tool_choice".to_owned(), json!({ "type": "tool", "name": SCHEMA_NAME }));
            }
            Structured::Tool | Structured::Json | Structured::Prompt => {}
        }
    }
    Value::Object(body)
}

/// Whether the constant part is long enough to be cached on demand.
fn caches(request: &ChatRequest, traits: &ModelTraits) -> bool {
    let constant = request
        .messages
        .iter()
        .map(|message| match message.role {
            Role::System => estimate_tokens(&message.content),
            Role::User | Role::Assistant => estimate_tokens(message.constant_part()),
        })
        .fold(0, u32::saturating_add);
    traits.cache_from.is_some_and(|least| constant >= least)
}

fn turn(message: &Message, caches: bool) -> Value {
    let role = if message.role == Role::Assistant { "assistant" } else { "user" };
    if !caches || message.constant_part().is_empty() {
        return json!({ "role": role, "content": message.content });
    }
    let mut blocks = vec![block(message.constant_part(), true)];
    let rest = message.variable_part();
    // Empty blocks are refused.
    if !rest.is_empty() {
        blocks.push(block(rest, false));
    }
    json!({ "role": role, "content": blocks })
}

fn block(text: &str, is_breakpoint: bool) -> Value {
    if is_breakpoint {
        json!({ "type": "text", "text": text, "cache_control": { "type": "ephemeral" } })
    } else {
        json!({ "type": "text", "text": text })
    }
}

/// Says how much the model may think; returns whether it will.
fn add_thinking(body: &mut Map<String, Value>, request: &ChatRequest, traits: &ModelTraits) -> bool {
    let wish = request.reasoning.unwrap_or(Reasoning::Off);
    match traits.reasoning {
        ReasoningControl::Budget if wish > Reasoning::Off => {
            let wanted = match wish {
                Reasoning::Off | Reasoning::Minimal | Reasoning::Low => LEAST_BUDGET,
                Reasoning::Medium => 4 * LEAST_BUDGET,
                Reasoning::High => 16 * LEAST_BUDGET,
            };
            // Thinking counts as output: half of the ceiling stays for the answer.
            let budget = wanted.min(request.max_output / 2);
            if budget < LEAST_BUDGET {
                return false;
            }
            body.insert("thinking".to_owned(), json!({ "type": "enabled", "budget_tokens": budget }));
            true
        }
        ReasoningControl::Adaptive if wish > Reasoning::Off || traits.off == ReasoningOff::Impossible => {
            let effort = match wish {
                Reasoning::Off | Reasoning::Minimal => Reasoning::Low,
                other => other,
            };
            if wish > Reasoning::Off {
                body.insert("thinking".to_owned(), json!({ "type": "adaptive" }));
            }
            body.insert("output_config".to_owned(), json!({ "effort": effort.as_str() }));
            true
        }
        ReasoningControl::Adaptive | ReasoningControl::Budget => {
            if traits.off == ReasoningOff::Disabled {
                body.insert("thinking".to_owned(), json!({ "type": "disabled" }));
            }
            false
        }
        ReasoningControl::None
        | ReasoningControl::Effort
        | ReasoningControl::Template
        | ReasoningControl::Switch
        | ReasoningControl::Switches => false,
    }
}

/// The reply's meaning; `None` where it is none of this API's replies.
pub(super) fn reply(body: &Value) -> Option<ChatReply> {
    let blocks = body.get("content")?.as_array()?;
    let (mut content, mut thinking) = (String::new(), String::new());
    for block in blocks {
        match block["type"].as_str() {
            Some("text") => content.push_str(block["text"].as_str().unwrap_or_default()),
            Some("thinking") => thinking.push_str(block["thinking"].as_str().unwrap_or_default()),
            // The forced tool's input is the answer.
            Some("tool_use") if block["input"].is_object() => content.push_str(&block["input"].to_string()),
            _ => {}
        }
    }
    let finish = match body["stop_reason"].as_str() {
        Some("end_turn" | "stop_sequence" | "tool_use") => Finish::Stop,
        Some("max_tokens" | "model_context_window_exceeded") => Finish::Length,
        Some("refusal") => Finish::Refused(refusal(&body["stop_details"])),
        Some(other) => Finish::Other(other.to_owned()),
        None => Finish::Other("no reason".to_owned()),
    };
    let text = |name: &str| body[name].as_str().map(str::to_owned);
    let (model, id) = (text("model"), text("id"));
    let usage = usage(&body["usage"]);
    let prompt_tokens = u32::try_from(usage.input_tokens).ok().filter(|tokens| *tokens > 0);
    let thinking = (!thinking.is_empty()).then_some(thinking);
    Some(ChatReply { content, thinking, finish, usage, prompt_tokens, model, id, held: Duration::ZERO })
}

fn refusal(details: &Value) -> String {
    let parts: Vec<&str> =
        ["category", "explanation"].iter().filter_map(|name| details[*name].as_str()).collect();
    if parts.is_empty() { "the model declines".to_owned() } else { parts.join(": ") }
}

/// Anthropic's `input_tokens` are those that the cache had nothing to do with.
fn usage(usage: &Value) -> Usage {
    let count = |name: &str| count(&usage[name]).unwrap_or(0);
    let (cached, written) = (count("cache_read_input_tokens"), count("cache_creation_input_tokens"));
    Usage {
        input_tokens: count("input_tokens").saturating_add(cached).saturating_add(written),
        cached_tokens: cached,
        cache_write_tokens: written,
        output_tokens: count("output_tokens"),
        ..Usage::default()
    }
}

#[cfg(test)]
#[path = "claude_tests.rs"]
mod tests;
