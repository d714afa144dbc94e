//! Nothing may stand still in silence: a run that does not move says so, wherever one looks, and says when it
//! moves again.

use std::time::Duration;

use qa_shared::model::{InstanceId, PoolName, WorkerPresence};
use qa_shared::queue::{Presence, Timing};
use qa_shared::testing::fake_ollama::{FakeConfig, FakeOllama};
use qa_shared::testing::{TestNats, samples};
use serde_json::Value;

use crate::command_line::Line;
use crate::documents::Document;
use crate::site::Site;

/// A worker that says that it has free slots, and asks for nothing: it is frozen, or a stranger.
fn ghost(pool: PoolName) -> WorkerPresence {
    let server = samples::server_presence("http://ghost:11434");
    WorkerPresence {
        pools: vec![pool],
        ..samples::worker_presence(InstanceId::new("ghost", 1, 1), "ghost", vec![server])
    }
}

#[tokio::test]
async fn a_run_that_nothing_moves_says_what_it_looked_at_and_goes_on_when_somebody_works() {
    let nats = TestNats::start().await;
    let short = Duration::from_secs(3);
    let queue = nats.queue(Timing { ack_wait: short, presence_age: short, ..Timing::default() }).await;
    let site = Site::new(&[Document::new("still", 6)]);
    let mut run = site.generate().fleet(&nats).impatient().start();
    let presence = Presence::new(&queue);
    let haunt = async {
        let worker = ghost(PoolName::new("ollama/qwen3:8b"));
        loop {
            presence.announce(&worker).await.unwrap();
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    let look = async {
        run.says("the run is stalled: 6 tasks out, no worker works on one").await;
        run.says("stream QA_TASKS holds 6 tasks of this job and QA_RESULTS 0 results").await;
        run.says("has 6 pending and 0 delivered without an answer, and 0 pulls wait there").await;
        let status = site.coordinator("status").arg("--json").run(0).await;
        let status: Value = serde_json::from_str(&status.stdout).unwrap();
        assert!(status["run"]["stall"]["seconds"].as_f64().unwrap() >= 4.5, "{status}");
        assert_eq!(status["run"]["eta_seconds"], Value::Null);
        let status = site.coordinator("status").run(0).await;
        assert!(status.stdout.contains("the run is stalled: 6 tasks out"), "{}", status.stdout);
    };
    tokio::select! {
        () = haunt => unreachable!("it never ends"),
        () = look => {}
    }
    let server = FakeOllama::start(FakeConfig::default());
    let worker = Line::worker(&nats, &[&server]).impatient().start();
    run.says("the run moves again after").await;
    run.ends_with(0).await;
    site.check();
    drop(worker);
}
