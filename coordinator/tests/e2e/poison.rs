//! A chunk that ends its worker every time, and messages that nobody asked for, must not end the fleet.

use std::time::Duration;

use qa_shared::model::{DocumentName, JobId, PoolName, TaskKey};
use qa_shared::queue::{Presence, Timing};
use qa_shared::testing::TestNats;
use qa_shared::testing::fake_ollama::{Behaviour, FakeConfig, FakeOllama};

use crate::checker::{Check, check};
use crate::command_line::Line;
use crate::documents::Document;
use crate::site::Site;

#[tokio::test]
async fn a_chunk_that_kills_its_worker_again_and_again_is_given_up_and_the_rest_is_done() {
    let nats = TestNats::start().await;
    let document = Document::new("deadly", 8);
    let site = Site::new(std::slice::from_ref(&document));
    let server = FakeOllama::start(FakeConfig { slots: 8, ..FakeConfig::default() });
    let deadly = document.texts[3].clone();
    server.respond_with(move |call| if call.chunk == deadly { Behaviour::Hang } else { Behaviour::Answer });
    let start = || {
        let line = Line::worker(&nats, &[&server]).args(["--concurrency", "1"]);
        line.env("QA_ACK_WAIT", "2s").env("QA_PRESENCE_AGE", "2s").start()
    };
    let line = site.generate().fleet(&nats);
    let run = line.env("QA_ACK_WAIT", "2s").env("QA_PRESENCE_AGE", "2s").start();
    let present = Presence::new(&nats.connect(Timing::default()).await).watch();
    let mut workers = present.receiver();
    // The first delivery leaves no note, so that it takes six workers to leave five.
    for victim in 1..=6 {
        let worker = start();
        server.wait_for(|stats| stats.calls_for(&document.texts[3]) == victim).await;
        workers.wait_for(|workers| !workers.is_empty()).await.unwrap();
        worker.kill().await;
        // Only a worker whose heartbeat has expired counts as vanished.
        workers.wait_for(|workers| workers.is_empty()).await.unwrap();
    }
    let last = start();
    run.ends_with(1).await;
    check(&Check::new(&site).failed("deadly", [3]));
    let records = site.qa("deadly")["chunks"].as_array().unwrap().clone();
    let record = records.iter().find(|record| record["chunk"] == 3).unwrap();
    assert_eq!(record["error"]["reason"], "poison");
    assert_eq!(server.stats().calls_for(&document.texts[3]), 6);
    drop(last);
}

/// Bodies that are no task and no result; the last two are what a later version might write.
const NOISE: [&[u8]; 4] =
    [b"", b"\xff\x00no JSON", br#"{"v":1,"body":{"key":7}}"#, br#"{"v":99,"body":{"all":"new"}}"#];

#[tokio::test]
async fn messages_that_nobody_asked_for_are_set_aside_and_counted_and_the_run_goes_on() {
    let nats = TestNats::start().await;
    let documents = [Document::new("real", 24)];
    let site = Site::new(&documents);
    let server = FakeOllama::start(FakeConfig { slots: 2, ..FakeConfig::default() });
    server.respond_with(|_| Behaviour::Slow(Duration::from_millis(200)));
    let worker = Line::worker(&nats, &[&server]).start();
    let run = site.generate().fleet(&nats).start();
    server.wait_for(|stats| stats.chat_calls > 6).await;
    let key = |job: JobId, document: &str, chunk, round| TaskKey {
        job,
        document: DocumentName::new(document).token(),
        chunk,
        round,
    };
    let foreign: JobId = "0123456789ab".parse().unwrap();
    let pool = PoolName::new("ollama/qwen3:8b").token();
    for (round, noise) in (1..).zip(NOISE) {
        for key in [
            // Of no document, of no chunk, of a round that never was, of a job that is gone.
            key(site.job(), "imaginary", 0, round),
            key(site.job(), "real", 4000, round),
            key(site.job(), "real", 0, 100 + round),
            key(foreign.clone(), "real", 0, round),
        ] {
            nats.store(format!("qa.task.v1.{pool}.{key}"), noise.to_vec()).await;
            nats.store(format!("qa.result.v1.{key}"), noise.to_vec()).await;
        }
        nats.store(format!("qa.task.v1.{pool}.no-chunk.{round}"), noise.to_vec()).await;
        nats.store(format!("qa.result.v1.{}.no-chunk.{round}", site.job()), noise.to_vec()).await;
    }
    let ended = run.ends_with(0).await;
    site.check();
    assert!(ended.stderr.contains("a message that is no result was set aside"), "{}", ended.stderr);
    let status = site.coordinator("status").run(0).await;
    assert!(status.stdout.contains("results set aside"), "{}", status.stdout);
    worker.signal("TERM");
    let ended = worker.ends_with(0).await;
    assert!(ended.stderr.contains("set a message aside that is no task"), "{}", ended.stderr);
}
