//! Metrics and health, as Prometheus, a collector and an orchestrator see them.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use qa_shared::telemetry::instruments::{ALL, Metric};
use qa_shared::testing::TestNats;
use qa_shared::testing::fake_ollama::{Behaviour, FakeConfig, FakeOllama};
use qa_shared::testing::otlp_receiver::OtlpReceiver;
use tokio::time::sleep;

use crate::command_line::Line;
use crate::documents::Document;
use crate::processes::{PATIENCE, signal};
use crate::site::Site;

/// An address that nobody listens at.
fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// Status and body; nothing while nobody answers.
fn get(address: &str, path: &str) -> Option<(u16, String)> {
    let mut connection = TcpStream::connect(address).ok()?;
    connection.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(connection, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").ok()?;
    let mut reply = String::new();
    connection.read_to_string(&mut reply).ok()?;
    let (head, body) = reply.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

async fn get_when(address: &str, path: &str, is_right: impl Fn(u16, &str) -> bool) -> String {
    let until = Instant::now() + PATIENCE;
    loop {
        let reply = get(address, path);
        if let Some((_, body)) = reply.clone().filter(|(status, body)| is_right(*status, body)) {
            return body;
        }
        assert!(Instant::now() < until, "{path} does not become what it should be: {reply:?}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// The metrics that a text in Prometheus' format holds, without the suffixes of histograms.
fn names(text: &str) -> BTreeSet<&str> {
    text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect()
}

/// Those of a program that a text lacks.
fn missing(program: &str, text: &str) -> Vec<&'static str> {
    let names = names(text);
    let lacks = |metric: &&&Metric| metric.program == program && !names.contains(&*metric.prometheus_name());
    ALL.iter().filter(lacks).map(|metric| metric.name).collect()
}

#[tokio::test]
async fn prometheus_gets_every_metric_of_a_fleet_and_health_says_what_is_wrong() {
    let nats = TestNats::start().await;
    let documents = [Document::new("measured", 60)];
    let site = Site::new(&documents);
    let server = FakeOllama::start(FakeConfig { slots: 2, ..FakeConfig::default() });
    let bad = documents[0].texts[3].clone();
    server.respond_with(move |call| {
        if call.chunk == bad {
            Behaviour::Text("no pairs".to_owned())
        } else {
            Behaviour::Slow(Duration::from_millis(300))
        }
    });
    let (run_at, worker_at) = (free_address(), free_address());
    server.disappear();
    let mut worker =
        Line::worker(&nats, &[&server]).args(["--metrics-listen", &worker_at]).impatient().start();
    get_when(&worker_at, "/healthz", |status, _| status == 200).await;
    get_when(&worker_at, "/readyz", |status, body| status == 503 && body.contains("no LLM server answers"))
        .await;
    server.come_back();
    get_when(&worker_at, "/readyz", |status, body| status == 200 && body == "ready\n").await;

    let run = site.generate().fleet(&nats).env("QA_METRICS_LISTEN", &run_at).impatient().start();
    server.wait_for(|stats| stats.chat_calls > 4).await;
    // A task of a worker that is gone comes again.
    worker.signal("KILL");
    worker.ends_within(Duration::from_secs(10)).await.ok().unwrap();
    worker = Line::worker(&nats, &[&server]).args(["--metrics-listen", &worker_at]).impatient().start();
    get_when(&run_at, "/readyz", |status, _| status == 200).await;
    // What costs nothing has no cost.
    let text =
        get_when(&run_at, "/metrics", |_, text| missing("qa-coordinator", text) == ["qa.job.cost"]).await;
    assert!(text.contains(&format!("qa_job_chunks{{qa_job=\"{}\"", site.job())), "{text}");
    let text = get_when(&worker_at, "/metrics", |_, text| missing("qa-worker", text).is_empty()).await;
    assert!(text.contains("gen_ai_request_model=\"qwen3:8b\""), "{text}");
    run.ends_with(1).await;
    let finished = "qa_worker_slots{";
    assert!(text.contains(finished), "{text}");
    worker.signal("TERM");
    worker.ends_with(0).await;
}

#[tokio::test]
async fn a_collector_gets_the_last_figures_of_a_run() {
    let (nats, collector) = (TestNats::start().await, OtlpReceiver::start());
    let site = Site::new(&[Document::new("counted", 12)]);
    let server = FakeOllama::start(FakeConfig { slots: 2, ..FakeConfig::default() });
    let measured = |line: Line| line.traced(&collector.url()).env("OTEL_METRICS_EXPORTER", "otlp");
    let worker = measured(Line::worker(&nats, &[&server])).start();
    measured(site.generate().fleet(&nats)).run(0).await;
    worker.signal("TERM");
    worker.ends_with(0).await;
    let sums = collector.last_totals();
    assert_eq!(sums["qa.chunks"].to_string(), "12", "{sums:#?}");
    assert_eq!(sums["qa.pairs"].to_string(), "36", "{sums:#?}");
    assert_eq!(sums["gen_ai.client.operation.duration"].to_string(), "12", "{sums:#?}");
    assert_eq!(sums["messaging.process.duration"].to_string(), "12", "{sums:#?}");
}

#[tokio::test]
async fn an_address_that_is_taken_is_told_before_anything_is_done() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap().to_string();
    let site = Site::new(&[Document::new("never", 1)]);
    let ended = site.generate().args(["--local", "--metrics-listen", &address]).run(2).await;
    assert!(
        ended.stderr.contains(&format!("--metrics-listen cannot be served: {address}")),
        "{}",
        ended.stderr
    );
    let ended = site.generate().args(["--local", "--metrics-listen", "9464"]).run(2).await;
    assert!(ended.stderr.contains("127.0.0.1:9464"), "{}", ended.stderr);
}

#[tokio::test]
async fn connections_that_say_nothing_take_no_more_than_their_share() {
    let nats = TestNats::start().await;
    let server = FakeOllama::start(FakeConfig::default());
    let address = free_address();
    let worker = Line::worker(&nats, &[&server]).args(["--metrics-listen", &address]).start();
    get_when(&address, "/healthz", |status, _| status == 200).await;
    let held: Vec<_> = (0..100).map(|_| TcpStream::connect(&address).unwrap()).collect();
    sleep(Duration::from_millis(500)).await;
    let taken =
        std::fs::read_dir(format!("/proc/{}/fd", worker.pid())).map(Iterator::count).unwrap_or_default();
    assert!(taken < 80, "{taken} descriptors are taken");
    drop(held);
    get_when(&address, "/healthz", |status, _| status == 200).await;
    worker.signal("TERM");
    worker.ends_with(0).await;
}

#[tokio::test]
async fn a_chunk_that_is_asked_again_is_counted_by_its_reason() {
    let nats = TestNats::start().await;
    let site = Site::new(&[Document::new("looping", 4)]);
    let server = FakeOllama::start(FakeConfig::default());
    server.fault_next(Behaviour::Repeat("and the pump is inspected, ".to_owned()));
    let address = free_address();
    let worker = Line::worker(&nats, &[&server]).args(["--metrics-listen", &address]).start();
    site.generate().fleet(&nats).run(0).await;
    let text = get_when(&address, "/metrics", |_, body| body.contains("qa_worker_retries")).await;
    let retries: Vec<_> = text.lines().filter(|line| line.starts_with("qa_worker_retries")).collect();
    let [retry] = retries[..] else { panic!("{retries:?}") };
    assert!(retry.contains("qa_reason=\"repetition\"") && retry.ends_with(" 1"), "{retry}");
    worker.signal("TERM");
    worker.ends_with(0).await;
}

#[tokio::test]
async fn a_worker_is_not_ready_once_the_queue_server_is_lost() {
    let mut nats = TestNats::start().await;
    let server = FakeOllama::start(FakeConfig::default());
    let address = free_address();
    // Its heartbeats come only every few seconds: they are not what tells.
    let worker = Line::worker(&nats, &[&server]).args(["--metrics-listen", &address]).start();
    get_when(&address, "/readyz", |status, _| status == 200).await;
    nats.kill();
    get_when(&address, "/readyz", |status, body| status == 503 && body.contains("queue server")).await;
    nats.restart().await;
    get_when(&address, "/readyz", |status, _| status == 200).await;
    // A frozen server keeps its connections, which the client takes for lost only after three pings.
    signal(nats.pid(), "STOP");
    get_when(&address, "/readyz", |status, body| status == 503 && body.contains("does not answer")).await;
    signal(nats.pid(), "CONT");
    get_when(&address, "/readyz", |status, _| status == 200).await;
    worker.signal("TERM");
    worker.ends_with(0).await;
}
