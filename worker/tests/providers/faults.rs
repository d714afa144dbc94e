//! What services, networks and broken servers answer instead: always a typed outcome.

use std::time::Duration;

use futures_util::future::join_all;
use proptest::prelude::*;
use qa_shared::testing::fake_provider::{
    Behaviour, FAKE_KEY, FakeProvider, FakeProviderConfig, FakeService, RetryHint,
};
use qa_worker::llm::http::Timeouts;
use qa_worker::llm::rate_limit::PerMinute;
use qa_worker::llm::{ChatRequest, LlmError, LlmErrorKind, LlmServer};
use qa_worker::prompt::answer_schema;
use serde_json::json;

use crate::support::{client, client_with, every_service, with_model};

fn hasty() -> Timeouts {
    Timeouts {
        connect: Duration::from_secs(5),
        request: Duration::from_millis(1500),
        idle: Duration::from_millis(300),
        ..Timeouts::default()
    }
}

/// What one call comes to when the service behaves like this.
async fn error_of(config: FakeProviderConfig, behaviour: Behaviour, timeouts: Timeouts) -> LlmError {
    let (service, model) = (config.service, config.models[0].name.clone());
    let fake = FakeProvider::start(config);
    fake.fault_next(behaviour);
    let server = client_with(&fake, service, timeouts, PerMinute::default());
    server.chat(&ChatRequest::of(&model, "Why?")).await.unwrap_err()
}

#[tokio::test]
async fn what_goes_wrong_has_one_meaning_at_every_service() {
    use LlmErrorKind as Kind;
    let status = |status| Behaviour::Status { status, headers: Vec::new(), body: "{}".to_owned() };
    for (behaviour, expected) in [
        (Behaviour::QuotaExhausted, Kind::QuotaExhausted),
        (Behaviour::NoCredit, Kind::QuotaExhausted),
        (Behaviour::KeyRefused, Kind::KeyRefused),
        (Behaviour::ServerError(500), Kind::ServerFault),
        (status(502), Kind::ProxyReply),
        (status(408), Kind::Timeout),
        (status(422), Kind::Rejected),
        (status(418), Kind::Rejected),
        (Behaviour::RawBody(b"<html>".to_vec()), Kind::ProxyReply),
        (Behaviour::RawBody(b"{}".to_vec()), Kind::Malformed),
        (Behaviour::RawBody(Vec::new()), Kind::Malformed),
        (Behaviour::HugeBody(9_000_000), Kind::Malformed),
        (Behaviour::Drop, Kind::Unreachable),
        (Behaviour::DropMidBody, Kind::ServerFault),
    ] {
        for config in every_service() {
            let service = config.service;
            let is_own = !matches!(service, FakeService::OpenAi | FakeService::Claude | FakeService::Gemini);
            if is_own && matches!(behaviour, Behaviour::QuotaExhausted | Behaviour::NoCredit) {
                continue;
            }
            let error = error_of(config, behaviour.clone(), Timeouts::default()).await;
            assert_eq!(error.kind, expected, "{service:?} {behaviour:?}: {error}");
        }
    }
}

#[tokio::test]
async fn overload_tells_how_long_to_wait_in_each_form() {
    let seconds = Duration::from_secs;
    for (hint, services, expected) in [
        (RetryHint::Seconds(7), every_service(), seconds(7)..=seconds(7)),
        (RetryHint::Date(30), every_service(), seconds(25)..=seconds(31)),
        (
            RetryHint::Milliseconds(250),
            every_service(),
            Duration::from_millis(250)..=Duration::from_millis(250),
        ),
        (
            RetryHint::ResetText("6m0s".to_owned()),
            vec![FakeProviderConfig::open_ai()],
            seconds(360)..=seconds(360),
        ),
        (
            RetryHint::RetryInfo("37s".to_owned()),
            vec![FakeProviderConfig::gemini()],
            seconds(37)..=seconds(37),
        ),
    ] {
        for config in services {
            let service = config.service;
            let behaviour = Behaviour::RateLimited(hint.clone());
            let error = error_of(config, behaviour, Timeouts::default()).await;
            let LlmErrorKind::Overloaded { retry_after: Some(wait) } = error.kind else {
                panic!("{service:?} {hint:?}: {error:?}")
            };
            assert!(expected.contains(&wait), "{service:?} {hint:?}: {wait:?}");
        }
    }
    for config in every_service() {
        let is_own =
            matches!(config.service, FakeService::LlamaCpp | FakeService::Vllm | FakeService::LmStudio);
        let behaviour = Behaviour::RateLimited(RetryHint::Seconds(999_999_999));
        let error = error_of(config, behaviour, Timeouts::default()).await;
        // A service's limits may last for a day; a server of one's own is tried again when it looks healthy.
        let retry_after = Some(if is_own { seconds(30) } else { seconds(24 * 3600) });
        assert_eq!(error.kind, LlmErrorKind::Overloaded { retry_after });
    }
    for config in every_service() {
        let error = error_of(config, Behaviour::RateLimited(RetryHint::None), Timeouts::default()).await;
        assert_eq!(error.kind, LlmErrorKind::Overloaded { retry_after: None });
    }
}

#[tokio::test]
async fn an_overloaded_service_and_a_loading_server_are_no_faults() {
    for config in every_service() {
        let service = config.service;
        let expected = if service == FakeService::LlamaCpp {
            LlmErrorKind::ModelLoading
        } else {
            LlmErrorKind::Overloaded { retry_after: None }
        };
        let error = error_of(config, Behaviour::Overloaded, Timeouts::default()).await;
        assert_eq!(error.kind, expected, "{service:?}: {error}");
    }
}

#[tokio::test]
async fn errors_in_other_clothes_are_recognised() {
    for behaviour in [Behaviour::ErrorIn200, Behaviour::ArrayWrappedError] {
        for config in every_service() {
            let service = config.service;
            let error = error_of(config, behaviour.clone(), Timeouts::default()).await;
            assert_ne!(error.kind, LlmErrorKind::Malformed, "{service:?} {behaviour:?}: {error}");
        }
    }
    let flat = FakeProviderConfig { flat_errors: true, ..FakeProviderConfig::vllm() };
    let server = FakeProvider::start(flat);
    let client = client(&server, FakeService::Vllm);
    let error = client.chat(&ChatRequest::of("no-such-model", "Why?")).await.unwrap_err();
    assert_eq!(error.kind, LlmErrorKind::ModelNotFound, "{error}");
}

#[tokio::test]
async fn an_error_within_an_answer_is_the_servers_and_not_an_answer() {
    use LlmErrorKind as Kind;
    let in_choice = |code: u16| {
        format!(
            r#"{{"id":"x","choices":[{{"index":0,"finish_reason":"error","error":{{"code":{code},"message":"upstream"}},"message":{{"role":"assistant","content":"{{"}}}}]}}"#
        )
    };
    let busy = Kind::Overloaded { retry_after: None };
    for (body, expected) in [
        (r#"{"error":{"code":429,"message":"rate limited upstream"}}"#.to_owned(), busy),
        (r#"{"error":{"code":502,"message":"Provider returned error"}}"#.to_owned(), Kind::ProxyReply),
        (r#"{"error":{"code":"503","message":"no instances"}}"#.to_owned(), busy),
        (in_choice(429), busy),
        (in_choice(502), Kind::ProxyReply),
        (in_choice(503), busy),
        (r#"{"choices":[{"finish_reason":"error","message":{"content":""}}]}"#.to_owned(), Kind::ServerFault),
        ("<!DOCTYPE html><title>Sign in</title>".to_owned(), Kind::ProxyReply),
    ] {
        let behaviour = Behaviour::Status { status: 200, headers: Vec::new(), body: body.clone() };
        let error = error_of(FakeProviderConfig::vllm(), behaviour, Timeouts::default()).await;
        assert_eq!(error.kind, expected, "{body}: {error}");
    }
}

#[tokio::test]
async fn a_servers_word_about_itself_changes_no_parameter() {
    let fake = FakeProvider::start(FakeProviderConfig::lm_studio());
    let server = client(&fake, FakeService::LmStudio);
    let model = &FakeProviderConfig::lm_studio().models[0].name;
    for text in ["No models loaded. Please load one with json_schema.", "Channel Error", "Model unloaded."] {
        let body = format!(r#"{{"error":"{text}"}}"#);
        fake.fault_next(Behaviour::Status { status: 400, headers: Vec::new(), body });
        let request = ChatRequest { schema: Some(answer_schema(2)), ..ChatRequest::of(model, "Why?") };
        let error = server.chat(&request).await.unwrap_err();
        assert!(matches!(error.kind, LlmErrorKind::ModelLoading | LlmErrorKind::ServerFault), "{error}");
    }
    assert_eq!(fake.stats().calls, 3, "nothing was asked again in another form");
}

#[tokio::test]
async fn silence_and_dripping_end_in_time() {
    let checks = every_service().into_iter().map(async |config| {
        let hang = error_of(config.clone(), Behaviour::Hang, hasty()).await;
        assert_eq!(hang.kind, LlmErrorKind::Timeout);
        let drip = error_of(config.clone(), Behaviour::Drip(Duration::from_millis(100)), hasty()).await;
        assert_eq!(drip.kind, LlmErrorKind::Timeout, "{drip}");
        let stall = error_of(config, Behaviour::Drip(Duration::from_secs(5)), hasty()).await;
        assert!(matches!(stall.kind, LlmErrorKind::IdleTimeout | LlmErrorKind::Timeout), "{stall}");
    });
    join_all(checks).await;
}

#[tokio::test]
async fn a_call_that_nobody_waits_for_is_given_up() {
    for config in every_service() {
        let (service, model) = (config.service, config.models[0].name.clone());
        let fake = FakeProvider::start(config);
        fake.fault_next(Behaviour::Hang);
        let server = client(&fake, service);
        let request = ChatRequest::of(&model, "Why?");
        tokio::select! {
            _ = server.chat(&request) => panic!("it hangs"),
            _ = fake.wait_for(|stats| stats.in_flight == 1) => {}
        }
        fake.wait_for(|stats| stats.cancelled == 1).await;
    }
}

#[tokio::test]
async fn the_key_never_stands_in_an_error() {
    for config in every_service() {
        let service = config.service;
        let error = error_of(config, Behaviour::KeyRefused, Timeouts::default()).await;
        assert!(error.message.contains("does not accept the key"), "{service:?}: {error}");
        assert!(!format!("{error:?}").contains(FAKE_KEY), "{service:?}");
    }
    // Wherever a message is cut, no part of the key is left.
    for padding in 440..500 {
        let body = format!("{}{FAKE_KEY}", "x".repeat(padding));
        let behaviour = Behaviour::Status { status: 400, headers: Vec::new(), body };
        let error = error_of(FakeProviderConfig::open_ai(), behaviour, Timeouts::default()).await;
        assert!(!error.message.contains(&FAKE_KEY[..8]), "{error}");
    }
    let fake = FakeProvider::start(FakeProviderConfig::open_ai());
    let server = client(&fake, FakeService::OpenAi);
    assert!(!format!("{server:?}").contains(FAKE_KEY));
    assert!(!server.account().unwrap().is_empty());
}

#[tokio::test]
async fn a_short_key_of_ones_own_server_is_no_word_that_is_cut_out_of_answers() {
    use std::sync::Arc;

    use qa_shared::model_table::{ModelTable, Service};
    use qa_shared::secret::Secret;
    use qa_worker::llm::remote::{RemoteServer, RemoteSettings};

    let fake = FakeProvider::start(FakeProviderConfig::vllm());
    for key in ["content", "None", "choices"] {
        let url = Secret::new(format!("{}/v1", fake.url()));
        let (service, limits) = (Service::Compatible, PerMinute::default());
        let settings = RemoteSettings { service, url, key: Some(Secret::new(key)), limits };
        let table = Arc::new(ModelTable::default());
        let server = RemoteServer::new(settings, table, Timeouts::default(), None).unwrap();
        fake.fault_next(Behaviour::Text("None of the content is lost.".to_owned()));
        let reply = server.chat(&ChatRequest::of("Qwen/Qwen2.5-7B-Instruct", "Why?")).await.unwrap();
        assert_eq!(reply.content, "None of the content is lost.", "{key}");
    }
}

#[tokio::test]
async fn a_request_that_was_worked_on_is_counted_as_paid_even_without_an_answer() {
    let config = FakeProviderConfig::claude();
    let error = error_of(config, Behaviour::Hang, hasty()).await;
    assert_eq!((error.kind, error.usage.output_tokens), (LlmErrorKind::Timeout, 256));
    let error = error_of(FakeProviderConfig::vllm(), Behaviour::Hang, hasty()).await;
    assert_eq!(error.usage.tokens(), 0, "one's own server sends no bill");
}

/// vLLM with other members in its answers.
fn with_usage(usage: serde_json::Value) -> FakeProviderConfig {
    let instead = serde_json::Map::from_iter([("usage".to_owned(), usage)]);
    FakeProviderConfig { instead, ..FakeProviderConfig::vllm() }
}

fn long_question(words: usize) -> ChatRequest {
    ChatRequest {
        num_ctx: 4096,
        ..ChatRequest::of("Qwen/Qwen2.5-7B-Instruct", &"Many words stand here. ".repeat(words))
    }
}

#[tokio::test]
async fn a_server_without_usable_counts_is_counted_by_estimates() {
    for usage in [
        json!(null),
        json!({}),
        json!({ "prompt_tokens": null, "completion_tokens": null }),
        json!({ "prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0 }),
        json!({ "prompt_tokens": -1, "completion_tokens": "n/a" }),
        json!({ "prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30 }),
        json!({ "prompt_tokens": 1e9, "completion_tokens": 20 }),
    ] {
        let fake = FakeProvider::start(with_usage(usage.clone()));
        let server = client(&fake, FakeService::Vllm);
        for _ in 0..2 {
            let spent = server.chat(&long_question(200)).await.unwrap().usage;
            assert!((1000..3000).contains(&spent.input_tokens), "{usage}: {spent:?}");
            assert_eq!(spent.estimated_input_tokens, spent.input_tokens, "{usage}");
            assert!(
                spent.output_tokens > 0 && spent.estimated_output_tokens == spent.output_tokens,
                "{usage}"
            );
        }
    }
}

#[tokio::test]
async fn counts_in_other_forms_are_read() {
    for usage in [
        json!({ "prompt_tokens": 1150.0, "completion_tokens": 20.0 }),
        json!({ "input_tokens": 1150, "output_tokens": 20 }),
        json!({ "promptTokenCount": 1150, "candidatesTokenCount": 20 }),
    ] {
        let fake = FakeProvider::start(with_usage(usage.clone()));
        let reply = client(&fake, FakeService::Vllm).chat(&long_question(200)).await.unwrap();
        assert_eq!((reply.usage.input_tokens, reply.usage.output_tokens), (1150, 20), "{usage}");
        assert_eq!((reply.prompt_tokens, reply.usage.estimated_tokens()), (Some(1150), 0), "{usage}");
    }
}

#[tokio::test]
async fn the_counts_of_a_stream_are_asked_for_and_stand_in_its_last_event() {
    let fake = FakeProvider::start(with_usage(json!({ "prompt_tokens": 1150, "completion_tokens": 20 })));
    let reply = client(&fake, FakeService::Vllm).chat(&long_question(200)).await.unwrap();
    let body = fake.stats().last_body().clone();
    assert_eq!((&body["stream"], &body["stream_options"]["include_usage"]), (&json!(true), &json!(true)));
    assert_eq!((reply.usage.input_tokens, reply.usage.output_tokens), (1150, 20));
    assert_eq!(reply.usage.estimated_tokens(), 0);
}

#[tokio::test]
async fn a_compatible_server_that_cuts_prompts_is_found_out_by_one_more_call() {
    let usage = json!({ "prompt_tokens": 4096, "completion_tokens": 20 });
    let fake = FakeProvider::start(with_usage(usage));
    let server = client(&fake, FakeService::Vllm);
    for (words, calls) in [(1200, 2), (1500, 3)] {
        let error = server.chat(&long_question(words)).await.unwrap_err();
        assert_eq!((error.kind, fake.stats().calls), (LlmErrorKind::PromptTooLong, calls), "{error}");
        assert!(error.message.contains("cut the prompt") && error.usage.input_tokens > 0, "{error}");
        // It is not Ollama, so that Ollama's versions and settings are no remedy.
        assert!(error.message.ends_with("load the model with a larger context there, or use smaller chunks"));
        assert!(!error.message.contains("llama"), "{error}");
    }
}

#[tokio::test]
async fn a_wrong_key_is_told_with_its_remedy() {
    for (config, variable) in [
        (FakeProviderConfig::open_ai(), "OPENAI_API_KEY"),
        (FakeProviderConfig::claude(), "ANTHROPIC_API_KEY"),
        (FakeProviderConfig::gemini(), "GEMINI_API_KEY"),
    ] {
        let service = config.service;
        let fake = FakeProvider::start(FakeProviderConfig { key: Some("another".to_owned()), ..config });
        let error = client(&fake, service).inspect().await.unwrap_err();
        assert_eq!(error.kind, LlmErrorKind::KeyRefused, "{error}");
        assert!(error.message.contains(variable), "{error}");
        assert_eq!(fake.stats().calls, 0, "nothing was paid to find it out");
    }
}

#[tokio::test]
async fn a_prompt_that_does_not_fit_is_told_as_that() {
    for config in every_service() {
        let (service, mut model) = (config.service, config.models[0].clone());
        model.context = 1500;
        let name = model.name.clone();
        let fake = FakeProvider::start(with_model(config, model));
        let long = "Many words stand here. ".repeat(2000);
        let error = client(&fake, service).chat(&ChatRequest::of(&name, &long)).await.unwrap_err();
        assert_eq!(error.kind, LlmErrorKind::PromptTooLong, "{service:?}: {error}");
        // The context of a server of one's own is set where the model is loaded; that of a service is fixed.
        let is_own = matches!(service, FakeService::LlamaCpp | FakeService::Vllm | FakeService::LmStudio);
        assert_eq!(error.message.contains("with a larger context there"), is_own, "{service:?}: {error}");
    }
}

#[tokio::test]
async fn a_model_that_is_not_there_is_told_as_that() {
    for config in every_service() {
        // llama.cpp answers with the one model it has, whatever is asked for.
        if config.service == FakeService::LlamaCpp {
            continue;
        }
        let service = config.service;
        let fake = FakeProvider::start(config);
        let error = client(&fake, service).show("no-such-model").await.unwrap_err();
        assert_eq!(error.kind, LlmErrorKind::ModelNotFound, "{service:?}: {error}");
        assert!(error.message.contains("no-such-model"), "{error}");
    }
}

/// A JSON text of names and values that replies have, in no order that makes sense.
fn any_json() -> impl Strategy<Value = String> {
    let names = prop::sample::select(vec![
        "choices",
        "message",
        "content",
        "finish_reason",
        "usage",
        "prompt_tokens",
        "error",
        "type",
        "text",
        "candidates",
        "parts",
        "finishReason",
        "promptFeedback",
        "blockReason",
        "stop_reason",
        "thought",
        "input",
        "refusal",
        "x",
    ]);
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        "[a-z{}\"]{0,12}".prop_map(Into::into),
        prop::sample::select(vec!["stop", "length", "text", "STOP", "MAX_TOKENS", "end_turn", "tool_use"])
            .prop_map(Into::into),
    ];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::vec((names.clone(), inner), 0..6).prop_map(|members| {
                let members = members.into_iter().map(|(name, value)| (name.to_owned(), value));
                serde_json::Value::Object(members.collect())
            }),
        ]
    })
    .prop_map(|value| value.to_string())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn whatever_a_server_sends_is_an_answer_or_a_typed_error(
        which in 0_usize..6,
        status in prop::sample::select(vec![200_u16, 201, 204, 302, 400, 404, 429, 500, 503, 599]),
        body in prop_oneof![
            any_json().prop_map(String::into_bytes),
            any_json().prop_map(|text| text.as_bytes()[..text.len() / 2].to_vec()),
            prop::collection::vec(any::<u8>(), 0..300),
        ],
    ) {
        let config = every_service().swap_remove(which);
        let (service, model) = (config.service, config.models[0].name.clone());
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let fake = FakeProvider::start(config);
            fake.respond_with(move |_| match status {
                200 => Behaviour::RawBody(body.clone()),
                status => {
                    let body = String::from_utf8_lossy(&body).into_owned();
                    Behaviour::Status { status, headers: Vec::new(), body }
                }
            });
            let server = client_with(&fake, service, hasty(), PerMinute::default());
            match server.chat(&ChatRequest::of(&model, "Why?")).await {
                Ok(reply) => prop_assert!(reply.content.len() < 10_000),
                Err(error) => prop_assert!(!error.message.is_empty() && error.message.len() < 3000),
            }
            Ok(())
        })?;
    }
}
