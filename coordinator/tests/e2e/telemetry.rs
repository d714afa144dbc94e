//! Telemetry never slows nor stops the work, and says nothing that it should not.

use std::fs;
use std::time::{Duration, Instant};

use qa_shared::testing::TestNats;
use qa_shared::testing::fake_ollama::{FakeConfig, FakeOllama};
use qa_shared::testing::otlp_receiver::{Mood, OtlpReceiver};

use crate::command_line::Line;
use crate::documents::Document;
use crate::processes::Ended;
use crate::site::Site;

const WARNING: &str = "telemetry cannot be sent";

/// A run and its worker with spans going to this address; how both ended, and how long the run took.
async fn run_with(collector: &str, chunks: usize) -> (Ended, Ended, Duration) {
    let nats = TestNats::start().await;
    let site = Site::new(&[Document::new("robust", chunks)]);
    let server = FakeOllama::start(FakeConfig { slots: 4, ..FakeConfig::default() });
    // A queue that is far too small: what does not fit is dropped.
    let small = |line: Line| line.traced(collector).env("OTEL_BSP_MAX_QUEUE_SIZE", "20");
    let worker = small(Line::worker(&nats, &[&server])).start();
    let begun = Instant::now();
    let run = small(site.generate().fleet(&nats)).run(0).await;
    let took = begun.elapsed();
    worker.signal("TERM");
    let worker = worker.ends_with(0).await;
    site.check();
    (run, worker, took)
}

fn warnings(ended: &Ended) -> usize {
    ended.stderr.matches(WARNING).count()
}

#[tokio::test]
async fn a_collector_that_is_not_there_costs_one_warning() {
    let collector = OtlpReceiver::start();
    collector.disappear();
    let (run, worker, took) = run_with(&collector.url(), 150).await;
    assert_eq!((warnings(&run), warnings(&worker)), (1, 1), "{}\n{}", run.stderr, worker.stderr);
    assert!(took < Duration::from_secs(20), "{took:?}");
}

#[tokio::test]
async fn a_collector_that_refuses_costs_one_warning() {
    let collector = OtlpReceiver::start();
    collector.set_mood(Mood::Refusing(503));
    let (run, worker, took) = run_with(&collector.url(), 150).await;
    assert_eq!((warnings(&run), warnings(&worker)), (1, 1), "{}\n{}", run.stderr, worker.stderr);
    assert!(run.stderr.contains("503"), "{}", run.stderr);
    assert!(took < Duration::from_secs(20), "{took:?}");
}

#[tokio::test]
async fn a_collector_that_never_answers_is_waited_for_five_seconds_at_the_end() {
    let collector = OtlpReceiver::start();
    collector.set_mood(Mood::Slow(Duration::from_secs(120)));
    let (run, worker, took) = run_with(&collector.url(), 150).await;
    assert!(warnings(&run) <= 1 && warnings(&worker) <= 1, "{}\n{}", run.stderr, worker.stderr);
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert!(collector.requests() > 0);
}

#[tokio::test]
async fn a_collector_that_comes_back_gets_what_is_sent_from_then_on() {
    let (nats, collector) = (TestNats::start().await, OtlpReceiver::start());
    let (site, other) = (Site::new(&[Document::new("before", 3)]), Site::new(&[Document::new("after", 3)]));
    let server = FakeOllama::start(FakeConfig::default());
    collector.disappear();
    let mut worker = Line::worker(&nats, &[&server]).traced(&collector.url()).start();
    site.generate().fleet(&nats).run(0).await;
    worker.says(WARNING).await;
    collector.come_back();
    other.generate().fleet(&nats).run(0).await;
    worker.says("telemetry is sent again").await;
    collector.wait_for("spans", |spans| spans.iter().any(|span| span.name.starts_with("chat"))).await;
    drop(worker);
}

#[tokio::test]
async fn nothing_is_sent_where_nothing_is_asked_for() {
    let (nats, collector) = (TestNats::start().await, OtlpReceiver::start());
    let (site, server) = (Site::new(&[Document::new("quiet", 3)]), FakeOllama::start(FakeConfig::default()));
    let off = |line: Line| line.traced(&collector.url()).env("OTEL_SDK_DISABLED", "true");
    let worker = off(Line::worker(&nats, &[&server])).start();
    let run = off(site.generate().fleet(&nats)).run(0).await;
    worker.signal("TERM");
    let worker = worker.ends_with(0).await;
    assert_eq!(collector.requests(), 0);
    assert!(!run.stderr.contains("trace_id") && !worker.stderr.contains("trace_id"));
}

#[tokio::test]
async fn the_env_file_holds_for_telemetry_and_headers_stay_secret() {
    let (nats, collector) = (TestNats::start().await, OtlpReceiver::start());
    let (site, server) = (Site::new(&[Document::new("file", 2)]), FakeOllama::start(FakeConfig::default()));
    let file = format!(
        "OTEL_EXPORTER_OTLP_ENDPOINT={}\nOTEL_EXPORTER_OTLP_HEADERS=Authorization=Bearer%20s3cr3t-token\n\
         OTEL_EXPORTER_OTLP_COMPRESSION=gzip\nOTEL_SERVICE_NAME=night shift\n\
         OTEL_RESOURCE_ATTRIBUTES=deployment.environment.name=lab\n",
        collector.url()
    );
    fs::write(site.root().join("config.env"), file).unwrap();
    let worker = Line::worker(&nats, &[&server]).start();
    let run = site.generate().fleet(&nats).env("RUST_LOG", "debug").run(0).await;
    let spans = collector.spans();
    assert!(spans.iter().any(|span| span.name == "run"), "{spans:#?}");
    assert!(spans.iter().all(|span| span.service() == "night shift"));
    assert!(spans.iter().all(|span| span.resource["deployment.environment.name"] == "lab"));
    for headers in collector.headers() {
        assert_eq!(headers["authorization"], "Bearer s3cr3t-token");
        assert_eq!(headers["content-encoding"], "gzip");
    }
    assert!(!collector.metrics().is_empty() || collector.requests() > 0);
    assert!(!run.stderr.contains("s3cr3t"), "{}", run.stderr);
    assert!(run.stderr.contains("OTEL_EXPORTER_OTLP_HEADERS = ***"), "{}", run.stderr);
    drop(worker);
}

#[tokio::test]
async fn a_wrong_setting_ends_with_code_2_and_one_clear_message() {
    let site = Site::new(&[Document::new("wrong", 1)]);
    let run = site.generate().arg("--local").env("OTEL_TRACES_SAMPLER", "xray").run(2).await;
    assert!(run.stderr.contains("OTEL_TRACES_SAMPLER: found `xray`"), "{}", run.stderr);
    let worker = Line::bare_worker().env("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json").run(2).await;
    assert!(worker.stderr.contains("expected http/protobuf or grpc"), "{}", worker.stderr);
}

#[tokio::test]
async fn prompts_and_answers_are_sent_only_on_request_and_log_lines_name_their_trace() {
    let (nats, collector) = (TestNats::start().await, OtlpReceiver::start());
    let documents = [Document::new("content", 2)];
    let (site, server) = (Site::new(&documents), FakeOllama::start(FakeConfig::default()));
    let line = Line::worker(&nats, &[&server]).traced(&collector.url()).env("QA_TRACE_CONTENT", "true");
    let line = line.env("OTEL_LOGS_EXPORTER", "otlp").env("QA_LOG_FORMAT", "json");
    let worker = line.env("RUST_LOG", "info,qa_worker=debug").start();
    site.generate().fleet(&nats).traced(&collector.url()).run(0).await;
    worker.signal("TERM");
    let worker = worker.ends_with(0).await;
    let spans = collector.spans();
    let chats: Vec<_> = spans.iter().filter(|span| span.name.starts_with("chat")).collect();
    assert_eq!(chats.len(), 2);
    for chat in &chats {
        let (asked, answered) = (chat.get("gen_ai.input.messages"), chat.get("gen_ai.output.messages"));
        let is_there = |text: &String| asked.contains(text.split('.').next().unwrap());
        assert!(documents[0].texts.iter().any(is_there), "{asked}");
        assert!(answered.contains("question") && answered.contains("assistant"), "{answered}");
    }
    let lines: Vec<serde_json::Value> =
        worker.stderr.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let answered: Vec<_> = lines.iter().filter(|line| line["message"] == "model answered").collect();
    assert_eq!(answered.len(), 2, "{}", worker.stderr);
    for line in &answered {
        let trace = line["trace_id"].as_str().unwrap();
        assert!(chats.iter().any(|chat| chat.trace == trace), "{line}");
        assert_eq!(line["span_id"].as_str().unwrap().len(), 16);
    }
    let records = collector.records();
    let sent = records.iter().filter(|record| record.text == "model answered");
    assert_eq!(sent.filter(|record| chats.iter().any(|chat| chat.trace == record.trace)).count(), 2);
}
