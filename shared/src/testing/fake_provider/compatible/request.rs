//! What servers of one's own refuse in a request for a chat completion.

use serde_json::Value;

use super::faults::of_problem;
use super::{Compatible, schema};
use crate::testing::fake_provider::fault::Fault;
use crate::testing::fake_provider::fields::{Field, Kind, Unknown, check, may, must};
use crate::testing::fake_provider::llm::FakeLlm;
use crate::testing::fake_provider::openai::request::messages;
use crate::testing::fake_provider::request::{Asked, Form};
use crate::testing::fake_provider::wire::{Incoming, Trouble, Wire};
use crate::testing::fake_server::answer::TEMPLATE_TOKENS;

/// What they read. `max_completion_tokens` is not among it: who sends only that gets no ceiling.
const FIELDS: &[Field] = &[
    must("model", Kind::Text),
    must("messages", Kind::List),
    may("max_tokens", Kind::Whole(1, i64::MAX)),
    may("temperature", Kind::Number(0.0, f64::MAX)),
    may("top_p", Kind::Number(0.0, 1.0)),
    may("top_k", Kind::Whole(-1, i64::MAX)),
    may("min_p", Kind::Number(0.0, 1.0)),
    may("repeat_penalty", Kind::Number(0.0, f64::MAX)),
    may("repetition_penalty", Kind::Number(0.0, f64::MAX)),
    may("presence_penalty", Kind::Number(-2.0, 2.0)),
    may("frequency_penalty", Kind::Number(-2.0, 2.0)),
    may("seed", Kind::Whole(i64::MIN, i64::MAX)),
    may("stop", Kind::TextOrList),
    may("response_format", Kind::Object),
    may("chat_template_kwargs", Kind::Object),
    may("structured_outputs", Kind::Object),
    may("stream", Kind::Flag),
    may("stream_options", Kind::Object),
    may("enable_thinking", Kind::Flag),
    may("ttl", Kind::Whole(0, i64::MAX)),
    may("cache_prompt", Kind::Flag),
];

/// Chat templates know these roles.
const MESSAGE: &[Field] =
    &[must("role", Kind::OneOf(&["system", "user", "assistant", "tool"])), must("content", Kind::TextOrList)];

pub(super) fn read(server: Compatible, incoming: &Incoming<'_>) -> Result<Asked, Fault> {
    let body = incoming.body;
    let wrong = |problem| of_problem(server, &problem);
    check(body, "", FIELDS, Unknown::Ignored).map_err(wrong)?;
    if let Some((name, _)) = body.as_object().into_iter().flatten().find(|(_, value)| value.is_null()) {
        return Err(server.refused(400, format!("'{name}' must not be null")).param(name));
    }
    let name = body["model"].as_str().unwrap_or_default();
    let model =
        incoming.config.model(name).ok_or_else(|| server.fault(Trouble::NoSuchModel(name.to_owned())))?;
    let prompt = messages(body, MESSAGE, Unknown::Ignored).map_err(wrong)?;
    for (name, is_refused, message) in [
        (
            "system",
            body["messages"].as_array().is_some_and(|all| all.iter().any(|one| one["role"] == "system")),
            "System role not supported",
        ),
        (
            "no_stream",
            body["stream"] != true,
            "This model only support stream mode, please enable the stream parameter to access the model. ",
        ),
        (
            "no_enable_thinking",
            !body["enable_thinking"].is_boolean(),
            "parameter.enable_thinking must be set to false for non-streaming calls",
        ),
    ] {
        if is_refused && model.rejects(name) {
            return Err(server.refused(400, message));
        }
    }
    if let Some(name) = model.rejects.iter().find(|name| body.get(name.as_str()).is_some()) {
        return Err(server.refused(400, format!("'{name}' is not supported by this model")).param(name));
    }
    let form = form(server, body, model)?;
    let switch = match &body["enable_thinking"] {
        switch @ Value::Bool(_) if model.rejects("no_enable_thinking") => switch,
        _ => &body["chat_template_kwargs"]["enable_thinking"],
    };
    let prompt_tokens = prompt.iter().map(|piece| piece.tokens).sum::<usize>() + TEMPLATE_TOKENS;
    let ceiling = body["max_tokens"].as_u64().map(|tokens| usize::try_from(tokens).unwrap_or(usize::MAX));
    too_long(server, prompt_tokens, ceiling, model)?;
    Ok(Asked {
        prompt,
        prompt_tokens,
        ceiling: ceiling.unwrap_or(usize::MAX),
        form,
        reasoning: if switch == &Value::Bool(false) { 0 } else { model.reasons_by_default },
        shows_reasoning: true,
        answers: 1,
        model: model.clone(),
    })
}

fn form(server: Compatible, body: &Value, model: &FakeLlm) -> Result<Form, Fault> {
    let in_vllm = &body["structured_outputs"]["json"];
    if server == Compatible::Vllm && in_vllm.is_object() {
        return with_schema(server, in_vllm, model);
    }
    let Some(format) = body.get("response_format") else { return Ok(Form::Free) };
    let refused = |message: &str| Err(server.refused(400, message).param("response_format"));
    match format["type"].as_str() {
        Some("text") => Ok(Form::Free),
        Some("json_schema") => {
            let wrapped = &format["json_schema"];
            match server {
                // The form without a wrapper, which its manual prints, is not looked at.
                Compatible::LlamaCpp if !wrapped["schema"].is_object() => return Ok(Form::Unread),
                Compatible::Vllm if !wrapped["name"].is_string() => {
                    return refused("'response_format.json_schema.name' is required");
                }
                _ if !wrapped["schema"].is_object() => {
                    return refused("'response_format.json_schema.schema' must be an object");
                }
                _ => {}
            }
            with_schema(server, &wrapped["schema"], model)
        }
        Some("json_object") if !model.supports_json_object => {
            refused("'response_format.type' must be 'json_schema' or 'text'")
        }
        Some("json_object") if server == Compatible::LlamaCpp && format["schema"].is_object() => {
            with_schema(server, &format["schema"], model)
        }
        Some("json_object") => Ok(Form::Json),
        _ => refused("'response_format.type' must be 'json_schema', 'json_object' or 'text'"),
    }
}

fn with_schema(server: Compatible, schema: &Value, model: &FakeLlm) -> Result<Form, Fault> {
    if !model.supports_schema {
        let message = "failed to parse grammar: 'response_format' with a schema is not supported";
        return Err(server.refused(400, message).param("response_format"));
    }
    match schema::breach(schema).filter(|_| server != Compatible::Vllm) {
        Some(breach) => Err(server.refused(400, format!("failed to parse grammar: {breach}"))),
        None => Ok(Form::Schema(schema.clone())),
    }
}

fn too_long(server: Compatible, prompt: usize, ceiling: Option<usize>, model: &FakeLlm) -> Result<(), Fault> {
    let context = model.context;
    let wanted = prompt + if server == Compatible::Vllm { ceiling.unwrap_or(0) } else { 0 };
    if wanted <= context as usize {
        return Ok(());
    }
    Err(match server {
        Compatible::LlamaCpp => {
            let message = format!(
                "request ({prompt} tokens) exceeds the available context size ({context} tokens), try \
                 increasing it"
            );
            Fault::new(400, "exceed_context_size_error", message)
                .with("n_prompt_tokens", prompt.into())
                .with("n_ctx", context.into())
        }
        Compatible::Vllm => server.refused(
            400,
            format!(
                "This model's maximum context length is {context} tokens. However, you requested {wanted} \
                 tokens ({prompt} in the messages, {} in the completion). Please reduce the length of the \
                 messages or completion.",
                ceiling.unwrap_or(0)
            ),
        ),
        Compatible::LmStudio => {
            let message = format!(
                "Trying to keep the first {prompt} tokens when context the overflows. However, the model is \
                 loaded with context length of only {context} tokens, which is not enough."
            );
            Fault { as_event: true, ..server.refused(200, message) }
        }
    })
}
