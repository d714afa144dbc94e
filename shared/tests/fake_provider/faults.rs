//! What every fake can do: faults of the wire, limits, lives, notes.

use std::time::Duration;

use qa_shared::testing::fake_provider::{Behaviour, FakeProvider, FakeProviderConfig, FakeService};
use serde_json::{Value, json};

use crate::http::{CHUNK, USER, good_headers, post, send};

/// Every service with its path and a small good call.
fn services() -> Vec<(FakeProviderConfig, String, Value)> {
    let all = [
        FakeProviderConfig::open_ai(),
        FakeProviderConfig::llama_cpp(),
        FakeProviderConfig::vllm(),
        FakeProviderConfig::lm_studio(),
        FakeProviderConfig::claude(),
        FakeProviderConfig::gemini(),
    ];
    all.into_iter()
        .map(|config| {
            let model = config.models[0].name.clone();
            let messages = json!([{ "role": "user", "content": USER }]);
            let (path, body) = match config.service {
                FakeService::Claude => (
                    "/v1/messages".to_owned(),
                    json!({ "model": model, "max_tokens": 1000, "messages": messages }),
                ),
                FakeService::Gemini => (
                    format!("/v1beta/models/{model}:generateContent"),
                    json!({ "contents": [{ "role": "user", "parts": [{ "text": USER }] }] }),
                ),
                _ => ("/v1/chat/completions".to_owned(), json!({ "model": model, "messages": messages })),
            };
            (config, path, body)
        })
        .collect()
}

#[tokio::test]
async fn every_service_answers_and_fails_on_the_wire_as_told() {
    for (config, path, body) in services() {
        let service = config.service;
        let fake = FakeProvider::start(config);
        let bytes = body.to_string();
        let ask = async |behaviour: Behaviour| {
            fake.fault_next(behaviour);
            send(&fake, "POST", &path, &good_headers(), bytes.as_bytes()).await.answer().await
        };
        let good = post(&fake, &path, &body).await;
        assert_eq!(good.status, 200, "{service:?}: {}", good.text());
        assert!(good.text().contains("What does part 2"), "{service:?}: {}", good.text());
        for (behaviour, part) in [
            (Behaviour::Fewer(1), "What does part 1"),
            (Behaviour::Fenced, "```json"),
            (Behaviour::Text("hello".to_owned()), "hello"),
            (Behaviour::RawBody(b"<html>".to_vec()), "<html>"),
            (Behaviour::Slow(Duration::from_millis(1)), "What does part 1"),
            (Behaviour::Drip(Duration::ZERO), "What does part 1"),
        ] {
            let answer = ask(behaviour.clone()).await.unwrap();
            assert_eq!(answer.status, 200);
            assert!(answer.text().contains(part), "{service:?} {behaviour:?}: {}", answer.text());
        }
        assert_eq!(ask(Behaviour::HugeBody(1_000_000)).await.unwrap().body.len(), 1_000_000);
        assert!(ask(Behaviour::Drop).await.is_err(), "{service:?}");
        assert!(ask(Behaviour::DropMidBody).await.is_err(), "{service:?}");
        let headers = vec![("x-own".to_owned(), "yes".to_owned())];
        let own = Behaviour::Status { status: 418, headers, body: "{}".to_owned() };
        let answer = ask(own).await.unwrap();
        assert_eq!((answer.status, answer.header("x-own"), answer.text().as_str()), (418, "yes", "{}"));
        let stats = fake.wait_for(|stats| stats.in_flight == 0).await;
        assert_eq!((stats.calls, stats.cancelled), (11, 0), "{service:?}");
        assert_eq!(stats.refusals, Vec::<String>::new(), "scripted faults are no refusals");
    }
}

#[tokio::test]
async fn a_call_that_the_client_gives_up_is_noted() {
    let (config, path, body) = services().remove(0);
    let fake = FakeProvider::start(config);
    fake.fault_next(Behaviour::Hang);
    let sent = send(&fake, "POST", &path, &good_headers(), body.to_string().as_bytes()).await;
    let stats = fake.wait_for(|stats| stats.in_flight == 1).await;
    assert_eq!(stats.calls_for(CHUNK), 1);
    drop(sent);
    let stats = fake.wait_for(|stats| stats.in_flight == 0).await;
    assert_eq!((stats.cancelled, stats.finished, stats.max_in_flight), (1, 0, 1));
}

#[tokio::test]
async fn answers_of_openais_api_are_streamed_on_demand() {
    for (config, path, body) in services() {
        let service = config.service;
        let fake = FakeProvider::start(config);
        let mut body = body;
        body["stream"] = json!(true);
        let answer = post(&fake, &path, &body).await;
        match service {
            FakeService::Gemini => assert_eq!(answer.status, 400),
            FakeService::Claude => assert_eq!(answer.status, 501),
            _ => {
                assert_eq!((answer.status, answer.header("content-type")), (200, "text/event-stream"));
                assert!(answer.text().ends_with("data: [DONE]\n\n"), "{service:?}: {}", answer.text());
            }
        }
        body["stream"] = json!(false);
        let expected = if service == FakeService::Gemini { 400 } else { 200 };
        assert_eq!(post(&fake, &path, &body).await.status, expected);
    }
}

#[tokio::test]
async fn a_request_may_be_too_large() {
    for (config, path, _) in services() {
        let service = config.service;
        let fake = FakeProvider::start(config);
        let body = vec![b' '; 33 * 1024 * 1024];
        let answer = send(&fake, "POST", &path, &good_headers(), &body).await.answer().await.unwrap();
        let expected = if service == FakeService::Gemini { 400 } else { 413 };
        assert_eq!(answer.status, expected, "{service:?}");
    }
}

#[tokio::test]
async fn behaviours_have_an_order() {
    let (config, path, body) = services().remove(0);
    let fake = FakeProvider::start(config);
    fake.respond_with(|call| {
        assert!(call.headers.contains_key("authorization") && call.asked == 2 && call.chunk == CHUNK);
        Behaviour::Text(format!("call {} to {}", call.number, call.model))
    });
    fake.fault_every(2, Behaviour::ServerError(502));
    fake.fault_next(Behaviour::ServerError(500));
    assert_eq!(post(&fake, &path, &body).await.status, 500);
    assert_eq!(post(&fake, &path, &body).await.status, 502);
    assert!(post(&fake, &path, &body).await.text().contains("call 3 to gpt-4.1-mini"));
}

#[tokio::test]
async fn it_disappears_and_comes_back() {
    let (config, path, body) = services().remove(0);
    let fake = FakeProvider::start(config);
    assert_eq!(post(&fake, &path, &body).await.status, 200);
    fake.disappear();
    let address = fake.url();
    assert!(tokio::net::TcpStream::connect(address.strip_prefix("http://").unwrap()).await.is_err());
    fake.come_back();
    assert_eq!(post(&fake, &path, &body).await.status, 200);
    assert_eq!((fake.stats().calls, fake.url()), (2, address));
}

#[tokio::test]
async fn more_calls_than_a_minute_allows_are_refused() {
    for (config, path, body) in services() {
        let service = config.service;
        let fake = FakeProvider::start(FakeProviderConfig { requests_per_minute: Some(2), ..config });
        let first = post(&fake, &path, &body).await;
        assert_eq!(first.status, 200, "{}", first.text());
        // A refused call counts as well.
        let wrong = post(&fake, &path, &json!({})).await;
        assert!(matches!(wrong.status, 400 | 404), "{service:?}: {}", wrong.text());
        let third = post(&fake, &path, &body).await;
        assert_eq!(third.status, 429, "{service:?}");
        assert_eq!(fake.stats().limited, 1);
        match service {
            FakeService::OpenAi => {
                assert_eq!(first.header("x-ratelimit-limit-requests"), "2");
                assert_eq!(first.header("x-ratelimit-remaining-requests"), "1");
                assert!(first.header("x-ratelimit-reset-requests").ends_with('s'));
                assert_eq!(third.json()["error"]["code"], "rate_limit_exceeded");
            }
            FakeService::Claude => {
                assert_eq!(first.header("anthropic-ratelimit-requests-remaining"), "1");
                let reset = first.header("anthropic-ratelimit-requests-reset");
                assert!(reset.ends_with('Z') && reset.contains('T') && !reset.contains('.'), "{reset}");
                assert_eq!(third.json()["error"]["type"], "rate_limit_error");
            }
            FakeService::Gemini => {
                assert!(third.text().contains("retryDelay") && third.text().contains("PerMinute"));
            }
            _ => {}
        }
        if service != FakeService::Gemini {
            let wait: u64 = third.header("retry-after").parse().unwrap();
            assert!((1..=30).contains(&wait), "{wait}");
        }
        fake.reconfigure(|config| config.requests_per_minute = None);
        assert_eq!(post(&fake, &path, &body).await.status, 200);
    }
}

#[tokio::test]
async fn more_tokens_than_a_minute_allows_are_refused() {
    for (config, path, body) in services() {
        let service = config.service;
        let fake = FakeProvider::start(FakeProviderConfig { tokens_per_minute: Some(100), ..config });
        let first = post(&fake, &path, &body).await;
        assert_eq!(first.status, 200, "{service:?}: {}", first.text());
        if service == FakeService::OpenAi {
            assert_eq!(first.header("x-ratelimit-remaining-tokens"), "0", "the answer counts");
        }
        let second = post(&fake, &path, &body).await;
        assert_eq!(second.status, 429, "{service:?}: {}", second.text());
    }
}

#[tokio::test]
async fn slots_limit_what_is_worked_on_and_not_what_waits() {
    let (config, path, body) = services().remove(1);
    let fake = FakeProvider::start(FakeProviderConfig { slots: Some(1), ..config });
    fake.fault_next(Behaviour::Hang);
    let bytes = body.to_string();
    let hangs = send(&fake, "POST", &path, &good_headers(), bytes.as_bytes()).await;
    fake.wait_for(|stats| stats.in_flight == 1).await;
    let waits = send(&fake, "POST", &path, &good_headers(), bytes.as_bytes()).await;
    let stats = fake.wait_for(|stats| stats.in_flight == 2).await;
    assert_eq!(stats.finished, 0);
    drop(hangs);
    assert_eq!(waits.answer().await.unwrap().status, 200);
}
