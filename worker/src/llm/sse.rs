//! A chat completion that arrives as server-sent events, put together as if it had come in one piece.
//!
//! PURE. Some servers send events although nothing asked for them, and some answer events with one JSON
//! object: what arrives decides. It must not know what an answer means.

use serde_json::{Map, Value, json};

/// A reply's body while it arrives.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    body: Vec<u8>,
    /// Up to here the body was read as lines.
    read: usize,
    /// What kind of body it is, as soon as its first byte is there.
    has_events: Option<bool>,
    whole: Map<String, Value>,
    choice: Choice,
    /// Whether a choice, an error or the end was seen: what makes the events an answer.
    is_answer: bool,
    has_end: bool,
}

/// The first choice so far.
#[derive(Debug, Default)]
struct Choice {
    index: Option<u64>,
    content: String,
    reasoning: String,
    refusal: String,
    /// Arguments of tool calls, by the call's index.
    calls: Vec<String>,
    finish: Option<String>,
    /// Members of the choice that are passed on, such as an error.
    others: Map<String, Value>,
}

impl Incoming {
    /// Takes a piece of the body. Gives what it adds to the answer or its reasoning.
    pub(super) fn take(&mut self, piece: &[u8]) -> String {
        self.body.extend_from_slice(piece);
        if self.has_events.is_none() {
            let text = self.body.trim_ascii_start();
            let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
            // The longest word that tells is needed in full.
            if text.len() >= b"event:".len() || text.contains(&b'\n') {
                let starts = [&b"data:"[..], b"event:", b"id:", b"retry:", b":"];
                self.has_events = Some(starts.iter().any(|start| text.starts_with(start)));
            }
        }
        let mut added = String::new();
        if self.has_events == Some(true) {
            while let Some(length) = self.body[self.read..].iter().position(|&byte| byte == b'\n') {
                let line = String::from_utf8_lossy(&self.body[self.read..self.read + length]).into_owned();
                self.read += length + 1;
                added.push_str(&self.line(&line));
            }
        }
        added
    }

    /// Bytes that arrived so far.
    pub(super) fn len(&self) -> usize {
        self.body.len()
    }

    /// The body as one JSON object; as it is where it held no events or they make no answer. `repeats` says
    /// that it was given up because it repeated itself.
    pub(super) fn finish(mut self, repeats: bool) -> Vec<u8> {
        if self.has_events != Some(true) {
            return self.body;
        }
        let rest = String::from_utf8_lossy(&self.body[self.read..]).into_owned();
        self.line(&rest);
        if repeats {
            self.choice.finish = Some("repetition".to_owned());
        }
        let Choice { content, reasoning, refusal, calls, finish, mut others, .. } = self.choice;
        let is_error = self.whole.get("error").is_some_and(|error| !error.is_null());
        if !self.is_answer || !(self.has_end || is_error || finish.is_some() || others.contains_key("error"))
        {
            return self.body;
        }
        let mut message = json!({ "role": "assistant", "content": content });
        for (name, text) in [("reasoning_content", reasoning), ("refusal", refusal)] {
            if !text.is_empty() {
                message[name] = json!(text);
            }
        }
        if !calls.is_empty() {
            let calls: Vec<Value> =
                calls.iter().map(|text| json!({ "function": { "arguments": text } })).collect();
            message["tool_calls"] = Value::Array(calls);
        }
        others.insert("index".to_owned(), json!(0));
        others.insert("finish_reason".to_owned(), json!(finish));
        others.insert("message".to_owned(), message);
        self.whole.insert("choices".to_owned(), json!([others]));
        Value::Object(self.whole).to_string().into_bytes()
    }

    /// One line; gives what it adds.
    fn line(&mut self, line: &str) -> String {
        let line = line.trim().trim_start_matches('\u{feff}');
        let Some(data) = line.strip_prefix("data:").map(str::trim) else { return String::new() };
        if data == "[DONE]" {
            self.has_end = true;
            return String::new();
        }
        let Ok(Value::Object(event)) = serde_json::from_str(data) else { return String::new() };
        self.event(event)
    }

    fn event(&mut self, event: Map<String, Value>) -> String {
        let mut added = String::new();
        for (name, value) in event {
            match (name.as_str(), value) {
                ("choices", Value::Array(choices)) => {
                    self.is_answer = true;
                    for choice in choices {
                        added.push_str(&self.choice.take(choice));
                    }
                }
                (_, Value::Null) | ("object", _) => {}
                (name, value) => {
                    self.is_answer |= name == "error";
                    self.whole.insert(name.to_owned(), value);
                }
            }
        }
        added
    }
}

impl Choice {
    fn take(&mut self, choice: Value) -> String {
        let Value::Object(mut choice) = choice else { return String::new() };
        let index = choice.remove("index").and_then(|index| index.as_u64()).unwrap_or(0);
        // One answer was asked for; of several, the first one that speaks is read.
        if *self.index.get_or_insert(index) != index {
            return String::new();
        }
        if let Some(Value::String(finish)) = choice.remove("finish_reason") {
            self.finish = Some(finish);
        }
        let mut added = String::new();
        for name in ["delta", "message"] {
            added.push_str(&self.message(&choice.remove(name).unwrap_or_default()));
        }
        if let Some(Value::String(text)) = choice.remove("text") {
            self.content.push_str(&text);
            added.push_str(&text);
        }
        self.others.extend(choice.into_iter().filter(|(_, value)| !value.is_null()));
        added
    }

    fn message(&mut self, message: &Value) -> String {
        let content = super::openai::text_of(&message["content"]);
        let reasoning = super::openai::reasoning_of(message).unwrap_or_default();
        self.content.push_str(&content);
        self.reasoning.push_str(&reasoning);
        self.refusal.push_str(message["refusal"].as_str().unwrap_or_default());
        let mut added = content + &reasoning;
        let calls = message["tool_calls"].as_array().into_iter().flatten();
        let calls = calls.chain(message.get("function_call").filter(|call| call.is_object()));
        for (position, call) in calls.enumerate() {
            let at = call["index"].as_u64().and_then(|at| usize::try_from(at).ok()).unwrap_or(position);
            // Nobody calls more tools than this in an answer that calls none.
            if at >= MOST_CALLS {
                continue;
            }
            if self.calls.len() <= at {
                self.calls.resize(at + 1, String::new());
            }
            let arguments = super::openai::arguments_of(call);
            self.calls[at].push_str(&arguments);
            added.push_str(&arguments);
        }
        added
    }
}

/// Tool calls of one answer that are read.
const MOST_CALLS: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn assembled(body: &str, sizes: usize) -> (String, Value) {
        let mut incoming = Incoming::default();
        let added: String = body.as_bytes().chunks(sizes.max(1)).map(|piece| incoming.take(piece)).collect();
        let whole = incoming.finish(false);
        (
            added,
            serde_json::from_slice(&whole).unwrap_or(Value::String(String::from_utf8_lossy(&whole).into())),
        )
    }

    fn events(events: &[Value]) -> String {
        events.iter().map(|event| format!("data: {event}\n\n")).collect::<Vec<_>>().concat()
            + "data: [DONE]\n\n"
    }

    fn delta(delta: &Value) -> Value {
        json!({ "id": "x", "model": "m", "choices": [{ "index": 0, "delta": delta, "finish_reason": null }] })
    }

    #[test]
    fn deltas_become_one_message() {
        let body = events(&[
            delta(&json!({ "role": "assistant", "content": "" })),
            delta(&json!({ "reasoning_content": "hm" })),
            delta(&json!({ "content": "{\"a\"" })),
            delta(&json!({ "content": ": 1}" })),
            json!({ "id": "x", "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }] }),
            json!({ "id": "x", "choices": [], "usage": { "prompt_tokens": 7 }, "timings": { "prompt_ms": 1.0 } }),
        ]);
        for sizes in [1, 3, 10_000] {
            let (added, whole) = assembled(&format!(": keep-alive\n\n{body}"), sizes);
            assert_eq!(added, "hm{\"a\": 1}");
            let choice = &whole["choices"][0];
            assert_eq!(choice["message"]["content"], "{\"a\": 1}");
            assert_eq!(choice["message"]["reasoning_content"], "hm");
            assert_eq!((&choice["finish_reason"], &whole["model"]), (&json!("stop"), &json!("m")));
            assert_eq!(
                (&whole["usage"]["prompt_tokens"], &whole["timings"]["prompt_ms"]),
                (&json!(7), &json!(1.0))
            );
        }
    }

    #[test]
    fn tool_calls_texts_and_whole_messages_are_put_together() {
        let call = |at: usize, text: &str| {
            delta(&json!({ "tool_calls": [{ "index": at, "function": { "arguments": text } }] }))
        };
        let (_, whole) = assembled(&events(&[call(0, "{\"a\""), call(0, ":1}"), call(1, "{}")]), 9);
        let calls = &whole["choices"][0]["message"]["tool_calls"];
        assert_eq!(calls[0]["function"]["arguments"], "{\"a\":1}");
        assert_eq!(calls[1]["function"]["arguments"], "{}");
        let text = json!({ "choices": [{ "text": "abc", "index": 0 }] });
        assert_eq!(assembled(&events(&[text]), 9).1["choices"][0]["message"]["content"], "abc");
        let whole = json!({ "choices": [{ "message": { "content": "abc" }, "finish_reason": "stop" }] });
        assert_eq!(assembled(&format!("data: {whole}"), 9).1["choices"][0]["message"]["content"], "abc");
    }

    #[test]
    fn counts_that_only_the_last_event_has_count() {
        let mut piece = delta(&json!({ "content": "a" }));
        piece["usage"] = Value::Null;
        let last = json!({ "choices": [], "usage": { "prompt_tokens": 7, "completion_tokens": 2 } });
        let (_, whole) = assembled(&events(&[piece.clone(), piece, last.clone()]), 9);
        assert_eq!(
            (&whole["usage"], &whole["choices"][0]["message"]["content"]),
            (&last["usage"], &json!("aa"))
        );
    }

    #[test]
    fn errors_are_kept() {
        let error = json!({ "error": { "message": "x", "code": 502 } });
        let (_, whole) = assembled(&events(&[delta(&json!({ "content": "a" })), error.clone()]), 9);
        assert_eq!(whole["error"], error["error"]);
        let (_, lm_studio) = assembled(&format!("event: error\ndata: {error}\n\n"), 9);
        assert_eq!(lm_studio["error"], error["error"]);
        let inside =
            json!({ "choices": [{ "index": 0, "error": { "code": 502 }, "finish_reason": "error" }] });
        assert_eq!(assembled(&events(&[inside]), 9).1["choices"][0]["error"]["code"], 502);
    }

    #[test]
    fn a_stream_without_an_end_is_no_answer() {
        let body = format!("data: {}\n\n", delta(&json!({ "content": "a" })));
        assert_eq!(assembled(&body, 9).1, Value::String(body));
    }

    #[test]
    fn other_bodies_stay_as_they_are() {
        for body in ["", "{", r#" {"choices":[]}"#, "<html>data: x</html>", "data", "\n\n[1]"] {
            let mut incoming = Incoming::default();
            assert_eq!(incoming.take(body.as_bytes()), "");
            assert_eq!(incoming.finish(false), body.as_bytes());
        }
    }

    #[test]
    fn what_repeated_itself_says_so() {
        let mut incoming = Incoming::default();
        incoming.take(format!("data: {}\n\n", delta(&json!({ "content": "aaaa" }))).as_bytes());
        let whole: Value = serde_json::from_slice(&incoming.finish(true)).unwrap();
        assert_eq!(whole["choices"][0]["finish_reason"], "repetition");
        assert_eq!(whole["choices"][0]["message"]["content"], "aaaa");
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(texts in prop::collection::vec("[a-zé\"\n ]{0,6}", 0..8), sizes in 1..40usize) {
            let all: Vec<Value> = texts.iter().map(|text| delta(&json!({ "content": text }))).collect();
            let (added, whole) = assembled(&events(&all), sizes);
            prop_assert_eq!(&added, &texts.concat());
            if !texts.is_empty() {
                prop_assert_eq!(&whole["choices"][0]["message"]["content"], &json!(texts.concat()));
            }
        }
    }
}
