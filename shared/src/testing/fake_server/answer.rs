//! What fake models say: pairs that show which chunk they belong to, and nothing of the time.

use serde_json::{Value, json};

use crate::model::{Pair, TextHash};

/// Characters per token of the fake models.
pub(crate) const CHARS_PER_TOKEN: usize = 4;
/// Tokens around the messages.
pub(crate) const TEMPLATE_TOKENS: usize = 12;

/// The n-th pair (from 1) that a fake model gives for a chunk's text.
pub fn expected_pair(text: &str, n: u32) -> Pair {
    let hash = TextHash::of(text);
    let beginning: String = text.split_whitespace().take(6).collect::<Vec<_>>().join(" ");
    Pair {
        question: format!("What does part {n} of chunk {hash} say?"),
        answer: format!("Part {n} of chunk {hash} says: {beginning}"),
    }
}

/// The pairs that a fake model gives for a chunk's text when it is asked for `count`.
pub fn expected_pairs(text: &str, count: u32) -> Vec<Pair> {
    (1..=count).map(|n| expected_pair(text, n)).collect()
}

/// The first pairs of a chunk whose questions were not `said` before.
pub(crate) fn fresh_pairs(chunk: &str, said: &[&str], count: u32) -> Vec<Pair> {
    (1..)
        .map(|n| expected_pair(chunk, n))
        .filter(|pair| !said.iter().any(|content| content.contains(&pair.question)))
        .take(usize::try_from(count).unwrap_or(usize::MAX))
        .collect()
}

/// Pairs in the form that the built-in schema asks for.
pub(crate) fn as_json(pairs: &[Pair]) -> String {
    let pairs: Vec<Value> =
        pairs.iter().map(|pair| json!({ "question": pair.question, "response": pair.answer })).collect();
    json!({ "pairs": pairs }).to_string()
}

/// One pair, and a second one whose answer is this text again and again, for about as many tokens.
pub(crate) fn repeating(pairs: &[Pair], unit: &str, tokens: usize) -> String {
    /// No model writes more.
    const MOST_TOKENS: usize = 16_384;
    let good = as_json(pairs);
    let begun = good.trim_end_matches("]}");
    let times = tokens.min(MOST_TOKENS) * CHARS_PER_TOKEN / unit.chars().count().max(1) + 1;
    format!("{begun},{{\"question\":\"And what else?\",\"response\":\"{}", unit.repeat(times))
}

/// A good answer as models like to give it that nothing holds to JSON.
pub(crate) fn fenced(good: &str) -> String {
    format!("Here are the pairs:\n\n```json\n{good}\n```\n\nI hope this helps.")
}

/// The chunk that is marked in a message.
pub(crate) fn marked_chunk(content: &str) -> Option<&str> {
    let (before, end) = content.rsplit_once("\n</chunk")?;
    let (number, _) = end.split_once('>')?;
    Some(before.split_once(&format!("<chunk{number}>\n"))?.1)
}

/// How many pairs a message asks for in words.
pub(crate) fn asked_in_words(content: &str) -> Option<u32> {
    let before = content.split(" question-answer pair").next()?;
    before.rsplit(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// How many tokens a text has.
pub(crate) fn count_tokens(text: &str) -> usize {
    text.chars().count().div_ceil(CHARS_PER_TOKEN)
}

/// A text in tokens.
pub(crate) fn tokens(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    chars.chunks(CHARS_PER_TOKEN).map(|token| token.iter().collect()).collect()
}
