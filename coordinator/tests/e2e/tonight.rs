//! What happened tonight: told from the files alone, with no coordinator and no queue running.

use std::time::Duration;

use qa_shared::testing::TestNats;
use qa_shared::testing::fake_ollama::{Behaviour, FakeConfig, FakeOllama};
use serde_json::Value;

use crate::command_line::Line;
use crate::documents::Document;
use crate::processes::eventually;
use crate::site::Site;

fn documents() -> [Document; 2] {
    [Document::new("handbook", 36), Document::new("notes", 24)]
}

fn server(millis: u64) -> FakeOllama {
    let server = FakeOllama::start(FakeConfig { slots: 4, ..FakeConfig::default() });
    server.respond_with(move |_| Behaviour::Slow(Duration::from_millis(millis)));
    server
}

async fn status(site: &Site) -> (Value, String) {
    let json = site.coordinator("status").arg("--json").run(0).await.stdout;
    let text = site.coordinator("status").run(0).await.stdout;
    (serde_json::from_str(&json).unwrap(), text)
}

fn troubles(run: &Value) -> Vec<(String, bool)> {
    let troubles = run["troubles"].as_array().unwrap().iter();
    troubles.map(|one| (one["what"].as_str().unwrap().to_owned(), one["is_open"] == true)).collect()
}

fn events(site: &Site) -> String {
    std::fs::read_to_string(site.job_folder().join("events.jsonl")).unwrap_or_default()
}

#[tokio::test]
async fn a_night_in_which_the_queue_and_a_worker_died_is_told_from_files_alone() {
    let mut nats = TestNats::start().await;
    let (site, server) = (Site::new(&documents()), server(150));
    let steady = Line::worker(&nats, &[&server]).impatient().start();
    let doomed = Line::worker(&nats, &[&server]).impatient().start();
    let run = site.generate().fleet(&nats).impatient().start();
    server.wait_for(|stats| stats.chat_calls >= 8).await;
    eventually("both workers are seen", || {
        (events(&site).matches("worker_present").count() == 2).then_some(())
    })
    .await;
    doomed.kill().await;
    eventually("the loss of a worker", || events(&site).contains("worker_lost").then_some(())).await;
    nats.kill();
    eventually("the loss of the queue", || events(&site).contains("queue_lost").then_some(())).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    nats.restart().await;
    eventually("the queue is back", || events(&site).contains("queue_back").then_some(())).await;
    run.ends_with(0).await;
    drop((steady, nats));

    let (json, text) = status(&site).await;
    let run = &json["history"]["runs"][0];
    assert_eq!((&run["outcome"], &run["exit_code"]), (&"completed".into(), &0.into()), "{text}");
    assert_eq!((&run["figures"]["completed"], &run["figures"]["pairs"]), (&60.into(), &180.into()), "{text}");
    assert!(run["chunks_per_hour"].as_f64().unwrap() > 0.0 && run["workers"] == 2, "{run}");
    let troubles = troubles(run);
    assert!(troubles.contains(&("worker".to_owned(), true)), "{troubles:?}");
    assert!(troubles.contains(&("queue".to_owned(), false)), "{troubles:?}");
    let away = run["troubles"].as_array().unwrap().iter().find(|one| one["what"] == "queue").unwrap();
    assert!((1.0..30.0).contains(&away["seconds"].as_f64().unwrap()), "{away}");
    assert!(json["go_on_with"].is_null(), "{text}");
    for part in ["finished (exit code 0)", "60 of 60 chunks", "queue server not reachable", "worker lost on"]
    {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }
}

#[tokio::test]
async fn a_killed_run_and_a_damaged_log_are_told_with_the_command_to_go_on() {
    let (site, server) = (Site::new(&documents()), server(100));
    let run = site.generate().servers(&[&server]).start();
    eventually("figures of the run", || {
        let progress = std::fs::read(site.job_folder().join("progress.json")).ok()?;
        let progress: Value = serde_json::from_slice(&progress).ok()?;
        (progress["figures"]["completed"].as_u64()? >= 5).then_some(())
    })
    .await;
    run.kill().await;
    let log = site.job_folder().join("events.jsonl");
    let mut damaged = std::fs::read(&log).unwrap();
    damaged.extend(b"{\"at\":\"2026\n\xff\0\n{\"event\":\"from_the_future\",\"at\":\"x\",\"unix_ms\":1}\n");
    std::fs::write(&log, damaged).unwrap();
    let (json, text) = status(&site).await;
    let run = &json["history"]["runs"][0];
    assert_eq!(run["outcome"], "killed", "{text}");
    assert!(run["figures"]["completed"].as_u64().unwrap() >= 5, "{text}");
    assert_eq!(json["history"]["unreadable_lines"], 2, "{text}");
    assert!(json["go_on_with"].as_str().unwrap().contains("generate --resume"), "{text}");

    let run = site.generate().arg("--resume").servers(&[&server]).start();
    server.wait_for(|stats| stats.chat_calls >= 20).await;
    run.signal("TERM");
    run.ends_with(3).await;
    let (json, text) = status(&site).await;
    let run = &json["history"]["runs"][1];
    assert_eq!((&run["outcome"], &run["stopped_by"]), (&"interrupted".into(), &"signal".into()), "{text}");
    assert!(text.contains("interrupted by a signal (exit code 3)"), "{text}");
    assert!(text.contains("go on with   qa-coordinator generate --resume"), "{text}");
}
