//! What OpenAI refuses in a request for a chat completion.

use serde_json::Value;

use super::faults::{INVALID, of, of_problem, quoted, unsupported, unsupported_value};
use super::form;
use crate::testing::fake_provider::fault::Fault;
use crate::testing::fake_provider::fields::{Field, Kind, Problem, Unknown, What, check, may, must};
use crate::testing::fake_provider::llm::FakeLlm;
use crate::testing::fake_provider::request::{Asked, Piece, text_of};
use crate::testing::fake_provider::wire::{Incoming, Trouble};
use crate::testing::fake_server::answer::TEMPLATE_TOKENS;

const EFFORTS: &[&str] = &["none", "minimal", "low", "medium", "high", "xhigh", "max"];
const MOST_STOPS: usize = 4;
/// What models may take while they do not reason only.
const SAMPLING: &[&str] =
    &["temperature", "top_p", "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs"];

const FIELDS: &[Field] = &[
    must("model", Kind::Text),
    must("messages", Kind::List),
    may("max_completion_tokens", Kind::Whole(1, i64::MAX)),
    may("max_tokens", Kind::Whole(1, i64::MAX)),
    may("temperature", Kind::Number(0.0, 2.0)),
    may("top_p", Kind::Number(0.0, 1.0)),
    may("presence_penalty", Kind::Number(-2.0, 2.0)),
    may("frequency_penalty", Kind::Number(-2.0, 2.0)),
    may("seed", Kind::Whole(i64::MIN, i64::MAX)),
    may("stop", Kind::TextOrList),
    may("n", Kind::Whole(1, 128)),
    may("logit_bias", Kind::Object),
    may("logprobs", Kind::Flag),
    may("top_logprobs", Kind::Whole(0, 20)),
    may("response_format", Kind::Object),
    may("reasoning_effort", Kind::OneOf(EFFORTS)),
    may("verbosity", Kind::OneOf(&["low", "medium", "high"])),
    may("tools", Kind::List),
    may("tool_choice", Kind::TextOrObject),
    may("parallel_tool_calls", Kind::Flag),
    may("stream", Kind::Flag),
    may("stream_options", Kind::Object),
    may("store", Kind::Flag),
    may("metadata", Kind::Object),
    may("service_tier", Kind::OneOf(&["auto", "default", "flex", "scale", "priority"])),
    may("user", Kind::Text),
    may("safety_identifier", Kind::Text),
    may("prompt_cache_key", Kind::Text),
    may("prompt_cache_retention", Kind::Text),
    may("prompt_cache_options", Kind::Object),
];

const MESSAGE: &[Field] = &[
    must("role", Kind::OneOf(&["system", "developer", "user", "assistant", "tool"])),
    must("content", Kind::TextOrList),
    may("name", Kind::Text),
    may("tool_calls", Kind::List),
    may("tool_call_id", Kind::Text),
    may("refusal", Kind::Text),
];

pub(crate) fn read(incoming: &Incoming<'_>) -> Result<Asked, Fault> {
    let body = incoming.body;
    check(body, "", FIELDS, Unknown::Refused).map_err(|problem| of_problem(&problem))?;
    let name = body["model"].as_str().unwrap_or_default();
    let model = incoming.config.model(name).ok_or_else(|| of(Trouble::NoSuchModel(name.to_owned())))?;
    let prompt = messages(body, MESSAGE, Unknown::Refused).map_err(|problem| of_problem(&problem))?;
    if body["stop"].as_array().is_some_and(|stops| stops.len() > MOST_STOPS) {
        let message = "Invalid 'stop': array too long. Expected an array with maximum length 4.";
        return Err(Fault::new(400, INVALID, message).code("array_above_max_length").param("stop"));
    }
    let reasoning = reasoning(body, model)?;
    rejected(body, model, reasoning)?;
    let form = form::read(body, model)?;
    let prompt_tokens = prompt.iter().map(|piece| piece.tokens).sum::<usize>() + TEMPLATE_TOKENS;
    let ceiling = ceiling(body, model)?;
    too_long(prompt_tokens, ceiling, model)?;
    Ok(Asked {
        prompt,
        prompt_tokens,
        ceiling: ceiling.unwrap_or(model.max_output as usize),
        form,
        reasoning,
        shows_reasoning: false,
        answers: body["n"].as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(1),
        model: model.clone(),
    })
}

/// The messages' texts; a message has a text or blocks with texts.
pub(crate) fn messages(body: &Value, fields: &[Field], unknown: Unknown) -> Result<Vec<Piece>, Problem> {
    const BLOCK: &[Field] = &[must("type", Kind::OneOf(&["text", "refusal"])), may("text", Kind::Text)];
    let messages = body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    if messages.is_empty() {
        let (at, name) = (String::new(), "messages".to_owned());
        return Err(Problem {
            at,
            name,
            what: What::Type("non-empty array"),
            found: body["messages"].to_string(),
        });
    }
    let mut pieces = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        let at = format!("messages[{index}]");
        check(message, &at, fields, unknown)?;
        for (index, block) in message["content"].as_array().into_iter().flatten().enumerate() {
            check(block, &format!("{at}.content[{index}]"), BLOCK, unknown)?;
        }
        pieces.push(Piece::new(message["role"].as_str().unwrap_or_default(), &text_of(&message["content"])));
    }
    Ok(pieces)
}

/// Tokens that the model reasons.
fn reasoning(body: &Value, model: &FakeLlm) -> Result<usize, Fault> {
    let Some(effort) = body["reasoning_effort"].as_str() else { return Ok(model.reasons_by_default) };
    if model.efforts.is_empty() {
        return Err(unsupported("reasoning_effort"));
    }
    if !model.efforts.iter().any(|known| known == effort) {
        let supported = format!("Supported values are: {}.", quoted(&model.efforts));
        return Err(unsupported_value("reasoning_effort", &format!("'{effort}'"), &supported));
    }
    Ok(model.reasons_at(effort))
}

/// Parameters that this model does not take.
fn rejected(body: &Value, model: &FakeLlm, reasoning: usize) -> Result<(), Fault> {
    let is_free = |name: &str| model.free_without_reasoning && reasoning == 0 && SAMPLING.contains(&name);
    for name in model.rejects.iter().filter(|name| !is_free(name)) {
        if body.get(name.as_str()).is_some() {
            return Err(unsupported(name));
        }
    }
    for name in model.only_default.iter().filter(|name| !is_free(name)) {
        match body.get(name.as_str()) {
            Some(value) if value.as_f64() != Some(1.0) => {
                let supported = "Only the default (1) value is supported.";
                return Err(unsupported_value(name, &value.to_string(), supported));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The output ceiling, where one is set.
fn ceiling(body: &Value, model: &FakeLlm) -> Result<Option<usize>, Fault> {
    let set = |name: &str| body[name].as_u64().map(|tokens| usize::try_from(tokens).unwrap_or(usize::MAX));
    let (name, ceiling) = match (set("max_completion_tokens"), set("max_tokens")) {
        (Some(_), Some(_)) => {
            let message =
                "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.";
            return Err(Fault::new(400, INVALID, message)
                .code("invalid_parameter_combination")
                .param("max_tokens"));
        }
        (Some(tokens), None) => ("max_completion_tokens", tokens),
        (None, Some(tokens)) => ("max_tokens", tokens),
        (None, None) => return Ok(None),
    };
    let most = model.max_output;
    if ceiling > most as usize {
        let message = format!(
            "max_tokens is too large: {ceiling}. This model supports at most {most} completion tokens, whereas \
             you provided {ceiling}."
        );
        return Err(Fault::new(400, INVALID, message).code("invalid_value").param(name));
    }
    Ok(Some(ceiling))
}

fn too_long(prompt: usize, ceiling: Option<usize>, model: &FakeLlm) -> Result<(), Fault> {
    let context = model.context;
    let wanted = prompt + ceiling.unwrap_or(0);
    if wanted <= context as usize {
        return Ok(());
    }
    let message = format!(
        "This model's maximum context length is {context} tokens. However, you requested {wanted} tokens \
         ({prompt} in the messages, {} in the completion). Please reduce the length of the messages or \
         completion.",
        ceiling.unwrap_or(0)
    );
    Err(Fault::new(400, INVALID, message).code("context_length_exceeded").param("messages"))
}
