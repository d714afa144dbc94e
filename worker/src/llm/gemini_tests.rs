//! What is sent to Gemini, and what its replies mean.

use qa_shared::model_table::{ModelTable, Service};

use super::super::Message;
use super::*;
use crate::prompt::answer_schema;

fn request() -> ChatRequest {
    ChatRequest {
        messages: vec![
            Message::new(Role::System, "Rules."),
            Message::new(Role::User, "Ask."),
            Message::new(Role::Assistant, "{}"),
            Message::new(Role::User, "Again."),
        ],
        schema: Some(answer_schema(2)),
        temperature: 0.7,
        max_output: 3000,
        ..ChatRequest::of("m", "")
    }
}

fn sent(model: &str, reasoning: Option<Reasoning>) -> Value {
    let request = ChatRequest { reasoning, ..request() };
    body(&request, &ModelTable::default().traits(Service::Gemini, model))
}

#[test]
fn a_request_has_roles_a_schema_and_a_ceiling() {
    let body = sent("gemini-2.0-flash", None);
    let keys: Vec<_> = body.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["systemInstruction", "contents", "generationConfig"]);
    let roles: Vec<_> = body["contents"].as_array().unwrap().iter().map(|c| &c["role"]).collect();
    assert_eq!(roles, ["user", "model", "user"]);
    let config = &body["generationConfig"];
    assert_eq!((&config["maxOutputTokens"], &config["temperature"]), (&json!(3000), &json!(0.7)));
    assert_eq!(config["responseMimeType"], "application/json");
    assert_eq!(config["responseJsonSchema"]["properties"]["pairs"]["maxItems"], 2);
    assert_eq!(config.get("thinkingConfig"), None);
}

#[test]
fn thinking_is_said_in_each_models_way() {
    let config = |model, wish| sent(model, wish)["generationConfig"]["thinkingConfig"].clone();
    assert_eq!(config("gemini-2.5-flash", None), json!({ "thinkingBudget": 0 }));
    assert_eq!(config("gemini-2.5-pro", None), json!({ "thinkingBudget": 128 }));
    assert_eq!(config("gemini-2.5-flash", Some(Reasoning::High)), json!({ "thinkingBudget": 1500 }));
    assert_eq!(config("gemini-3-flash", None), json!({ "thinkingLevel": "minimal" }));
    assert_eq!(config("gemini-3.1-pro-preview", None), json!({ "thinkingLevel": "low" }));
    assert_eq!(sent("gemini-3-flash", None)["generationConfig"].get("temperature"), None);
}

#[test]
fn replies() {
    let of = |candidate: Value| {
        let reply = reply(&json!({ "candidates": [candidate] })).unwrap();
        (reply.content, reply.thinking, reply.finish)
    };
    let parts = |parts: Value, reason: &str| json!({ "content": { "parts": parts }, "finishReason": reason });
    let stop = |text: &str| (text.to_owned(), None, Finish::Stop);
    assert_eq!(of(parts(json!([{ "text": "{" }, { "text": "}" }]), "STOP")), stop("{}"));
    let thought = parts(json!([{ "text": "Hm.", "thought": true }, { "text": "{}" }]), "STOP");
    assert_eq!(of(thought), ("{}".to_owned(), Some("Hm.".to_owned()), Finish::Stop));
    assert_eq!(of(json!({ "finishReason": "MAX_TOKENS" })), (String::new(), None, Finish::Length));
    assert_eq!(of(json!({ "content": {}, "finishReason": "STOP" })), stop(""));
    for reason in ["SAFETY", "PROHIBITED_CONTENT", "SPII", "BLOCKLIST"] {
        assert_eq!(of(json!({ "finishReason": reason })).2, Finish::Refused(reason.to_owned()));
    }
    for reason in ["RECITATION", "OTHER", "A_NEW_ONE"] {
        assert_eq!(of(json!({ "finishReason": reason })).2, Finish::Other(reason.to_owned()));
    }
    let blocked = reply(&json!({ "promptFeedback": { "blockReason": "SAFETY" } })).unwrap();
    assert_eq!(blocked.finish, Finish::Refused("the prompt was blocked: SAFETY".to_owned()));
    let absent = reply(&json!({ "usageMetadata": {} })).unwrap();
    assert_eq!(absent.finish, Finish::Other("no candidate".to_owned()));
    for none in [json!({}), json!([]), json!({ "error": {} })] {
        assert_eq!(reply(&none), None, "{none}");
    }
}

#[test]
fn thoughts_count_as_output() {
    let body = json!({"candidates": [], "usageMetadata": {"promptTokenCount": 900, "candidatesTokenCount": 100,
        "thoughtsTokenCount": 50, "cachedContentTokenCount": 600}});
    let usage = reply(&body).unwrap().usage;
    assert_eq!((usage.input_tokens, usage.cached_tokens), (900, 600));
    assert_eq!((usage.output_tokens, usage.reasoning_tokens), (150, 50));
}

#[test]
fn a_call_that_was_not_offered_is_the_answer() {
    let part = json!({ "functionCall": { "name": "qa_pairs", "args": { "pairs": [] } } });
    let body = json!({ "candidates": [{ "content": { "parts": [part] }, "finishReason": "STOP" }] });
    assert_eq!(reply(&body).unwrap().content, "{\"pairs\":[]}");
}
