//! The Ollama client against servers that are overloaded, slow, broken or gone, and clients that leave.

#![expect(clippy::unwrap_used, reason = "a test whose preparation fails has to fail")]

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use qa_shared::model::OllamaOptions;
use qa_shared::testing::fake_ollama::{Behaviour, FakeConfig, FakeOllama};
use qa_worker::llm::http::Timeouts;
use qa_worker::llm::ollama::OllamaServer;
use qa_worker::llm::{ChatRequest, Finish, LlmErrorKind, LlmServer, Message, Role};

const MODEL: &str = "qwen3:8b";
const HOUR: Duration = Duration::from_secs(3600);

fn client(fake: &FakeOllama) -> OllamaServer {
    client_with(fake, Timeouts::default())
}

fn client_with(fake: &FakeOllama, timeouts: Timeouts) -> OllamaServer {
    OllamaServer::new(&fake.url(), timeouts, None).unwrap()
}

fn request(text: &str) -> ChatRequest {
    ChatRequest {
        model: MODEL.to_owned(),
        messages: vec![Message::new(Role::User, text)],
        schema: None,
        temperature: 0.3,
        max_output: 500,
        reasoning: None,
        num_ctx: 8192,
        sampling: OllamaOptions::default(),
        seed: None,
        repetitions: 0,
    }
}

async fn kind_of(behaviour: Behaviour) -> LlmErrorKind {
    let fake = FakeOllama::start(FakeConfig::default());
    fake.fault_next(behaviour);
    client(&fake).chat(&request("A")).await.unwrap_err().kind
}

#[tokio::test]
async fn error_statuses_have_their_kinds() {
    use LlmErrorKind as Kind;
    for (status, text, kind) in [
        (500, "model runner has unexpectedly stopped", Kind::ServerFault),
        (500, "option \"temperature\" must be of type float32", Kind::Rejected),
        (500, "model requires more system memory (9 GiB) than is available (3 GiB)", Kind::OutOfMemory),
        (403, "", Kind::KeyRefused),
        (502, "bad gateway", Kind::ProxyReply),
    ] {
        assert_eq!(kind_of(Behaviour::Status(status, text.to_owned())).await, kind, "{status} {text}");
    }
    let retry_after = Some(Duration::from_secs(17));
    assert_eq!(kind_of(Behaviour::BusyFor(17)).await, Kind::Overloaded { retry_after });
    // The inventory finds such a server healthy: it is not left alone for years.
    let retry_after = Some(Duration::from_secs(30));
    assert_eq!(kind_of(Behaviour::BusyFor(999_999_999)).await, Kind::Overloaded { retry_after });
}

#[tokio::test]
async fn a_page_in_place_of_an_answer_is_not_the_servers_word() {
    use LlmErrorKind as Kind;
    let page = "<!DOCTYPE html><html><head><title>Log in to the hotel network</title></head></html>";
    for (status, kind) in [
        (200, Kind::ProxyReply),
        (404, Kind::ProxyReply),
        (405, Kind::ProxyReply),
        (530, Kind::ProxyReply),
        (401, Kind::KeyRefused),
        (403, Kind::KeyRefused),
        (524, Kind::Timeout),
    ] {
        let fake = FakeOllama::start(FakeConfig::default());
        fake.fault_next(Behaviour::Page(status, page.to_owned()));
        let error = client(&fake).chat(&request("A")).await.unwrap_err();
        assert_eq!(error.kind, kind, "{status}: {error}");
        assert!(
            error.message.contains("Log in to the hotel network") && !error.message.contains('<'),
            "{error}"
        );
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_never_taken_for_an_answer() {
    use LlmErrorKind as Kind;
    for (behaviour, kind) in [
        (
            Behaviour::ErrorLine("an error was encountered while running the model".to_owned()),
            Kind::ServerFault,
        ),
        (Behaviour::GarbageLine, Kind::Malformed),
        (Behaviour::EndsEarly, Kind::Malformed),
        (Behaviour::NotDone, Kind::Malformed),
        (Behaviour::DropMidStream, Kind::ServerFault),
        (Behaviour::Drop, Kind::Unreachable),
    ] {
        assert_eq!(kind_of(behaviour.clone()).await, kind, "{behaviour:?}");
    }
}

#[tokio::test]
async fn an_answer_that_stands_still_is_given_up_and_its_slot_is_free_again() {
    let fake = FakeOllama::start(FakeConfig::default());
    let server = client_with(&fake, Timeouts { idle: Duration::from_millis(50), ..Timeouts::default() });
    fake.fault_next(Behaviour::HangMidStream);
    assert_eq!(server.chat(&request("A")).await.unwrap_err().kind, LlmErrorKind::IdleTimeout);
    fake.wait_for(|stats| stats.cancelled == 1 && stats.generating == 0).await;
    client(&fake).chat(&request("A")).await.unwrap();
}

#[tokio::test]
async fn the_idle_timeout_does_not_count_before_the_first_token() {
    let fake = FakeOllama::start(FakeConfig::default());
    let server = client_with(&fake, Timeouts { idle: Duration::from_secs(1), ..Timeouts::default() });
    fake.fault_next(Behaviour::Slow(Duration::from_millis(1500)));
    server.chat(&request("A")).await.unwrap();
}

#[tokio::test]
async fn silence_before_the_answer_ends_at_the_request_timeout() {
    let fake = FakeOllama::start(FakeConfig::default());
    let server = client_with(&fake, Timeouts { request: Duration::from_millis(100), ..Timeouts::default() });
    fake.fault_next(Behaviour::Hang);
    assert_eq!(server.chat(&request("A")).await.unwrap_err().kind, LlmErrorKind::Timeout);
    fake.wait_for(|stats| stats.cancelled == 1 && stats.generating == 0).await;
}

#[tokio::test]
async fn dropping_a_call_frees_its_slot_for_the_one_that_waits() {
    let fake = FakeOllama::start(FakeConfig::default());
    let server = Arc::new(client(&fake));
    fake.fault_next(Behaviour::Hang);
    let call = |text: &'static str| {
        let server = Arc::clone(&server);
        tokio::spawn(async move { server.chat(&request(text)).await })
    };
    let hanging = call("A");
    fake.wait_for(|stats| stats.generating == 1).await;
    let waiting = call("B");
    fake.wait_for(|stats| stats.in_flight == 2).await;
    hanging.abort();
    assert_eq!(waiting.await.unwrap().unwrap().finish, Finish::Stop);
    let stats = fake.wait_for(|stats| stats.in_flight == 0).await;
    assert_eq!((stats.cancelled, stats.finished, stats.max_generating), (1, 1, 1));
}

#[tokio::test]
async fn dropping_a_call_that_waits_takes_it_out_of_the_queue() {
    let fake = FakeOllama::start(FakeConfig::default());
    let server = Arc::new(client(&fake));
    fake.fault_next(Behaviour::Hang);
    let call = || {
        let server = Arc::clone(&server);
        tokio::spawn(async move { server.chat(&request("A")).await })
    };
    let hanging = call();
    fake.wait_for(|stats| stats.generating == 1).await;
    let waiting = call();
    fake.wait_for(|stats| stats.in_flight == 2).await;
    waiting.abort();
    fake.wait_for(|stats| stats.cancelled == 1 && stats.in_flight == 1).await;
    hanging.abort();
    fake.wait_for(|stats| stats.cancelled == 2 && stats.in_flight == 0).await;
}

#[tokio::test]
async fn a_loaded_model_lets_any_number_wait() {
    let fake = FakeOllama::start(FakeConfig { max_queue: 2, slots: 2, ..FakeConfig::default() });
    let server = client(&fake);
    server.warm_up(MODEL, 8192).await.unwrap();
    let requests: Vec<_> = (0..20).map(|n| request(&format!("chunk {n}"))).collect();
    for reply in join_all(requests.iter().map(|request| server.chat(request))).await {
        reply.unwrap();
    }
    let stats = fake.stats();
    assert_eq!((stats.busy, stats.finished), (0, 20));
    assert!(stats.max_generating <= 2, "{}", stats.max_generating);
}

#[tokio::test]
async fn a_loading_model_refuses_who_does_not_fit_into_its_queue() {
    let fake = FakeOllama::start(FakeConfig { max_queue: 2, load_time: HOUR, ..FakeConfig::default() });
    let server = Arc::new(client(&fake));
    let calls: Vec<_> = (0..8)
        .map(|_| {
            let server = Arc::clone(&server);
            tokio::spawn(async move { server.chat(&request("A")).await })
        })
        .collect();
    let stats = fake.wait_for(|stats| stats.busy == 6).await;
    assert_eq!(stats.in_flight, 2);
    let (ended, loading): (Vec<_>, Vec<_>) = {
        fake.wait_for(|stats| stats.finished == 6).await;
        fake.disappear();
        let replies = join_all(calls).await.into_iter().map(|reply| reply.unwrap().unwrap_err().kind);
        replies.partition(|kind| *kind == LlmErrorKind::Overloaded { retry_after: None })
    };
    assert_eq!((ended.len(), loading), (6, vec![LlmErrorKind::Unreachable; 2]));
}

#[tokio::test]
async fn leaving_during_a_load_aborts_it() {
    let fake = FakeOllama::start(FakeConfig { load_time: HOUR, ..FakeConfig::default() });
    let server = client(&fake);
    tokio::select! {
        _ = server.warm_up(MODEL, 8192) => panic!("the load takes an hour"),
        _ = fake.wait_for(|stats| stats.loads_begun == 1) => {}
    }
    fake.wait_for(|stats| stats.loads_aborted == 1).await;
}

#[tokio::test]
async fn a_server_that_vanishes_is_unreachable_until_it_is_back() {
    let fake = FakeOllama::start(FakeConfig::default());
    let server = client(&fake);
    server.chat(&request("A")).await.unwrap();
    fake.disappear();
    let error = server.chat(&request("A")).await.unwrap_err();
    assert_eq!(error.kind, LlmErrorKind::Unreachable);
    assert!(error.message.contains(&fake.url()), "{error}");
    assert_eq!(server.inspect().await.unwrap_err().kind, LlmErrorKind::Unreachable);
    fake.come_back();
    server.chat(&request("A")).await.unwrap();
    assert_eq!(fake.stats().loads.len(), 2, "a new server has nothing loaded");
}

#[tokio::test]
async fn every_nth_call_can_fail() {
    let fake = FakeOllama::start(FakeConfig::default());
    fake.fault_every(3, Behaviour::Status(500, "context canceled".to_owned()));
    let server = client(&fake);
    let mut good = Vec::new();
    for _ in 0..6 {
        good.push(server.chat(&request("A")).await.is_ok());
    }
    assert_eq!(good, [true, true, false, true, true, false]);
}
