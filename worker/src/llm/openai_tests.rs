//! What is sent to OpenAI and to servers that copy it, and what their replies mean.

use qa_shared::model_table::{ModelTable, Service};

use super::super::Message;
use super::*;
use crate::prompt::answer_schema;
use qa_shared::model::Usage;

fn request() -> ChatRequest {
    ChatRequest {
        messages: vec![
            Message::new(Role::System, "Rules."),
            Message::new(Role::User, "Ask."),
            Message::new(Role::Assistant, "{}"),
            Message::new(Role::User, "Again, as JSON."),
        ],
        schema: Some(answer_schema(2)),
        temperature: 0.7,
        max_output: 900,
        ..ChatRequest::of("m", "")
    }
}

fn sent(service: Service, model: &str) -> Value {
    body(&request(), &ModelTable::default().traits(service, model))
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn a_plain_model_gets_everything() {
    let body = sent(Service::OpenAi, "gpt-4.1-mini");
    assert_eq!(keys(&body), ["model", "max_completion_tokens", "temperature", "response_format", "messages"]);
    assert_eq!(body["max_completion_tokens"], 900);
    let roles: Vec<_> = body["messages"].as_array().unwrap().iter().map(|m| &m["role"]).collect();
    assert_eq!(roles, ["system", "user", "assistant", "user"]);
    let format = &body["response_format"]["json_schema"];
    assert_eq!((&format["strict"], &format["name"]), (&json!(true), &json!("qa_pairs")));
    assert!(!format.to_string().contains("minLength"), "{format}");
}

#[test]
fn reasoning_models_get_no_temperature_and_the_least_effort() {
    let mini = sent(Service::OpenAi, "gpt-5-mini");
    assert_eq!((&mini["reasoning_effort"], mini.get("temperature")), (&json!("minimal"), None));
    let calm = sent(Service::OpenAi, "gpt-5.4");
    assert_eq!((&calm["reasoning_effort"], &calm["temperature"]), (&json!("none"), &json!(0.7)));
    let wish = ChatRequest { reasoning: Some(Reasoning::High), ..request() };
    let traits = ModelTable::default().traits(Service::OpenAi, "gpt-5.4");
    let sent = body(&wish, &traits);
    assert_eq!(sent["reasoning_effort"], "high");
    assert_eq!(sent.get("temperature"), None, "it is refused while the model reasons");
}

#[test]
fn servers_of_ones_own_get_the_old_name_of_the_ceiling_and_the_counts() {
    let qwen = sent(Service::Compatible, "Qwen/Qwen3-8B");
    assert_eq!(qwen["max_tokens"], 900);
    assert_eq!(qwen["chat_template_kwargs"], json!({ "enable_thinking": false }));
    assert_eq!(qwen["response_format"]["json_schema"]["schema"]["properties"]["pairs"]["maxItems"], 2);
    let mut traits = ModelTable::default().traits(Service::Compatible, "llama");
    traits.structured = Structured::Schema;
    let unbounded = body(&request(), &traits)["response_format"].to_string();
    assert!(unbounded.contains("json_schema") && !unbounded.contains("Items"), "{unbounded}");
    assert_eq!(sent(Service::Compatible, "llama").get("chat_template_kwargs"), None);
    assert_eq!((&qwen["stream"], &qwen["stream_options"]), (&json!(true), &json!({ "include_usage": true })));
}

#[test]
fn after_a_repetition_a_penalty_is_sent() {
    let traits = ModelTable::default().traits(Service::Compatible, "llama");
    let penalty = |repetitions| {
        let sent = body(&ChatRequest { repetitions, ..request() }, &traits);
        sent.get("frequency_penalty").and_then(Value::as_f64)
    };
    assert_eq!([0, 1, 2, 9].map(penalty), [None, Some(0.5), Some(1.0), Some(1.0)]);
}

#[test]
fn plain_json_is_named_in_the_messages() {
    let mut traits = ModelTable::default().traits(Service::OpenAi, "m");
    traits.structured = Structured::Json;
    let with_word = body(&request(), &traits);
    assert_eq!(with_word["response_format"], json!({ "type": "json_object" }));
    assert_eq!(with_word["messages"][3]["content"], "Again, as JSON.");
    let schema = Some(answer_schema(1));
    let without = ChatRequest { schema, ..ChatRequest::of("m", "Ask.") };
    let sent = body(&without, &traits);
    assert_eq!(sent["messages"][0]["content"], "Ask.\n\nReply with JSON.");
    traits.structured = Structured::Prompt;
    assert_eq!(body(&request(), &traits).get("response_format"), None);
}

#[test]
fn replies() {
    let answer = |message: Value, reason: Value| {
        let body = json!({"choices": [{"index": 0, "finish_reason": reason, "message": message}]});
        let reply = reply(&body).unwrap();
        (reply.content, reply.finish)
    };
    let text = |content: &str| json!({ "role": "assistant", "content": content, "refusal": null });
    for (message, reason, content, finish) in [
        (text("{}"), json!("stop"), "{}", Finish::Stop),
        (text("{"), json!("length"), "{", Finish::Length),
        (json!({ "content": null }), json!("length"), "", Finish::Length),
        (text(""), json!("stop"), "", Finish::Stop),
        (json!({ "content": null, "refusal": "No." }), json!("stop"), "", Finish::Refused("No.".into())),
        (text("x"), json!("content_filter"), "x", Finish::Refused("content_filter".into())),
        (text("x"), json!("tool_calls"), "x", Finish::Other("tool_calls".into())),
        (text("{}"), Value::Null, "{}", Finish::Stop),
        (
            json!({ "content": [{"type": "text", "text": "a"}, {"text": "b"}] }),
            json!("stop"),
            "ab",
            Finish::Stop,
        ),
        (json!({ "content": "", "reasoning_content": " {\"a\": 1}" }), json!("stop"), "", Finish::Stop),
        (json!({ "content": "", "reasoning": "I think" }), json!("stop"), "", Finish::Stop),
        (
            json!({ "content": null, "tool_calls": [{ "function": { "name": "x", "arguments": "{}" } }] }),
            json!("tool_calls"),
            "{}",
            Finish::Stop,
        ),
        (
            json!({ "content": null, "tool_calls": [{ "function": { "name": "x", "arguments": { "a": 1 } } }] }),
            json!("tool_calls"),
            "{\"a\":1}",
            Finish::Stop,
        ),
        (
            json!({ "content": null, "function_call": { "name": "x", "arguments": "{}" } }),
            json!("function_call"),
            "{}",
            Finish::Stop,
        ),
        (json!({ "content": { "a": 1 } }), json!("stop"), "{\"a\":1}", Finish::Stop),
        (text("x"), json!("repetition"), "x", Finish::Repetition),
        (json!(5), json!(5), "", Finish::Stop),
    ] {
        assert_eq!(answer(message.clone(), reason), (content.to_owned(), finish), "{message}");
    }
    let completion = json!({ "choices": [{ "text": "{}", "index": 0, "finish_reason": "stop" }] });
    assert_eq!(reply(&completion).unwrap().content, "{}");
    let empty = reply(&json!({ "choices": [] })).unwrap();
    assert_eq!(empty.finish, Finish::Other("no choice".to_owned()));
    for none in
        [json!({}), json!([]), json!("x"), json!({ "choices": 1 }), json!({ "choices": [], "error": {} })]
    {
        assert_eq!(reply(&none), None, "{none}");
    }
}

#[test]
fn usage_tells_cached_and_reasoning_tokens() {
    let body = json!({"choices": [], "timings": {"prompt_ms": 12.6, "predicted_ms": 1500.2}, "usage": {
        "prompt_tokens": 1000, "completion_tokens": 300, "prompt_tokens_details": {"cached_tokens": 800},
        "completion_tokens_details": {"reasoning_tokens": 120}}});
    let usage = reply(&body).unwrap().usage;
    assert_eq!((usage.input_tokens, usage.cached_tokens), (1000, 800));
    assert_eq!((usage.output_tokens, usage.reasoning_tokens), (300, 120));
    assert_eq!((usage.prompt_ms, usage.generation_ms), (12, 1500));
    let odd = json!({"choices": [], "usage": {"prompt_tokens": "many"}, "timings": {"prompt_ms": -1.0}});
    assert_eq!(reply(&odd).unwrap().usage, Usage::default());
}
