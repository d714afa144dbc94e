//! Limits of size on the queue server: of a message, and of the whole store.

use std::time::Duration;

use qa_shared::queue::Timing;
use qa_shared::testing::fake_ollama::{Behaviour, FakeConfig, FakeOllama};
use qa_shared::testing::{NatsOperator, TestNats, TestNatsOptions};

use crate::checker::{Check, check};
use crate::command_line::Line;
use crate::documents::Document;
use crate::site::Site;

fn timing() -> Timing {
    let short = Duration::from_secs(3);
    Timing { ack_wait: short, presence_age: short, ..Timing::default() }
}

/// A server whose only account may store so many bytes.
async fn small_server(bytes: u64) -> TestNats {
    let more = format!(
        "accounts {{ SMALL {{ jetstream: {{ max_file: {bytes} }}, users: [ {{ user: me, password: any }} ] }} }}\n\
         no_auth_user: me\n"
    );
    TestNats::start_with(TestNatsOptions { more, ..TestNatsOptions::default() }).await
}

fn long_document(name: &str, chunks: usize, bytes: usize) -> Document {
    let mut document = Document::new(name, chunks);
    for text in &mut document.texts {
        while text.len() < bytes {
            text.push_str(" A sentence that goes on and on.");
        }
    }
    document
}

#[tokio::test]
async fn a_task_over_its_streams_limit_is_a_failed_chunk_and_the_rest_is_done() {
    let nats = TestNats::start().await;
    nats.queue(timing()).await;
    let operator = NatsOperator::new(&nats).await;
    operator.change_stream("QA_TASKS", |config| config.max_message_size = 16_000).await;
    let mut document = Document::new("wide", 4);
    document.texts[2] = "A sentence that goes on. ".repeat(900).trim().to_owned();
    let site = Site::new(&[document]);
    let server = FakeOllama::start(FakeConfig::default());
    let worker = Line::worker(&nats, &[&server]).impatient().start();
    let ended = site.generate().fleet(&nats).impatient().run(1).await;
    check(&Check::new(&site).failed("wide", [2]));
    assert!(
        ended.stderr.contains("over max_msg_size of 16000 bytes of the stream QA_TASKS"),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains("task_too_large"), "{}", ended.stderr);
    drop(worker);
}

#[tokio::test]
async fn a_result_over_its_streams_limit_is_a_failed_chunk_and_the_rest_is_done() {
    let nats = TestNats::start().await;
    nats.queue(timing()).await;
    let operator = NatsOperator::new(&nats).await;
    operator.change_stream("QA_RESULTS", |config| config.max_message_size = 4_000).await;
    let document = Document::new("talkative", 4);
    let long = document.texts[1].clone();
    let site = Site::new(&[document]);
    let server = FakeOllama::start(FakeConfig::default());
    let numbers = (1..600_u32).map(|number| number.wrapping_mul(2_654_435_761).to_string());
    let words = numbers.collect::<Vec<_>>().join(" ");
    let pair = |number| format!(r#"{{"question": "What goes on in part {number}?", "answer": "{words}"}}"#);
    let answer = format!("[{}, {}, {}]", pair(1), pair(2), pair(3));
    server.respond_with(
        move |call| {
            if call.chunk == long { Behaviour::Text(answer.clone()) } else { Behaviour::Answer }
        },
    );
    let worker = Line::worker(&nats, &[&server]).impatient().start();
    let ended = site.generate().fleet(&nats).impatient().run(1).await;
    check(&Check::new(&site).failed("talkative", [1]));
    assert!(ended.stderr.contains("over max_msg_size of the stream QA_RESULTS"), "{}", ended.stderr);
    drop(worker);
}

#[tokio::test]
async fn a_store_that_the_jobs_own_tasks_fill_gets_room_and_every_chunk_is_done() {
    let nats = small_server(300_000).await;
    let site = Site::new(&[long_document("long", 60, 20_000)]);
    let server = FakeOllama::start(FakeConfig { slots: 4, ..FakeConfig::default() });
    server.respond_with(|_| Behaviour::Slow(Duration::from_millis(50)));
    let worker = Line::worker(&nats, &[&server]).impatient().start();
    let ended = site.generate().fleet(&nats).impatient().run(0).await;
    assert!(
        ended.stderr.contains("the queue server's store is full, taking queued tasks back"),
        "{}",
        ended.stderr
    );
    site.check();
    assert_eq!(server.stats().chat_calls, 60, "nothing was asked twice");
    drop(worker);
}

#[tokio::test]
async fn a_store_that_others_fill_ends_the_run_with_exit_code_8_and_a_resume_goes_on_when_there_is_room() {
    let nats = small_server(1_000_000).await;
    let operator = NatsOperator::new(&nats).await;
    let site = Site::new(&[Document::new("stopped", 40)]);
    let server = FakeOllama::start(FakeConfig { slots: 4, ..FakeConfig::default() });
    server.respond_with(|_| Behaviour::Slow(Duration::from_millis(300)));
    let worker = Line::worker(&nats, &[&server]).impatient().start();
    let run = site.generate().fleet(&nats).impatient().start();
    server.wait_for(|stats| stats.chat_calls > 4).await;
    let ended = tokio::select! {
        ended = run.ends_with(8) => ended,
        () = operator.keep_full("others") => unreachable!("it takes all room that there is"),
    };
    assert!(ended.stderr.contains("no queued task of this job is left to be taken back"), "{}", ended.stderr);
    assert!(ended.stderr.contains("--resume"), "{}", ended.stderr);
    operator.delete_stream("others").await;
    server.respond_with(|_| Behaviour::Answer);
    site.generate().arg("--resume").fleet(&nats).impatient().run(0).await;
    site.check();
    drop(worker);
}
