//! Token counts of a reply, under the names of many vendors, and estimates where a server gives none.
//!
//! PURE. A budget that counts nothing never stops a run: what is not reported is estimated from the texts. It
//! must not know which counts of a server can be trusted.

use std::time::Duration;

use qa_shared::model::Usage;
use qa_shared::tokens::{estimate_conversation, estimate_tokens};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{ChatReply, ChatRequest};

/// Where counts stand in a reply, the usual place first; the last one is the reply itself.
const PLACES: &[&str] = &[
    "/usage",
    "/x_groq/usage",
    "/usageMetadata",
    "/usage_metadata",
    "/choices/0/usage",
    "/choices/0/message/usage",
    "/message/usage",
    "/response_metadata/token_usage",
    "/meta/tokens",
    "/meta/billed_units",
    "/meta/usage",
    "/metrics",
    "/timings",
    "",
];
/// What the prompt's tokens are called.
const INPUT: &[&str] = &[
    "prompt_tokens",
    "input_tokens",
    "promptTokens",
    "inputTokens",
    "promptTokenCount",
    "prompt_token_count",
    "inputTokenCount",
    "input_token_count",
    "prompt_eval_count",
    "tokens_evaluated",
    "prompt_n",
];
/// What the answer's tokens are called.
const OUTPUT: &[&str] = &[
    "completion_tokens",
    "output_tokens",
    "completionTokens",
    "outputTokens",
    "candidatesTokenCount",
    "candidates_token_count",
    "outputTokenCount",
    "output_token_count",
    "generated_tokens",
    "generatedTokens",
    "eval_count",
    "tokens_predicted",
    "predicted_n",
];
/// What both together are called.
const TOTAL: &[&str] = &["total_tokens", "totalTokens", "totalTokenCount", "total_token_count"];
/// Prompt tokens that some vendors leave out of the prompt's count: read from a cache, and written to it.
const CACHE_READ: &[&str] = &["cache_read_input_tokens", "cacheReadInputTokens", "cache_n"];
const CACHE_WRITTEN: &[&str] = &["cache_creation_input_tokens", "cacheWriteInputTokens"];
/// Cached tokens that the prompt's count includes.
const CACHED: &[&str] = &[
    "/prompt_tokens_details/cached_tokens",
    "/input_tokens_details/cached_tokens",
    "/prompt_cache_hit_tokens",
    "/cachedContentTokenCount",
];
const REASONING: &[&str] = &[
    "/completion_tokens_details/reasoning_tokens",
    "/output_tokens_details/reasoning_tokens",
    "/thoughtsTokenCount",
];

/// A count: a whole number, also one written as a float or as a text. Nothing else is one.
pub(super) fn count(value: &Value) -> Option<u64> {
    if let Some(whole) = value.as_u64() {
        return Some(whole);
    }
    let number = match value {
        Value::String(text) => text.trim().parse().ok()?,
        other => other.as_f64()?,
    };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked before")]
    (0.0..1e15).contains(&number).then(|| number.ceil() as u64)
}

/// A member of a reply that is a count, or is not read.
pub(super) fn lenient<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    Value::deserialize(deserializer).map(|value| count(&value))
}

/// The counts and times in a reply with OpenAI's API; 0 where there are none.
pub(super) fn read(body: &Value) -> Usage {
    let mut usage = Usage::default();
    for place in PLACES.iter().filter_map(|place| body.pointer(place)).filter(|place| place.is_object()) {
        let found = of_place(place);
        if usage.input_tokens == 0 {
            usage.input_tokens = found.input_tokens;
            (usage.cached_tokens, usage.cache_write_tokens) = (found.cached_tokens, found.cache_write_tokens);
        }
        if usage.output_tokens == 0 {
            (usage.output_tokens, usage.reasoning_tokens) = (found.output_tokens, found.reasoning_tokens);
        }
    }
    // llama.cpp tells times.
    let milliseconds = |pointer: &str| {
        let value = body.pointer(pointer).and_then(Value::as_f64).unwrap_or(0.0);
        Duration::try_from_secs_f64(value / 1000.0)
            .map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    };
    usage.prompt_ms = milliseconds("/timings/prompt_ms");
    usage.generation_ms = milliseconds("/timings/predicted_ms");
    usage
}

fn of_place(place: &Value) -> Usage {
    let named = |names: &[&str]| names.iter().find_map(|name| count(&place[*name]).filter(|n| *n > 0));
    let pointed =
        |names: &[&str]| names.iter().find_map(|name| place.pointer(name).and_then(count)).unwrap_or(0);
    let (read, written) = (named(CACHE_READ).unwrap_or(0), named(CACHE_WRITTEN).unwrap_or(0));
    let mut input = named(INPUT);
    // Anthropic's and llama.cpp's counts are those that the cache had nothing to do with.
    let leaves_out_cached = place.get("prompt_tokens").is_none();
    if leaves_out_cached && read + written > 0 {
        input = Some(input.unwrap_or(0).saturating_add(read).saturating_add(written));
    }
    let thoughts = pointed(&["/thoughtsTokenCount"]);
    let output = named(OUTPUT).map(|output| output.saturating_add(thoughts));
    let total = named(TOTAL).unwrap_or(0);
    let rest = |known: Option<u64>| known.map_or(0, |known| total.saturating_sub(known));
    let (input, output) = (input.unwrap_or_else(|| rest(output)), output.unwrap_or_else(|| rest(input)));
    Usage {
        input_tokens: input,
        cached_tokens: pointed(CACHED).max(read).min(input),
        cache_write_tokens: pointed(&["/prompt_tokens_details/cache_write_tokens"]).max(written).min(input),
        output_tokens: output,
        reasoning_tokens: pointed(REASONING),
        ..Usage::default()
    }
}

/// Tokens that a request's prompt takes at most.
pub(super) fn estimate_prompt(request: &ChatRequest) -> u32 {
    estimate_conversation(request.messages.iter().map(|message| message.content.as_str()))
}

/// Estimates what a server does not report, or all of it where its counts cannot be used. Tells whether anything
/// was estimated.
pub(super) fn complete(reply: &mut ChatReply, request: &ChatRequest, is_trusted: bool) -> bool {
    let usage = &mut reply.usage;
    let before = *usage;
    if !is_trusted || usage.input_tokens == 0 {
        usage.input_tokens = estimate_prompt(request).into();
        usage.estimated_input_tokens = usage.input_tokens;
        (usage.cached_tokens, usage.cache_write_tokens) = (0, 0);
    }
    let texts = [Some(reply.content.as_str()), reply.thinking.as_deref()];
    let written =
        texts.into_iter().flatten().fold(0_u32, |sum, text| sum.saturating_add(estimate_tokens(text)));
    if written > 0 && (!is_trusted || usage.output_tokens == 0) {
        // The estimate is careful; no server writes more than it was allowed.
        usage.output_tokens = written.min(request.max_output).max(1).into();
        usage.estimated_output_tokens = usage.output_tokens;
        usage.reasoning_tokens = usage.reasoning_tokens.min(usage.output_tokens);
    }
    *usage != before
}

#[cfg(test)]
#[path = "usage_tests.rs"]
mod tests;
