//! Servers with OpenAI's API that refuse what others take, and that answer in places where others do not.

use std::time::Duration;

use qa_shared::model::FailureReason;
use qa_shared::testing::fake_provider::{
    Behaviour, FakeLlm, FakeProvider, FakeProviderConfig, expected_pair, expected_pairs,
};
use serde_json::{Value, json};

use crate::support::{TEXT, client, completed, failed, task, with_model, work};

const MODEL: &str = "qwen3-14b";

/// A server with this model, and whose calls behave like this.
fn server(model: FakeLlm) -> (FakeProvider, FakeProviderConfig) {
    let config = with_model(FakeProviderConfig::vllm(), model);
    (FakeProvider::start(config.clone()), config)
}

fn good() -> String {
    let pairs: Vec<Value> = expected_pairs(TEXT, 3)
        .into_iter()
        .map(|pair| json!({ "question": pair.question, "response": pair.answer }))
        .collect();
    json!({ "pairs": pairs }).to_string()
}

fn raw(body: &Value) -> Behaviour {
    Behaviour::RawBody(body.to_string().into_bytes())
}

#[tokio::test]
async fn answers_are_found_where_nothing_asked_for_them() {
    let good = good();
    let events = |delta: Value| {
        let first = json!({ "choices": [{ "index": 0, "delta": delta, "finish_reason": null }] });
        let last = json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }] });
        Behaviour::RawBody(format!("data: {first}\n\ndata: {last}\n\ndata: [DONE]\n\n").into_bytes())
    };
    let whole = |choice: Value| raw(&json!({ "choices": [choice] }));
    let message = |message: Value| whole(json!({ "index": 0, "finish_reason": "stop", "message": message }));
    let call = json!([{ "type": "function", "function": { "name": "qa_pairs", "arguments": good } }]);
    for behaviour in [
        events(json!({ "content": good })),
        events(json!({ "tool_calls": [{ "index": 0, "function": { "arguments": good } }] })),
        whole(json!({ "text": good, "finish_reason": "stop" })),
        whole(json!({ "finish_reason": "tool_calls", "message": { "content": null, "tool_calls": call } })),
        message(json!({ "content": "", "function_call": { "name": "x", "arguments": good } })),
        message(json!({ "content": serde_json::to_string(&good).unwrap() })),
        message(json!({ "content": serde_json::from_str::<Value>(&good).unwrap() })),
        message(json!({ "content": null, "reasoning_content": format!("```json\n{good}\n```") })),
        message(json!({ "content": "", "reasoning": format!("I need three pairs.\n{good}") })),
    ] {
        let (fake, config) = server(FakeLlm::new(MODEL));
        fake.fault_next(behaviour.clone());
        let (pairs, spent) = completed(work(&client(&fake, config.service), &task(MODEL, None)).await);
        assert_eq!((pairs, spent.attempts), (expected_pairs(TEXT, 3), 1), "{behaviour:?}");
    }
}

#[tokio::test]
async fn reasoning_beside_an_answer_is_never_preferred() {
    let draft = good().replace("What does", "DRAFT: what does");
    let message = json!({ "content": good(), "reasoning_content": draft });
    let (fake, config) = server(FakeLlm::new(MODEL));
    fake.fault_next(raw(&json!({ "choices": [{ "finish_reason": "stop", "message": message }] })));
    let (pairs, _) = completed(work(&client(&fake, config.service), &task(MODEL, None)).await);
    assert_eq!(pairs, expected_pairs(TEXT, 3));
    // Reasoning that was cut holds drafts.
    let cut = json!({ "content": null, "reasoning_content": draft });
    fake.fault_every(1, raw(&json!({ "choices": [{ "finish_reason": "length", "message": cut }] })));
    let (reason, ..) = failed(work(&client(&fake, config.service), &task(MODEL, None)).await);
    assert_eq!(reason, FailureReason::OutputLimit);
}

#[tokio::test]
async fn what_a_model_refuses_is_learned_once() {
    let gemma = FakeLlm::new(MODEL).rejecting(&["system"]);
    let (fake, config) = server(gemma);
    let server_ = client(&fake, config.service);
    for _ in 0..2 {
        let (pairs, spent) = completed(work(&server_, &task(MODEL, None)).await);
        assert_eq!((pairs, spent.attempts), (expected_pairs(TEXT, 3), 1));
    }
    let stats = fake.stats();
    assert_eq!((stats.calls, stats.refusals.len()), (3, 1));
    let first = &stats.bodies[0]["messages"];
    let merged = &stats.bodies[2]["messages"];
    let content = |message: &Value| message["content"].as_str().unwrap().to_owned();
    assert_eq!(merged.as_array().unwrap().len(), 1);
    assert_eq!(content(&merged[0]), format!("{}\n\n{}", content(&first[0]), content(&first[1])));
}

#[tokio::test]
async fn streaming_and_the_switch_for_reasoning_follow_the_server() {
    for (names, refused, expected) in [
        (&["stream"][..], 1, json!([null, null, { "enable_thinking": false }, null])),
        (&["stream_options"], 1, json!([true, null, { "enable_thinking": false }, null])),
        (&["chat_template_kwargs"], 1, json!([true, { "include_usage": true }, null, false])),
        (
            &["chat_template_kwargs", "enable_thinking"],
            2,
            json!([true, { "include_usage": true }, null, null]),
        ),
        (&["stream", "no_enable_thinking"], 2, json!([null, null, { "enable_thinking": false }, false])),
        (&["no_stream"], 0, json!([true, { "include_usage": true }, { "enable_thinking": false }, null])),
    ] {
        let (fake, config) = server(FakeLlm::new(MODEL).rejecting(names));
        let server = client(&fake, config.service);
        let (pairs, spent) = completed(work(&server, &task(MODEL, None)).await);
        assert_eq!((pairs, spent.attempts), (expected_pairs(TEXT, 3), 1), "{names:?}");
        let stats = fake.stats();
        assert_eq!(stats.refusals.len(), refused, "{names:?}: {:?}", stats.refusals);
        let body = stats.last_body();
        let told = ["stream", "stream_options", "chat_template_kwargs", "enable_thinking"]
            .map(|name| body.get(name).cloned().unwrap_or_default());
        assert_eq!(json!(told), expected, "{names:?}");
    }
}

#[tokio::test]
async fn a_service_that_only_streams_is_streamed() {
    // As DashScope says it; OpenAI's own answers are not streamed unless a model wants it.
    let config = FakeProviderConfig::open_ai();
    let model = config.models[0].name.clone();
    let fake = FakeProvider::start(config.clone());
    fake.respond_with(|call| {
        if call.body["stream"] == true {
            return Behaviour::Answer;
        }
        let error = json!({ "error": { "message": "This model only support stream mode, please enable the stream parameter to access the model. ", "code": "invalid_parameter_error" } });
        Behaviour::Status { status: 400, headers: Vec::new(), body: error.to_string() }
    });
    let (pairs, _) = completed(work(&client(&fake, config.service), &task(&model, None)).await);
    assert_eq!((pairs, fake.stats().calls), (expected_pairs(TEXT, 3), 2));
}

#[tokio::test]
async fn a_server_that_reasons_in_spite_of_the_template_gets_the_other_switch() {
    let (fake, config) = server(FakeLlm::new(MODEL));
    let server = client(&fake, config.service);
    fake.fault_next(Behaviour::FirstOtherBlock);
    completed(work(&server, &task(MODEL, None)).await);
    completed(work(&server, &task(MODEL, None)).await);
    let body = fake.stats().last_body();
    assert_eq!(
        (&body["enable_thinking"], &body["chat_template_kwargs"]["enable_thinking"]),
        (&json!(false), &json!(false))
    );
}

fn failed_generation(code: &str, text: &str) -> Behaviour {
    let message =
        "Failed to generate JSON. Please adjust your prompt. See 'failed_generation' for more details.";
    let error = json!({ "error": { "message": message, "type": "invalid_request_error", "code": code, "failed_generation": text } });
    Behaviour::Status { status: 400, headers: Vec::new(), body: error.to_string() }
}

#[tokio::test]
async fn a_generation_that_failed_its_check_is_read_and_asked_for_again() {
    let (fake, config) = server(FakeLlm::new(MODEL));
    let server = client(&fake, config.service);
    // Pairs in it are as good as any.
    fake.fault_next(failed_generation("json_validate_failed", &good()));
    let (pairs, spent) = completed(work(&server, &task(MODEL, None)).await);
    assert_eq!((pairs, spent.attempts), (expected_pairs(TEXT, 3), 1));
    // Without any it is a bad answer; the form stays, however often that happens.
    for code in ["json_validate_failed", "tool_use_failed"] {
        for _ in 0..5 {
            fake.fault_next(failed_generation(code, "{\"pairs\": [{\"question\": \"What does"));
            let (pairs, spent) = completed(work(&server, &task(MODEL, None)).await);
            assert_eq!((pairs, spent.attempts), (expected_pairs(TEXT, 3), 2));
        }
    }
    let bodies = fake.stats().bodies;
    assert!(bodies.iter().all(|body| body["response_format"]["type"] == "json_schema"));
    fake.fault_every(1, failed_generation("json_validate_failed", "I cannot."));
    let (reason, message, _) = failed(work(&server, &task(MODEL, None)).await);
    assert_eq!(reason, FailureReason::NoUsableAnswer, "{message}");
    assert!(message.contains("json_validate_failed"), "{message}");
}

#[tokio::test]
async fn a_form_that_has_worked_is_not_taken_away_by_one_refusal() {
    let (fake, config) = server(FakeLlm::new(MODEL));
    let server = client(&fake, config.service);
    let refusal = || {
        let error =
            json!({ "error": { "message": "the grammar cannot be used here", "param": "response_format" } });
        Behaviour::Status { status: 400, headers: Vec::new(), body: error.to_string() }
    };
    completed(work(&server, &task(MODEL, None)).await);
    for _ in 0..3 {
        fake.fault_next(refusal());
        completed(work(&server, &task(MODEL, None)).await);
    }
    assert!(fake.stats().bodies.iter().all(|body| body["response_format"]["type"] == "json_schema"));
    // What is refused again and again is refused.
    fake.respond_with(move |call| {
        if call.body["response_format"]["type"] == "json_schema" { refusal() } else { Behaviour::Answer }
    });
    let (pairs, _) = completed(work(&server, &task(MODEL, None)).await);
    assert_eq!(pairs, expected_pairs(TEXT, 3));
}

#[tokio::test]
async fn a_looping_model_is_given_up_early_and_asked_with_a_penalty() {
    let (fake, config) = server(FakeLlm::new(MODEL));
    fake.reconfigure(|config| config.token_delay = Duration::from_millis(1));
    let server = client(&fake, config.service);
    fake.fault_next(Behaviour::Repeat("and the pump is inspected, ".to_owned()));
    let (pairs, spent) = completed(work(&server, &task(MODEL, None)).await);
    assert_eq!((pairs, spent.attempts), (expected_pairs(TEXT, 3), 2), "the pair before the loop is kept");
    let stats = fake.wait_for(|stats| stats.cancelled == 1).await;
    assert!(spent.usage.output_tokens < 1500, "{:?}", spent.usage);
    let [first, second] = &stats.bodies[..] else { panic!("{} calls", stats.bodies.len()) };
    assert_eq!((first.get("frequency_penalty"), &second["frequency_penalty"]), (None, &json!(0.5)));
    assert!(!second.to_string().contains("pump is inspected"), "a loop is not shown again");

    fake.respond_with(|_| Behaviour::Repeat("x".to_owned()));
    let mut one = task(MODEL, None);
    one.settings.questions_per_chunk = 5;
    let (pairs, _) = completed(work(&server, &one).await);
    assert_eq!(pairs[0], expected_pair(TEXT, 1));
}

#[tokio::test]
async fn a_penalty_that_is_refused_is_left_out() {
    let (fake, config) = server(FakeLlm::new(MODEL).rejecting(&["frequency_penalty"]));
    fake.fault_next(Behaviour::Repeat("and so on ".to_owned()));
    let (pairs, spent) = completed(work(&client(&fake, config.service), &task(MODEL, None)).await);
    assert_eq!((pairs, spent.attempts), (expected_pairs(TEXT, 3), 2));
    assert_eq!(fake.stats().last_body().get("frequency_penalty"), None);
}

#[tokio::test]
async fn a_loop_in_an_answer_of_one_piece_is_no_matter_of_the_ceiling() {
    let (fake, config) = server(FakeLlm::new(MODEL).rejecting(&["stream"]));
    fake.respond_with(|_| Behaviour::Text("and so on ".repeat(5000)));
    let (reason, message, _) = failed(work(&client(&fake, config.service), &task(MODEL, None)).await);
    assert_eq!(reason, FailureReason::Repetition, "{message}");
    assert_eq!(message, "the answer repeated itself without end; the answer held no JSON (after 3 attempts)");
    assert!(!reason.remedy().contains("max-tokens") && reason.remedy().contains("larger model"));
}
