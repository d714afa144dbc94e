//! Limits of accounts are kept, not met.

use std::time::Duration;

use qa_shared::testing::fake_provider::{FakeProvider, FakeProviderConfig, FakeService};
use qa_worker::llm::http::Timeouts;
use qa_worker::llm::rate_limit::PerMinute;
use qa_worker::llm::{ChatRequest, LlmErrorKind, LlmServer};

use crate::support::{client, client_with};

#[tokio::test]
async fn a_limit_without_room_gives_the_task_back_without_a_call() {
    let fake = FakeProvider::start(FakeProviderConfig::open_ai());
    let limits = PerMinute { requests: None, tokens: Some(60) };
    let server = client_with(&fake, FakeService::OpenAi, Timeouts::default(), limits);
    let request = ChatRequest::of("gpt-4.1-mini", &"Why? ".repeat(400));
    server.chat(&request).await.unwrap();
    let error = server.chat(&request).await.unwrap_err();
    let LlmErrorKind::Overloaded { retry_after: Some(wait) } = error.kind else { panic!("{error:?}") };
    assert!(wait > Duration::from_secs(60), "{wait:?}");
    assert_eq!(fake.stats().calls, 1);
}

#[tokio::test]
async fn the_limits_that_a_service_tells_are_learned() {
    for mut config in [FakeProviderConfig::open_ai(), FakeProviderConfig::claude()] {
        let (service, model) = (config.service, config.models[0].name.clone());
        config.requests_per_minute = Some(600);
        config.tokens_per_minute = Some(6000);
        let fake = FakeProvider::start(config);
        let server = client(&fake, service);
        // The service's word is all that is known of the limit.
        let request = ChatRequest::of(&model, &"Why? ".repeat(1200));
        let mut answered = 0;
        // An answer comes at once; whoever waits for so long keeps a limit.
        while let Ok(reply) = tokio::time::timeout(Duration::from_secs(2), server.chat(&request)).await {
            reply.unwrap();
            answered += 1;
            assert!(answered < 12, "12 requests of 1,500 tokens do not fit into 6,000");
        }
        assert_eq!(fake.stats().calls, answered, "the one that waits was not sent");
        assert_eq!(fake.stats().limited, 0, "the service had to refuse nothing");
    }
}

#[tokio::test]
async fn a_stop_ends_waiting_for_a_limit_without_a_call() {
    let fake = FakeProvider::start(FakeProviderConfig::open_ai());
    let limits = PerMinute { requests: Some(2), tokens: None };
    let server = client_with(&fake, FakeService::OpenAi, Timeouts::default(), limits);
    let request = ChatRequest::of("gpt-4.1-mini", "Why?");
    server.chat(&request).await.unwrap();
    let (waiting, ()) = tokio::join!(server.chat(&request), async {
        tokio::task::yield_now().await;
        server.begin_no_more();
    });
    assert_eq!(waiting.unwrap_err().kind, LlmErrorKind::NotBegun);
    assert_eq!(fake.stats().calls, 1);
}
