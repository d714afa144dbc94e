//! What the fake model says: pairs that show which chunk they belong to, and nothing of the time.

use serde_json::{Value, json};

use super::script::ChatCall;
use crate::model::{Pair, TextHash};

/// Characters per token of the fake model.
pub(super) const CHARS_PER_TOKEN: usize = 4;
/// Tokens around the messages.
const TEMPLATE_TOKENS: usize = 12;

/// The n-th pair (from 1) that the fake model gives for a chunk's text.
pub fn expected_pair(text: &str, n: u32) -> Pair {
    let hash = TextHash::of(text);
    let beginning: String = text.split_whitespace().take(6).collect::<Vec<_>>().join(" ");
    Pair {
        question: format!("What does part {n} of chunk {hash} say?"),
        answer: format!("Part {n} of chunk {hash} says: {beginning}"),
    }
}

/// The pairs that the fake model gives for a chunk's text when it is asked for `count`.
pub fn expected_pairs(text: &str, count: u32) -> Vec<Pair> {
    (1..=count).map(|n| expected_pair(text, n)).collect()
}

/// The pairs for a call: the first ones that the user did not forbid to repeat.
pub(super) fn pairs_for(call: &ChatCall, count: u32) -> Vec<Pair> {
    let said: Vec<&str> = user_contents(&call.body).collect();
    (1..)
        .map(|n| expected_pair(&call.chunk, n))
        .filter(|pair| !said.iter().any(|content| content.contains(&pair.question)))
        .take(usize::try_from(count).unwrap_or(usize::MAX))
        .collect()
}

/// Pairs in the form that the built-in schema asks for.
pub(super) fn as_json(pairs: &[Pair]) -> String {
    let pairs: Vec<Value> =
        pairs.iter().map(|pair| json!({ "question": pair.question, "response": pair.answer })).collect();
    json!({ "pairs": pairs }).to_string()
}

/// The chunk of a call.
pub(super) fn chunk_of(body: &Value) -> String {
    let content = user_contents(body).next().unwrap_or_default();
    let marked = content.split_once("<chunk>\n").and_then(|(_, rest)| rest.rsplit_once("\n</chunk>"));
    marked.map_or(content, |(chunk, _)| chunk).to_owned()
}

/// How many pairs a call asks for: by its schema, else by its words, else 3.
pub(super) fn asked_of(body: &Value) -> u32 {
    let by_schema = body["format"]["properties"]["pairs"]["maxItems"].as_u64();
    let last = contents(body).last().unwrap_or_default();
    let by_words = || {
        let before = last.split(" question-answer pair").next()?;
        before.rsplit(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    by_schema.or_else(by_words).and_then(|count| u32::try_from(count).ok()).unwrap_or(3)
}

pub(super) fn prompt_tokens(body: &Value) -> usize {
    contents(body).map(|content| content.chars().count().div_ceil(CHARS_PER_TOKEN)).sum::<usize>()
        + TEMPLATE_TOKENS
}

/// A text in tokens.
pub(super) fn tokens(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    chars.chunks(CHARS_PER_TOKEN).map(|token| token.iter().collect()).collect()
}

fn contents(body: &Value) -> impl Iterator<Item = &str> {
    body["messages"].as_array().into_iter().flatten().filter_map(|message| message["content"].as_str())
}

fn user_contents(body: &Value) -> impl Iterator<Item = &str> {
    let messages = body["messages"].as_array().into_iter().flatten();
    messages.filter(|message| message["role"] == "user").filter_map(|message| message["content"].as_str())
}
