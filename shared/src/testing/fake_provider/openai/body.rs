//! The body of a chat completion, by OpenAI and by those who speak its API.

use serde_json::{Value, json};

use crate::testing::fake_provider::reply::{End, Reply};
use crate::testing::fake_provider::request::{Asked, Form};

/// What differs between those who speak the API.
pub(crate) struct Style {
    /// The member with the reasoning.
    pub(crate) reasoning: &'static str,
    /// No text is null, else empty.
    pub(crate) no_text_is_null: bool,
    /// Messages have a `refusal`.
    pub(crate) has_refusal: bool,
    /// It is OpenAI itself: a refusal stands apart from the text, an answer without content has no choices.
    pub(crate) is_openai: bool,
}

pub(crate) const OPENAI: Style =
    Style { reasoning: "reasoning_content", no_text_is_null: true, has_refusal: true, is_openai: true };

/// A chat completion without its usage.
pub(crate) fn completion(asked: &Asked, reply: &Reply, number: u64, style: &Style) -> Value {
    let choices: Vec<Value> = if reply.end == End::Empty && style.is_openai {
        Vec::new()
    } else {
        (0..asked.answers).map(|index| choice(asked, reply, index, style)).collect()
    };
    json!({
        "id": format!("chatcmpl-{number:08}"), "object": "chat.completion", "created": 1_790_000_000_u64 + number,
        "model": asked.model.name, "choices": choices,
    })
}

fn choice(asked: &Asked, reply: &Reply, index: usize, style: &Style) -> Value {
    let is_spent = reply.text.is_empty() && matches!(reply.end, End::Length | End::ContextFull);
    let is_absent = is_spent || matches!(reply.end, End::Refused(_)) || reply.in_reasoning;
    let text = if is_absent && style.no_text_is_null {
        Value::Null
    } else if reply.in_reasoning {
        json!("")
    } else {
        json!(reply.text)
    };
    let mut message = json!({ "role": "assistant", "content": text });
    if style.has_refusal {
        message["refusal"] = Value::Null;
    }
    if let Some(thought) = &reply.thought {
        message[style.reasoning] = json!(if reply.in_reasoning { &reply.text } else { thought });
    }
    let mut finish = match &reply.end {
        End::Stop | End::Empty => "stop",
        End::Length | End::ContextFull => "length",
        End::Filtered | End::Recitation => "content_filter",
        End::Refused(reason) => {
            let place = if style.is_openai { "refusal" } else { "content" };
            message[place] = json!(reason);
            "stop"
        }
    };
    if let (Form::Tool(name, _), End::Stop | End::Length) = (&asked.form, &reply.end) {
        message["content"] = Value::Null;
        message["tool_calls"] = json!([{
            "id": "call_fake", "type": "function", "function": { "name": name, "arguments": reply.text },
        }]);
        if reply.end == End::Stop {
            finish = "tool_calls";
        }
    }
    json!({ "index": index, "message": message, "logprobs": null, "finish_reason": finish })
}

/// The three counts that all of them give.
pub(crate) fn usage(reply: &Reply) -> Value {
    let (prompt, output) = (reply.prompt_tokens, reply.output_tokens());
    json!({ "prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output })
}
