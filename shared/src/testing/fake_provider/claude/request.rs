//! What Anthropic refuses in a request for a message.

use serde_json::Value;

use super::faults::{invalid, of, of_problem};
use super::thinking::{self, Thinking};
use super::{blocks, schema};
use crate::testing::fake_provider::fault::Fault;
use crate::testing::fake_provider::fields::{Field, Kind, Unknown, check, may, must};
use crate::testing::fake_provider::llm::FakeLlm;
use crate::testing::fake_provider::request::{Asked, Form};
use crate::testing::fake_provider::wire::{Incoming, Trouble};
use crate::testing::fake_server::answer::TEMPLATE_TOKENS;

const SAMPLING: &[&str] = &["temperature", "top_p", "top_k"];

const FIELDS: &[Field] = &[
    must("model", Kind::Text),
    must("max_tokens", Kind::Whole(1, i64::MAX)),
    must("messages", Kind::List),
    may("system", Kind::TextOrList),
    may("temperature", Kind::Number(0.0, 1.0)),
    may("top_p", Kind::Number(0.0, 1.0)),
    may("top_k", Kind::Whole(0, i64::MAX)),
    may("stop_sequences", Kind::List),
    may("stream", Kind::Flag),
    may("metadata", Kind::Object),
    may("service_tier", Kind::OneOf(&["auto", "standard_only"])),
    may("thinking", Kind::Object),
    may("tools", Kind::List),
    may("tool_choice", Kind::Object),
    may("output_config", Kind::Object),
];
const OUTPUT: &[Field] =
    &[may("effort", Kind::OneOf(&["low", "medium", "high", "xhigh", "max"])), may("format", Kind::Object)];
const FORMAT: &[Field] = &[must("type", Kind::OneOf(&["json_schema"])), must("schema", Kind::Object)];
const METADATA: &[Field] = &[may("user_id", Kind::Text)];
const TOOL: &[Field] = &[
    must("name", Kind::Text),
    must("input_schema", Kind::Object),
    may("type", Kind::OneOf(&["custom"])),
    may("description", Kind::Text),
    may("strict", Kind::Flag),
    may("cache_control", Kind::Object),
];
const CHOICE: &[Field] = &[
    must("type", Kind::OneOf(&["auto", "any", "tool", "none"])),
    may("name", Kind::Text),
    may("disable_parallel_tool_use", Kind::Flag),
];

pub(super) fn read(incoming: &Incoming<'_>) -> Result<Asked, Fault> {
    let body = incoming.body;
    strictly(body, "", FIELDS)?;
    let name = body["model"].as_str().unwrap_or_default();
    let model = incoming.config.model(name).ok_or_else(|| of(Trouble::NoSuchModel(name.to_owned())))?;
    if let Some(metadata) = body.get("metadata") {
        strictly(metadata, "metadata", METADATA)?;
    }
    let prompt = blocks::prompt(body)?;
    if body["stream"] == true {
        return Err(Fault::new(501, "api_error", "the fake service does not stream"));
    }
    let max_tokens = body["max_tokens"].as_u64().unwrap_or(0);
    if max_tokens > u64::from(model.max_output) {
        return Err(invalid(format!(
            "max_tokens: {max_tokens} > {}, which is the maximum allowed number of output tokens for {name}",
            model.max_output
        )));
    }
    rejected(body, model)?;
    if body.get("temperature").is_some() && body.get("top_p").is_some() {
        return Err(invalid(
            "`temperature` and `top_p` cannot both be specified for this model. Please use only one.",
        ));
    }
    if let Some(output) = body.get("output_config") {
        strictly(output, "output_config", OUTPUT)?;
    }
    let thinking = thinking::read(body, model, max_tokens)?;
    let form = form(body, model, &thinking)?;
    prefill(body, model, &form)?;
    let prompt_tokens = prompt.iter().map(|piece| piece.tokens).sum::<usize>() + TEMPLATE_TOKENS;
    if prompt_tokens > model.context as usize {
        let message = format!("prompt is too long: {prompt_tokens} tokens > {} maximum", model.context);
        return Err(invalid(message));
    }
    Ok(Asked {
        prompt,
        prompt_tokens,
        ceiling: usize::try_from(max_tokens).unwrap_or(usize::MAX),
        form,
        reasoning: thinking.tokens(),
        shows_reasoning: true,
        answers: 1,
        model: model.clone(),
    })
}

pub(super) fn strictly(value: &Value, at: &str, fields: &[Field]) -> Result<(), Fault> {
    check(value, at, fields, Unknown::Refused).map_err(|problem| of_problem(&problem))
}

/// Parameters that this model does not take.
fn rejected(body: &Value, model: &FakeLlm) -> Result<(), Fault> {
    for name in &model.rejects {
        let is_there = name.split('.').try_fold(body, |value, step| value.get(step)).is_some();
        if is_there && SAMPLING.contains(&name.as_str()) {
            return Err(invalid(format!("`{name}` is deprecated for this model.")));
        }
        if is_there && name != "tool_choice" {
            return Err(invalid(format!("{name}: this parameter is not supported by this model")));
        }
    }
    Ok(())
}

fn form(body: &Value, model: &FakeLlm, thinking: &Thinking) -> Result<Form, Fault> {
    let tool = forced_tool(body, model, thinking)?;
    let Some(format) = body.get("output_config").and_then(|output| output.get("format")) else {
        return Ok(tool.unwrap_or(Form::Free));
    };
    strictly(format, "output_config.format", FORMAT)?;
    if !model.supports_schema {
        return Err(invalid(format!(
            "output_config.format: '{}' does not support output format.",
            model.name
        )));
    }
    if let Some(breach) = schema::breach(&format["schema"]) {
        return Err(invalid(format!("output_config.format.schema: {breach}")));
    }
    Ok(tool.unwrap_or_else(|| Form::Schema(format["schema"].clone())))
}

/// The tool that the model must call.
fn forced_tool(body: &Value, model: &FakeLlm, thinking: &Thinking) -> Result<Option<Form>, Fault> {
    let tools = body["tools"].as_array().map(Vec::as_slice).unwrap_or_default();
    for (index, tool) in tools.iter().enumerate() {
        strictly(tool, &format!("tools.{index}"), TOOL)?;
        if tool["input_schema"]["type"] != "object" {
            return Err(invalid(format!("tools.{index}.custom.input_schema.type: Input should be 'object'")));
        }
        if tool["strict"] == true
            && let Some(breach) = schema::breach(&tool["input_schema"])
        {
            return Err(invalid(format!("tools.{index}.custom.input_schema: {breach}")));
        }
    }
    let Some(choice) = body.get("tool_choice") else { return Ok(None) };
    strictly(choice, "tool_choice", CHOICE)?;
    let forced = match choice["type"].as_str() {
        Some("any") => tools.first(),
        Some("tool") => tools.iter().find(|tool| tool["name"] == choice["name"]),
        _ => return Ok(None),
    };
    let Some(tool) = forced else {
        return Err(invalid(format!("Tool '{}' not found in provided tools", choice["name"])));
    };
    if model.rejects("tool_choice") {
        return Err(invalid("tool_choice: forcing tool use is not supported by this model"));
    }
    if thinking.is_on() {
        return Err(invalid("Thinking may not be enabled when tool_choice forces tool use."));
    }
    let name = tool["name"].as_str().unwrap_or_default().to_owned();
    Ok(Some(Form::Tool(name, tool["input_schema"].clone())))
}

/// A conversation that ends with the assistant begins its next answer.
fn prefill(body: &Value, model: &FakeLlm, form: &Form) -> Result<(), Fault> {
    let last = body["messages"].as_array().and_then(|messages| messages.last());
    let is_prefilled = last.is_some_and(|message| message["role"] == "assistant");
    if is_prefilled && model.rejects("prefill") {
        return Err(invalid(
            "This model does not support assistant message prefill. The conversation must end with a user message.",
        ));
    }
    if is_prefilled && matches!(form, Form::Schema(_)) {
        return Err(invalid("output_config.format: prefilling is not supported with an output format"));
    }
    Ok(())
}
