//! One machine: a private queue, an in-process worker, and what is left when everything is killed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use qa_shared::queue::{ConnectError, ConnectOptions, Queue, Timing};
use qa_shared::secret::Secret;
use qa_shared::testing::fake_ollama::{Behaviour, FakeConfig, FakeOllama};

use crate::documents::Document;
use crate::processes::{no_process_is_left_in, processes_in};
use crate::site::{Site, read_json};

/// Requests in flight that local mode has by default.
const SLOTS: u64 = 2;

fn documents() -> [Document; 3] {
    [Document::new("overview", 25), Document::pdf("manual.v1", 20, 6), Document::new("FAQ", 15)]
}

#[tokio::test]
async fn one_command_on_one_machine_does_everything() {
    let site = Site::new(&documents());
    let (one, two) = (FakeOllama::start(FakeConfig::default()), FakeOllama::start(FakeConfig::default()));
    let ended = site.generate().servers(&[&one, &two]).run(0).await;
    assert!(ended.stderr.contains("finished"), "{}", ended.stderr);
    site.check();
    assert_eq!(one.stats().chat_calls + two.stats().chat_calls, 60);
    no_process_is_left_in(site.root()).await;
}

/// Kills the coordinator when this many chat calls have arrived, resumes, and compares what was paid for.
async fn killed_after(calls: &[u64]) {
    let site = Site::new(&documents());
    let server = FakeOllama::start(FakeConfig { slots: 2, ..FakeConfig::default() });
    server.respond_with(|_| Behaviour::Slow(Duration::from_millis(60)));
    for calls in calls {
        let run = site.generate().arg("--resume").servers(&[&server]).start();
        server.wait_for(|stats| stats.chat_calls >= *calls).await;
        run.kill().await;
        no_process_is_left_in(site.root()).await;
    }
    let begun = Instant::now();
    site.generate().arg("--resume").servers(&[&server]).run(0).await;
    // The ack wait is 60 s: whoever waited for it would take longer.
    assert!(begun.elapsed() < Duration::from_secs(45), "the resume took {:?}", begun.elapsed());
    site.check();
    let paid = server.stats().chat_calls;
    let most = 60 + SLOTS * calls.len() as u64;
    assert!((60..=most).contains(&paid), "{paid} calls for 60 chunks and {} kills", calls.len());
    no_process_is_left_in(site.root()).await;
}

#[tokio::test]
async fn killed_in_the_first_call_a_resume_finishes_at_once() {
    killed_after(&[1]).await;
}

#[tokio::test]
async fn killed_in_the_middle_a_resume_finishes_at_once() {
    killed_after(&[30]).await;
}

#[tokio::test]
async fn killed_near_the_end_a_resume_finishes_at_once() {
    killed_after(&[59]).await;
}

#[tokio::test]
async fn killed_again_and_again_it_still_pays_only_for_what_was_in_flight() {
    killed_after(&[2, 9, 18, 33, 47]).await;
}

#[tokio::test]
async fn an_unreachable_ollama_is_named_and_waited_for() {
    let site = Site::new(&[Document::new("late", 6)]);
    let server = FakeOllama::start(FakeConfig::default());
    server.disappear();
    let begun = Instant::now();
    let mut run = site.generate().servers(&[&server]).start();
    run.says("is not reachable").await;
    assert!(begun.elapsed() < Duration::from_secs(20), "said after {:?}", begun.elapsed());
    assert!(run.is_running());
    server.come_back();
    run.ends_with(0).await;
    site.check();
}

#[tokio::test]
async fn an_ollama_that_dies_in_the_middle_is_waited_for() {
    let site = Site::new(&[Document::new("broken off", 16)]);
    let server = FakeOllama::start(FakeConfig::default());
    server.respond_with(|_| Behaviour::Slow(Duration::from_millis(40)));
    let mut run = site.generate().servers(&[&server]).start();
    server.wait_for(|stats| stats.finished >= 5).await;
    server.disappear();
    run.says("LLM server is not reachable").await;
    server.come_back();
    run.ends_with(0).await;
    site.check();
}

#[tokio::test]
async fn a_missing_model_is_named_with_the_command_that_pulls_it() {
    use qa_shared::testing::fake_ollama::FakeModel;
    let site = Site::new(&[Document::new("wanting", 3)]);
    let server = FakeOllama::start(FakeConfig {
        models: vec![FakeModel::new("llama3.2:3b")],
        pullable: vec![FakeModel::new("qwen3:8b")],
        ..FakeConfig::default()
    });
    let mut run = site.generate().servers(&[&server]).start();
    run.says("ollama pull qwen3:8b").await;
    run.signal("INT");
    run.ends_with(3).await;
    site.generate().args(["--resume", "--pull"]).servers(&[&server]).run(0).await;
    assert_eq!(server.stats().pulled, ["qwen3:8b"]);
    site.check();
}

#[tokio::test]
async fn the_private_queue_server_is_for_this_run_alone() {
    let site = Site::new(&documents());
    let server = FakeOllama::start(FakeConfig { slots: 2, ..FakeConfig::default() });
    server.respond_with(|_| Behaviour::Slow(Duration::from_millis(100)));
    let mut seen = Vec::new();
    for calls in [1, 8] {
        let run = site.generate().arg("--resume").servers(&[&server]).start();
        server.wait_for(|stats| stats.chat_calls >= calls).await;
        let folder = find(&site.job_folder(), "nats-server.conf");
        let config = fs::read_to_string(folder.join("nats-server.conf")).unwrap();
        let mode = fs::metadata(folder.join("nats-server.conf")).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "others can read the token");
        assert!(config.contains("host: \"127.0.0.1\"\nport: -1\n"), "{config}");
        let token = config.split("token: \"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        assert!(token.len() == 32 && token.bytes().all(|byte| byte.is_ascii_hexdigit()), "{token}");
        let ports = fs::read_dir(folder.join("ports")).unwrap().next().unwrap().unwrap().path();
        let url = read_json(&ports)["nats"][0].as_str().unwrap().to_owned();
        let port: u16 = url.strip_prefix("nats://127.0.0.1:").unwrap().parse().unwrap();
        // Were it open to the network, this would be taken too.
        #[cfg(target_os = "linux")]
        drop(std::net::TcpListener::bind(("127.0.0.2", port)).unwrap());
        for token in [None, Some(Secret::new("0".repeat(32)))] {
            let options = ConnectOptions { url: url.clone(), token, ..ConnectOptions::default() };
            let error = Queue::connect(&options, Timing::default()).await.unwrap_err();
            assert!(matches!(error, ConnectError::Authentication { .. }), "{error}");
        }
        assert!(
            processes_in(site.root()).iter().all(|line| !line.contains(&token)),
            "others can see the token"
        );
        seen.push((token, port));
        run.signal("INT");
        let ended = run.ends_with(3).await;
        assert!(!ended.stderr.contains(&seen.last().unwrap().0), "{}", ended.stderr);
    }
    assert_ne!(seen[0].0, seen[1].0);
}

/// The directory below this one that holds a file of this name.
fn find(directory: &Path, name: &str) -> PathBuf {
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        if next.join(name).exists() {
            return next;
        }
        let entries = fs::read_dir(&next).unwrap().map(Result::unwrap);
        open.extend(entries.map(|entry| entry.path()).filter(|path| path.is_dir()));
    }
    panic!("no {name} below {}", directory.display());
}
