//! Counts under every name, and estimates where there is none.

use qa_shared::model::Usage;
use serde_json::{Value, json};

use super::*;
use crate::llm::Finish;

fn both(body: &Value) -> (u64, u64) {
    let usage = read(body);
    (usage.input_tokens, usage.output_tokens)
}

#[test]
fn counts_are_read_by_every_vendors_names() {
    for body in [
        json!({ "usage": { "prompt_tokens": 900, "completion_tokens": 80 } }),
        json!({ "usage": { "prompt_tokens": 900.0, "completion_tokens": 79.5 } }),
        json!({ "usage": { "prompt_tokens": "900", "completion_tokens": " 80 " } }),
        json!({ "usage": { "input_tokens": 900, "output_tokens": 80 } }),
        json!({ "usage": { "input_tokens": 100, "cache_read_input_tokens": 700,
                           "cache_creation_input_tokens": 100, "output_tokens": 80 } }),
        json!({ "usage": { "inputTokens": 900, "outputTokens": 80 } }),
        json!({ "usage": { "promptTokenCount": 900, "candidatesTokenCount": 50, "thoughtsTokenCount": 30 } }),
        json!({ "usageMetadata": { "promptTokenCount": 900, "candidatesTokenCount": 80 } }),
        json!({ "usage": { "prompt_eval_count": 900, "eval_count": 80 } }),
        json!({ "prompt_eval_count": 900, "eval_count": 80 }),
        json!({ "tokens_evaluated": 900, "tokens_predicted": 80 }),
        json!({ "usage": null, "x_groq": { "usage": { "prompt_tokens": 900, "completion_tokens": 80 } } }),
        json!({ "usage": {}, "timings": { "cache_n": 700, "prompt_n": 200, "predicted_n": 80 } }),
        json!({ "choices": [{ "usage": { "prompt_tokens": 900, "completion_tokens": 80 } }] }),
        json!({ "meta": { "billed_units": { "input_tokens": 900, "output_tokens": 80 } } }),
        json!({ "usage": { "prompt_tokens": 900, "total_tokens": 980 } }),
        json!({ "usage": { "completion_tokens": 80, "total_tokens": 980 } }),
        json!({ "usage": { "prompt_tokens": 900, "completion_tokens": 0 },
                "timings": { "prompt_n": 1, "predicted_n": 80 } }),
    ] {
        assert_eq!(both(&body), (900, 80), "{body}");
    }
}

#[test]
fn what_is_no_count_is_none() {
    for usage in [
        json!({}),
        Value::Null,
        json!([]),
        json!("many"),
        json!({ "prompt_tokens": null, "completion_tokens": null }),
        json!({ "prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0 }),
        json!({ "prompt_tokens": -1, "completion_tokens": -5 }),
        json!({ "prompt_tokens": "", "completion_tokens": "n/a" }),
        json!({ "prompt_tokens": [900], "completion_tokens": { "n": 80 } }),
        json!({ "prompt_tokens": 1e300 }),
    ] {
        assert_eq!(read(&json!({ "choices": [], "usage": usage.clone() })), Usage::default(), "{usage}");
    }
    assert_eq!(read(&json!({ "choices": [] })), Usage::default());
}

#[test]
fn cached_tokens_are_part_of_the_prompts() {
    let deepseek = read(&json!({ "usage": { "prompt_tokens": 900, "prompt_cache_hit_tokens": 700 } }));
    assert_eq!((deepseek.input_tokens, deepseek.cached_tokens), (900, 700));
    let wrong = read(&json!({ "usage": { "prompt_tokens": 900, "prompt_cache_hit_tokens": 9000 } }));
    assert_eq!(wrong.cached_tokens, 900);
    let written = json!({ "usage": { "input_tokens": 1, "cache_creation_input_tokens": 899 } });
    assert_eq!(read(&written).cache_write_tokens, 899);
}

fn reply(usage: Usage) -> ChatReply {
    ChatReply {
        content: "A pump needs a new seal every two years.".to_owned(),
        thinking: None,
        finish: Finish::Stop,
        usage,
        prompt_tokens: None,
        model: None,
        id: None,
        held: Duration::ZERO,
    }
}

#[test]
fn what_is_not_reported_is_estimated_and_marked_as_that() {
    let request = ChatRequest::of("m", &"Why? ".repeat(100));
    let mut silent = reply(Usage::default());
    assert!(complete(&mut silent, &request, true));
    let usage = silent.usage;
    assert_eq!(usage.input_tokens, u64::from(estimate_prompt(&request)));
    assert_eq!(usage.output_tokens, u64::from(estimate_tokens(&silent.content)));
    assert_eq!(usage.estimated_input_tokens, usage.input_tokens);
    assert_eq!(usage.estimated_output_tokens, usage.output_tokens);

    let half = Usage { input_tokens: 240, ..Usage::default() };
    let mut half = reply(half);
    assert!(complete(&mut half, &request, true));
    assert_eq!((half.usage.input_tokens, half.usage.estimated_input_tokens), (240, 0));
    assert!(half.usage.estimated_output_tokens > 0);

    let told = Usage { input_tokens: 240, output_tokens: 11, ..Usage::default() };
    let mut whole = reply(told);
    assert!(!complete(&mut whole, &request, true));
    assert_eq!(whole.usage, told);
}

#[test]
fn counts_that_cannot_be_used_are_replaced_and_the_ceiling_holds() {
    let mut dummy =
        reply(Usage { input_tokens: 10, output_tokens: 20, cached_tokens: 5, ..Usage::default() });
    dummy.thinking = Some("Hm. ".repeat(2000));
    let request = ChatRequest::of("m", "Why?");
    assert!(complete(&mut dummy, &request, false));
    assert!(dummy.usage.input_tokens > 10 && dummy.usage.cached_tokens == 0);
    assert_eq!(dummy.usage.output_tokens, u64::from(request.max_output));
}

#[test]
fn no_answer_is_no_output() {
    let mut empty = reply(Usage { input_tokens: 9, ..Usage::default() });
    empty.content.clear();
    assert!(!complete(&mut empty, &ChatRequest::of("m", "Why?"), true));
    assert_eq!(empty.usage.output_tokens, 0);
}
