//! Resuming work whose input, settings or failures have changed: edit one paragraph, pay for one chunk.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use qa_shared::testing::TestNats;
use qa_shared::testing::fake_ollama::{Behaviour, FakeConfig, FakeModel, FakeOllama};
use serde_json::{Value, json};

use crate::checker::{Check, check};
use crate::command_line::Line;
use crate::documents::Document;
use crate::processes::PATIENCE;
use crate::site::{Site, read_json};

fn server() -> FakeOllama {
    FakeOllama::start(FakeConfig {
        slots: 2,
        models: vec![FakeModel::new("qwen3:8b"), FakeModel::new("llama3.2:3b")],
        ..FakeConfig::default()
    })
}

fn documents() -> [Document; 2] {
    [Document::new("handbook", 14), Document::pdf("slides", 9, 4)]
}

/// A finished run.
async fn finished() -> (Site, FakeOllama) {
    let (site, server) = (Site::new(&documents()), server());
    site.generate().servers(&[&server]).run(0).await;
    assert_eq!(server.stats().chat_calls, 23);
    (site, server)
}

#[tokio::test]
async fn a_finished_job_asks_nothing_more() {
    let (site, server) = finished().await;
    let before = fs::read(site.qa_path("handbook")).unwrap();
    site.generate().arg("--resume").servers(&[&server]).run(0).await;
    site.check();
    assert_eq!(server.stats().chat_calls, 23);
    assert_eq!(fs::read(site.qa_path("handbook")).unwrap(), before);
}

#[tokio::test]
async fn new_documents_are_taken_in() {
    let (site, server) = finished().await;
    site.write(&Document::new("appendix", 5));
    site.generate().arg("--resume").servers(&[&server]).run(0).await;
    site.check();
    assert_eq!(server.stats().chat_calls, 23 + 5);
}

#[tokio::test]
async fn who_edits_one_paragraph_pays_for_one_chunk() {
    let (site, server) = finished().await;
    let [mut handbook, _] = documents();
    handbook.texts[6].push_str(" One more sentence, added later.");
    site.write(&handbook);
    let ended = site.generate().arg("--resume").servers(&[&server]).run(0).await;
    assert!(ended.stderr.contains("1 changed"), "{}", ended.stderr);
    site.check();
    assert_eq!(server.stats().chat_calls, 23 + 1);
    assert_eq!(server.stats().calls_for(&handbook.texts[6]), 1);
    let previous = site.job_folder().join("previous");
    assert!(fs::read_dir(previous).unwrap().count() >= 1, "the replaced file was not kept");
}

#[tokio::test]
async fn chunks_that_merely_moved_keep_their_pairs() {
    let (site, server) = finished().await;
    let [mut handbook, _] = documents();
    handbook.texts.swap(2, 11);
    handbook.texts.remove(5);
    handbook.texts.insert(0, "A new preface. It tells what the handbook is about.".to_owned());
    site.write(&handbook);
    site.generate().arg("--resume").servers(&[&server]).run(0).await;
    site.check();
    assert_eq!(server.stats().chat_calls, 23 + 1);
}

#[tokio::test]
async fn a_document_chunked_anew_is_asked_anew_where_its_texts_are_new() {
    let (site, server) = finished().await;
    let [handbook, _] = documents();
    let mut rechunked = handbook.clone();
    rechunked.texts = handbook.texts.chunks(2).map(|two| two.join("\n")).collect();
    site.write(&rechunked);
    site.generate().arg("--resume").servers(&[&server]).run(0).await;
    site.check();
    assert_eq!(server.stats().chat_calls, 23 + 7);
}

#[tokio::test]
async fn the_output_of_a_document_that_is_gone_stays_and_is_combined() {
    let (site, server) = finished().await;
    fs::remove_file(site.chunks_dir().join("slides_chunks.json")).unwrap();
    site.write(&Document::new("appendix", 2));
    let ended = site.generate().arg("--resume").servers(&[&server]).run(0).await;
    assert!(
        ended.stderr.contains("complete: the pairs stay in the combined file (slides)"),
        "the stray is not listed:\n{}",
        ended.stderr
    );
    check(&Check::new(&site).stray("slides"));
    assert_eq!(server.stats().chat_calls, 23 + 2);
}

/// A run in which two chunks of the handbook failed.
async fn with_failures() -> (Site, FakeOllama, [String; 2]) {
    let (site, server) = (Site::new(&documents()), server());
    let texts = &documents()[0].texts;
    let bad = [texts[3].clone(), texts[9].clone()];
    let refused = bad.clone();
    server.respond_with(move |call| {
        if refused.contains(&call.chunk) { Behaviour::Text("no".to_owned()) } else { Behaviour::Answer }
    });
    site.generate().args(["--attempts", "1"]).servers(&[&server]).run(1).await;
    check(&Check::new(&site).failed("handbook", [3, 9]));
    assert_eq!(server.stats().chat_calls, 23);
    (site, server, bad)
}

#[tokio::test]
async fn failed_chunks_and_nothing_else_are_tried_again() {
    let (site, server, bad) = with_failures().await;
    server.respond_with(|_| Behaviour::Answer);
    site.generate().arg("--resume").servers(&[&server]).run(0).await;
    site.check();
    let stats = server.stats();
    assert_eq!(stats.chat_calls, 23 + 2);
    assert!(bad.iter().all(|text| stats.calls_for(text) == 2));
}

#[tokio::test]
async fn failed_chunks_are_left_alone_on_request() {
    let (site, server, _) = with_failures().await;
    server.respond_with(|_| Behaviour::Answer);
    site.generate().args(["--resume", "--no-retry-failed"]).servers(&[&server]).run(1).await;
    check(&Check::new(&site).failed("handbook", [3, 9]));
    assert_eq!(server.stats().chat_calls, 23);
}

#[tokio::test]
async fn failures_that_fail_again_stay_failures() {
    let (site, server, _) = with_failures().await;
    site.generate().args(["--resume", "--attempts", "1"]).servers(&[&server]).run(1).await;
    check(&Check::new(&site).failed("handbook", [3, 9]));
    assert_eq!(server.stats().chat_calls, 23 + 2);
}

#[tokio::test]
async fn changed_settings_are_refused_until_they_are_accepted_and_then_count_for_the_rest() {
    let (site, server) = (Site::new(&documents()), server());
    site.generate().args(["--sample", "8"]).servers(&[&server]).run(0).await;
    let changed = || {
        let line = site.coordinator("generate").arg("--chunks-dir").arg(site.chunks_dir());
        line.args(["--provider", "local", "--model", "llama3.2:3b", "--resume"]).servers(&[&server])
    };
    let ended = changed().run(2).await;
    for part in ["model: qwen3:8b before, llama3.2:3b now", "--accept-changes", "15 outstanding"] {
        assert!(ended.stderr.contains(part), "`{part}` is missing:\n{}", ended.stderr);
    }
    assert_eq!(server.stats().chat_calls, 8);
    changed().arg("--accept-changes").run(0).await;
    site.check();
    assert_eq!(server.stats().chat_calls, 23);
    let mut models: Vec<_> = documents()
        .iter()
        .flat_map(|document| site.qa(&document.name)["chunks"].as_array().unwrap().clone())
        .map(|record| record["model"].as_str().unwrap().to_owned())
        .collect();
    models.sort();
    assert_eq!(models, [vec!["llama3.2:3b"; 15], vec!["qwen3:8b"; 8]].concat());
}

#[tokio::test]
async fn output_that_exists_is_not_overwritten_silently() {
    let (site, server) = finished().await;
    let before = fs::read(site.qa_path("handbook")).unwrap();
    let ended = site.generate().servers(&[&server]).run(2).await;
    assert!(ended.stderr.contains("--resume") && ended.stderr.contains("--restart"), "{}", ended.stderr);
    let line = site.generate().arg("--no-resume").env("GENERATOR_RESUME", "true");
    line.servers(&[&server]).run(2).await;
    assert_eq!(fs::read(site.qa_path("handbook")).unwrap(), before);
    assert_eq!(server.stats().chat_calls, 23);
}

#[tokio::test]
async fn a_restart_does_everything_again_and_keeps_the_old_files() {
    let (site, server) = finished().await;
    let (job, before) = (site.job(), fs::read(site.qa_path("handbook")).unwrap());
    site.generate().arg("--restart").servers(&[&server]).run(0).await;
    site.check();
    assert_eq!(server.stats().chat_calls, 2 * 23);
    assert_ne!(site.job(), job);
    let kept = files_in(&site.job_folder().join("previous"));
    assert!(kept.contains(&before), "the old file is not among the {} that were kept", kept.len());
}

/// The contents of all files in a directory and those in it.
fn files_in(directory: &Path) -> Vec<Vec<u8>> {
    let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let content = |path: std::path::PathBuf| {
        if path.is_dir() { files_in(&path) } else { vec![fs::read(path).unwrap()] }
    };
    paths.flat_map(content).collect()
}

#[tokio::test]
async fn unknown_fields_of_a_qa_file_survive() {
    let (site, server) = finished().await;
    let mut qa = site.qa("handbook");
    qa["reviewed_by"] = json!({"name": "Jürgen", "at": 7});
    fs::write(site.qa_path("handbook"), serde_json::to_vec_pretty(&qa).unwrap()).unwrap();
    let [mut handbook, _] = documents();
    handbook.texts[0].push_str(" Edited.");
    site.write(&handbook);
    site.generate().arg("--resume").servers(&[&server]).run(0).await;
    site.check();
    assert_eq!(site.qa("handbook")["reviewed_by"], json!({"name": "Jürgen", "at": 7}));
}

/// What the summary prints to go on with.
fn go_on_with(stderr: &str) -> String {
    let line = stderr.lines().find_map(|line| line.strip_prefix("go on with"));
    line.unwrap_or_else(|| panic!("no line to go on with:\n{stderr}")).trim().to_owned()
}

#[tokio::test]
async fn the_printed_line_goes_on_from_any_shell_with_all_settings() {
    let (site, server) = (Site::new(&documents()), server());
    let directory = site.root().join("my 'docs' für $HOME");
    fs::create_dir_all(directory.join("chunk files")).unwrap();
    for document in documents() {
        document.write(&directory.join("chunk files"));
    }
    fs::write(directory.join("own.txt"), "Ask {num_questions} about:\n{text}\n{extra_instructions}").unwrap();
    let line = Line::coordinator("generate", &directory);
    let line = line.args(["--provider", "local", "--model", "qwen3:8b", "--temperature", "0.31"]);
    let line = line.args(["--questions-per-chunk", "2", "--qa-prompt-template-file", "own.txt"]);
    let line = line.args(["--qa-system-message", "You are\n\"it's\" $x", "--output-file", "all of it.json"]);
    let line = line.args(["--chunks-dir", "chunk files", "--qa-dir=-q a", "--sample", "4"]);
    let ended = line.servers(&[&server]).run(0).await;
    let job_file = directory.join("-q a/.qa-fleet/job.json");
    let job = read_json(&job_file);

    let elsewhere = qa_shared::testing::temporary_folder();
    Line::shell(&go_on_with(&ended.stderr), elsewhere.path()).run(0).await;
    assert_eq!(read_json(&job_file), job, "the settings changed");
    assert_eq!(server.stats().chat_calls, 23);
    assert!(directory.join("all of it.json").is_file());
    let summary = read_json(&directory.join("-q a/qa_generation_summary.json"));
    assert_eq!(summary["total_qa_pairs"], 2 * 23);
}

#[tokio::test]
async fn a_resume_needs_only_the_directory_and_refuses_what_a_variable_says_otherwise() {
    let (site, server) = (Site::new(&documents()), server());
    site.generate().args(["--sample", "4", "--max-tokens-total", "900000"]).servers(&[&server]).run(0).await;
    let other = site.root().join("other");
    fs::create_dir(&other).unwrap();
    Document::new("appendix", 2).write(&other);
    let resume = || site.coordinator("generate").arg("--resume").env("OLLAMA_BASE_URL", server.url());
    for (variable, value, setting) in [
        ("GENERATOR_TEMPERATURE", "0.1", "temperature: 0.7 before, 0.1 now"),
        ("GENERATOR_PROCESS_DIR", other.to_str().unwrap(), "chunks-dir: "),
        ("QA_MAX_TOKENS_TOTAL", "5", "max-tokens-total: 900000 before, 5 now"),
    ] {
        let ended = resume().env(variable, value).run(2).await;
        assert!(ended.stderr.contains(setting), "{variable}:\n{}", ended.stderr);
    }
    assert_eq!(server.stats().chat_calls, 4);
    resume().run(0).await;
    site.check();
    assert_eq!(server.stats().chat_calls, 23);
}

#[tokio::test]
async fn results_that_were_stored_before_a_run_say_nothing_about_its_rate() {
    let nats = TestNats::start().await;
    let site = Site::new(&[Document::new("stored", 40)]);
    let server = FakeOllama::start(FakeConfig { slots: 4, ..FakeConfig::default() });
    server.respond_with(|_| Behaviour::Slow(Duration::from_millis(300)));
    let worker = Line::worker(&nats, &[&server]).start();
    let run = site.generate().fleet(&nats).start();
    server.wait_for(|stats| stats.finished >= 4).await;
    run.kill().await;
    worker.signal("TERM");
    worker.ends_with(0).await;
    let done = server.stats().finished;

    let run = site.generate().fleet(&nats).arg("--resume").start();
    let progress = progress_when(&site, |progress| progress["completed"] == done).await;
    assert_eq!((&progress["chunks_per_minute"], &progress["eta_seconds"]), (&0.0.into(), &Value::Null));
    let worker = Line::worker(&nats, &[&server]).start();
    let progress = progress_when(&site, |progress| progress["completed"].as_u64() > Some(done)).await;
    assert!(progress["chunks_per_minute"].as_f64() > Some(0.0), "{progress}");
    run.ends_with(0).await;
    site.check();
    drop(worker);
}

/// What the running coordinator writes about its progress.
async fn progress_when(site: &Site, is_right: impl Fn(&Value) -> bool) -> Value {
    let until = Instant::now() + PATIENCE;
    loop {
        let text = fs::read_to_string(site.job_folder().join("progress.json")).unwrap_or_default();
        let progress = serde_json::from_str(&text).unwrap_or(Value::Null);
        if is_right(&progress) {
            return progress;
        }
        assert!(Instant::now() < until, "progress.json does not become what it should be: {text}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A run of three documents that was stopped in the middle, with the worker's server.
async fn stopped() -> (Site, FakeOllama) {
    let site = Site::new(&[Document::new("a", 4), Document::new("b", 20), Document::new("c", 20)]);
    let server = server();
    server.respond_with(|_| Behaviour::Slow(Duration::from_millis(60)));
    let run = site.generate().servers(&[&server]).start();
    server.wait_for(|stats| stats.chat_calls >= 12).await;
    run.signal("INT");
    run.ends_with(3).await;
    assert_eq!((site.status_of("a").as_str(), site.status_of("b").as_str()), ("completed", "interrupted"));
    (site, server)
}

/// The combined file's pairs, and what the summary says about them.
fn pairs_of(site: &Site) -> [u64; 3] {
    let (combined, summary) = (read_json(&site.combined()), site.summary());
    [
        combined["training_pairs"].as_array().unwrap().len() as u64,
        summary["total_qa_pairs"].as_u64().unwrap(),
        summary["combined"]["pairs"].as_u64().unwrap(),
    ]
}

#[tokio::test]
async fn a_resume_without_some_of_the_chunk_files_says_so_and_combines_what_there_is() {
    let (site, server) = stopped().await;
    let away = site.root().join("away");
    fs::create_dir(&away).unwrap();
    let move_files = |from: &Path, to: &Path| {
        for name in ["a_chunks.json", "b_chunks.json"] {
            fs::rename(from.join(name), to.join(name)).unwrap();
        }
    };
    move_files(&site.chunks_dir(), &away);
    let done = site.positions("b", "completed_chunks").len() as u64;
    let ended = site.generate().arg("--resume").servers(&[&server]).run(1).await;
    for words in ["1 document without a chunk file and complete", "missing     b: its chunk file is missing"]
    {
        assert!(ended.stderr.contains(words), "{words}:\n{}", ended.stderr);
    }
    let summary = site.summary();
    assert_eq!(summary["missing_documents"]["b"]["outstanding"], json!(20 - done));
    assert_eq!(summary["chunks"]["outstanding"], json!(20 - done));
    assert_eq!(pairs_of(&site), [(4 + done + 20) * 3; 3]);
    let ended = site.generate().args(["--resume", "--accept-changes"]).servers(&[&server]).run(0).await;
    assert!(ended.stderr.contains("given up"), "{}", ended.stderr);
    assert_eq!(pairs_of(&site), [(4 + done + 20) * 3; 3]);
    move_files(&away, &site.chunks_dir());
    site.generate().arg("--resume").servers(&[&server]).run(0).await;
    site.check();
    assert_eq!(pairs_of(&site), [44 * 3; 3]);
    assert_eq!(server.stats().chat_calls, 44, "something was paid for twice");
}
