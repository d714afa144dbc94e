//! What Google refuses in a request to generate content.

use serde_json::Value;

use super::faults::{invalid, of, of_problem, snake};
use super::generation;
use crate::testing::fake_provider::fault::Fault;
use crate::testing::fake_provider::fields::{Field, Kind, Unknown, check, may, must};
use crate::testing::fake_provider::llm::FakeLlm;
use crate::testing::fake_provider::request::{Asked, Piece, text_of};
use crate::testing::fake_provider::wire::{Incoming, Trouble};
use crate::testing::fake_server::answer::TEMPLATE_TOKENS;

const FIELDS: &[Field] = &[
    must("contents", Kind::List),
    may("systemInstruction", Kind::Object),
    may("generationConfig", Kind::Object),
    may("safetySettings", Kind::List),
    may("tools", Kind::List),
    may("toolConfig", Kind::Object),
    may("cachedContent", Kind::Text),
];
const CONTENT: &[Field] = &[may("role", Kind::OneOf(&["user", "model"])), must("parts", Kind::List)];
const SYSTEM: &[Field] = &[may("role", Kind::Text), must("parts", Kind::List)];
const PART: &[Field] =
    &[must("text", Kind::Text), may("thought", Kind::Flag), may("thoughtSignature", Kind::Text)];
const SAFETY: &[Field] = &[
    must(
        "category",
        Kind::OneOf(&[
            "HARM_CATEGORY_HARASSMENT",
            "HARM_CATEGORY_HATE_SPEECH",
            "HARM_CATEGORY_SEXUALLY_EXPLICIT",
            "HARM_CATEGORY_DANGEROUS_CONTENT",
        ]),
    ),
    must(
        "threshold",
        Kind::OneOf(&[
            "OFF",
            "BLOCK_NONE",
            "BLOCK_ONLY_HIGH",
            "BLOCK_MEDIUM_AND_ABOVE",
            "BLOCK_LOW_AND_ABOVE",
        ]),
    ),
];

pub(super) fn read(incoming: &Incoming<'_>) -> Result<Asked, Fault> {
    let body = incoming.body;
    strictly(body, "", FIELDS)?;
    let name = incoming.path_model.unwrap_or_default();
    let model = incoming.config.model(name).ok_or_else(|| of(Trouble::NoSuchModel(name.to_owned())))?;
    let prompt = prompt(body, model)?;
    for (index, setting) in body["safetySettings"].as_array().into_iter().flatten().enumerate() {
        strictly(setting, &format!("safetySettings[{index}]"), SAFETY)?;
    }
    let generation = generation::read(body, model)?;
    rejected(body, model)?;
    let prompt_tokens = prompt.iter().map(|piece| piece.tokens).sum::<usize>() + TEMPLATE_TOKENS;
    if prompt_tokens > model.context as usize {
        return Err(invalid(format!(
            "The input token count ({prompt_tokens}) exceeds the maximum number of tokens allowed ({}).",
            model.context
        )));
    }
    Ok(Asked {
        prompt,
        prompt_tokens,
        ceiling: generation.ceiling,
        form: generation.form,
        reasoning: generation.reasoning,
        shows_reasoning: generation.shows_thoughts,
        answers: generation.answers,
        model: model.clone(),
    })
}

pub(super) fn strictly(value: &Value, at: &str, fields: &[Field]) -> Result<(), Fault> {
    check(value, at, fields, Unknown::Refused).map_err(|problem| of_problem(&problem))
}

/// The system instruction and the contents.
fn prompt(body: &Value, model: &FakeLlm) -> Result<Vec<Piece>, Fault> {
    let mut pieces = Vec::new();
    if let Some(system) = body.get("systemInstruction") {
        if model.rejects("system") {
            return Err(invalid(format!("Developer instruction is not enabled for models/{}", model.name)));
        }
        strictly(system, "systemInstruction", SYSTEM)?;
        parts(system, "systemInstruction")?;
        pieces.push(Piece::new("system", &text_of(&system["parts"])));
    }
    let contents = body["contents"].as_array().map(Vec::as_slice).unwrap_or_default();
    if contents.is_empty() {
        return Err(invalid("* GenerateContentRequest.contents: contents is not specified"));
    }
    for (index, content) in contents.iter().enumerate() {
        let at = format!("contents[{index}]");
        strictly(content, &at, CONTENT)?;
        parts(content, &at)?;
        pieces.push(Piece::new(content["role"].as_str().unwrap_or("user"), &text_of(&content["parts"])));
    }
    Ok(pieces)
}

fn parts(content: &Value, at: &str) -> Result<(), Fault> {
    let parts = content["parts"].as_array().map(Vec::as_slice).unwrap_or_default();
    if parts.is_empty() {
        let place = snake(at);
        return Err(invalid(format!(
            "* GenerateContentRequest.{place}.parts: {place}.parts must not be empty"
        )));
    }
    for (index, part) in parts.iter().enumerate() {
        strictly(part, &format!("{at}.parts[{index}]"), PART)?;
    }
    Ok(())
}

/// Parameters that this model does not take, wherever they stand.
fn rejected(body: &Value, model: &FakeLlm) -> Result<(), Fault> {
    let config = &body["generationConfig"];
    let places = [body, config, &config["thinkingConfig"]];
    for name in &model.rejects {
        let last = name.rsplit('.').next().unwrap_or(name);
        if places.iter().any(|place| place.get(last).is_some()) {
            return Err(invalid(format!("{name} is not supported for models/{}", model.name)));
        }
    }
    Ok(())
}
