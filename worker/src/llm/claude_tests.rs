//! What is sent to Claude, and what its replies mean.

use qa_shared::model_table::{ModelTable, Service};

use super::*;
use crate::prompt::answer_schema;

fn request() -> ChatRequest {
    ChatRequest {
        messages: vec![Message::new(Role::System, "Rules."), Message::new(Role::User, "Ask: chunk")],
        schema: Some(answer_schema(2)),
        temperature: 1.5,
        max_output: 9000,
        ..ChatRequest::of("m", "")
    }
}

fn sent(model: &str, request: &ChatRequest) -> Value {
    body(request, &ModelTable::default().traits(Service::Claude, model))
}

#[test]
fn a_plain_model_gets_a_schema_and_a_temperature_within_its_range() {
    let body = sent("claude-haiku-4-5", &request());
    let keys: Vec<_> = body.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["model", "max_tokens", "system", "messages", "temperature", "output_config"]);
    assert_eq!(body["temperature"], 1.0);
    assert_eq!(body["system"], json!([{ "type": "text", "text": "Rules." }]));
    assert_eq!(body["messages"], json!([{ "role": "user", "content": "Ask: chunk" }]));
    let format = &body["output_config"]["format"];
    assert_eq!(format["type"], "json_schema");
    assert!(!format.to_string().contains("Items"), "{format}");
}

#[test]
fn thinking_is_said_in_each_models_way() {
    let think = |model, wish| sent(model, &ChatRequest { reasoning: wish, ..request() });
    let high = Some(Reasoning::High);
    assert_eq!(think("claude-sonnet-5", None)["thinking"], json!({ "type": "disabled" }));
    assert_eq!(think("claude-opus-4-6", None).get("thinking"), None);
    let body = think("claude-haiku-4-5", high);
    assert_eq!(body["thinking"], json!({ "type": "enabled", "budget_tokens": 4500 }));
    assert_eq!(body.get("temperature"), None, "it must be the default while the model thinks");
    let body = think("claude-opus-4-8", high);
    assert_eq!(
        (&body["thinking"]["type"], &body["output_config"]["effort"]),
        (&json!("adaptive"), &json!("high"))
    );
    let body = think("claude-fable-5", None);
    assert_eq!((body.get("thinking"), &body["output_config"]["effort"]), (None, &json!("low")));
    let small = ChatRequest { reasoning: high, max_output: 1500, ..request() };
    assert_eq!(sent("claude-haiku-4-5", &small).get("thinking"), None, "no room for the smallest budget");
}

#[test]
fn a_tool_stands_in_for_a_schema() {
    let body = sent("claude-3-5-haiku-latest", &request());
    assert_eq!(body["tool_choice"], json!({ "type": "tool", "name": "qa_pairs" }));
    assert_eq!(body["tools"][0]["input_schema"]["required"], json!(["pairs"]));
    assert_eq!(body.get("output_config"), None);
    let thinking = ChatRequest { reasoning: Some(Reasoning::Low), ..request() };
    assert_eq!(sent("claude-opus-4-20250514", &thinking).get("tool_choice"), None);
}

#[test]
fn a_constant_part_that_is_long_enough_is_cached() {
    let long = "Many rules. ".repeat(2000);
    let mut request = request();
    request.messages[0].content = long;
    let body = sent("claude-haiku-4-5", &request);
    assert_eq!(body["system"][0]["cache_control"], json!({ "type": "ephemeral" }));
    request.messages[1].constant = "Ask: ".len();
    let body = sent("claude-haiku-4-5", &request);
    assert_eq!(body["system"][0].get("cache_control"), None);
    let blocks = &body["messages"][0]["content"];
    assert_eq!((&blocks[0]["text"], &blocks[1]["text"]), (&json!("Ask: "), &json!("chunk")));
    assert_eq!(blocks[0]["cache_control"], json!({ "type": "ephemeral" }));
    assert_eq!(blocks[1].get("cache_control"), None);
    request.messages[1].constant = request.messages[1].content.len();
    let body = sent("claude-haiku-4-5", &request);
    assert_eq!(body["messages"][0]["content"].as_array().unwrap().len(), 1, "empty blocks are refused");
}

#[test]
fn replies() {
    let answer = |content: Value, reason: Value, details: Value| {
        let body =
            json!({"type": "message", "content": content, "stop_reason": reason, "stop_details": details});
        let reply = reply(&body).unwrap();
        (reply.content, reply.thinking, reply.finish)
    };
    let none = Value::Null;
    let text = json!([{ "type": "text", "text": "{}" }]);
    let thinking = json!([{ "type": "thinking", "thinking": "Hm." }, { "type": "text", "text": "{}" }]);
    let tool = json!([{ "type": "tool_use", "name": "qa_pairs", "input": { "pairs": [] } }]);
    for (content, reason, content_text, thought, finish) in [
        (text.clone(), "end_turn", "{}", None, Finish::Stop),
        (thinking, "end_turn", "{}", Some("Hm."), Finish::Stop),
        (tool, "tool_use", "{\"pairs\":[]}", None, Finish::Stop),
        (text.clone(), "max_tokens", "{}", None, Finish::Length),
        (json!([{ "type": "thinking", "thinking": "Hm." }]), "max_tokens", "", Some("Hm."), Finish::Length),
        (text.clone(), "model_context_window_exceeded", "{}", None, Finish::Length),
        (json!([]), "refusal", "", None, Finish::Refused("the model declines".to_owned())),
        (json!([]), "end_turn", "", None, Finish::Stop),
        (text, "pause_turn", "{}", None, Finish::Other("pause_turn".to_owned())),
        (json!([5, {"type": "new"}]), "end_turn", "", None, Finish::Stop),
    ] {
        let found = answer(content.clone(), json!(reason), none.clone());
        assert_eq!(found, (content_text.to_owned(), thought.map(str::to_owned), finish), "{content}");
    }
    let details = json!({ "type": "refusal", "category": "cyber", "explanation": "No." });
    assert_eq!(answer(json!([]), json!("refusal"), details).2, Finish::Refused("cyber: No.".to_owned()));
    for none in [json!({}), json!([]), json!({ "content": "x" }), json!({ "type": "error", "error": {} })] {
        assert_eq!(reply(&none), None, "{none}");
    }
}

#[test]
fn input_tokens_are_counted_with_the_cached_ones() {
    let body = json!({"content": [], "usage": {"input_tokens": 20, "cache_creation_input_tokens": 300,
        "cache_read_input_tokens": 4000, "output_tokens": 50}});
    let reply = reply(&body).unwrap();
    assert_eq!((reply.usage.input_tokens, reply.prompt_tokens), (4320, Some(4320)));
    assert_eq!((reply.usage.cached_tokens, reply.usage.cache_write_tokens), (4000, 300));
}
