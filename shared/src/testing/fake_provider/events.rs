//! A chat completion as a stream of events, as servers with OpenAI's API send it.

use serde_json::{Value, json};

use crate::testing::fake_server::answer::tokens;

/// Tokens in one event.
pub(super) const EVENT_TOKENS: u32 = 16;

/// The events of an answer; its tokens are told at its end where the request wants them.
pub(super) fn events(answer: &Value, request: &Value) -> Vec<String> {
    let mut events = vec![": the model reads the prompt\n\n".to_owned()];
    let head = |choices: Value| {
        let mut event = json!({ "object": "chat.completion.chunk", "choices": choices });
        for name in ["id", "created", "model"] {
            event[name] = answer[name].clone();
        }
        event
    };
    let mut tell = |event: &Value| events.push(format!("data: {event}\n\n"));
    for choice in answer["choices"].as_array().into_iter().flatten() {
        let delta = |delta: Value, finish: &Value| {
            head(json!([{ "index": choice["index"], "delta": delta, "finish_reason": finish }]))
        };
        tell(&delta(json!({ "role": "assistant", "content": "" }), &Value::Null));
        for name in ["reasoning_content", "reasoning", "content", "refusal"] {
            let text = choice["message"][name].as_str().unwrap_or_default();
            for some in tokens(text).chunks(EVENT_TOKENS as usize) {
                let mut piece = json!({});
                piece[name] = json!(some.concat());
                tell(&delta(piece, &Value::Null));
            }
        }
        tell(&delta(json!({}), &choice["finish_reason"]));
    }
    if request["stream_options"]["include_usage"] == true {
        let mut last = head(json!([]));
        for name in ["usage", "timings"] {
            if let Some(value) = answer.get(name) {
                last[name] = value.clone();
            }
        }
        tell(&last);
    }
    events.push("data: [DONE]\n\n".to_owned());
    events
}
