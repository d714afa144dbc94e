//! Any one part of the queue may vanish or change in the middle of a run: by an operator, or by a power cut that tore
//! some files. It is said, made again, and costs repeated model calls at most; workers need no restart.

use std::time::Duration;

use qa_shared::queue::Timing;
use qa_shared::testing::fake_ollama::{Behaviour, FakeConfig, FakeOllama};
use qa_shared::testing::{NatsOperator, TestNats};

use crate::command_line::Line;
use crate::documents::Document;
use crate::processes::Running;
use crate::site::Site;

const STREAMS: [&str; 5] = ["QA_TASKS", "QA_RESULTS", "KV_QA_JOBS", "KV_QA_PRESENCE", "KV_QA_POISON"];

fn server(millis: u64) -> FakeOllama {
    let server = FakeOllama::start(FakeConfig { slots: 4, ..FakeConfig::default() });
    server.respond_with(move |_| Behaviour::Slow(Duration::from_millis(millis)));
    server
}

/// A fleet at work on so many chunks.
struct Scene {
    nats: TestNats,
    operator: NatsOperator,
    site: Site,
    server: FakeOllama,
    worker: Running,
    run: Running,
}

impl Scene {
    async fn start(chunks: usize, millis: u64) -> Self {
        let nats = TestNats::start().await;
        let operator = NatsOperator::new(&nats).await;
        let (site, server) = (Site::new(&[Document::new("parts", chunks)]), server(millis));
        let worker = Line::worker(&nats, &[&server]).impatient().start();
        let run = site.generate().fleet(&nats).impatient().start();
        server.wait_for(|stats| stats.chat_calls >= 2).await;
        Self { nats, operator, site, server, worker, run }
    }

    /// Everything is done, by the worker from before.
    async fn ends(mut self) {
        self.server.respond_with(|_| Behaviour::Answer);
        self.run.ends_with(0).await;
        self.site.check();
        assert!(self.worker.is_running());
    }
}

#[tokio::test]
async fn each_stream_and_bucket_may_be_deleted_in_the_middle_of_a_run() {
    let mut scene = Scene::start(200, 400).await;
    for stream in STREAMS {
        scene.operator.delete_stream(stream).await;
        // Whoever notices first makes it again: results and tasks have those who wait for them.
        if stream.starts_with("KV_") {
            scene.run.says(&format!("mended: stream {stream} was created")).await;
        }
        let calls = scene.server.stats().chat_calls;
        scene.server.wait_for(|stats| stats.chat_calls > calls + 4).await;
    }
    scene.ends().await;
}

#[tokio::test]
async fn each_consumer_may_be_deleted_in_the_middle_of_a_run() {
    let mut scene = Scene::start(100, 300).await;
    let pool = scene.operator.delete_consumer("QA_TASKS").await;
    scene.run.says(&format!("mended: consumer {pool} of QA_TASKS was created")).await;
    scene.operator.delete_consumer("QA_RESULTS").await;
    scene.run.says("results consumer vanished, making it again").await;
    scene.ends().await;
}

#[tokio::test]
async fn consumers_that_were_paused_are_resumed() {
    let mut scene = Scene::start(60, 200).await;
    for stream in ["QA_TASKS", "QA_RESULTS"] {
        let name = scene.operator.pause_consumer(stream).await;
        scene.run.says(&format!("consumer {name} of {stream} was paused and is resumed")).await;
    }
    scene.ends().await;
}

#[tokio::test]
async fn the_tasks_stream_may_be_deleted_when_everything_is_published() {
    let mut scene = Scene::start(6, 30_000).await;
    while scene.operator.messages("QA_TASKS").await < 6 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    scene.operator.delete_stream("QA_TASKS").await;
    scene.run.says("mended: stream QA_TASKS was created").await;
    scene.run.says("the queue lost tasks, publishing them again tasks=6").await;
    scene.server.respond_with(|_| Behaviour::Answer);
    scene.worker.kill().await;
    let worker = Line::worker(&scene.nats, &[&scene.server]).impatient().start();
    scene.run.ends_with(0).await;
    scene.site.check();
    drop(worker);
}

#[tokio::test]
async fn a_worker_that_starts_after_the_jobs_bucket_was_deleted_is_told_of_the_job() {
    let mut scene = Scene::start(60, 200).await;
    scene.operator.delete_stream("KV_QA_JOBS").await;
    scene.worker.signal("TERM");
    scene.worker.ends_with(0).await;
    scene.worker = Line::worker(&scene.nats, &[&scene.server]).impatient().start();
    scene.run.says("the queue forgot the job, it is announced again").await;
    scene.ends().await;
}

#[tokio::test]
async fn a_buckets_content_may_be_purged_in_the_middle_of_a_run() {
    let mut scene = Scene::start(100, 200).await;
    for stream in ["KV_QA_PRESENCE", "KV_QA_JOBS"] {
        scene.operator.purge(stream).await;
    }
    scene.run.says("the queue forgot the job, it is announced again").await;
    scene.ends().await;
}

#[tokio::test]
async fn tasks_that_a_stranger_withholds_are_done_in_new_rounds() {
    let nats = TestNats::start().await;
    let site = Site::new(&[Document::new("withheld", 8)]);
    let mut run = site.generate().fleet(&nats).impatient().start();
    nats.queue(Timing { presence_age: Duration::from_secs(3), ..Timing::default() }).await;
    let operator = NatsOperator::new(&nats).await;
    while operator.messages("QA_TASKS").await < 8 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    operator.withhold("QA_TASKS", 3).await;
    let server = server(5);
    let worker = Line::worker(&nats, &[&server]).impatient().start();
    run.says("no worker works on them, publishing them again in new rounds tasks=3").await;
    run.ends_with(0).await;
    site.check();
    assert_eq!(server.stats().chat_calls, 8);
    assert_eq!(operator.messages("QA_TASKS").await, 0, "the withheld ones are gone");
    drop(worker);
}

#[tokio::test]
async fn results_that_a_stranger_withholds_are_received_after_all() {
    let scene = Scene::start(12, 100).await;
    let mut scene = scene;
    // Not while it can receive them itself.
    scene.run.signal("STOP");
    while scene.operator.messages("QA_RESULTS").await < 2 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // What it had asked for before comes to nobody, and is delivered again after the ack wait.
    scene.operator.withhold("QA_RESULTS", 1).await;
    scene.run.signal("CONT");
    scene.run.says("the queue does not deliver results that it has").await;
    scene.ends().await;
}
