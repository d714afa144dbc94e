//! What Ollama's fake model reads in a call.

use serde_json::Value;

use super::script::ChatCall;
use crate::model::Pair;
use crate::testing::fake_server::answer::{
    TEMPLATE_TOKENS, asked_in_words, count_tokens, fresh_pairs, marked_chunk,
};

/// The pairs for a call: the first ones that the user did not forbid to repeat.
pub(super) fn pairs_for(call: &ChatCall, count: u32) -> Vec<Pair> {
    let said: Vec<&str> = user_contents(&call.body).collect();
    fresh_pairs(&call.chunk, &said, count)
}

/// The chunk of a call.
pub(super) fn chunk_of(body: &Value) -> String {
    let content = user_contents(body).next().unwrap_or_default();
    marked_chunk(content).unwrap_or(content).to_owned()
}

/// How many pairs a call asks for: by its schema, else by its words, else 3.
pub(super) fn asked_of(body: &Value) -> u32 {
    let by_schema = body["format"]["properties"]["pairs"]["maxItems"].as_u64();
    let by_schema = by_schema.and_then(|count| u32::try_from(count).ok());
    by_schema.or_else(|| asked_in_words(contents(body).last()?)).unwrap_or(3)
}

pub(super) fn prompt_tokens(body: &Value) -> usize {
    contents(body).map(count_tokens).sum::<usize>() + TEMPLATE_TOKENS
}

fn contents(body: &Value) -> impl Iterator<Item = &str> {
    body["messages"].as_array().into_iter().flatten().filter_map(|message| message["content"].as_str())
}

fn user_contents(body: &Value) -> impl Iterator<Item = &str> {
    let messages = body["messages"].as_array().into_iter().flatten();
    messages.filter(|message| message["role"] == "user").filter_map(|message| message["content"].as_str())
}
