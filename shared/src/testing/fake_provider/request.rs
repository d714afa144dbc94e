//! What a call asks for, once it is understood, and what can be read in it without understanding it.

use serde_json::Value;

use super::llm::FakeLlm;
use crate::testing::fake_server::answer::{asked_in_words, count_tokens, marked_chunk};

/// The form that an answer must have.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Form {
    /// What the prompt says.
    Free,
    /// The request names a schema where this service does not look for one.
    Unread,
    /// Some JSON object.
    Json,
    Schema(Value),
    /// The input of this tool, with its schema.
    Tool(String, Value),
}

/// A part of a prompt, for what is remembered of prompts.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    /// With whose it is, so that the same text said by another is another.
    pub(super) text: String,
    pub(super) tokens: usize,
    /// The prompt up to here is to be remembered (Claude).
    pub(super) is_breakpoint: bool,
}

impl Piece {
    pub(super) fn new(owner: &str, text: &str) -> Self {
        Self { text: format!("{owner}: {text}\n"), tokens: count_tokens(text), is_breakpoint: false }
    }
}

/// A good call.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) model: FakeLlm,
    pub(super) prompt: Vec<Piece>,
    /// Tokens of the prompt with what stands around it.
    pub(super) prompt_tokens: usize,
    /// The output ceiling.
    pub(super) ceiling: usize,
    pub(super) form: Form,
    /// Tokens that the model reasons.
    pub(super) reasoning: usize,
    /// Whether the reasoning is shown.
    pub(super) shows_reasoning: bool,
    /// How many answers are wanted.
    pub(super) answers: usize,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) role: String,
    pub(super) text: String,
}

/// The messages of any service's request, whatever else is wrong with it.
pub(super) fn turns(body: &Value) -> Vec<Turn> {
    let mut turns = Vec::new();
    for (name, inner) in [("system", ""), ("systemInstruction", "parts")] {
        let text = text_of(if inner.is_empty() { &body[name] } else { &body[name][inner] });
        if !text.is_empty() {
            turns.push(Turn { role: "system".to_owned(), text });
        }
    }
    for (list, content) in [("messages", "content"), ("contents", "parts")] {
        for message in body[list].as_array().into_iter().flatten() {
            let role = message["role"].as_str().unwrap_or("user").to_owned();
            turns.push(Turn { role, text: text_of(&message[content]) });
        }
    }
    turns
}

/// A text, or the texts of several blocks.
pub(super) fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => blocks.iter().filter_map(|block| block["text"].as_str()).collect(),
        _ => String::new(),
    }
}

/// The chunk: what is marked in a message of the user, else anywhere, else the user's first message.
pub(super) fn chunk_of(turns: &[Turn]) -> String {
    let user = || turns.iter().filter(|turn| turn.role == "user");
    let marked = user().chain(turns).find_map(|turn| marked_chunk(&turn.text));
    marked.or_else(|| user().next().map(|turn| turn.text.as_str())).unwrap_or_default().to_owned()
}

/// How many pairs are asked for: by the schema, else by words in the last message that has any, else 3.
pub(super) fn asked_of(body: &Value, turns: &[Turn]) -> u32 {
    let members = body.as_object().into_iter().flatten();
    let by_schema = members
        .filter(|(name, _)| !matches!(name.as_str(), "messages" | "contents"))
        .find_map(|(_, value)| most_items(value));
    let asks = |turn: &&Turn| turn.role != "assistant" && turn.role != "model";
    by_schema
        .or_else(|| turns.iter().rev().filter(asks).find_map(|turn| asked_in_words(&turn.text)))
        .unwrap_or(3)
}

/// The first `maxItems` in a value; Gemini takes it as a text too.
fn most_items(value: &Value) -> Option<u32> {
    match value {
        Value::Object(members) => members.iter().find_map(|(name, value)| match (name.as_str(), value) {
            ("maxItems", Value::Number(number)) => number.as_u64().and_then(|n| u32::try_from(n).ok()),
            ("maxItems", Value::String(text)) => text.parse().ok(),
            _ => most_items(value),
        }),
        Value::Array(values) => values.iter().find_map(most_items),
        _ => None,
    }
}
