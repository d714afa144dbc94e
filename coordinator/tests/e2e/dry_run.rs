//! `generate --dry-run` says what the run then does, and changes nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use qa_shared::queue::{Presence, QueueError, Timing};
use qa_shared::testing::TestNats;
use qa_shared::testing::fake_ollama::{Behaviour, FakeConfig, FakeOllama};
use serde_json::Value;

use crate::budget::price_list;
use crate::command_line::Line;
use crate::documents::Document;
use crate::site::Site;

fn documents() -> [Document; 2] {
    [Document::new("handbook", 14), Document::new("slides", 6)]
}

/// Every path below a directory with its size and the time of its last change.
fn listing(directory: &Path) -> BTreeMap<PathBuf, (u64, SystemTime)> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let data = entry.metadata().unwrap();
        found.insert(entry.path(), (data.len(), data.modified().unwrap()));
        if data.is_dir() {
            found.extend(listing(&entry.path()));
        }
    }
    found
}

/// Runs it and makes sure that nothing has changed.
async fn dry_run(site: &Site, line: Line) -> Value {
    let before = listing(site.root());
    let ended = line.args(["--dry-run", "--json"]).run(0).await;
    assert_eq!(listing(site.root()), before, "a dry run has changed something");
    serde_json::from_str(&ended.stdout).unwrap()
}

fn server() -> FakeOllama {
    FakeOllama::start(FakeConfig { slots: 2, ..FakeConfig::default() })
}

#[tokio::test]
async fn what_it_says_is_what_the_run_does() {
    let (site, server) = (Site::new(&documents()), server());
    std::fs::write(site.chunks_dir().join("bad_chunks.json"), "{").unwrap();
    std::fs::write(site.chunks_dir().join("later_chunks.json"), "{\"status\": \"processing\"}").unwrap();
    let prices = price_list(&site);
    let line = || site.generate().env("QA_MODEL_TABLE", &prices).servers(&[&server]);
    let forecast = dry_run(&site, line()).await;
    assert!(!site.qa_dir().exists());
    assert_eq!(server.stats().chat_calls, 0);
    let documents = &forecast["documents"];
    let figures = ["total", "new", "partly_done", "done", "skipped", "broken"].map(|part| &documents[part]);
    assert_eq!(figures, [3, 2, 0, 0, 1, 1], "{forecast}");
    assert_eq!((&forecast["chunks"]["to_do"], &forecast["calls"]["at_most"]), (&20.into(), &60.into()));
    assert_eq!(forecast["time"]["seconds"], Value::Null, "nothing has run yet");

    line().run(1).await;
    let used = &site.summary()["usage"];
    assert_eq!(used["calls"], forecast["calls"]["estimate"]);
    for (field, slack) in [("input_tokens", 2.0), ("output_tokens", 4.0), ("cost_usd", 3.0)] {
        let (used, said) = (used[field].as_f64().unwrap(), &forecast[field]);
        let (estimate, most) = (said["estimate"].as_f64().unwrap(), said["at_most"].as_f64().unwrap());
        assert!(used <= most, "{field}: {used} used, {most} at most");
        assert!(
            used / slack <= estimate && estimate <= used * slack,
            "{field}: {used} used, about {estimate} said"
        );
    }
    let after = dry_run(&site, line().arg("--resume")).await;
    assert_eq!((&after["documents"]["done"], &after["chunks"]["to_do"]), (&2.into(), &0.into()));
    assert!(after["time"]["tokens_per_second"].as_f64().unwrap() > 0.0, "the last run has measured it");
}

#[tokio::test]
async fn it_sees_a_job_in_the_middle_as_the_resume_does() {
    let (site, server) = (Site::new(&documents()), server());
    server.respond_with(|_| Behaviour::Slow(Duration::from_millis(60)));
    let run = site.generate().servers(&[&server]).start();
    server.wait_for(|stats| stats.finished >= 7).await;
    // What is in the journal only counts as done.
    run.kill().await;
    crate::processes::no_process_is_left_in(site.root()).await;
    let ended = site.generate().arg("--dry-run").servers(&[&server]).run(2).await;
    assert!(ended.stderr.contains("output exists") && ended.stderr.contains("--resume"), "{}", ended.stderr);
    let ended = site.generate().args(["--dry-run", "--resume", "--temperature", "0.1"]);
    let ended = ended.servers(&[&server]).run(2).await;
    assert!(ended.stderr.contains("--accept-changes"), "{}", ended.stderr);

    let paid = server.stats().chat_calls;
    let forecast = dry_run(&site, site.generate().arg("--resume").servers(&[&server])).await;
    assert!(forecast["documents"]["partly_done"].as_u64() >= Some(1), "{forecast}");
    let to_do = forecast["chunks"]["to_do"].as_u64().unwrap();
    assert!((20 - paid..20).contains(&to_do), "{to_do} to do after {paid} calls");
    let sample =
        dry_run(&site, site.generate().args(["--resume", "--sample", "3"]).servers(&[&server])).await;
    assert_eq!(sample["calls"]["estimate"], 3);
    let restart = dry_run(&site, site.generate().arg("--restart").servers(&[&server])).await;
    assert_eq!((&restart["documents"]["new"], &restart["chunks"]["to_do"]), (&2.into(), &20.into()));
    let ended = site.generate().args(["--resume", "--dry-run"]).servers(&[&server]).run(0).await;
    assert!(ended.stdout.contains(&format!("chunks        {to_do} to do of 20")), "{}", ended.stdout);

    server.respond_with(|_| Behaviour::Answer);
    site.generate().arg("--resume").servers(&[&server]).run(0).await;
    site.check();
    // Results that waited in the private queue need no second call.
    assert!(server.stats().chat_calls - paid <= to_do);
}

#[tokio::test]
async fn it_asks_the_fleet_for_its_rate_and_leaves_the_queue_as_it_is() {
    let nats = TestNats::start().await;
    let (site, server) = (Site::new(&documents()), server());
    let forecast = dry_run(&site, site.generate().fleet(&nats)).await;
    assert_eq!(forecast["time"]["basis"], "no worker is present that has the model");
    let queue = nats.connect(Timing::default()).await;
    let workers = Presence::new(&queue).workers().await;
    assert!(matches!(workers, Err(QueueError::Missing { .. })), "a dry run has made a bucket: {workers:?}");

    let mut worker = Line::worker(&nats, &[&server]).start();
    site.generate().fleet(&nats).run(0).await;
    site.write(&Document::new("appendix", 4));
    let forecast = dry_run(&site, site.generate().arg("--resume").fleet(&nats)).await;
    assert_eq!((&forecast["chunks"]["to_do"], server.stats().chat_calls), (&4.into(), 20));
    let basis = forecast["time"]["basis"].as_str().unwrap();
    assert!(basis.contains("1 LLM server with 2 slots"), "{forecast}");
    assert!(worker.is_running());
}
