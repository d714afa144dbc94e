//! The stop rules: whatever stops a run stops spending at once, throws nothing away, and can be gone on with.

use std::time::Duration;

use qa_shared::queue::{Queue, Tasks, Timing};
use qa_shared::testing::TestNats;
use qa_shared::testing::fake_ollama::{Behaviour, FakeConfig, FakeOllama};

use crate::command_line::Line;
use crate::documents::Document;
use crate::processes::{eventually, no_process_is_left_in};
use crate::site::Site;

fn documents() -> [Document; 2] {
    [Document::new("handbook", 36), Document::new("notes", 14)]
}

const CHUNKS: u64 = 50;

fn server(millis: u64) -> FakeOllama {
    let server = FakeOllama::start(FakeConfig { slots: 4, ..FakeConfig::default() });
    server.respond_with(move |_| Behaviour::Slow(Duration::from_millis(millis)));
    server
}

/// Tasks of the job in the queue, those in work included.
async fn stored(queue: &Queue, site: &Site) -> usize {
    Tasks::new(queue).stored(&site.job()).await.unwrap().len()
}

#[tokio::test]
async fn ctrl_c_takes_queued_tasks_back_and_a_resume_wastes_nothing() {
    let nats = TestNats::start().await;
    let (site, server) = (Site::new(&documents()), server(150));
    let worker = Line::worker(&nats, &[&server]).start();
    let run = site.generate().fleet(&nats).start();
    server.wait_for(|stats| stats.chat_calls >= 15).await;
    run.signal("INT");
    let ended = run.ends_with(3).await;
    assert!(ended.stderr.contains("--resume"), "{}", ended.stderr);
    // What is running at that moment is finished by its worker and waits in the queue.
    let queue = nats.connect(Timing::default()).await;
    assert!(stored(&queue, &site).await <= 2, "queued tasks were not taken back");
    server.wait_for(|stats| stats.in_flight == 0).await;
    let paid = server.stats().chat_calls;
    assert!(paid < CHUNKS, "the stop came too late to prove anything");
    let begun: Vec<_> = documents().into_iter().filter(|one| site.qa_path(&one.name).exists()).collect();
    assert!(
        begun.iter().all(|one| ["interrupted", "completed"].contains(&site.status_of(&one.name).as_str()))
    );
    assert_eq!(site.summary()["status"], "interrupted");
    site.generate().arg("--resume").fleet(&nats).run(0).await;
    site.check();
    assert_eq!(server.stats().chat_calls, CHUNKS);
    drop(worker);
}

#[tokio::test]
async fn ctrl_c_in_local_mode_finishes_what_runs_and_leaves_no_process() {
    let (site, server) = (Site::new(&documents()), server(150));
    for (signal, calls) in [("TERM", 8), ("HUP", 20)] {
        let run = site.generate().arg("--resume").servers(&[&server]).start();
        server.wait_for(|stats| stats.chat_calls >= calls).await;
        run.signal(signal);
        run.ends_with(3).await;
        no_process_is_left_in(site.root()).await;
        assert_eq!(server.stats().cancelled, 0, "a running call was given up");
    }
    site.generate().arg("--resume").servers(&[&server]).run(0).await;
    site.check();
    assert_eq!(server.stats().chat_calls, CHUNKS);
}

#[tokio::test]
async fn signals_that_are_ignored_at_the_start_stay_so_in_both_programs() {
    let nats = TestNats::start().await;
    let (site, server) = (Site::new(&documents()), server(10));
    let worker = Line::worker(&nats, &[&server]).ignoring_signals().start();
    let run = site.generate().fleet(&nats).ignoring_signals().start();
    server.wait_for(|stats| stats.chat_calls >= 8).await;
    for signal in ["HUP", "INT", "QUIT", "HUP", "INT", "QUIT"] {
        run.signal(signal);
        worker.signal(signal);
    }
    run.ends_with(0).await;
    site.check();
    assert_eq!(server.stats().chat_calls, CHUNKS);
    worker.signal("TERM");
    worker.ends_with(0).await;
}

#[tokio::test]
async fn a_second_signal_leaves_at_once() {
    let (site, server) = (Site::new(&documents()), server(10));
    server.respond_with(|call| if call.number > 5 { Behaviour::Hang } else { Behaviour::Answer });
    let mut run = site.generate().servers(&[&server]).start();
    server.wait_for(|stats| stats.generating == 2 && stats.chat_calls >= 7).await;
    run.signal("INT");
    run.says("a second signal leaves at once").await;
    // Signals that come together count as one.
    tokio::time::sleep(Duration::from_millis(300)).await;
    run.signal("INT");
    run.ends_with(130).await;
    no_process_is_left_in(site.root()).await;
    server.respond_with(|_| Behaviour::Answer);
    site.generate().arg("--resume").servers(&[&server]).run(0).await;
    site.check();
    assert!(server.stats().chat_calls <= CHUNKS + 2);
}

#[tokio::test]
async fn cancel_stops_a_live_coordinator_from_another_process() {
    let nats = TestNats::start().await;
    let (site, server) = (Site::new(&documents()), server(150));
    let worker = Line::worker(&nats, &[&server]).start();
    let run = site.generate().fleet(&nats).start();
    server.wait_for(|stats| stats.finished >= 10).await;
    site.coordinator("cancel").fleet(&nats).run(0).await;
    run.ends_with(3).await;
    let queue = nats.connect(Timing::default()).await;
    assert_eq!(stored(&queue, &site).await, 0);
    assert_eq!(site.summary()["status"], "cancelled");
    let before = server.stats().chat_calls;
    assert!(before < CHUNKS);
    site.generate().arg("--resume").fleet(&nats).run(0).await;
    site.check();
    assert!(server.stats().chat_calls <= CHUNKS + 2);
    drop(worker);
}

#[tokio::test]
async fn cancel_without_a_coordinator_empties_the_queue_and_marks_the_documents() {
    let nats = TestNats::start().await;
    let (site, server) = (Site::new(&documents()), server(100));
    let worker = Line::worker(&nats, &[&server]).start();
    let run = site.generate().fleet(&nats).start();
    server.wait_for(|stats| stats.finished >= 10).await;
    eventually("a Q&A file", || site.qa_path("handbook").exists().then_some(())).await;
    run.kill().await;
    assert_eq!(site.status_of("handbook"), "in_progress");
    site.coordinator("cancel").fleet(&nats).run(0).await;
    let queue = nats.connect(Timing::default()).await;
    assert_eq!(stored(&queue, &site).await, 0);
    assert_eq!(site.status_of("handbook"), "interrupted");
    let status = site.coordinator("status").run(0).await;
    assert!(status.stdout.contains("cancel"), "{}", status.stdout);
    site.generate().arg("--resume").fleet(&nats).run(0).await;
    site.check();
    drop(worker);
}

#[tokio::test]
async fn a_detached_coordinator_leaves_its_tasks_to_the_fleet_and_a_resume_collects_the_results() {
    let nats = TestNats::start().await;
    let (site, server) = (Site::new(&documents()), server(10));
    let mut run = site.generate().arg("--detach").fleet(&nats).start();
    // Without workers nothing of what is queued can be done before the coordinator is gone.
    run.says("no worker is running").await;
    run.signal("INT");
    run.ends_with(3).await;
    let queue = nats.connect(Timing::default()).await;
    let left = u64::try_from(stored(&queue, &site).await).unwrap();
    assert!(left > 2, "only {left} tasks were left to the fleet");
    let worker = Line::worker(&nats, &[&server]).start();
    server.wait_for(|stats| stats.finished == left).await;
    site.generate().arg("--resume").fleet(&nats).run(0).await;
    site.check();
    assert_eq!(server.stats().chat_calls, CHUNKS);
    drop(worker);
}

#[tokio::test]
async fn ten_failures_at_the_start_stop_the_run_and_a_resume_makes_it_good() {
    let (site, server) = (Site::new(&documents()), server(0));
    server.respond_with(|_| Behaviour::Text("I cannot help with that.".to_owned()));
    let ended = site.generate().args(["--attempts", "1"]).servers(&[&server]).run(4).await;
    assert!(ended.stderr.contains("the first 10 chunks all failed"), "{}", ended.stderr);
    assert!(ended.stderr.contains("try a larger model"), "no remedy:\n{}", ended.stderr);
    let paid = server.stats().chat_calls;
    assert!(paid < CHUNKS, "nothing was saved by stopping");
    server.respond_with(|_| Behaviour::Answer);
    site.generate().arg("--resume").servers(&[&server]).run(0).await;
    site.check();
    assert_eq!(server.stats().chat_calls, paid + CHUNKS);
}

#[tokio::test]
async fn a_sample_asks_that_many_and_a_resume_only_the_rest() {
    let (site, server) = (Site::new(&documents()), server(0));
    let ended = site.generate().args(["--sample", "6", "--seed", "7"]).servers(&[&server]).run(0).await;
    assert_eq!(server.stats().chat_calls, 6);
    assert!((ended.stdout + &ended.stderr).contains("What does part 1 of chunk"), "no pairs are shown");
    for document in documents() {
        assert_eq!(site.status_of(&document.name), "interrupted", "{}", document.name);
        assert_eq!(site.positions(&document.name, "completed_chunks").len(), 3);
    }
    assert!(!site.combined().exists());
    site.generate().arg("--resume").servers(&[&server]).run(0).await;
    site.check();
    assert_eq!(server.stats().chat_calls, CHUNKS);
}
