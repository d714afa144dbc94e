//! Anthropic's messages.

use qa_shared::testing::fake_provider::{
    Behaviour, FAKE_KEY, FakeLlm, FakeProvider, FakeProviderConfig, RetryHint,
};
use serde_json::{Value, json};

use crate::http::{
    USER, assert_accepted, assert_pairs, assert_refused, changed, get, portable_schema, post, post_with,
    post_without,
};

const PATH: &str = "/v1/messages";

fn good() -> Value {
    json!({ "model": "claude-haiku-4-5", "max_tokens": 4000,
        "system": [{ "type": "text", "text": "You reply with JSON.", "cache_control": { "type": "ephemeral" } }],
        "messages": [{ "role": "user", "content": USER }],
        "output_config": { "format": { "type": "json_schema", "schema": portable_schema() } },
    })
}

fn fake(models: Vec<FakeLlm>) -> FakeProvider {
    FakeProvider::start(FakeProviderConfig { models, ..FakeProviderConfig::claude() })
}

#[tokio::test]
async fn a_good_call_is_answered() {
    let fake = FakeProvider::start(FakeProviderConfig::claude());
    let answer = post(&fake, PATH, &good()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let body = answer.json();
    assert_eq!(body["content"].as_array().unwrap().len(), 1);
    assert_pairs(body["content"][0]["text"].as_str().unwrap(), 2);
    assert_eq!((&body["type"], &body["stop_reason"]), (&json!("message"), &json!("end_turn")));
    assert!(answer.header("request-id").starts_with("req_"));
    let thinks = post(&fake, PATH, &changed(good(), &[("/model", json!("claude-sonnet-5"))])).await.json();
    assert_eq!(thinks["content"][0]["type"], "thinking", "by default");
    assert_pairs(thinks["content"][1]["text"].as_str().unwrap(), 2);
    assert!(thinks["usage"]["output_tokens"].as_u64().unwrap() > 400);
}

#[tokio::test]
async fn wrong_members_are_refused() {
    let fake = FakeProvider::start(FakeProviderConfig::claude());
    let block = json!({ "type": "text", "text": "x", "cache_control": { "type": "ephemeral" } });
    let (short, long) =
        (json!({ "type": "ephemeral", "ttl": "5m" }), json!({ "type": "ephemeral", "ttl": "1h" }));
    let with = |cache: &Value| json!({ "type": "text", "text": "x", "cache_control": cache });
    assert_refused(
        &fake,
        PATH,
        &good(),
        &[
            (&[("/model", json!("claude-0"))], 404, "not_found_error"),
            (&[("/max_tokens", Value::Null)], 400, "max_tokens: Field required"),
            (&[("/max_tokens", json!(64_001))], 400, "max_tokens: 64001 > 64000"),
            (&[("/max_tokens", json!(0))], 400, "max_tokens: Input should be greater"),
            (&[("/max_tokens", json!("10"))], 400, "max_tokens: Input should be a valid integer"),
            (&[("/seed", json!(1))], 400, "seed: Extra inputs are not permitted"),
            (&[("/response_format", json!({}))], 400, "response_format: Extra inputs"),
            (&[("/output_format", json!({}))], 400, "output_format: Extra inputs"),
            (&[("/temperature", json!("null"))], 400, "temperature: Input should not be null"),
            (&[("/temperature", json!(1.1))], 400, "temperature: Input should be less than or equal to 1"),
            (&[("/temperature", json!(0.5)), ("/top_p", json!(0.5))], 400, "cannot both be specified"),
            (&[("/messages", json!([]))], 400, "at least one message"),
            (&[("/messages/0/role", json!("system"))], 400, "top-level `system` parameter"),
            (&[("/messages/0/role", json!("assistant"))], 400, "first message must use"),
            (&[("/messages/0/name", json!("x"))], 400, "messages.0.name: Extra inputs"),
            (&[("/messages/0/content", json!(""))], 400, "non-empty"),
            (&[("/messages/0/content", json!([{ "type": "text", "text": "" }]))], 400, "non-empty"),
            (
                &[("/messages/0/content", json!([{ "type": "input_text", "text": "x" }]))],
                400,
                "content.0.type",
            ),
            (&[("/system/0/cache_control", json!({ "type": "forever" }))], 400, "cache_control.type"),
            (&[("/system/0/cache_control", json!({ "type": "ephemeral", "ttl": "2h" }))], 400, "ttl"),
            (&[("/system", json!([with(&short), with(&long)]))], 400, "must not come after"),
            (&[("/system", json!(vec![block; 5]))], 400, "A maximum of 4 blocks with cache_control"),
            (&[("/output_config/effort", json!("low"))], 400, "does not support the effort parameter"),
            (&[("/output_config/other", json!(1))], 400, "output_config.other"),
            (&[("/output_config/format/type", json!("json_object"))], 400, "output_config.format.type"),
            (&[("/output_config/format/schema", Value::Null)], 400, "output_config.format.schema"),
            (&[("/output_config/format/name", json!("x"))], 400, "output_config.format.name: Extra"),
            (&[("/thinking", json!({ "type": "adaptive" }))], 400, "adaptive thinking is not supported"),
            (&[("/thinking", json!({ "type": "enabled" }))], 400, "budget_tokens: Field required"),
            (&[("/thinking", json!({ "type": "enabled", "budget_tokens": 1023 }))], 400, "equal to 1024"),
            (
                &[("/thinking", json!({ "type": "enabled", "budget_tokens": 4000 }))],
                400,
                "`max_tokens` must be greater",
            ),
            (&[("/thinking", json!({ "type": "disabled", "budget_tokens": 1024 }))], 400, "Extra inputs"),
            (
                &[
                    ("/thinking", json!({ "type": "enabled", "budget_tokens": 1024 })),
                    ("/temperature", json!(0.5)),
                ],
                400,
                "`temperature` may only be set to 1",
            ),
        ],
    )
    .await;
    assert_accepted(
        &fake,
        PATH,
        &good(),
        &[
            &[("/temperature", json!(0.5))],
            &[("/system", json!("You reply with JSON."))],
            &[("/system", json!([with(&long), with(&short)]))],
            &[("/thinking", json!({ "type": "enabled", "budget_tokens": 1024 })), ("/temperature", json!(1))],
            &[("/thinking", json!({ "type": "disabled" }))],
            &[("/output_config", Value::Null)],
        ],
    )
    .await;
}

#[tokio::test]
async fn schemas_keep_the_rules() {
    let fake = FakeProvider::start(FakeProviderConfig::claude());
    let root = "/output_config/format/schema";
    let at = |place: &str| format!("{root}{place}");
    let item = at("/properties/pairs/items");
    let in_item = |place: &str| format!("{item}{place}");
    let recursive =
        json!({ "a": { "type": "array", "items": { "$ref": "#/$defs/b" } }, "b": { "$ref": "#/$defs/a" } });
    for (changes, part) in [
        (vec![(at("/additionalProperties"), Value::Null)], "additionalProperties"),
        (vec![(in_item("/additionalProperties"), json!(true))], "additionalProperties"),
        (vec![(at("/properties/pairs/maxItems"), json!(3))], "'maxItems' is not supported"),
        (vec![(at("/properties/pairs/minItems"), json!(2))], "minItems"),
        (vec![(in_item("/properties/question/minLength"), json!(1))], "minLength"),
        (vec![(in_item("/properties/question/maxLength"), json!(1))], "maxLength"),
        (vec![(in_item("/properties/question/minimum"), json!(1))], "minimum"),
        (vec![(in_item("/properties/question/maximum"), json!(1))], "maximum"),
        (vec![(in_item("/properties/question/format"), json!("regex"))], "format 'regex'"),
        (vec![(in_item("/properties/question"), json!({ "$ref": "#" }))], "Recursive"),
        (vec![(in_item("/properties/question"), json!({ "$ref": "#/$defs/none" }))], "points nowhere"),
        (
            vec![
                (at("/$defs"), recursive),
                (in_item("/properties/question"), json!({ "$ref": "#/$defs/a" })),
            ],
            "Recursive",
        ),
    ] {
        let changes: Vec<(&str, Value)> =
            changes.iter().map(|(place, value)| (place.as_str(), value.clone())).collect();
        assert_refused(&fake, PATH, &good(), &[(&changes, 400, part)]).await;
        assert_refused(&fake, PATH, &good(), &[(&changes, 400, "output_config.format.schema")]).await;
    }
    let (least, defs) = (at("/properties/pairs/minItems"), at("/$defs"));
    let (required, question) = (in_item("/required"), in_item("/properties/question"));
    assert_accepted(
        &fake,
        PATH,
        &good(),
        &[
            &[(&least, json!(1))],
            &[(&required, json!(["question"]))],
            &[
                (&defs, json!({ "text": { "type": "string" } })),
                (&question, json!({ "$ref": "#/$defs/text" })),
            ],
        ],
    )
    .await;
}

#[tokio::test]
async fn models_differ_in_what_they_take() {
    let fake = fake(vec![
        FakeLlm::claude_haiku("haiku"),
        FakeLlm::claude_46("4.6"),
        FakeLlm::claude_adaptive("4.7"),
        FakeLlm::claude_sonnet_5("s5"),
        FakeLlm::claude_opus_5("o5"),
        FakeLlm::claude_opus_55("o5.5"),
        FakeLlm::claude_old("old"),
        FakeLlm::claude_haiku("odd").rejecting(&["thinking", "output_config.format"]),
    ]);
    let thinking = |kind: &str| ("/thinking", json!({ "type": kind }));
    let budget = ("/thinking", json!({ "type": "enabled", "budget_tokens": 2000 }));
    let effort = |effort: &str| ("/output_config/effort", json!(effort));
    let prefill =
        ("/messages", json!([{ "role": "user", "content": USER }, { "role": "assistant", "content": "{" }]));
    let ask = async |model: &str, changes: &[(&str, Value)]| {
        let mut all = vec![("/model", json!(model))];
        all.extend(changes.iter().cloned());
        post(&fake, PATH, &changed(good(), &all)).await
    };
    for (model, changes, part) in [
        ("haiku", vec![prefill.clone()], "prefilling is not supported with an output format"),
        ("4.6", vec![prefill.clone()], "does not support assistant message prefill"),
        ("4.6", vec![effort("xhigh")], "output_config.effort"),
        ("4.7", vec![("/temperature", json!(1))], "`temperature` is deprecated"),
        ("4.7", vec![("/top_p", json!(0.5))], "`top_p` is deprecated"),
        ("4.7", vec![("/top_k", json!(5))], "`top_k` is deprecated"),
        ("4.7", vec![budget.clone()], "thinking.type.enabled"),
        ("s5", vec![budget.clone()], "thinking.type.enabled"),
        ("o5", vec![thinking("disabled"), effort("max")], "thinking.type.disabled"),
        ("o5.5", vec![thinking("disabled")], "thinking.type.disabled"),
        ("old", vec![], "does not support output format"),
        ("odd", vec![], "output_config.format: this parameter is not supported"),
        ("odd", vec![("/output_config", Value::Null), thinking("disabled")], "thinking: this parameter"),
    ] {
        let answer = ask(model, &changes).await;
        assert_eq!(answer.status, 400, "{model} {changes:?}: {}", answer.text());
        assert!(answer.text().contains(part), "{model} {changes:?}: {}", answer.text());
    }
    for (model, changes, thinks) in [
        ("haiku", vec![prefill, ("/output_config", Value::Null)], false),
        ("haiku", vec![budget.clone()], true),
        ("4.6", vec![budget], true),
        ("4.6", vec![thinking("adaptive"), effort("low")], true),
        ("4.7", vec![thinking("disabled"), effort("max")], false),
        ("4.7", vec![thinking("adaptive")], true),
        ("4.7", vec![], false),
        ("s5", vec![thinking("disabled"), effort("max")], false),
        ("o5", vec![thinking("disabled"), effort("low")], false),
        ("o5.5", vec![effort("low")], true),
    ] {
        let answer = ask(model, &changes).await;
        assert_eq!(answer.status, 200, "{model} {changes:?}: {}", answer.text());
        assert_eq!(answer.json()["content"][0]["type"] == "thinking", thinks, "{model} {changes:?}");
    }
}

#[tokio::test]
async fn a_forced_tool_answers_with_its_input() {
    let fake = fake(vec![
        FakeLlm::claude_old("old"),
        FakeLlm::claude_sonnet_5("s5"),
        FakeLlm::claude_opus_55("o5.5"),
    ]);
    let tool = json!({ "name": "give", "description": "Gives pairs.", "input_schema": portable_schema() });
    let body = |model: &str, more: &[(&str, Value)]| {
        let mut changes = vec![
            ("/model", json!(model)),
            ("/output_config", Value::Null),
            ("/tools", json!([tool])),
            ("/tool_choice", json!({ "type": "tool", "name": "give" })),
        ];
        changes.extend(more.iter().cloned());
        changed(good(), &changes)
    };
    let answer = post(&fake, PATH, &body("old", &[])).await.json();
    assert_eq!(
        (&answer["stop_reason"], &answer["content"][0]["type"]),
        (&json!("tool_use"), &json!("tool_use"))
    );
    assert_pairs(&answer["content"][0]["input"].to_string(), 2);
    fake.fault_next(Behaviour::CutAfter(5));
    let cut = post(&fake, PATH, &body("old", &[])).await.json();
    assert_eq!((&cut["stop_reason"], &cut["content"][0]["input"]), (&json!("max_tokens"), &json!({})));
    let off = ("/thinking", json!({ "type": "disabled" }));
    let on = ("/thinking", json!({ "type": "enabled", "budget_tokens": 1024 }));
    assert_eq!(post(&fake, PATH, &body("s5", std::slice::from_ref(&off))).await.status, 200);
    for (model, more, part) in [
        ("s5", vec![], "Thinking may not be enabled when tool_choice forces tool use."),
        ("old", vec![on], "Thinking may not be enabled when tool_choice forces tool use."),
        ("o5.5", vec![], "tool_choice"),
        (
            "old",
            vec![("/tool_choice", json!({ "type": "tool", "name": "take" }))],
            "not found in provided tools",
        ),
        ("old", vec![("/tool_choice", json!({ "type": "required" }))], "tool_choice.type"),
        ("old", vec![("/tools/0/input_schema/type", json!("array"))], "input_schema.type"),
        ("old", vec![("/tools/0/parameters", json!({}))], "tools.0.parameters: Extra"),
    ] {
        let answer = post(&fake, PATH, &body(model, &more)).await;
        assert_eq!(answer.status, 400, "{model} {more:?}");
        assert!(answer.text().contains(part), "{model} {more:?}: {}", answer.text());
    }
}

#[tokio::test]
async fn keys_versions_and_places_are_looked_at() {
    let fake = FakeProvider::start(FakeProviderConfig::claude());
    for (answer, status, kind) in [
        (post_without(&fake, PATH, "x-api-key", &good()).await, 401, "authentication_error"),
        (post_with(&fake, PATH, ("x-api-key", "wrong"), &good()).await, 401, "authentication_error"),
        (post_without(&fake, PATH, "anthropic-version", &good()).await, 400, "invalid_request_error"),
        (
            post_with(&fake, PATH, ("anthropic-version", "2020-01-01"), &good()).await,
            400,
            "invalid_request_error",
        ),
        (post_without(&fake, PATH, "content-type", &good()).await, 400, "invalid_request_error"),
        (post(&fake, "/v1/complete", &good()).await, 404, "not_found_error"),
        (get(&fake, "/v1/models/claude-0").await, 404, "not_found_error"),
    ] {
        let error = answer.json();
        assert_eq!((answer.status, &error["error"]["type"]), (status, &json!(kind)), "{error}");
        assert_eq!(
            (&error["type"], error["request_id"].as_str().unwrap()),
            (&json!("error"), answer.header("request-id"))
        );
    }
    let model = get(&fake, "/v1/models/claude-haiku-4-5").await.json();
    assert_eq!((&model["max_input_tokens"], &model["max_tokens"]), (&json!(200_000), &json!(64_000)));
    assert_eq!(model["capabilities"]["structured_outputs"]["supported"], true);
    assert_eq!(model["capabilities"]["effort"]["supported"], false);
    assert_eq!(get(&fake, "/v1/models").await.json()["data"][1]["id"], "claude-sonnet-5");
}

#[tokio::test]
async fn endings_have_anthropics_form() {
    let fake = FakeProvider::start(FakeProviderConfig::claude());
    let ask = async |behaviour: Behaviour| {
        fake.fault_next(behaviour);
        post(&fake, PATH, &good()).await.json()
    };
    let spent = ask(Behaviour::SpentOnReasoning).await;
    assert_eq!(
        (&spent["stop_reason"], &spent["usage"]["output_tokens"]),
        (&json!("max_tokens"), &json!(4000))
    );
    let kinds: Vec<_> =
        spent["content"].as_array().unwrap().iter().map(|block| block["type"].clone()).collect();
    assert_eq!(kinds, ["thinking"]);
    let cut = ask(Behaviour::CutAfter(3)).await;
    assert_eq!(
        (&cut["stop_reason"], cut["content"][0]["text"].as_str().unwrap().len()),
        (&json!("max_tokens"), 12)
    );
    let refused = ask(Behaviour::Refuse("No.".to_owned())).await;
    assert_eq!((&refused["stop_reason"], &refused["content"]), (&json!("refusal"), &json!([])));
    assert_eq!(refused["stop_details"]["explanation"], "No.");
    let filtered = ask(Behaviour::Filtered).await;
    assert!(filtered["stop_reason"] == "refusal" && filtered.get("stop_details").is_none());
    let empty = ask(Behaviour::Empty).await;
    assert_eq!((&empty["stop_reason"], &empty["content"]), (&json!("end_turn"), &json!([])));
    let content = ask(Behaviour::FirstOtherBlock).await["content"].clone();
    assert_eq!(content[0]["type"], "thinking");
    assert_pairs(content[1]["text"].as_str().unwrap(), 2);
}

#[tokio::test]
async fn refusals_of_service_have_anthropics_form() {
    let fake = FakeProvider::start(FakeProviderConfig::claude());
    for (behaviour, status, kind) in [
        (Behaviour::RateLimited(RetryHint::Seconds(3)), 429, "rate_limit_error"),
        (Behaviour::QuotaExhausted, 429, "rate_limit_error"),
        (Behaviour::NoCredit, 402, "billing_error"),
        (Behaviour::Overloaded, 529, "overloaded_error"),
        (Behaviour::ServerError(500), 500, "api_error"),
        (Behaviour::ServerError(504), 504, "timeout_error"),
        (Behaviour::KeyRefused, 401, "authentication_error"),
        (Behaviour::ErrorIn200, 200, "api_error"),
    ] {
        fake.fault_next(behaviour.clone());
        let answer = post(&fake, PATH, &good()).await;
        assert_eq!((answer.status, &answer.json()["error"]["type"]), (status, &json!(kind)), "{behaviour:?}");
        assert_eq!(answer.header("retry-after") == "3", matches!(behaviour, Behaviour::RateLimited(_)));
        assert_eq!(answer.text().contains(FAKE_KEY), behaviour == Behaviour::KeyRefused);
        let is_permanent = answer.text().contains("enforced_spend_limit_reached");
        assert_eq!(is_permanent, behaviour == Behaviour::QuotaExhausted);
    }
}

#[tokio::test]
async fn marked_beginnings_are_written_once_and_read_later() {
    let models = vec![FakeLlm { cache_from: Some(1024), ..FakeLlm::claude_haiku("claude-haiku-4-5") }];
    let fake = fake(models);
    let usage = async |system: &str, user: &str| {
        let changes = [("/system/0/text", json!(system)), ("/messages/0/content", json!(user))];
        let usage = post(&fake, PATH, &changed(good(), &changes)).await.json()["usage"].clone();
        let count = |name: &str| usage[name].as_u64().unwrap();
        (count("cache_creation_input_tokens"), count("cache_read_input_tokens"), count("input_tokens"))
    };
    let long = "You are careful. ".repeat(300);
    let (written, read, rest) = usage(&long, USER).await;
    assert!(written >= 1024 && read == 0 && rest > 0 && rest < 100, "{written} {read} {rest}");
    assert_eq!(usage(&long, "Another question.").await.1, written);
    assert_eq!(usage(&long, USER).await, (0, written, rest));
    let (written, read, _) = usage(&format!("{long}!"), USER).await;
    assert!(written > 0 && read == 0, "another text is another beginning");
    let short = usage("You are careful.", USER).await;
    assert_eq!((short.0, short.1), (0, 0), "too short, twice");
    assert_eq!(usage("You are careful.", USER).await, short);
}

#[tokio::test]
async fn long_prompts_are_refused_and_full_contexts_end_answers() {
    let fake = fake(vec![FakeLlm { context: 100, ..FakeLlm::claude_haiku("claude-haiku-4-5") }]);
    let long = changed(good(), &[("/messages/0/content", json!("word ".repeat(200)))]);
    let answer = post(&fake, PATH, &long).await;
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("prompt is too long: 2"), "{}", answer.text());
    let full = post(&fake, PATH, &good()).await.json();
    assert_eq!(full["stop_reason"], "model_context_window_exceeded");
}
