//! One program at a time writes an output directory, and one coordinator consumes a job's results, whatever was copied.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use qa_shared::testing::TestNats;
use qa_shared::testing::fake_ollama::{Behaviour, FakeConfig, FakeOllama};

use crate::command_line::Line;
use crate::documents::Document;
use crate::site::Site;

fn server(millis: u64) -> FakeOllama {
    let server = FakeOllama::start(FakeConfig { slots: 2, ..FakeConfig::default() });
    server.respond_with(move |_| Behaviour::Slow(Duration::from_millis(millis)));
    server
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

#[tokio::test]
async fn a_run_keeps_other_writers_out_with_an_exit_code_of_its_own_and_lets_everybody_look() {
    let (site, server) = (Site::new(&[Document::new("guide", 12)]), server(200));
    let run = site.generate().servers(&[&server]).start();
    server.wait_for(|stats| stats.chat_calls >= 2).await;
    for line in [
        site.coordinator("combine"),
        site.coordinator("cancel"),
        site.generate().arg("--resume").servers(&[&server]),
    ] {
        let ended = line.run(75).await;
        assert!(ended.stderr.contains("`generate`, process"), "{}", ended.stderr);
    }
    let status = site.coordinator("status").run(0).await;
    assert!(status.stdout.contains("coordinator  running"), "{}", status.stdout);
    for command in ["failures", "status"] {
        site.coordinator(command).run(0).await;
    }
    run.ends_with(0).await;
    site.check();
    site.coordinator("combine").run(0).await;
}

#[tokio::test]
async fn a_copy_of_a_running_jobs_directory_waits_for_the_lease_and_touches_nothing_before() {
    let nats = TestNats::start().await;
    let (site, server) = (Site::new(&[Document::new("guide", 16)]), server(250));
    let worker = Line::worker(&nats, &[&server]).impatient().start();
    let run = site.generate().fleet(&nats).impatient().start();
    server.wait_for(|stats| stats.chat_calls >= 3).await;
    let copied = site.root().join("copy");
    copy(&site.qa_dir(), &copied);
    let unfinished = copied.join(".qa-fleet.tmp-1-left");
    fs::write(&unfinished, "half").unwrap();
    let again = |arguments: &[&str]| {
        let line = Line::coordinator("generate", site.root()).arg("--qa-dir").arg(&copied);
        let line = line.arg("--chunks-dir").arg(site.chunks_dir());
        let line = line.args(["--provider", "local", "--model", "qwen3:8b"]).fleet(&nats).impatient();
        arguments.iter().fold(line, |line, argument| line.arg(argument)).start()
    };
    for start in ["--restart", "--resume"] {
        let mut second = again(&[start]);
        second.says("waiting: job").await;
        second.says(&format!("directory {}", site.qa_dir().display())).await;
        assert!(unfinished.exists(), "something was cleaned away before the lease was won");
        second.signal("INT");
        second.ends_with(3).await;
    }
    let second = again(&["--resume"]);
    run.ends_with(0).await;
    site.check();
    second.ends_with(0).await;
    assert!(!unfinished.exists());
    assert_eq!(fs::read(copied.join("guide_qa.json")).unwrap().is_empty(), false);
    drop(worker);
}

#[tokio::test]
async fn a_run_that_did_nothing_leaves_nothing() {
    let site = Site::new(&[Document::new("guide", 3)]);
    let away = Line::coordinator("generate", site.root()).arg("--qa-dir").arg(site.qa_dir());
    let away = away.arg("--chunks-dir").arg(site.root().join("chunks"));
    fs::rename(site.chunks_dir().join("guide_chunks.json"), site.chunks_dir().join("notes.txt")).unwrap();
    away.args(["--provider", "local", "--model", "qwen3:8b"]).run(2).await;
    assert!(!site.qa_dir().exists());
}
