//! Bad input end to end: one clear message, the documented exit code, nothing lost, and whatever is not
//! broken is done nevertheless.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use qa_shared::testing::fake_ollama::{Behaviour, FakeConfig, FakeOllama};
use qa_shared::testing::{TestNats, TestNatsOptions};
use serde_json::{Value, json};

use crate::checker::{Check, check};
use crate::command_line::Line;
use crate::documents::Document;
use crate::processes::{PATIENCE, no_process_is_left_in};
use crate::site::{Site, read_json};

#[tokio::test]
async fn broken_chunk_files_never_stop_the_others() {
    let site = Site::new(&[Document::new("good", 5), Document::new("empty", 0), Document::new("one", 1)]);
    let write = |name: &str, text: &[u8]| fs::write(site.chunks_dir().join(name), text).unwrap();
    let whole = fs::read(site.chunks_dir().join("good_chunks.json")).unwrap();
    write("truncated_chunks.json", &whole[..whole.len() / 2]);
    write("prose_chunks.json", b"this is no JSON");
    write("nothing_chunks.json", b"");
    write("list_chunks.json", b"[1, 2, 3]");
    write("binary_chunks.json", &[0xff, 0xfe, 0x00, 0x80]);
    write("half_chunks.json", br#"{"status": "processing", "metadata": {}, "chunks": []}"#);
    write("._good_chunks.json", b"macOS");
    fs::create_dir(site.chunks_dir().join("folder_chunks.json")).unwrap();
    let server = FakeOllama::start(FakeConfig::default());
    let ended = site.generate().servers(&[&server]).run(1).await;
    let broken = ["truncated", "prose", "nothing", "list", "binary"];
    let checked = broken.iter().fold(Check::new(&site), |check, name| check.broken(name));
    check(&checked.broken("folder"));
    assert_eq!(server.stats().chat_calls, 6);
    let summary = site.summary();
    for name in broken {
        assert!(summary["failed_documents"].get(name).is_some(), "{name} is not listed: {summary:#}");
        assert!(ended.stderr.contains(name), "{name} is not named:\n{}", ended.stderr);
    }
    assert!(ended.stderr.contains("and 1 more, see qa_generation_summary.json"), "{}", ended.stderr);
    let failures = site.coordinator("failures").run(0).await.stdout;
    for name in broken {
        assert!(failures.contains(&format!("document       {name}: ")), "{failures}");
    }
    assert_eq!(summary["skipped_files"]["half"], "processing");
    assert!(!site.qa_path("half").exists());
    assert_eq!(site.status_of("empty"), "completed");
    // Repaired, they are done by a resume.
    for name in broken {
        site.write(&Document::new(name, 2));
    }
    fs::remove_dir(site.chunks_dir().join("folder_chunks.json")).unwrap();
    site.generate().arg("--resume").servers(&[&server]).run(0).await;
    site.check();
    assert_eq!(server.stats().chat_calls, 6 + 2 * 5);
}

#[tokio::test]
async fn one_bad_value_costs_a_chunk_and_not_its_document() {
    let site = Site::new(&[Document::new("report", 14)]);
    let path = site.chunks_dir().join("report_chunks.json");
    let mut file = read_json(&path);
    let chunks = file["chunks"].as_array_mut().unwrap();
    for (chunk, text) in chunks.iter_mut().zip([json!(null), json!(2024), json!(["a", "b"]), json!({})]) {
        chunk["text"] = text;
    }
    chunks[4].as_object_mut().unwrap().remove("text");
    for chunk in &mut chunks[5..11] {
        chunk["text"] = json!(true);
    }
    let text = serde_json::to_string_pretty(&file).unwrap();
    let text = text.replacen(r#""page": 0"#, r#""page": NaN"#, 99).replacen(
        "\"file_size\": 22252",
        "\"file_size\": Infinity",
        1,
    );
    fs::write(&path, text.replacen(", section 12.", ", section \\ud835 12.", 1)).unwrap();
    let server = FakeOllama::start(FakeConfig::default());
    let ended = site.generate().servers(&[&server]).run(1).await;
    for named in [
        "chunk 0: `text` is null",
        "chunk 1: `text` is the number 2024",
        "and 8 more",
        "half surrogate pair",
        "invalid_chunk",
    ] {
        assert!(ended.stderr.contains(named), "{named} is not said:\n{}", ended.stderr);
    }
    let qa = site.qa("report");
    assert_eq!(
        (qa["status"].as_str(), qa["failed_chunks"].as_array().unwrap().len()),
        (Some("completed"), 11)
    );
    assert_eq!(qa["metadata"]["file_size"], Value::Null);
    let record = qa["chunks"].as_array().unwrap().iter().find(|record| record["chunk"] == 2).unwrap();
    assert_eq!(record["error"]["reason"], "invalid_chunk");
    let message = record["error"]["message"].as_str().unwrap();
    assert!(message.contains("chunk 2 of `report_chunks.json`") && message.contains("a list"), "{message}");
    let combined = read_json(&site.combined());
    let repaired = combined["training_pairs"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|pair| pair["source_text"].as_str().unwrap().contains("section \u{fffd} 12."));
    assert_eq!(repaired.count(), 3);
    assert_eq!(server.stats().chat_calls, 3);
    // The cause is the input: without a change there is nothing to try again.
    site.generate().arg("--resume").servers(&[&server]).run(1).await;
    assert_eq!(server.stats().chat_calls, 3);
}

#[tokio::test]
async fn lists_lines_and_other_names_of_the_text_are_documents_too() {
    let site = Site::new(&[Document::new("plain", 1)]);
    let write = |name: &str, text: &str| fs::write(site.chunks_dir().join(name), text).unwrap();
    write("list_chunks.json", r#"[{"page_content": "The list says this.", "metadata": {"page": 1}}]"#);
    write("lines_chunks.json", "{\"text\": \"Line one.\"}\n{\"content\": \"Line two.\"}\n");
    let server = FakeOllama::start(FakeConfig::default());
    site.generate().servers(&[&server]).run(0).await;
    assert_eq!(server.stats().chat_calls, 4);
    let pairs = site.qa("lines")["training_pairs"].clone();
    assert_eq!((&pairs[0]["file_name"], &pairs[0]["chunk_index"]), (&json!("lines"), &json!(0)));
    assert_eq!((&pairs[3]["source_text"], &pairs[3]["chunk_index"]), (&json!("Line two."), &json!(1)));
}

#[tokio::test]
async fn every_chunk_file_with_another_status_is_named_and_the_form_is_shown() {
    let site = Site::new(&[Document::new("any", 2)]);
    fs::remove_file(site.chunks_dir().join("any_chunks.json")).unwrap();
    let write = |name: &str, text: &str| fs::write(site.chunks_dir().join(name), text).unwrap();
    write("one_chunks.json", r#"{"status": "processing", "chunks": []}"#);
    write("two_chunks.json", r#"{"status": "failed", "chunks": []}"#);
    write("three_chunks.json", r#"{"pages": []}"#);
    let server = FakeOllama::start(FakeConfig::default());
    let ended = site.generate().servers(&[&server]).run(2).await;
    let form = "expected {\"status\": \"completed\", \"chunks\": [{\"text\": \"...\"}]}";
    for named in ["of 3 chunk files", "one has processing", "two has failed", "three has none", form] {
        assert!(ended.stderr.contains(named), "{named} is not said:\n{}", ended.stderr);
    }
}

#[tokio::test]
async fn chunks_of_which_nothing_shows_are_empty_ones() {
    let mut document = Document::new("blank", 4);
    document.texts[1] = "\u{200b}\u{feff}\u{ad}".to_owned();
    document.texts[2] = "\u{1}\u{c} \u{a0}".to_owned();
    let site = Site::new(&[document]);
    let server = FakeOllama::start(FakeConfig::default());
    site.generate().servers(&[&server]).run(1).await;
    check(&Check::new(&site).failed("blank", [1, 2]));
    let records = site.qa("blank")["chunks"].clone();
    assert_eq!(records[1]["error"]["reason"], "empty_chunk");
    assert_eq!(server.stats().chat_calls, 2);
}

#[tokio::test]
async fn chunk_files_in_folders_are_documents_with_the_folders_in_their_names() {
    let site = Site::new(&[Document::new("top", 1)]);
    let folder = site.chunks_dir().join("manuals");
    fs::create_dir(&folder).unwrap();
    fs::rename(site.chunks_dir().join("top_chunks.json"), folder.join("pump_chunks.json")).unwrap();
    let server = FakeOllama::start(FakeConfig::default());
    site.generate().servers(&[&server]).run(0).await;
    assert_eq!(site.qa("manuals__pump")["status"], "completed");
    assert_eq!(read_json(&site.combined())["metadata"]["num_documents"], 1);
}

#[tokio::test]
async fn one_long_chunk_is_done_last_with_a_context_of_its_own_and_named_before() {
    let mut document = Document::new("manual", 12);
    document.texts[3] = "A sentence that goes on. ".repeat(4000).trim().to_owned();
    document.texts[5] = format!("Figure 7. ![pump](data:image/png;base64,{})", "iVBORw0KGgo".repeat(9000));
    let site = Site::new(&[document.clone()]);
    let server = FakeOllama::start(FakeConfig { slots: 1, ..FakeConfig::default() });
    let line = || site.generate().args(["--concurrency", "1"]).servers(&[&server]);
    let dry = line().arg("--dry-run").run(0).await;
    let ended = line().run(0).await;
    for named in ["1 chunk far longer than the others: manual chunk 3", "1 data URI in 1 chunk left out"] {
        assert!(dry.stdout.contains(named), "{named} is not forecast:\n{}", dry.stdout);
        assert!(ended.stderr.contains(named), "{named} is not said:\n{}", ended.stderr);
    }
    let bodies = server.stats().bodies;
    let contexts: Vec<u64> = bodies
        .iter()
        .filter(|body| body["messages"][1].is_object())
        .map(|body| body["options"]["num_ctx"].as_u64().unwrap())
        .collect();
    assert_eq!(contexts.len(), 12, "{contexts:?}");
    assert!(contexts[..11].iter().all(|context| *context == 5120) && contexts[11] > 30_000, "{contexts:?}");
    assert!(bodies.iter().all(|body| !body.to_string().contains("iVBORw0KGgoiVBORw0KGgo")));
    assert_eq!(site.qa("manual")["training_pairs"][15]["source_text"], document.texts[5]);
}

#[tokio::test]
async fn a_fixed_context_is_sent_and_the_chunks_that_may_not_fit_are_named_before() {
    let mut document = Document::new("manual", 12);
    document.texts[3] = "A sentence that goes on. ".repeat(1000).trim().to_owned();
    let site = Site::new(&[document]);
    let server = FakeOllama::start(FakeConfig { slots: 1, ..FakeConfig::default() });
    let line = || site.generate().args(["--ollama-num-ctx", "6144"]).servers(&[&server]);
    let named = "1 chunk may need more than --ollama-num-ctx 6144 with prompt and answer: manual chunk 3";
    let dry = line().arg("--dry-run").run(0).await;
    assert!(dry.stdout.contains(named), "{}", dry.stdout);
    let ended = line().run(1).await;
    assert!(ended.stderr.contains(named), "{}", ended.stderr);
    let bodies = server.stats().bodies;
    assert!(bodies.iter().all(|body| body["options"]["num_ctx"] == 6144), "{bodies:?}");
    assert_eq!(site.positions("manual", "failed_chunks"), [3]);
}

#[tokio::test]
async fn the_columns_that_the_combined_file_has_as_text_are_in_the_commands_json() {
    let site = Site::new(&[]);
    fs::create_dir(site.qa_dir()).unwrap();
    for (name, id) in [("one", "\"0_1\""), ("two", "7")] {
        let pair = format!("{{\"question\": \"q\", \"answer\": \"a\", \"chunk_id\": {id}}}");
        let text = format!("{{\"metadata\": {{}}, \"training_pairs\": [{pair}], \"status\": \"completed\"}}");
        fs::write(site.qa_path(name), text).unwrap();
    }
    let ended = site.coordinator("combine").arg("--json").run(0).await;
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(report["text_columns"], json!(["chunk_id"]));
    assert!(ended.stderr.contains("`chunk_id`"), "{}", ended.stderr);
}

#[tokio::test]
async fn documents_of_any_name_are_done() {
    let long = "ein sehr langer Name ".repeat(10);
    let names = [
        "with spaces",
        "Übersicht über Größen",
        "概要",
        "release.v2.10",
        "FAQ",
        "faq",
        "-dash",
        "a'b\"c",
        "percent%20",
        "dollar$HOME",
        "star*",
        long.trim(),
    ];
    let documents: Vec<_> = names.iter().map(|name| Document::new(name, 2)).collect();
    let site = Site::new(&documents);
    let server = FakeOllama::start(FakeConfig::default());
    site.generate().servers(&[&server]).run(0).await;
    site.check();
    assert_eq!(server.stats().chat_calls, 2 * names.len() as u64);
}

#[tokio::test]
async fn a_chunk_that_never_gets_an_answer_fails_with_its_raw_answers_and_the_rest_is_done() {
    let document = Document::new("poisoned", 12);
    let site = Site::new(std::slice::from_ref(&document));
    let server = FakeOllama::start(FakeConfig::default());
    let bad = document.texts[4].clone();
    server.respond_with(move |call| {
        if call.chunk == bad {
            Behaviour::Text("As a language model I like soup.".to_owned())
        } else {
            Behaviour::Answer
        }
    });
    let ended = site.generate().servers(&[&server]).run(1).await;
    check(&Check::new(&site).failed("poisoned", [4]));
    assert_eq!(server.stats().calls_for(&document.texts[4]), 3);
    let record =
        site.qa("poisoned")["chunks"].as_array().unwrap().iter().find(|one| one["chunk"] == 4).cloned();
    assert_eq!(record.unwrap()["error"]["reason"], "no_usable_answer");
    let log = fs::read_to_string(site.job_folder().join("failures.jsonl")).unwrap();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.iter().filter(|line| line["answer"] == "As a language model I like soup.").count(), 3);
    assert!(lines.iter().all(|line| line["document"] == "poisoned" && line["chunk"] == 4));
    assert!(
        ended.stderr.contains("no_usable_answer") && ended.stderr.contains("failures.jsonl"),
        "{}",
        ended.stderr
    );
    let status = site.coordinator("status").arg("--json").run(0).await;
    let status: Value = serde_json::from_str(&status.stdout).unwrap();
    assert_eq!(status["running"], false);
    assert_eq!(status["run"]["failures"], json!({"no_usable_answer": 1}));
    assert_eq!(status["documents"][0]["failed"], 1);
}

#[tokio::test]
async fn a_document_of_which_every_chunk_fails_is_failed_and_not_combined() {
    let (bad, good) = (Document::new("bad", 3), Document::new("good", 3));
    let site = Site::new(&[bad.clone(), good]);
    let server = FakeOllama::start(FakeConfig::default());
    server.respond_with(move |call| {
        if bad.texts.contains(&call.chunk) { Behaviour::Text("no".to_owned()) } else { Behaviour::Answer }
    });
    site.generate().args(["--attempts", "1"]).servers(&[&server]).run(1).await;
    check(&Check::new(&site).failed("bad", 0..3));
    assert_eq!(site.status_of("bad"), "failed");
}

#[tokio::test]
async fn a_chunk_over_the_queue_servers_limit_fails_and_the_rest_is_done() {
    let nats = TestNats::start_with(TestNatsOptions { max_payload: 16 * 1024, ..Default::default() }).await;
    let mut document = Document::new("wide", 6);
    document.texts[2] = "A sentence that goes on. ".repeat(900).trim().to_owned();
    document.texts[5] = String::new();
    let site = Site::new(&[document]);
    let server = FakeOllama::start(FakeConfig::default());
    let worker = Line::worker(&nats, &[&server]).start();
    let ended = site.generate().fleet(&nats).run(1).await;
    check(&Check::new(&site).failed("wide", [2, 5]));
    assert!(ended.stderr.contains("task_too_large"), "{}", ended.stderr);
    assert_eq!(server.stats().chat_calls, 4);
    // The cause is the input: without a change there is nothing to try again.
    site.generate().arg("--resume").fleet(&nats).run(1).await;
    assert_eq!(server.stats().chat_calls, 4);
    drop(worker);
}

#[tokio::test]
async fn a_queue_that_cannot_be_used_is_named_with_exit_code_5() {
    let site = Site::new(&[Document::new("any", 2)]);
    let begun = Instant::now();
    let ended = site.generate().args(["--nats-url", "nats://127.0.0.1:1"]).run(5).await;
    assert!(ended.stderr.contains("127.0.0.1:1"), "{}", ended.stderr);
    assert!(begun.elapsed() < Duration::from_secs(30), "took {:?}", begun.elapsed());
    let plain = TestNats::start_with(TestNatsOptions { jetstream: false, ..Default::default() }).await;
    let ended = site.generate().fleet(&plain).run(5).await;
    assert!(ended.stderr.contains("JetStream"), "{}", ended.stderr);
    let closed =
        TestNats::start_with(TestNatsOptions { token: Some("s3cret".to_owned()), ..Default::default() });
    let closed = closed.await;
    let ended = site.generate().fleet(&closed).args(["--nats-token", "wr0ng"]).run(5).await;
    assert!(ended.stderr.contains("error:") && !ended.stderr.contains("wr0ng"), "{}", ended.stderr);
}

#[tokio::test]
async fn local_mode_without_a_nats_server_says_how_to_get_one() {
    let site = Site::new(&[Document::new("any", 2)]);
    let server = FakeOllama::start(FakeConfig::default());
    let line = site.generate().servers(&[&server]).env("PATH", "/nowhere").env("QA_NATS_SERVER", "");
    let ended = line.run(5).await;
    assert!(
        ended.stderr.contains("nats-server") && ended.stderr.contains("QA_NATS_SERVER"),
        "{}",
        ended.stderr
    );
    let line = site.generate().servers(&[&server]).env("QA_NATS_SERVER", "/nowhere/nats-server");
    let ended = line.run(5).await;
    assert!(ended.stderr.contains("/nowhere/nats-server"), "{}", ended.stderr);
}

#[tokio::test]
async fn a_second_coordinator_on_the_same_directory_is_told_who_works_there() {
    let site = Site::new(&[Document::new("shared", 4)]);
    let server = FakeOllama::start(FakeConfig::default());
    server.respond_with(|_| Behaviour::Hang);
    let first = site.generate().servers(&[&server]).start();
    server.wait_for(|stats| stats.generating == 1).await;
    let ended = site.generate().arg("--resume").servers(&[&server]).run(75).await;
    let holder = format!("process {}", first.pid());
    assert!(ended.stderr.contains(&holder), "{holder} is not named:\n{}", ended.stderr);
    let ended = site.generate().arg("--restart").servers(&[&server]).run(75).await;
    assert!(ended.stderr.contains(&holder), "{holder} is not named:\n{}", ended.stderr);
    first.kill().await;
    no_process_is_left_in(site.root()).await;
    server.respond_with(|_| Behaviour::Answer);
    site.generate().arg("--resume").servers(&[&server]).run(0).await;
    site.check();
}

#[tokio::test]
async fn directories_that_cannot_be_used_are_named() {
    let site = Site::new(&[Document::new("any", 2)]);
    let server = FakeOllama::start(FakeConfig::default());
    // A file in place of the directory: permissions do not stop every user.
    fs::write(site.qa_dir(), "in the way").unwrap();
    let ended = site.generate().servers(&[&server]).run(6).await;
    assert!(ended.stderr.contains(site.qa_dir().to_str().unwrap()), "{}", ended.stderr);
    assert_eq!(fs::read_to_string(site.qa_dir()).unwrap(), "in the way");
    fs::remove_file(site.qa_dir()).unwrap();
    fs::remove_file(site.chunks_dir().join("any_chunks.json")).unwrap();
    let ended = site.generate().servers(&[&server]).run(2).await;
    assert!(ended.stderr.contains("no file named *_chunks.json"), "{}", ended.stderr);
    fs::remove_dir(site.chunks_dir()).unwrap();
    let ended = site.generate().servers(&[&server]).run(2).await;
    assert!(ended.stderr.contains(site.chunks_dir().to_str().unwrap()), "{}", ended.stderr);
    assert!(!site.chunks_dir().exists());
    assert_eq!(server.stats().chat_calls, 0);
}

#[tokio::test]
async fn a_document_that_is_edited_during_the_run_stops_and_a_resume_takes_the_new_text() {
    let (mut edited, other) = (Document::new("edited", 30), Document::new("other", 10));
    let site = Site::new(&[edited.clone(), other]);
    let server = FakeOllama::start(FakeConfig { slots: 2, ..FakeConfig::default() });
    server.respond_with(|_| Behaviour::Slow(Duration::from_millis(50)));
    let run = site.generate().servers(&[&server]).start();
    server.wait_for(|stats| stats.chat_calls >= 5).await;
    edited.texts[20].push_str(" Changed while it was read.");
    site.write(&edited);
    let ended = run.ends_with(1).await;
    assert!(ended.stderr.contains("edited"), "{}", ended.stderr);
    site.generate().arg("--resume").servers(&[&server]).run(0).await;
    site.check();
    assert!(server.stats().chat_calls <= 41 + 2, "{} calls", server.stats().chat_calls);
}

#[tokio::test]
async fn a_combined_file_of_another_directory_is_not_replaced() {
    let (mine, theirs) = (Site::new(&[Document::new("mine", 2)]), Site::new(&[Document::new("theirs", 2)]));
    let server = FakeOllama::start(FakeConfig::default());
    mine.generate().servers(&[&server]).run(0).await;
    let before = fs::read(mine.combined()).unwrap();
    let line = || theirs.generate().arg("--output-file").arg(mine.combined()).servers(&[&server]);
    let ended = line().run(2).await;
    assert!(ended.stderr.contains("--overwrite"), "{}", ended.stderr);
    assert_eq!(fs::read(mine.combined()).unwrap(), before);
    line().args(["--resume", "--overwrite"]).run(0).await;
    let sources = read_json(&mine.combined())["metadata"]["num_documents"].clone();
    assert_eq!(sources, 1);
    assert_eq!(server.stats().chat_calls, 4);
}

#[tokio::test]
async fn a_run_that_did_nothing_leaves_nothing_behind() {
    let (site, server) = (Site::new(&[Document::new("a", 2)]), FakeOllama::start(FakeConfig::default()));
    let path = |name: &str| site.root().join(name);
    for name in ["unfinished", "python"] {
        fs::create_dir(path(name)).unwrap();
    }
    fs::write(path("unfinished/b_chunks.json"), r#"{"status": "failed", "chunks": []}"#).unwrap();
    fs::write(path("python/a_qa.json"), r#"{"training_pairs": []}"#).unwrap();
    fs::write(path("note.txt"), "no combined file").unwrap();
    let before = files_below(site.root());
    for (chunks, qa, output) in [
        // No chunk file, none that is finished, output that exists, a combined file that is none.
        ("python", "new/qa", "other/all.json"),
        ("unfinished", "new/qa", "other/all.json"),
        ("chunks", "python", "other/all.json"),
        ("chunks", "new/qa", "note.txt"),
    ] {
        let line =
            Line::coordinator("generate", site.root()).args(["--provider", "local", "--model", "qwen3:8b"]);
        let line = line.args(["--chunks-dir", chunks, "--qa-dir", qa, "--output-file", output]);
        let ended = line.servers(&[&server]).start().ends_within(PATIENCE).await.ok().unwrap();
        assert_ne!(ended.code, 0, "{}", ended.stderr);
        assert_eq!(files_below(site.root()), before, "{chunks}, {qa}, {output}:\n{}", ended.stderr);
    }
    assert_eq!(server.stats().chat_calls, 0);
}

/// Everything below a directory.
fn files_below(directory: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path));
        }
        found.insert(path);
    }
    found
}
