//! One machine: a private queue, an in-process worker, and what is left when everything is killed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use qa_shared::queue::{ConnectError, ConnectOptions, Queue, Timing};
use qa_shared::secret::Secret;
use qa_shared::testing::fake_ollama::{Behaviour, FakeConfig, FakeModel, FakeOllama};

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

/// Ways in which the only server cannot serve until someone does something, with the words that say so.
fn lasting_causes() -> Vec<(FakeConfig, &'static [&'static str])> {
    let cannot_load = |status, text: &str| FakeConfig {
        cannot_load: Some((status, text.to_owned())),
        ..FakeConfig::default()
    };
    let other = FakeConfig { models: vec![FakeModel::new("qwen3:14b")], ..FakeConfig::default() };
    vec![
        (
            cannot_load(500, "model requires more system memory (21.4 GiB) than is available (15.1 GiB)"),
            &["requires more system memory (21.4 GiB)", "a smaller model"],
        ),
        (
            cannot_load(
                403,
                "this model requires a subscription, upgrade for access: https://ollama.com/upgrade",
            ),
            &["requires a subscription", "--model"],
        ),
        (cannot_load(401, "unauthorized"), &["refuses the request (401)", "wants credentials"]),
        (other, &["does not have the model `qwen3:8b`", "qwen3:14b", "ollama pull qwen3:8b"]),
    ]
}

#[tokio::test]
async fn a_run_ends_when_no_server_can_serve_for_a_reason_that_stays() {
    for (config, words) in lasting_causes() {
        let site = Site::new(&[Document::new("waiting", 3)]);
        let server = FakeOllama::start(config);
        let line = site.generate().env("QA_NO_SERVER_TIMEOUT", "1s").servers(&[&server]);
        let ended = line.run(7).await;
        for words in words {
            assert!(ended.stderr.contains(words), "{words}: {}", ended.stderr);
        }
        assert!(!ended.stderr.contains("OLLAMA_HOST"), "{}", ended.stderr);
        assert!(ended.stderr.contains("no LLM server can serve"), "{}", ended.stderr);
        assert_eq!(site.summary()["status"], "interrupted");
        server.reconfigure(|config| *config = FakeConfig::default());
        site.generate().arg("--resume").servers(&[&server]).run(0).await;
        site.check();
    }
}

#[tokio::test]
async fn a_run_ends_when_nothing_listens() {
    let site = Site::new(&[Document::new("waiting", 3)]);
    let server = FakeOllama::start(FakeConfig::default());
    server.disappear();
    let line = site.generate().env("QA_NO_SERVER_TIMEOUT", "1s").servers(&[&server]);
    let ended = line.run(7).await;
    assert!(ended.stderr.contains("ollama serve"), "{}", ended.stderr);
    server.come_back();
    site.generate().arg("--resume").servers(&[&server]).run(0).await;
    site.check();
}

#[tokio::test]
async fn a_run_that_shall_wait_goes_on_when_the_server_can_serve() {
    let site = Site::new(&[Document::new("waiting", 3)]);
    let (config, _) = lasting_causes().remove(0);
    let server = FakeOllama::start(config);
    let line = site.generate().arg("--wait").env("QA_NO_SERVER_TIMEOUT", "1s").servers(&[&server]);
    let mut run = line.start();
    // Said after 8 seconds, when another run would have ended long ago.
    run.says("tasks wait").await;
    run.says("requires more system memory").await;
    let status = site.coordinator("status").run(0).await;
    assert!(status.stdout.contains("requires more system memory"), "{}", status.stdout);
    server.reconfigure(|config| config.cannot_load = None);
    run.ends_with(0).await;
    site.check();
}

#[tokio::test]
async fn what_stands_before_the_server_fails_no_chunk() {
    let page = "<html><title>Error 1033: Cloudflare Tunnel error</title></html>";
    let runs = [530, 404, 302, 405, 401, 200].map(async |status| {
        let site = Site::new(&[Document::new("behind a tunnel", 8)]);
        let server = FakeOllama::start(FakeConfig::default());
        server.respond_with(move |call| match call.number {
            3..=6 => Behaviour::Page(status, page.to_owned()),
            _ => Behaviour::Answer,
        });
        site.generate().servers(&[&server]).run(0).await;
        site.check();
    });
    futures_util::future::join_all(runs).await;
}

#[tokio::test]
async fn a_chunk_that_a_well_server_always_fails_over_is_failed_in_the_end() {
    for chunks in [1, 6] {
        let document = Document::new("poisonous", chunks);
        let site = Site::new(std::slice::from_ref(&document));
        let server = FakeOllama::start(FakeConfig::default());
        let poison = crate::spent::texts(&[document])[0].clone();
        server.respond_with(move |call| {
            if call.chunk == poison {
                Behaviour::Page(403, "<html>Blocked by a filter</html>".to_owned())
            } else {
                Behaviour::Answer
            }
        });
        let line = site.generate().args(["--max-failure-rate", "off"]).servers(&[&server]);
        let ended = line.run(1).await;
        assert!(ended.stderr.contains("Blocked by a filter"), "{}", ended.stderr);
        assert_eq!(site.positions("poisonous", "failed_chunks"), [0]);
    }
}

#[tokio::test]
async fn a_model_is_named_as_ollama_itself_resolves_names() {
    let names = ["Qwen3:8B", "registry.ollama.ai/library/qwen3:8b", "library/qwen3:8b"];
    let runs = names.into_iter().map(|name| (name, Vec::new()));
    // A model that its list lacks is asked for by name.
    for (name, unlisted) in runs.chain([("qwen3:8b", vec!["qwen3:8b".to_owned()])]) {
        let site = Site::new(&[Document::new("named", 3)]);
        let server = FakeOllama::start(FakeConfig { unlisted, ..FakeConfig::default() });
        let line = site.coordinator("generate").arg("--chunks-dir").arg(site.chunks_dir());
        let line = line.args(["--provider", "local", "--model", name]).servers(&[&server]);
        line.run(0).await;
        assert_eq!(site.positions("named", "completed_chunks").len(), 3, "{name}");
        assert_eq!(server.stats().last_body()["model"], "qwen3:8b", "{name}");
    }
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
