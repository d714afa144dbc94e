//! As many requests as a server works on at once, found out and followed, where the number is not set.

use std::time::Duration;

use qa_shared::testing::TestNats;
use qa_shared::testing::fake_ollama::{Behaviour, FakeConfig, FakeOllama};

use crate::command_line::Line;
use crate::documents::Document;
use crate::site::Site;
use crate::spent::{calls, texts};

/// Requests in flight while so many more are answered, looked at each time that one is.
async fn in_flight(server: &FakeOllama, answers: u64) -> Vec<u64> {
    let mut seen = Vec::new();
    for _ in 0..answers {
        let finished = server.stats().finished;
        seen.push(server.wait_for(|stats| stats.finished > finished).await.in_flight);
    }
    seen
}

/// All of the server's slots are busy, and one request more waits: the number settles there, though on a busy machine
/// it may go beyond first.
async fn has_found(server: &FakeOllama, slots: u64) {
    let mut seen = Vec::new();
    for _ in 0..4 {
        server.wait_for(|stats| stats.generating == slots && stats.in_flight == slots + 1).await;
        seen.push(in_flight(server, 10 * slots).await);
        if seen.last().unwrap().iter().all(|in_flight| *in_flight <= slots + 3) {
            return;
        }
    }
    panic!("{slots} slots, in flight: {seen:?}");
}

#[tokio::test]
async fn a_worker_finds_a_servers_slots_and_follows_when_it_comes_back_with_others() {
    let nats = TestNats::start().await;
    let site = Site::new(&[Document::new("many", 3000)]);
    let server = FakeOllama::start(FakeConfig { slots: 5, ..FakeConfig::default() });
    server.respond_with(|call| Behaviour::Slow(Duration::from_millis(200 + call.number * 37 % 100)));
    let worker = Line::worker(&nats, &[&server]).args(["--concurrency", "auto"]).start();
    let run = site.generate().fleet(&nats).start();
    has_found(&server, 5).await;
    for slots in [2, 4] {
        server.disappear();
        server.reconfigure(|config| config.slots = slots);
        server.come_back();
        has_found(&server, slots as u64).await;
    }
    run.signal("TERM");
    run.ends_with(3).await;
    worker.signal("TERM");
    worker.ends_with(0).await;
}

#[tokio::test]
async fn one_machine_measures_without_being_told_and_each_chunk_is_asked_once() {
    let document = Document::new("machine", 300);
    let site = Site::new(std::slice::from_ref(&document));
    let server = FakeOllama::start(FakeConfig { slots: 6, ..FakeConfig::default() });
    server.respond_with(|_| Behaviour::Slow(Duration::from_millis(300)));
    let run = site.generate().servers(&[&server]).measuring().start();
    server.wait_for(|stats| stats.generating == 6).await;
    let ended = run.ends_with(0).await;
    site.check();
    // One context for the whole run, large enough for its longest chunk; and it is said.
    let [(_, context)] = &server.stats().loads[..] else { panic!("{:?}", server.stats().loads) };
    let said = format!("context={context} slots=auto, now 2");
    assert!(ended.stderr.contains(&said), "{}", ended.stderr);
    let usage = &site.summary()["usage"];
    let tokens = usage["input_tokens"].as_f64().unwrap() + usage["output_tokens"].as_f64().unwrap();
    assert_eq!(usage["tokens_per_pair"], tokens / 900.0);
    assert!(ended.stderr.contains(&format!("{:.0} per pair", tokens / 900.0)), "{}", ended.stderr);
    assert_eq!(calls(&[&server], &texts(&[document])), [(1, 300)].into());
    assert_eq!(server.stats().cancelled, 0, "a slot that closes finishes what it has");
}
