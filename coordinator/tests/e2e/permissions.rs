//! Whole jobs under the configuration in `deploy/nats`: the users of the two programs may do all that these need.

use std::time::Duration;

use qa_shared::testing::fake_ollama::{Behaviour, FakeConfig, FakeOllama};
use qa_shared::testing::{Shipped, TestNats};

use crate::command_line::Line;
use crate::documents::Document;
use crate::site::Site;

fn identified(line: Line, who: Shipped) -> Line {
    line.env("QA_NATS_USER", who.user()).env("QA_NATS_PASSWORD", who.password())
}

const VIOLATION: &str = "Permissions Violation";

#[tokio::test]
async fn a_job_is_done_with_the_shipped_permissions_through_a_stop_a_lost_worker_and_a_restart() {
    let mut nats = TestNats::shipped().await;
    let site = Site::new(&[Document::new("permitted", 40), Document::new("single", 1)]);
    let server = FakeOllama::start(FakeConfig { slots: 4, ..FakeConfig::default() });
    server.respond_with(|_| Behaviour::Slow(Duration::from_millis(150)));
    let worker = || identified(Line::worker(&nats, &[&server]), Shipped::Worker).impatient();
    let coordinator = |line: Line| identified(line, Shipped::Coordinator).impatient();

    let lost = worker().start();
    let mut first = coordinator(site.generate().fleet(&nats)).start();
    server.wait_for(|stats| stats.chat_calls > 5).await;
    lost.kill().await;
    let kept = worker().start();
    first.says(&format!("servers=\"{}\"", server.url())).await;
    server.wait_for(|stats| stats.chat_calls > 14).await;
    first.signal("INT");
    let stopped = first.ends_with(3).await;
    assert!(!stopped.stderr.contains(VIOLATION), "{}", stopped.stderr);

    let status = coordinator(site.coordinator("status").fleet(&nats)).run(0).await;
    assert!(!status.stderr.contains(VIOLATION), "{}", status.stderr);
    let resumed = coordinator(site.generate().fleet(&nats).arg("--resume")).start();
    server.wait_for(|stats| stats.chat_calls > 20).await;
    nats.restart().await;
    let ended = resumed.ends_with(0).await;
    assert!(!ended.stderr.contains(VIOLATION), "{}", ended.stderr);
    site.check();
    kept.signal("TERM");
    let ended = kept.ends_with(0).await;
    assert!(!ended.stderr.contains(VIOLATION), "{}", ended.stderr);
}

#[tokio::test]
async fn a_coordinator_with_the_workers_password_is_told_at_once() {
    let nats = TestNats::shipped().await;
    let site = Site::new(&[Document::new("refused", 2)]);
    let ended = identified(site.generate().fleet(&nats), Shipped::Worker).run(5).await;
    assert!(
        ended.stderr.contains("no permission to receive answers on _INBOX.qa-coordinator."),
        "{}",
        ended.stderr
    );
    assert!(!ended.stderr.contains(Shipped::Worker.password()), "{}", ended.stderr);
}
