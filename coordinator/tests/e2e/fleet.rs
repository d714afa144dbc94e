//! The main promise: a fleet of workers, several servers, two jobs, every chunk accounted for.

use std::collections::BTreeMap;
use std::time::Duration;

use qa_shared::testing::TestNats;
use qa_shared::testing::fake_ollama::{Behaviour, FakeConfig, FakeOllama};

use crate::command_line::Line;
use crate::documents::Document;
use crate::site::Site;
use crate::spent::{calls, texts};

fn server() -> FakeOllama {
    let server = FakeOllama::start(FakeConfig { slots: 4, ..FakeConfig::default() });
    server.respond_with(|_| Behaviour::Slow(Duration::from_millis(150)));
    server
}

#[tokio::test]
async fn two_jobs_in_one_pool_share_three_workers_and_each_chunk_is_asked_once() {
    let nats = TestNats::start().await;
    let (one, two) = (server(), server());
    let first = [
        Document::new("streams", 120),
        Document::pdf("subject mapping", 70, 12),
        Document::new("Übersicht", 9),
        Document::new("empty", 0),
        Document::new("single", 1),
    ];
    let second = [Document::new("consumers", 80), Document::pdf("release notes.v2", 30, 7)];
    let (site, other) = (Site::new(&first), Site::new(&second));
    let workers = [
        Line::worker(&nats, &[&one]).start(),
        Line::worker(&nats, &[&two]).start(),
        Line::worker(&nats, &[&one, &two]).start(),
    ];

    let first_run = site.generate().fleet(&nats).start();
    let some = texts(&first[..1])[3].clone();
    let asked = |server: &FakeOllama| server.stats().calls_for(&some) > 0;
    tokio::select! {
        _ = one.wait_for(|stats| stats.calls_for(&some) > 0) => {}
        _ = two.wait_for(|stats| stats.calls_for(&some) > 0) => {}
    }
    assert!(asked(&one) || asked(&two));
    let second_run = other.generate().fleet(&nats).start();
    let theirs = texts(&second);
    let is_begun = |stats: &qa_shared::testing::fake_ollama::FakeStats| {
        theirs.iter().any(|text| stats.calls_for(text) > 0)
    };
    tokio::select! {
        _ = one.wait_for(is_begun) => {}
        _ = two.wait_for(is_begun) => {}
    }
    let total = texts(&first).len();
    let asked = total - calls(&[&one, &two], &texts(&first)).get(&0).copied().unwrap_or(0);
    assert!(
        asked < total * 3 / 4,
        "the second job began only after {asked} of the first one's {total} chunks"
    );

    first_run.ends_with(0).await;
    second_run.ends_with(0).await;
    site.check();
    other.check();
    assert_eq!(calls(&[&one, &two], &texts(&first)), BTreeMap::from([(1, 200)]));
    assert_eq!(calls(&[&one, &two], &theirs), BTreeMap::from([(1, 110)]));
    let busy: u64 = [&one, &two].into_iter().map(|server| server.stats().chat_calls).min().unwrap();
    assert!(busy > 310 / 4, "one of two equal servers did only {busy} of 310 chunks");
    assert_eq!(site.summary()["chunks"]["completed"], 200);
    for worker in workers {
        worker.signal("TERM");
        worker.ends_with(0).await;
    }
}

#[tokio::test]
async fn pairs_do_not_depend_on_who_made_them_and_when() {
    let nats = TestNats::start().await;
    let documents = [Document::new("alpha", 14), Document::new("beta", 9)];
    let (fast, slow) = (Site::new(&documents), Site::new(&documents));
    let server = FakeOllama::start(FakeConfig { slots: 3, ..FakeConfig::default() });
    let worker = Line::worker(&nats, &[&server]).args(["--concurrency", "1"]).start();
    fast.generate().fleet(&nats).run(0).await;
    // Now answers overtake each other.
    server.respond_with(|call| Behaviour::Slow(Duration::from_millis(call.number * 37 % 160)));
    let more = Line::worker(&nats, &[&server]).args(["--concurrency", "3"]).start();
    slow.generate().fleet(&nats).run(0).await;
    for site in [&fast, &slow] {
        site.check();
    }
    for document in &documents {
        let pairs = |site: &Site| site.qa(&document.name)["training_pairs"].clone();
        assert_eq!(pairs(&fast), pairs(&slow));
    }
    drop((worker, more));
}

#[tokio::test]
async fn a_job_waits_for_workers_says_so_and_begins_when_one_joins() {
    let nats = TestNats::start().await;
    let site = Site::new(&[Document::new("alone", 5)]);
    let server = FakeOllama::start(FakeConfig::default());
    let mut run = site.generate().fleet(&nats).start();
    run.says("no worker is running").await;
    let worker = Line::worker(&nats, &[&server]).start();
    run.ends_with(0).await;
    site.check();
    drop(worker);
}

#[tokio::test]
async fn a_job_whose_model_nobody_has_is_told_what_they_have_and_goes_on_when_it_is_pulled() {
    use qa_shared::testing::fake_ollama::FakeModel;
    let nats = TestNats::start().await;
    let site = Site::new(&[Document::new("wants", 4)]);
    let server = FakeOllama::start(FakeConfig {
        models: vec![FakeModel::new("llama3.2:3b")],
        pullable: vec![FakeModel::new("qwen3:8b")],
        ..FakeConfig::default()
    });
    let mut worker = Line::worker(&nats, &[&server]).start();
    let mut run = site.generate().fleet(&nats).start();
    worker.says("ollama pull qwen3:8b").await;
    run.says("has llama3.2:3b").await;
    run.says("ollama pull qwen3:8b").await;
    let pulling = Line::worker(&nats, &[&server]).arg("--pull").start();
    run.ends_with(0).await;
    assert_eq!(server.stats().pulled, ["qwen3:8b"]);
    site.check();
    drop((worker, pulling));
}
