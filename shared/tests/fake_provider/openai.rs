//! OpenAI's chat completions.

use qa_shared::testing::fake_provider::{Behaviour, FakeLlm, FakeProvider, FakeProviderConfig, RetryHint};
use serde_json::{Value, json};

use crate::http::{
    CHUNK, USER, assert_accepted, assert_pairs, assert_refused, changed, get, portable_schema, post,
    post_with, post_without,
};

const PATH: &str = "/v1/chat/completions";

fn good() -> Value {
    json!({ "model": "gpt-4.1-mini", "max_completion_tokens": 1000, "temperature": 0.7,
        "messages": [
            { "role": "system", "content": "You reply with JSON." },
            { "role": "user", "content": USER },
        ],
        "response_format": { "type": "json_schema",
            "json_schema": { "name": "qa", "strict": true, "schema": portable_schema() } },
    })
}

fn fake(models: Vec<FakeLlm>) -> FakeProvider {
    FakeProvider::start(FakeProviderConfig { models, ..FakeProviderConfig::open_ai() })
}

#[tokio::test]
async fn a_good_call_is_answered_with_pairs_in_the_schemas_form() {
    let fake = FakeProvider::start(FakeProviderConfig::open_ai());
    let answer = post(&fake, PATH, &good()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let body = answer.json();
    let text = body["choices"][0]["message"]["content"].as_str().unwrap();
    assert_pairs(text, 2);
    let first = &serde_json::from_str::<Value>(text).unwrap()["pairs"][0];
    assert_eq!((&first["type"], &first["evidence"]), (&json!("factual"), &json!(CHUNK)));
    let members: Vec<_> = first.as_object().unwrap().keys().collect();
    assert_eq!(members, ["evidence", "question", "response", "type"], "in the schema's order");
    assert_eq!(body["choices"][0]["finish_reason"], "stop");
    assert!(answer.header("x-request-id").starts_with("req_"));
    let stats = fake.stats();
    assert_eq!((stats.calls, stats.finished, stats.cancelled, stats.in_flight), (1, 1, 0, 0));
    assert_eq!(stats.calls_for(CHUNK), 1);
    assert_eq!(stats.headers[0]["authorization"], crate::http::BEARER);
    assert_eq!(stats.last_body(), good());
}

#[tokio::test]
async fn the_chunk_is_found_in_blocks_and_follow_ups_get_new_pairs() {
    let fake = FakeProvider::start(FakeProviderConfig::open_ai());
    let (before, after) = USER.split_once("<chunk>").unwrap();
    let blocks =
        json!([{ "type": "text", "text": before }, { "type": "text", "text": format!("<chunk>{after}") }]);
    let body = changed(good(), &[("/messages/1/content", blocks)]);
    let answer = post(&fake, PATH, &body).await.json();
    let said = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert_pairs(said, 2);
    let first = &serde_json::from_str::<Value>(said).unwrap()["pairs"][0]["question"];
    let mut messages = body["messages"].as_array().unwrap().clone();
    messages.push(json!({ "role": "assistant", "content": said }));
    messages.push(json!({ "role": "user",
        "content": format!("Write 1 question-answer pair more. Do not repeat {}", first.as_str().unwrap()) }));
    let body = changed(good(), &[("/messages", json!(messages))]);
    let answer = post(&fake, PATH, &body).await.json();
    let said = answer["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    let pairs = &serde_json::from_str::<Value>(&said).unwrap()["pairs"];
    assert_eq!(pairs.as_array().unwrap().len(), 1);
    assert!(pairs[0]["question"].as_str().unwrap().starts_with("What does part 2"), "{said}");
    assert_eq!(fake.stats().calls_for(CHUNK), 2);
}

#[tokio::test]
async fn wrong_members_are_refused_by_name() {
    let fake = FakeProvider::start(FakeProviderConfig::open_ai());
    let schema = "/response_format/json_schema";
    let in_schema = |name: &str| format!("{schema}/{name}");
    assert_refused(
        &fake,
        PATH,
        &good(),
        &[
            (&[("/frequency", json!(1))], 400, "\"param\":\"frequency\""),
            (&[("/model", Value::Null)], 400, "Missing required parameter: 'model'"),
            (&[("/messages", Value::Null)], 400, "Missing required parameter: 'messages'"),
            (&[("/messages", json!([]))], 400, "\"param\":\"messages\""),
            (&[("/model", json!("gpt-0"))], 404, "\"code\":\"model_not_found\""),
            (&[("/seed", json!("null"))], 400, "'seed': expected a value, but got null"),
            (&[("/temperature", json!("0.7"))], 400, "\"param\":\"temperature\""),
            (&[("/temperature", json!(2.1))], 400, "'temperature': expected a value <= 2"),
            (&[("/temperature", json!(-0.1))], 400, "'temperature': expected a value >= 0"),
            (&[("/top_p", json!(1.5))], 400, "\"param\":\"top_p\""),
            (&[("/max_completion_tokens", json!(1.5))], 400, "\"param\":\"max_completion_tokens\""),
            (&[("/max_completion_tokens", json!(0))], 400, "\"param\":\"max_completion_tokens\""),
            (&[("/max_completion_tokens", json!(32_769))], 400, "at most 32768 completion tokens"),
            (&[("/max_tokens", json!(10))], 400, "at the same time"),
            (&[("/n", json!(0))], 400, "\"param\":\"n\""),
            (&[("/stop", json!(["a", "b", "c", "d", "e"]))], 400, "\"param\":\"stop\""),
            (&[("/service_tier", json!("cheap"))], 400, "cheap"),
            (&[("/reasoning_effort", json!("low"))], 400, "\"param\":\"reasoning_effort\""),
            (&[("/messages/0/role", json!("model"))], 400, "messages[0].role"),
            (&[("/messages/0/text", json!("x"))], 400, "messages[0].text"),
            (&[("/messages/0/content", json!("null"))], 400, "messages[0].content"),
            (&[("/messages/0/content", json!([{ "type": "input_text" }]))], 400, "content[0].type"),
            (&[("/response_format/type", json!("yaml"))], 400, "response_format.type"),
            (&[("/response_format/schema", json!({}))], 400, "response_format.schema"),
            (&[(schema, Value::Null)], 400, "response_format.json_schema"),
            (&[(&in_schema("name"), Value::Null)], 400, "response_format.json_schema.name"),
            (&[(&in_schema("name"), json!("a b"))], 400, "response_format.json_schema.name"),
            (&[(&in_schema("name"), json!("x".repeat(65)))], 400, "response_format.json_schema.name"),
            (&[(&in_schema("schema"), Value::Null)], 400, "response_format.json_schema.schema"),
            (&[(&in_schema("other"), json!(1))], 400, "response_format.json_schema.other"),
            (&[("/tool_choice", json!("required"))], 400, "\"param\":\"tool_choice\""),
        ],
    )
    .await;
    assert_accepted(
        &fake,
        PATH,
        &good(),
        &[
            &[("/max_completion_tokens", Value::Null), ("/max_tokens", json!(100))],
            &[("/messages/0/role", json!("developer"))],
            &[("/response_format", json!({ "type": "json_object" }))],
            &[("/response_format", Value::Null)],
            &[("/n", json!(2))],
        ],
    )
    .await;
}

#[tokio::test]
async fn json_mode_wants_the_word_json() {
    let fake = FakeProvider::start(FakeProviderConfig::open_ai());
    let body = changed(
        good(),
        &[
            ("/response_format", json!({ "type": "json_object" })),
            ("/messages", json!([{ "role": "user", "content": "Hello" }])),
        ],
    );
    let answer = post(&fake, PATH, &body).await;
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("must contain the word 'json'"), "{}", answer.text());
}

#[tokio::test]
async fn strict_schemas_keep_the_rules() {
    let fake = FakeProvider::start(FakeProviderConfig::open_ai());
    let root = "/response_format/json_schema/schema";
    let at = |place: &str| format!("{root}{place}");
    let item = at("/properties/pairs/items");
    let in_item = |place: &str| format!("{item}{place}");
    let deep =
        (0..11).fold(json!({ "type": "string" }), |inner, _| json!({ "type": "array", "items": inner }));
    let many: Vec<String> = (0..1001).map(|n| n.to_string()).collect();
    let rows: Vec<(Vec<(String, Value)>, &str)> = vec![
        (vec![(at("/type"), json!("array"))], "type: \\\"object\\\""),
        (vec![(at("/anyOf"), json!([]))], "type: \\\"object\\\""),
        (vec![(at("/additionalProperties"), Value::Null)], "additionalProperties"),
        (vec![(at("/additionalProperties"), json!(true))], "additionalProperties"),
        (vec![(in_item("/additionalProperties"), Value::Null)], "properties, pairs, items"),
        (vec![(at("/required"), Value::Null)], "Missing 'pairs'"),
        (vec![(in_item("/required"), json!(["question", "response", "type"]))], "Missing 'evidence'"),
        (vec![(in_item("/properties/question/minLength"), json!(1))], "'minLength' is not permitted"),
        (vec![(in_item("/properties/question/maxLength"), json!(9))], "'maxLength' is not permitted"),
        (vec![(in_item("/properties/question/default"), json!("x"))], "'default' is not permitted"),
        (vec![(in_item("/properties/question/format"), json!("uri-template"))], "not a valid format"),
        (vec![(in_item("/properties/question/$ref"), json!("#"))], "$ref"),
        (vec![(in_item("/allOf"), json!([]))], "'allOf' is not permitted"),
        (vec![(in_item("/oneOf"), json!([]))], "'oneOf' is not permitted"),
        (vec![(in_item("/not"), json!({}))], "'not' is not permitted"),
        (vec![(in_item("/if"), json!({}))], "'if' is not permitted"),
        (vec![(in_item("/dependentRequired"), json!({}))], "'dependentRequired' is not permitted"),
        (vec![(at("/properties/pairs/uniqueItems"), json!(true))], "'uniqueItems' is not permitted"),
        (vec![(at("/properties/pairs/items"), Value::Null)], "missing items"),
        (vec![(in_item("/properties/question"), deep)], "levels of nesting"),
        (vec![(in_item("/properties/type/enum"), json!(many))], "enum values"),
    ];
    for (changes, part) in rows {
        let changes: Vec<(&str, Value)> =
            changes.iter().map(|(place, value)| (place.as_str(), value.clone())).collect();
        assert_refused(&fake, PATH, &good(), &[(&changes, 400, part)]).await;
        assert_refused(&fake, PATH, &good(), &[(&changes, 400, "\"param\":\"response_format\"")]).await;
        // A schema that is not strict is a wish only.
        let mut loose = changes.clone();
        loose.push(("/response_format/json_schema/strict", json!(false)));
        assert_accepted(&fake, PATH, &good(), &[&loose]).await;
    }
    let (least, most) = (at("/properties/pairs/minItems"), at("/properties/pairs/maxItems"));
    let pattern = in_item("/properties/question/pattern");
    assert_accepted(
        &fake,
        PATH,
        &good(),
        &[&[(&least, json!(1)), (&most, json!(3))], &[(&pattern, json!("^.+$"))]],
    )
    .await;
}

#[tokio::test]
async fn models_differ_in_what_they_take() {
    let fake = fake(vec![
        FakeLlm::gpt5_like("gpt-5"),
        FakeLlm::gpt51_like("gpt-5.1"),
        FakeLlm::gpt6_like("gpt-6"),
        FakeLlm::gpt35_like("gpt-3.5"),
        FakeLlm::new("odd").rejecting(&["seed"]),
    ]);
    let ask = |model: &str, more: &[(&str, Value)]| {
        let mut changes = vec![("/model", json!(model)), ("/temperature", Value::Null)];
        changes.extend(more.iter().cloned());
        changed(good(), &changes)
    };
    for (model, more, param) in [
        ("gpt-5", vec![("/temperature", json!(0.7))], "temperature"),
        ("gpt-5", vec![("/top_p", json!(0.7))], "top_p"),
        ("gpt-5", vec![("/presence_penalty", json!(1))], "presence_penalty"),
        ("gpt-5", vec![("/reasoning_effort", json!("none"))], "reasoning_effort"),
        ("gpt-5", vec![("/reasoning_effort", json!("xhigh"))], "reasoning_effort"),
        ("gpt-5", vec![("/max_tokens", json!(10)), ("/max_completion_tokens", Value::Null)], "max_tokens"),
        ("gpt-5.1", vec![("/temperature", json!(0.7)), ("/reasoning_effort", json!("low"))], "temperature"),
        ("gpt-5.1", vec![("/reasoning_effort", json!("minimal"))], "reasoning_effort"),
        ("gpt-6", vec![("/temperature", json!(1))], "temperature"),
        ("gpt-6", vec![("/reasoning_effort", json!("none"))], "reasoning_effort"),
        ("gpt-3.5", vec![], "response_format"),
        ("odd", vec![("/seed", json!(1))], "seed"),
    ] {
        let answer = post(&fake, PATH, &ask(model, &more)).await;
        assert_eq!(
            (answer.status, &answer.json()["error"]["param"]),
            (400, &json!(param)),
            "{model} {more:?}"
        );
    }
    for (model, more, reasoning) in [
        ("gpt-5", vec![("/temperature", json!(1))], 256),
        ("gpt-5", vec![("/reasoning_effort", json!("minimal"))], 0),
        ("gpt-5", vec![("/reasoning_effort", json!("low"))], 64),
        ("gpt-5.1", vec![("/temperature", json!(0.7))], 0),
        ("gpt-5.1", vec![("/temperature", json!(0.7)), ("/reasoning_effort", json!("none"))], 0),
        ("gpt-5.1", vec![("/reasoning_effort", json!("medium"))], 256),
        ("gpt-3.5", vec![("/response_format", json!({ "type": "json_object" }))], 0),
    ] {
        let answer = post(&fake, PATH, &ask(model, &more)).await;
        assert_eq!(answer.status, 200, "{model} {more:?}: {}", answer.text());
        let usage = &answer.json()["usage"];
        assert_eq!(usage["completion_tokens_details"]["reasoning_tokens"], reasoning, "{model} {more:?}");
        assert!(usage["completion_tokens"].as_u64().unwrap() > reasoning);
    }
}

#[tokio::test]
async fn ceilings_and_contexts_are_kept() {
    let fake = fake(vec![
        FakeLlm::gpt5_like("gpt-5"),
        FakeLlm { context: 500, max_output: 400, ..FakeLlm::gpt4_like("small") },
    ]);
    let ask = |model: &str, ceiling: u64, text: &str| {
        changed(
            good(),
            &[
                ("/model", json!(model)),
                ("/temperature", Value::Null),
                ("/max_completion_tokens", json!(ceiling)),
                ("/messages/1/content", json!(text)),
            ],
        )
    };
    let answer = post(&fake, PATH, &ask("gpt-5", 100, USER)).await.json();
    assert_eq!(answer["choices"][0]["finish_reason"], "length", "reasoning used it up");
    assert_eq!(answer["choices"][0]["message"]["content"], Value::Null);
    assert_eq!(answer["usage"]["completion_tokens"], 100);
    let answer = post(&fake, PATH, &ask("small", 10, USER)).await.json();
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert_eq!(answer["choices"][0]["message"]["content"].as_str().unwrap().len(), 40);
    let answer = post(&fake, PATH, &ask("small", 10, &"word ".repeat(1000))).await;
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (400, &json!("context_length_exceeded")));
}

#[tokio::test]
async fn keys_headers_and_places_are_looked_at() {
    let fake = FakeProvider::start(FakeProviderConfig::open_ai());
    let answer = post_without(&fake, PATH, "authorization", &good()).await;
    assert_eq!(answer.status, 401);
    let answer = post_with(&fake, PATH, ("authorization", "Bearer sk-wrong-key-1234"), &good()).await;
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (401, &json!("invalid_api_key")));
    assert!(!answer.text().contains("sk-wrong-key-1234") && answer.text().contains("1234"));
    let answer = post_without(&fake, PATH, "content-type", &good()).await;
    assert_eq!(answer.status, 400);
    assert_eq!(post(&fake, "/v1/completions", &good()).await.status, 404);
    assert_eq!(get(&fake, PATH).await.status, 404);
    assert_eq!(fake.stats().unknown, ["POST /v1/completions", "GET /v1/chat/completions"]);
    let models = get(&fake, "/v1/models").await.json();
    assert_eq!(models["data"][0]["id"], "gpt-4.1-mini");
    assert_eq!(get(&fake, "/v1/models/gpt-5-mini").await.json()["id"], "gpt-5-mini");
    assert_eq!(get(&fake, "/v1/models/gpt-0").await.status, 404);
    let stats = fake.stats();
    assert_eq!((stats.key_checks, stats.calls, stats.finished), (3, 3, 3));
}

#[tokio::test]
async fn what_is_no_json_is_refused() {
    let fake = FakeProvider::start(FakeProviderConfig::open_ai());
    let sent = crate::http::send(&fake, "POST", PATH, &crate::http::good_headers(), b"{\"model\":").await;
    assert_eq!(sent.answer().await.unwrap().status, 400);
    assert_eq!(fake.stats().last_body(), Value::Null);
}

#[tokio::test]
async fn endings_have_openais_form() {
    let fake = FakeProvider::start(FakeProviderConfig::open_ai());
    for (behaviour, finish, content) in [
        (Behaviour::CutAfter(3), json!("length"), json!("{\"pairs\":[{")),
        (Behaviour::SpentOnReasoning, json!("length"), Value::Null),
        (Behaviour::Refuse("No.".to_owned()), json!("stop"), Value::Null),
        (Behaviour::Filtered, json!("content_filter"), json!("{\"pairs\":[{")),
        (Behaviour::Recitation, json!("content_filter"), json!("{\"pairs\":[{")),
        (Behaviour::Text(String::new()), json!("stop"), json!("")),
    ] {
        fake.fault_next(behaviour.clone());
        let answer = post(&fake, PATH, &good()).await;
        assert_eq!(answer.status, 200);
        let choice = &answer.json()["choices"][0];
        assert_eq!(choice["finish_reason"], finish, "{behaviour:?}");
        let said = &choice["message"]["content"];
        let is_expected = match content.as_str() {
            Some(start) => said.as_str().is_some_and(|said| said.starts_with(&start[..start.len().min(8)])),
            None => said.is_null(),
        };
        assert!(is_expected, "{behaviour:?}: {choice}");
        let refusal = &choice["message"]["refusal"];
        assert_eq!(refusal == "No.", matches!(behaviour, Behaviour::Refuse(_)), "{choice}");
    }
    fake.fault_next(Behaviour::Empty);
    assert_eq!(post(&fake, PATH, &good()).await.json()["choices"], json!([]));
    fake.fault_next(Behaviour::FirstOtherBlock);
    let message = post(&fake, PATH, &good()).await.json()["choices"][0]["message"].clone();
    assert!(message["reasoning_content"].is_string());
    assert_pairs(message["content"].as_str().unwrap(), 2);
}

#[tokio::test]
async fn refusals_of_service_have_openais_form() {
    let fake = FakeProvider::start(FakeProviderConfig::open_ai());
    for (behaviour, status, code) in [
        (Behaviour::RateLimited(RetryHint::None), 429, json!("rate_limit_exceeded")),
        (Behaviour::QuotaExhausted, 429, json!("insufficient_quota")),
        (Behaviour::NoCredit, 429, json!("insufficient_quota")),
        (Behaviour::Overloaded, 503, json!("server_is_overloaded")),
        (Behaviour::ServerError(500), 500, Value::Null),
        (Behaviour::KeyRefused, 401, json!("invalid_api_key")),
        (Behaviour::ErrorIn200, 200, Value::Null),
    ] {
        fake.fault_next(behaviour.clone());
        let answer = post(&fake, PATH, &good()).await;
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (status, &code), "{behaviour:?}");
        let echoes = answer.text().contains(qa_shared::testing::fake_provider::FAKE_KEY);
        assert_eq!(echoes, behaviour == Behaviour::KeyRefused);
    }
    for (hint, header, value) in [
        (RetryHint::Seconds(7), "retry-after", "7"),
        (RetryHint::Milliseconds(1500), "retry-after-ms", "1500"),
        (RetryHint::ResetText("6m0s".to_owned()), "x-ratelimit-reset-requests", "6m0s"),
    ] {
        fake.fault_next(Behaviour::RateLimited(hint));
        assert_eq!(post(&fake, PATH, &good()).await.header(header), value);
    }
    fake.fault_next(Behaviour::RateLimited(RetryHint::Date(60)));
    assert!(post(&fake, PATH, &good()).await.header("retry-after").ends_with(" GMT"));
}

#[tokio::test]
async fn a_repeated_beginning_is_cached() {
    let fake = FakeProvider::start(FakeProviderConfig::open_ai());
    let long = format!("{}{USER}", "You are careful. ".repeat(300));
    let body = changed(good(), &[("/messages/1/content", json!(long))]);
    let cached = |answer: &crate::http::Answer| {
        answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap()
    };
    assert_eq!(cached(&post(&fake, PATH, &body).await), 0);
    let again = post(&fake, PATH, &body).await;
    let tokens = cached(&again);
    assert!(tokens >= 1024 && tokens.is_multiple_of(128), "{tokens}");
    assert!(tokens <= again.json()["usage"]["prompt_tokens"].as_u64().unwrap());
    assert_eq!(cached(&post(&fake, PATH, &good()).await), 0, "too short");
}

#[tokio::test]
async fn a_forced_tool_is_called() {
    let fake = FakeProvider::start(FakeProviderConfig::open_ai());
    let function = json!({ "name": "give", "strict": true, "parameters": portable_schema() });
    let body = changed(
        good(),
        &[
            ("/response_format", Value::Null),
            ("/tools", json!([{ "type": "function", "function": function }])),
            ("/tool_choice", json!({ "type": "function", "function": { "name": "give" } })),
        ],
    );
    let answer = post(&fake, PATH, &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let call = &answer.json()["choices"][0]["message"]["tool_calls"][0]["function"];
    assert_pairs(call["arguments"].as_str().unwrap(), 2);
}
