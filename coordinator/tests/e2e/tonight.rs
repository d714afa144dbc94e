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
    let (site, server) = (Site::new(&documents()), server(400));
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

    let asked = server.stats().chat_calls;
    let run = site.generate().arg("--resume").servers(&[&server]).start();
    server.wait_for(|stats| stats.chat_calls > asked).await;
    run.signal("TERM");
    run.ends_with(3).await;
    let (json, text) = status(&site).await;
    let run = &json["history"]["runs"][1];
    assert_eq!((&run["outcome"], &run["stopped_by"]), (&"interrupted".into(), &"signal".into()), "{text}");
    assert!(text.contains("interrupted by a signal (exit code 3)"), "{text}");
    assert!(text.contains("go on with   qa-coordinator generate --resume"), "{text}");
}

/// A command that writes its environment beside the site, and what it should find there.
fn note(site: &Site, name: &str) -> (String, std::path::PathBuf) {
    let file = site.root().join(name);
    (format!("env > '{0}.part'; mv '{0}.part' '{0}'; echo told", file.display()), file)
}

fn value(file: &std::path::Path, name: &str) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    found.unwrap_or_else(|| panic!("no {name} in:\n{text}")).to_owned()
}

#[tokio::test]
async fn the_users_command_learns_the_outcome_and_no_secret() {
    let (site, server) = (Site::new(&documents()), server(0));
    server.respond_with(|call| {
        if call.number == 9 { Behaviour::Text("I cannot.".to_owned()) } else { Behaviour::Answer }
    });
    let (command, file) = note(&site, "failed");
    let ended = site
        .generate()
        .args(["--attempts", "1", "--json"])
        .env("QA_ON_FINISH", &command)
        .env("OPENAI_API_KEY", "sk-secret")
        .env("ANTHROPIC_API_KEY_FILE", "/run/sk-secret")
        .env("MINE", "kept")
        .servers(&[&server])
        .run(1)
        .await;
    let _: Value = serde_json::from_str(&ended.stdout).expect("the command writes into the JSON");
    let values = ["QA_OUTCOME", "QA_EXIT_CODE", "QA_CHUNKS_TOTAL", "QA_CHUNKS_FAILED", "QA_PAIRS", "MINE"]
        .map(|name| value(&file, name));
    assert_eq!(values, ["failed_chunks", "1", "60", "1", "177", "kept"]);
    assert_eq!(value(&file, "QA_JOB"), site.job().to_string());
    assert_eq!(value(&file, "QA_OUTPUT_FILE"), site.combined().display().to_string());
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(!text.contains("sk-secret") && !text.contains("QA_ON_FINISH"), "{text}");
    assert!(text.contains("finished, with failures") && text.contains("no_usable_answer"), "{text}");

    let (command, file) = note(&site, "completed");
    let failing = format!("{command}; exit 7");
    let ended = site.generate().args(["--resume", "--on-finish", &failing]).servers(&[&server]).run(0).await;
    assert_eq!(value(&file, "QA_OUTCOME"), "completed");
    assert!(ended.stderr.contains("--on-finish: it ended with exit status: 7"), "{}", ended.stderr);
}

#[tokio::test]
async fn the_users_command_runs_after_a_signal_and_after_an_error_too() {
    let nats = TestNats::start().await;
    let (site, server) = (Site::new(&documents()), server(100));
    let worker = Line::worker(&nats, &[&server]).start();
    let (command, file) = note(&site, "interrupted");
    let run = site
        .generate()
        .args(["--on-finish", &command])
        .env("QA_NATS_TOKEN", "unused-secret")
        .fleet(&nats)
        .start();
    server.wait_for(|stats| stats.finished >= 10).await;
    run.signal("TERM");
    run.ends_with(3).await;
    assert_eq!(["QA_OUTCOME", "QA_EXIT_CODE"].map(|name| value(&file, name)), ["interrupted", "3"]);
    assert_eq!(value(&file, "QA_OUTPUT_FILE"), "");
    assert!(value(&file, "QA_CHUNKS_OUTSTANDING").parse::<u64>().unwrap() > 0);
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(!text.contains("unused-secret") && !text.contains("QA_NATS_URL"), "{text}");

    let (command, file) = note(&site, "broken");
    let run = site.generate().args(["--resume", "--on-finish", &command]).fleet(&nats).start();
    let before = server.stats().finished;
    server.wait_for(|stats| stats.finished >= before + 5).await;
    // The journal's next segment has no place to be.
    let folder = site.job_folder();
    let gone = site.root().join("gone");
    std::fs::rename(&folder, &gone).unwrap();
    std::fs::write(&folder, "in the way").unwrap();
    let ended = run.ends_with(6).await;
    assert_eq!(["QA_OUTCOME", "QA_EXIT_CODE"].map(|name| value(&file, name)), ["error", "6"]);
    assert!(value(&file, "QA_REPORT").contains("error:"), "{}", ended.stderr);
    drop(worker);
}

#[tokio::test]
async fn a_wrong_trace_address_is_refused_before_anything_is_done() {
    let site = Site::new(&documents());
    let ended = site.generate().env("QA_TRACE_URL", "http://jaeger:16686/trace/").run(2).await;
    assert!(ended.stderr.contains("{trace_id}"), "{}", ended.stderr);
    assert!(!site.qa_dir().exists());
}

#[tokio::test]
async fn failures_are_grouped_with_a_remedy_and_one_raw_answer() {
    let (site, server) = (Site::new(&documents()), server(0));
    let hostile = "Sorry\x1b[2J, not today.\nReally.";
    server.respond_with(move |call| match call.number {
        5 | 9 | 30 => Behaviour::Text(hostile.to_owned()),
        _ => Behaviour::Answer,
    });
    let run = site.generate().args(["--attempts", "1"]).servers(&[&server]);
    run.env("QA_TRACE_URL", "http://jaeger:16686/trace/{trace_id}").run(1).await;
    let slowest = site.summary()["slowest_chunks"].clone();
    assert_eq!(slowest.as_array().unwrap().len(), 10);
    let link = slowest[0]["trace_url"].as_str().unwrap();
    assert_eq!(link, format!("http://jaeger:16686/trace/{}", slowest[0]["trace_id"].as_str().unwrap()));
    // One is made good in a second run, whose bad answer stays in the log.
    let left: Vec<_> =
        documents().iter().flat_map(|one| site.positions(&one.name, "failed_chunks")).collect();
    assert_eq!(left.len(), 3);
    let first = server.stats().chat_calls + 1;
    server.respond_with(move |call| {
        if call.number == first { Behaviour::Answer } else { Behaviour::Text(hostile.to_owned()) }
    });
    let again = site.generate().args(["--resume", "--attempts", "1", "--max-failure-rate", "off"]);
    let ended = again.args(["--concurrency", "1"]).servers(&[&server]).run(1).await;
    let (before, _) = ended.stderr.split_once("\nresult ").expect("the result is shown");
    let (_, shown) = before.split_once("\nslowest ").expect("the slowest chunks stand above it");
    assert_eq!(shown.lines().count(), 3, "{}", ended.stderr);
    assert_eq!(site.summary()["slowest_chunks"].as_array().unwrap().len(), 10);

    let failures = |site: &Site| site.coordinator("failures").env("QA_TRACE_URL", "https://t/{trace_id}");
    let json: Value = serde_json::from_str(&failures(&site).arg("--json").run(0).await.stdout).unwrap();
    let group = &json["failed_chunks"][0];
    assert_eq!((&group["reason"], &group["count"]), (&"no_usable_answer".into(), &2.into()), "{json:#}");
    assert!(group["model"] == "qwen3:8b" && !group["host"].as_str().unwrap().is_empty(), "{json:#}");
    assert!(group["remedy"].as_str().unwrap().contains("try a larger model"), "{json:#}");
    assert_eq!(group["example"]["raw_answer"], hostile);
    assert!(group["example"]["trace_url"].as_str().unwrap().starts_with("https://t/"), "{json:#}");
    let answers: u64 =
        json["unusable_answers"].as_array().unwrap().iter().map(|g| g["count"].as_u64().unwrap()).sum();
    assert_eq!(answers, 5, "{json:#}");
    let text = failures(&site).run(0).await.stdout;
    for part in [
        "failed chunks  2 in",
        "2 x no_usable_answer with qwen3:8b",
        "| Sorry [2J, not today.",
        "failures.jsonl",
    ] {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }
    assert!(!text.contains('\x1b'), "{text:?}");
}

async fn shown(site: &Site, args: &[&str]) -> Vec<Value> {
    let line = args.iter().fold(site.coordinator("show"), Line::arg).arg("--json");
    let shown: Value = serde_json::from_str(&line.run(0).await.stdout).unwrap();
    shown.as_array().unwrap().clone()
}

#[tokio::test]
async fn chunks_are_shown_while_a_run_is_under_way_and_afterwards() {
    let (site, server) = (Site::new(&documents()), server(120));
    let run = site.generate().servers(&[&server]).start();
    eventually("some results", || {
        let progress = std::fs::read(site.job_folder().join("progress.json")).ok()?;
        let progress: Value = serde_json::from_slice(&progress).ok()?;
        (progress["completed"].as_u64()? >= 4).then_some(())
    })
    .await;
    let during = shown(&site, &["handbook"]).await;
    assert_eq!(during.len(), 36);
    let texts = documents()[0].texts.clone();
    for (chunk, text) in during.iter().zip(&texts) {
        assert_eq!(chunk["text"], text.as_str(), "{chunk}");
        let pairs = chunk["pairs"].as_array().unwrap().len();
        assert_eq!(pairs, if chunk["status"] == "completed" { 3 } else { 0 }, "{chunk}");
    }
    let completed = during.iter().filter(|chunk| chunk["status"] == "completed").count();
    assert!((3..36).contains(&completed), "{completed}");
    run.ends_with(0).await;

    let qa = site.qa("handbook");
    let path = site.qa_path("handbook").display().to_string();
    for name in ["handbook", "handbook_chunks.json", path.as_str()] {
        let chunk = &shown(&site, &[name, "7"]).await[0];
        assert_eq!(chunk["record"], qa["chunks"][7], "{name}");
        assert_eq!(chunk["text"], texts[7].as_str());
        for (number, pair) in chunk["pairs"].as_array().unwrap().iter().enumerate() {
            let written = &qa["training_pairs"][7 * 3 + number];
            assert_eq!((&pair["question"], &pair["answer"]), (&written["question"], &written["answer"]));
        }
    }
    let text = site.coordinator("show").args(["notes", "2"]).env("QA_TRACE_URL", "http://j/{trace_id}");
    let text = text.run(0).await.stdout;
    for part in
        ["2 of notes: completed", "qwen3:8b (local)", "3 of 3 pairs", "http://j/", "| notes, section 2."]
    {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }
    let random = shown(&site, &["--random", "10", "--seed", "5"]).await;
    assert!(random.len() == 10 && random.iter().all(|chunk| chunk["pairs"].as_array().unwrap().len() == 3));
    assert_eq!(random, shown(&site, &["--random", "10", "--seed", "5"]).await);
    assert_ne!(random, shown(&site, &["--random", "10", "--seed", "6"]).await);
    let unknown = site.coordinator("show").args(["handbok", "1"]).run(2).await;
    assert!(unknown.stderr.contains("did you mean `handbook`?"), "{}", unknown.stderr);
    let beyond = site.coordinator("show").args(["handbook", "36"]).run(2).await;
    assert!(beyond.stderr.contains("has chunks 0 to 35"), "{}", beyond.stderr);
}
