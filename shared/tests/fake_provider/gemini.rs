//! Google's generateContent.

use qa_shared::testing::fake_provider::{
    Behaviour, FAKE_KEY, FakeLlm, FakeProvider, FakeProviderConfig, RetryHint,
};
use serde_json::{Value, json};

use crate::http::{
    USER, assert_accepted, assert_pairs, assert_refused, changed, get, portable_schema, post, post_with,
    post_without,
};

const PATH: &str = "/v1beta/models/gemini-2.5-flash:generateContent";

fn path(model: &str) -> String {
    format!("/v1beta/models/{model}:generateContent")
}

fn good() -> Value {
    json!({
        "systemInstruction": { "parts": [{ "text": "You reply with JSON." }] },
        "contents": [{ "role": "user", "parts": [{ "text": USER }] }],
        "generationConfig": { "maxOutputTokens": 4096, "responseMimeType": "application/json",
            "responseJsonSchema": portable_schema() },
        "safetySettings": [{ "category": "HARM_CATEGORY_DANGEROUS_CONTENT", "threshold": "BLOCK_NONE" }],
    })
}

fn text_of(answer: &Value) -> &str {
    answer["candidates"][0]["content"]["parts"][0]["text"].as_str().unwrap()
}

#[tokio::test]
async fn a_good_call_is_answered_and_counted() {
    let fake = FakeProvider::start(FakeProviderConfig::gemini());
    let answer = post(&fake, PATH, &good()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let body = answer.json();
    assert_pairs(text_of(&body), 2);
    assert_eq!(body["candidates"][0]["finishReason"], "STOP");
    let count = |name: &str| body["usageMetadata"][name].as_u64().unwrap_or(0);
    assert_eq!(count("thoughtsTokenCount"), 300);
    let sum =
        ["promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount"].map(count).iter().sum::<u64>();
    assert_eq!(count("totalTokenCount"), sum);
}

#[tokio::test]
async fn wrong_members_are_refused() {
    let fake = FakeProvider::start(FakeProviderConfig::gemini());
    let schema = portable_schema();
    assert_refused(
        &fake,
        PATH,
        &good(),
        &[
            (&[("/model", json!("x"))], 400, "Unknown name \\\"model\\\": Cannot find field"),
            (&[("/system_instruction", json!({}))], 400, "Unknown name"),
            (&[("/contents", Value::Null)], 400, "contents is not specified"),
            (&[("/contents", json!([]))], 400, "contents is not specified"),
            (&[("/contents/0/role", json!("assistant"))], 400, "Please use a valid role: user, model."),
            (&[("/contents/0/role", json!("system"))], 400, "Please use a valid role: user, model."),
            (&[("/contents/0/content", json!("x"))], 400, "at 'contents[0]'"),
            (&[("/contents/0/parts", json!([]))], 400, "must not be empty"),
            (&[("/contents/0/parts/0/type", json!("text"))], 400, "at 'contents[0].parts[0]'"),
            (&[("/systemInstruction", json!("text"))], 400, "system_instruction"),
            (&[("/generationConfig/maxTokens", json!(1))], 400, "at 'generation_config': Cannot find field"),
            (&[("/generationConfig/temperature", json!("null"))], 400, "generation_config.temperature"),
            (&[("/generationConfig/temperature", json!("1"))], 400, "generation_config.temperature"),
            (&[("/generationConfig/temperature", json!(2.5))], 400, "generation_config.temperature"),
            (&[("/generationConfig/maxOutputTokens", json!(0))], 400, "max_output_tokens"),
            (&[("/generationConfig/maxOutputTokens", json!(65_537))], 400, "maxOutputTokens value of 65537"),
            (
                &[("/generationConfig/stopSequences", json!(["1", "2", "3", "4", "5", "6"]))],
                400,
                "stop sequences",
            ),
            (&[("/generationConfig/responseMimeType", json!("text/json"))], 400, "response_mime_type"),
            (&[("/generationConfig/responseMimeType", Value::Null)], 400, "response_mime_type"),
            (&[("/generationConfig/responseSchema", json!({ "type": "OBJECT" }))], 400, "Only one of"),
            (
                &[
                    ("/generationConfig/responseSchema", schema),
                    ("/generationConfig/responseJsonSchema", Value::Null),
                ],
                400,
                "\\\"additionalProperties\\\"",
            ),
            (&[("/safetySettings/0/threshold", json!("NONE"))], 400, "safety_settings[0].threshold"),
            (&[("/safetySettings/0/category", json!("ALL"))], 400, "safety_settings[0].category"),
            (&[("/generationConfig/thinkingConfig", json!({ "budget": 1 }))], 400, "thinking_config"),
            (
                &[("/generationConfig/thinkingConfig", json!({ "thinkingLevel": "low" }))],
                400,
                "Thinking level",
            ),
            (
                &[("/generationConfig/thinkingConfig", json!({ "thinkingBudget": 30_000 }))],
                400,
                "between 1 and",
            ),
            (
                &[(
                    "/generationConfig/thinkingConfig",
                    json!({ "thinkingBudget": 1, "thinkingLevel": "low" }),
                )],
                400,
                "only one of thinking budget and thinking level",
            ),
        ],
    )
    .await;
    let open_api = json!({ "type": "OBJECT", "required": ["pairs"], "properties": {
        "pairs": { "type": "ARRAY", "maxItems": "2", "items": { "type": "OBJECT", "properties": {
            "question": { "type": "STRING" }, "response": { "type": "STRING", "nullable": true } },
            "propertyOrdering": ["question", "response"] } } } });
    assert_accepted(
        &fake,
        PATH,
        &good(),
        &[
            &[
                ("/generationConfig/responseSchema", open_api),
                ("/generationConfig/responseJsonSchema", Value::Null),
            ],
            &[("/generationConfig/responseJsonSchema/unheardOf", json!(1))],
            &[("/generationConfig", Value::Null)],
            &[("/generationConfig/thinkingConfig", json!({ "thinkingBudget": 0 }))],
            &[("/generationConfig/thinkingConfig", json!({ "thinkingBudget": -1 }))],
        ],
    )
    .await;
}

#[tokio::test]
async fn models_differ_in_what_they_take() {
    let models = vec![
        FakeLlm::gemini_25_pro("pro"),
        FakeLlm::gemini_3("flash-3"),
        FakeLlm::gemini_3_pro("pro-3"),
        FakeLlm::gemma("gemma"),
        FakeLlm::new("plain").rejecting(&["temperature", "thinkingBudget"]),
    ];
    let fake = FakeProvider::start(FakeProviderConfig { models, ..FakeProviderConfig::gemini() });
    let thinking = |config: Value| ("/generationConfig/thinkingConfig", config);
    for (model, change, part) in [
        ("pro", thinking(json!({ "thinkingBudget": 0 })), "Budget 0 is invalid"),
        ("pro", thinking(json!({ "thinkingBudget": 127 })), "between 128 and 32768"),
        ("pro-3", thinking(json!({ "thinkingLevel": "minimal" })), "Thinking level MINIMAL"),
        ("gemma", ("/generationConfig", Value::Null), "Developer instruction is not enabled"),
        ("gemma", ("/systemInstruction", Value::Null), "JSON mode is not enabled for models/gemma"),
        ("plain", thinking(json!({ "thinkingBudget": 0 })), "hinking"),
        ("plain", ("/generationConfig/temperature", json!(1)), "temperature is not supported"),
        ("unknown", ("/generationConfig", Value::Null), "models/unknown is not found"),
    ] {
        let answer = post(&fake, &path(model), &changed(good(), &[change])).await;
        let status = if model == "unknown" { 404 } else { 400 };
        assert_eq!(answer.status, status, "{model}: {}", answer.text());
        assert!(answer.text().contains(part), "{model}: {}", answer.text());
    }
    for (model, config, thoughts) in [
        ("pro", json!({ "thinkingBudget": 128 }), 128),
        ("flash-3", json!({ "thinkingLevel": "minimal" }), 0),
        ("flash-3", json!({ "thinkingLevel": "LOW" }), 75),
        ("pro-3", json!({ "thinkingLevel": "high", "includeThoughts": true }), 600),
    ] {
        let shows = config["includeThoughts"] == true;
        let answer = post(&fake, &path(model), &changed(good(), &[thinking(config)])).await.json();
        assert_eq!(answer["usageMetadata"]["thoughtsTokenCount"].as_u64().unwrap_or(0), thoughts, "{model}");
        assert_eq!(answer["candidates"][0]["content"]["parts"][0]["thought"] == true, shows);
    }
}

#[tokio::test]
async fn keys_and_places_are_looked_at() {
    let fake = FakeProvider::start(FakeProviderConfig::gemini());
    let answer = post_without(&fake, PATH, "x-goog-api-key", &good()).await;
    assert_eq!((answer.status, &answer.json()["error"]["status"]), (403, &json!("PERMISSION_DENIED")));
    let answer = post_with(&fake, PATH, ("x-goog-api-key", "wrong"), &good()).await;
    assert_eq!((answer.status, &answer.json()["error"]["status"]), (400, &json!("INVALID_ARGUMENT")));
    assert!(answer.text().contains("API key not valid"));
    assert_eq!(post_without(&fake, PATH, "content-type", &good()).await.status, 400);
    let model = get(&fake, "/v1beta/models/gemini-2.5-pro").await.json();
    assert_eq!(
        (&model["name"], &model["outputTokenLimit"]),
        (&json!("models/gemini-2.5-pro"), &json!(65_536))
    );
    assert_eq!(get(&fake, "/v1beta/models").await.json()["models"][0]["name"], "models/gemini-2.5-flash");
    assert_eq!(get(&fake, "/v1beta/models/none").await.json()["error"]["status"], "NOT_FOUND");
    for place in ["/v1/models/gemini-2.5-flash:generateContent", "/v1beta/models/x:streamGenerateContent"] {
        assert_eq!(post(&fake, place, &good()).await.json()["error"]["code"], 404);
    }
    assert_eq!(fake.stats().key_checks, 3);
}

#[tokio::test]
async fn endings_have_googles_form() {
    let fake = FakeProvider::start(FakeProviderConfig::gemini());
    let ask = async |behaviour: Behaviour| {
        fake.fault_next(behaviour);
        post(&fake, PATH, &good()).await.json()
    };
    let spent = ask(Behaviour::SpentOnReasoning).await;
    assert_eq!(spent["candidates"][0]["finishReason"], "MAX_TOKENS");
    assert_eq!(spent["candidates"][0]["content"], json!({ "role": "model" }));
    assert_eq!(spent["usageMetadata"]["thoughtsTokenCount"], 4096);
    let cut = ask(Behaviour::CutAfter(3)).await;
    assert_eq!((text_of(&cut).len(), &cut["candidates"][0]["finishReason"]), (12, &json!("MAX_TOKENS")));
    let refused = ask(Behaviour::Refuse("no".to_owned())).await;
    assert_eq!(refused["candidates"][0]["finishReason"], "SAFETY");
    let blocked = ask(Behaviour::Filtered).await;
    assert!(blocked["promptFeedback"]["blockReason"].is_string() && blocked.get("candidates").is_none());
    assert_eq!(ask(Behaviour::Recitation).await["candidates"][0]["finishReason"], "RECITATION");
    assert!(ask(Behaviour::Empty).await.get("candidates").is_none());
    let parts = ask(Behaviour::FirstOtherBlock).await["candidates"][0]["content"]["parts"].clone();
    assert_eq!(parts[0]["thought"], true);
    assert_pairs(parts[1]["text"].as_str().unwrap(), 2);
}

#[tokio::test]
async fn refusals_of_service_have_googles_form() {
    let fake = FakeProvider::start(FakeProviderConfig::gemini());
    let ask = async |behaviour: Behaviour| {
        fake.fault_next(behaviour);
        let answer = post(&fake, PATH, &good()).await;
        (answer.status, answer.header("retry-after").to_owned(), answer.json())
    };
    let (status, header, body) = ask(Behaviour::RateLimited(RetryHint::RetryInfo("37s".to_owned()))).await;
    assert_eq!((status, header.as_str(), &body["error"]["status"]), (429, "", &json!("RESOURCE_EXHAUSTED")));
    assert_eq!(body["error"]["details"][1]["retryDelay"], "37s");
    assert!(!body.to_string().contains("PerDay"));
    let (_, _, body) = ask(Behaviour::RateLimited(RetryHint::None)).await;
    assert!(!body.to_string().contains("retryDelay"));
    let (status, _, body) = ask(Behaviour::QuotaExhausted).await;
    assert!(
        status == 429
            && body["error"]["details"][0]["violations"][0]["quotaId"].as_str().unwrap().contains("PerDay")
    );
    let (status, _, body) = ask(Behaviour::Overloaded).await;
    assert_eq!((status, &body["error"]["status"]), (503, &json!("UNAVAILABLE")));
    let (status, _, body) = ask(Behaviour::ServerError(504)).await;
    assert_eq!((status, &body["error"]["status"]), (504, &json!("DEADLINE_EXCEEDED")));
    let (status, _, body) = ask(Behaviour::KeyRefused).await;
    assert!(status == 400 && body.to_string().contains(FAKE_KEY));
    let (status, _, body) = ask(Behaviour::ArrayWrappedError).await;
    assert_eq!((status, &body[0]["error"]["code"]), (503, &json!(503)));
    fake.reconfigure(|config| config.wrapped_errors = true);
    assert_eq!(get(&fake, "/v1beta/models/none").await.json()[0]["error"]["code"], 404);
}

#[tokio::test]
async fn long_prompts_are_refused_and_repeated_ones_cached() {
    let models = vec![FakeLlm { context: 5000, ..FakeLlm::gemini_25_flash("small") }];
    let fake = FakeProvider::start(FakeProviderConfig { models, ..FakeProviderConfig::gemini() });
    let ask = async |words: usize| {
        let text = format!("{}{USER}", "word ".repeat(words));
        post(&fake, &path("small"), &changed(good(), &[("/contents/0/parts/0/text", json!(text))])).await
    };
    let answer = ask(5000).await;
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("exceeds the maximum number of tokens allowed (5000)"));
    assert!(ask(2000).await.json()["usageMetadata"].get("cachedContentTokenCount").is_none());
    let usage = ask(2000).await.json()["usageMetadata"].clone();
    let cached = usage["cachedContentTokenCount"].as_u64().unwrap();
    assert!(cached >= 2048 && cached <= usage["promptTokenCount"].as_u64().unwrap(), "{usage}");
}
