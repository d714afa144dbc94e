//! Servers of one's own: llama.cpp, vLLM, LM Studio.

use qa_shared::testing::fake_provider::{Behaviour, FakeLlm, FakeProvider, FakeProviderConfig};
use serde_json::{Value, json};

use crate::http::{
    USER, assert_accepted, assert_pairs, assert_refused, changed, get, portable_schema, post, post_with,
    post_without,
};

const PATH: &str = "/v1/chat/completions";

fn configs() -> [FakeProviderConfig; 3] {
    [FakeProviderConfig::llama_cpp(), FakeProviderConfig::vllm(), FakeProviderConfig::lm_studio()]
}

fn good(config: &FakeProviderConfig) -> Value {
    json!({ "model": config.models[0].name, "max_tokens": 1000, "temperature": 0.7,
        "messages": [
            { "role": "system", "content": "You reply with JSON." },
            { "role": "user", "content": USER },
        ],
        "response_format": { "type": "json_schema",
            "json_schema": { "name": "qa", "schema": portable_schema() } },
    })
}

fn small(config: FakeProviderConfig) -> FakeProviderConfig {
    let models = vec![FakeLlm { context: 100, ..config.models[0].clone() }];
    FakeProviderConfig { models, ..config }
}

#[tokio::test]
async fn each_answers_and_ignores_what_it_does_not_know() {
    for config in configs() {
        let fake = FakeProvider::start(config.clone());
        let answer = post(&fake, PATH, &good(&config)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_pairs(answer.json()["choices"][0]["message"]["content"].as_str().unwrap(), 2);
        assert_accepted(&fake, PATH, &good(&config), &[&[("/unheard_of", json!(1))]]).await;
        assert_eq!(get(&fake, "/v1/models").await.json()["data"][0]["id"], json!(config.models[0].name));
    }
}

#[tokio::test]
async fn each_refuses_wrong_members() {
    for config in configs() {
        let fake = FakeProvider::start(config.clone());
        assert_refused(
            &fake,
            PATH,
            &good(&config),
            &[
                (&[("/model", json!("none"))], 404, "does not exist"),
                (&[("/messages", Value::Null)], 400, "messages"),
                (&[("/messages/0/role", json!("developer"))], 400, "role"),
                (&[("/temperature", json!("hot"))], 400, "temperature"),
                (&[("/temperature", json!(-1))], 400, "temperature"),
                (&[("/seed", json!("null"))], 400, "seed"),
                (&[("/unheard_of", json!("null"))], 400, "unheard_of"),
                (&[("/max_tokens", json!(0))], 400, "max_tokens"),
                (&[("/response_format/type", json!("yaml"))], 400, "response_format"),
            ],
        )
        .await;
    }
}

#[tokio::test]
async fn each_has_errors_of_its_own_form() {
    let body = |config: &FakeProviderConfig| changed(good(config), &[("/model", json!("none"))]);
    let error = async |config: FakeProviderConfig| {
        let fake = FakeProvider::start(config.clone());
        post(&fake, PATH, &body(&config)).await.json()
    };
    let [llama, vllm, studio] = configs();
    let llama = error(llama).await["error"].clone();
    assert_eq!((&llama["code"], &llama["type"]), (&json!(404), &json!("not_found_error")));
    let new = error(vllm.clone()).await["error"].clone();
    assert_eq!((&new["code"], &new["type"]), (&json!(404), &json!("NotFoundError")));
    let old = error(FakeProviderConfig { flat_errors: true, ..vllm }).await;
    assert_eq!((&old["object"], &old["code"]), (&json!("error"), &json!(404)));
    assert!(old.get("error").is_none());
    assert_eq!(error(studio).await["error"]["code"], "model_not_found");
}

#[tokio::test]
async fn a_prompt_above_the_context_is_refused_in_each_ones_words() {
    let [llama, vllm, studio] = configs().map(small);
    let body = |config: &FakeProviderConfig| {
        changed(
            good(config),
            &[("/messages/1/content", json!("word ".repeat(200))), ("/max_tokens", json!(10))],
        )
    };
    let fake = FakeProvider::start(llama.clone());
    let answer = post(&fake, PATH, &body(&llama)).await;
    let error = &answer.json()["error"];
    assert_eq!((answer.status, &error["type"]), (400, &json!("exceed_context_size_error")));
    assert_eq!(error["n_ctx"], 100);
    assert!(error["n_prompt_tokens"].as_u64().unwrap() > 250);
    let fake = FakeProvider::start(vllm.clone());
    let answer = post(&fake, PATH, &body(&vllm)).await;
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("maximum context length is 100 tokens"), "{}", answer.text());
    let fits_alone = changed(good(&vllm), &[("/max_tokens", json!(99))]);
    assert_eq!(post(&fake, PATH, &fits_alone).await.status, 400, "vLLM counts the ceiling too");
    let fake = FakeProvider::start(studio.clone());
    let answer = post(&fake, PATH, &body(&studio)).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "text/event-stream"));
    assert!(answer.text().starts_with("event: error\ndata: {"), "{}", answer.text());
}

#[tokio::test]
async fn a_full_context_ends_an_answer() {
    let llama = small(FakeProviderConfig::llama_cpp());
    let fake = FakeProvider::start(llama.clone());
    let answer = post(&fake, PATH, &good(&llama)).await.json();
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert_eq!(answer["usage"]["total_tokens"], 100);
}

#[tokio::test]
async fn llama_cpp_looks_at_schemas_in_its_own_way() {
    let config = FakeProviderConfig::llama_cpp();
    let fake = FakeProvider::start(config.clone());
    let schema = "/response_format/json_schema/schema";
    let pairs = format!("{schema}/properties/pairs");
    let at = |place: &str| format!("{pairs}{place}");
    assert_refused(
        &fake,
        PATH,
        &good(&config),
        &[
            (&[(&at("/maxItems"), json!(2000))], 400, "number of repetitions exceeds sane defaults"),
            (&[(&at("/items/properties/question/maxLength"), json!(5000))], 400, "failed to parse grammar"),
            (&[(&at("/items/properties/question/pattern"), json!("a+"))], 400, "failed to parse grammar"),
            (&[(&at("/items/properties"), json!({}))], 400, "failed to parse grammar"),
            (&[(&at("/items/anyOf"), json!([{ "type": "object" }]))], 400, "failed to parse grammar"),
        ],
    )
    .await;
    assert_accepted(
        &fake,
        PATH,
        &good(&config),
        &[&[(&at("/items/properties/question/minLength"), json!(5))]],
    )
    .await;
    let text = async |format: Value| {
        let answer = post(&fake, PATH, &changed(good(&config), &[("/response_format", format)])).await.json();
        answer["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
    };
    assert_pairs(&text(json!({ "type": "json_object", "schema": portable_schema() })).await, 2);
    let unread = text(json!({ "type": "json_schema", "schema": portable_schema() })).await;
    assert!(unread.starts_with("Here are the pairs:"), "the flat form is not read: {unread}");
}

#[tokio::test]
async fn vllm_and_lm_studio_differ_in_forms() {
    let config = FakeProviderConfig::vllm();
    let fake = FakeProvider::start(config.clone());
    let name = "/response_format/json_schema/name";
    assert_refused(&fake, PATH, &good(&config), &[(&[(name, Value::Null)], 400, "json_schema.name")]).await;
    let own = json!({ "json": portable_schema() });
    let more: &[(&str, Value)] = &[("/response_format", Value::Null), ("/structured_outputs", own)];
    assert_accepted(&fake, PATH, &good(&config), &[more]).await;
    let config = FakeProviderConfig::lm_studio();
    let fake = FakeProvider::start(config.clone());
    let json_mode: &[(&str, Value)] = &[("/response_format", json!({ "type": "json_object" }))];
    assert_refused(&fake, PATH, &good(&config), &[(json_mode, 400, "must be 'json_schema' or 'text'")]).await;
    let flat: &[(&str, Value)] = &[("/response_format/json_schema", Value::Null)];
    assert_refused(&fake, PATH, &good(&config), &[(flat, 400, "json_schema.schema")]).await;
}

#[tokio::test]
async fn reasoning_is_shown_and_can_be_switched_off() {
    for (config, member) in configs().into_iter().zip(["reasoning_content", "reasoning", "reasoning_content"])
    {
        let models = vec![FakeLlm::local_thinking("qwen3")];
        let config = FakeProviderConfig { models, ..config };
        let fake = FakeProvider::start(config.clone());
        let answer = post(&fake, PATH, &good(&config)).await.json();
        assert!(answer["choices"][0]["message"][member].is_string(), "{answer}");
        assert!(answer["usage"]["completion_tokens"].as_u64().unwrap() > 200);
        let off = changed(good(&config), &[("/chat_template_kwargs", json!({ "enable_thinking": false }))]);
        let answer = post(&fake, PATH, &off).await.json();
        assert!(answer["choices"][0]["message"].get(member).is_none(), "{answer}");
        let short = changed(good(&config), &[("/max_tokens", json!(50))]);
        let answer = post(&fake, PATH, &short).await.json();
        assert_eq!(answer["choices"][0]["finish_reason"], "length");
        assert!(answer["choices"][0]["message"]["content"].as_str().unwrap_or_default().is_empty());
        let unread =
            changed(good(&config), &[("/max_tokens", Value::Null), ("/max_completion_tokens", json!(50))]);
        let answer = post(&fake, PATH, &unread).await.json();
        assert_eq!(answer["choices"][0]["finish_reason"], "stop", "only max_tokens is read");
    }
    let config = FakeProviderConfig::vllm();
    let fake = FakeProvider::start(config.clone());
    fake.fault_next(Behaviour::InReasoning);
    let message = post(&fake, PATH, &good(&config)).await.json()["choices"][0]["message"].clone();
    assert_pairs(message["reasoning"].as_str().unwrap(), 2);
    assert!(message["content"].is_null());
}

#[tokio::test]
async fn llama_cpp_says_that_it_is_loading() {
    let fake = FakeProvider::start(FakeProviderConfig { loading: true, ..FakeProviderConfig::llama_cpp() });
    let config = FakeProviderConfig::llama_cpp();
    for answer in
        [get(&fake, "/health").await, get(&fake, "/v1/models").await, post(&fake, PATH, &good(&config)).await]
    {
        assert_eq!(answer.status, 503);
        let error = json!({ "code": 503, "message": "Loading model", "type": "unavailable_error" });
        assert_eq!(answer.json()["error"], error);
    }
    fake.reconfigure(|config| config.loading = false);
    assert_eq!(get(&fake, "/health").await.json(), json!({ "status": "ok" }));
    let props = get(&fake, "/props").await.json();
    assert_eq!(
        (&props["total_slots"], &props["default_generation_settings"]["n_ctx"]),
        (&json!(4), &json!(32_768))
    );
    assert_eq!(post(&fake, PATH, &good(&config)).await.status, 200);
    fake.fault_next(Behaviour::Overloaded);
    assert_eq!(post(&fake, PATH, &good(&config)).await.status, 503);
    let vllm = FakeProvider::start(FakeProviderConfig::vllm());
    assert_eq!(get(&vllm, "/v1/models").await.json()["data"][0]["max_model_len"], 32_768);
    assert_eq!(get(&vllm, "/props").await.status, 404);
}

#[tokio::test]
async fn a_key_is_wanted_only_where_one_is_set() {
    for config in configs() {
        let body = good(&config);
        let fake = FakeProvider::start(config);
        assert_eq!(post_without(&fake, PATH, "authorization", &body).await.status, 200);
        fake.reconfigure(|config| config.key = Some("secret-of-mine".to_owned()));
        assert_eq!(post_without(&fake, PATH, "authorization", &body).await.status, 401);
        assert_eq!(post(&fake, PATH, &body).await.status, 401);
        let header = ("authorization", "Bearer secret-of-mine");
        assert_eq!(post_with(&fake, PATH, header, &body).await.status, 200);
    }
}

#[tokio::test]
async fn llama_cpp_tells_what_it_had_computed() {
    let config = FakeProviderConfig::llama_cpp();
    let fake = FakeProvider::start(config.clone());
    let first = post(&fake, PATH, &good(&config)).await.json();
    assert_eq!(first["timings"]["cache_n"], 0);
    let again = post(&fake, PATH, &good(&config)).await.json();
    assert_ne!(again["timings"]["cache_n"], 0);
    assert_eq!(again["timings"]["cache_n"], again["usage"]["prompt_tokens_details"]["cached_tokens"]);
}

#[tokio::test]
async fn an_error_may_come_under_status_200() {
    for (config, kind) in
        configs().into_iter().zip(["application/json", "application/json", "text/event-stream"])
    {
        let body = good(&config);
        let fake = FakeProvider::start(config);
        fake.fault_next(Behaviour::ErrorIn200);
        let answer = post(&fake, PATH, &body).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, kind));
        assert!(answer.text().contains("\"error\""));
    }
}
