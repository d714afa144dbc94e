//! Providers' services and servers with OpenAI's API: the same promises as with Ollama, and no key anywhere.

use std::fs;
use std::path::Path;
use std::time::Duration;

use qa_shared::testing::TestNats;
use qa_shared::testing::fake_provider::{
    Behaviour, FAKE_KEY, FakeLlm, FakeProvider, FakeProviderConfig, FakeService, RetryHint,
};

use crate::command_line::Line;
use crate::documents::Document;
use crate::processes::{Ended, no_process_is_left_in};
use crate::site::Site;
use crate::spent::texts;

/// Each kind of provider with a service and a model of it.
fn services() -> [(&'static str, FakeProviderConfig, &'static str); 4] {
    [
        ("openai", FakeProviderConfig::llama_cpp(), "qwen2.5-7b-instruct"),
        ("openai", FakeProviderConfig::vllm(), "Qwen/Qwen2.5-7B-Instruct"),
        ("claude", FakeProviderConfig::claude(), "claude-haiku-4-5"),
        ("gemini", FakeProviderConfig::gemini(), "gemini-2.5-flash"),
    ]
}

fn generate(site: &Site, provider: &str, model: &str) -> Line {
    let line = site.coordinator("generate").arg("--chunks-dir").arg(site.chunks_dir());
    line.args(["--provider", provider, "--model", model])
}

/// Every file below a directory that holds the text.
fn files_with(directory: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            found.extend(files_with(&path, text));
        } else if let Ok(bytes) = fs::read(&path) {
            let holds = bytes.windows(text.len()).any(|window| window == text.as_bytes());
            found.extend(holds.then(|| path.display().to_string()));
        }
    }
    found
}

fn says_no_key(ended: &Ended) {
    assert!(!ended.stderr.contains(FAKE_KEY) && !ended.stdout.contains(FAKE_KEY), "{ended:?}");
}

#[tokio::test]
async fn one_command_works_with_every_provider() {
    for (provider, config, model) in services() {
        let site = Site::new(&[Document::new("guide", 8), Document::pdf("manual", 6, 3)]);
        let service = FakeProvider::start(config);
        let ended = generate(&site, provider, model).service(&service, provider).run(0).await;
        site.check();
        let stats = service.stats();
        assert_eq!((stats.calls, stats.refusals.as_slice()), (14, &[][..]), "{provider}");
        says_no_key(&ended);
        let usage = &site.summary()["usage"];
        assert!(usage["input_tokens"].as_u64().unwrap() > 0, "{usage}");
        let has_price = usage["cost_usd"].as_f64().is_some_and(|cost| cost > 0.0);
        assert_eq!(has_price, provider == "claude", "{provider}: {usage}");
        let record = &site.qa("guide")["chunks"][0];
        assert_eq!((&record["provider"], &record["model"]), (&provider.into(), &model.into()));
    }
}

#[tokio::test]
async fn the_tokens_that_a_streaming_server_is_writing_are_shown_before_the_first_answer() {
    let site = Site::new(&[Document::new("guide", 8)]);
    let model = "Qwen/Qwen2.5-7B-Instruct";
    let token_delay = Duration::from_millis(300);
    let service = FakeProvider::start(FakeProviderConfig { token_delay, ..FakeProviderConfig::vllm() });
    let line = generate(&site, "openai", model).service(&service, "openai");
    let terminal = line.on_terminal(80, 24);
    let seen = terminal.shows("what is written", |text| text.contains("writing, ")).await;
    let row = seen.lines().find(|row| row.contains("writing, ")).unwrap();
    assert!(row.contains("0/8 chunks") && row.contains(" tokens"), "{row}");
}

#[tokio::test]
async fn the_key_is_in_nothing_that_a_whole_run_leaves_behind_or_shows() {
    let runs = services().map(|(provider, config, model)| leaves_no_key(provider, config, model));
    futures_util::future::join_all(runs).await;
}

async fn leaves_no_key(provider: &str, config: FakeProviderConfig, model: &str) {
    let site = Site::new(&[Document::new("guide", 12)]);
    let nats = TestNats::start().await;
    let service = FakeProvider::start(FakeProviderConfig { key: Some(FAKE_KEY.to_owned()), ..config });
    // Errors of every kind are told, written down and sent around; some repeat the key.
    for behaviour in [
        Behaviour::KeyRefused,
        Behaviour::RateLimited(RetryHint::Milliseconds(1)),
        Behaviour::ServerError(500),
        Behaviour::Refuse(format!("Why do you send {FAKE_KEY}?")),
        Behaviour::Text(format!("Your key is {FAKE_KEY}.")),
        Behaviour::Status { status: 400, headers: Vec::new(), body: format!("no {FAKE_KEY}") },
    ] {
        service.fault_next(behaviour);
    }
    let worker = Line::worker_of(&nats, &service, provider).args(["-v", "-v"]).start();
    let run = generate(&site, provider, model).args(["-v", "-v"]).fleet(&nats).start();
    let pids = [worker.pid(), run.pid()];
    service.wait_for(|stats| stats.calls >= 1).await;
    for pid in pids {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&line).contains(FAKE_KEY), "{provider}");
    }
    // The account that refused its key is left alone for minutes: a new worker tries at once.
    worker.signal("TERM");
    says_no_key(&worker.ends_with(0).await);
    let mut worker = Line::worker_of(&nats, &service, provider).args(["-v", "-v"]).start();
    let ended = run.ends_with(1).await;
    says_no_key(&ended);
    // The first one may have done all of it, and before this one listens to signals they kill it.
    worker.says("connected").await;
    worker.signal("TERM");
    says_no_key(&worker.ends_with(0).await);
    assert_eq!(files_with(site.root(), FAKE_KEY), [""; 0], "{provider}");
    assert_eq!(files_with(nats.directory(), FAKE_KEY), [""; 0], "{provider}");
}

#[tokio::test]
async fn a_key_on_the_command_line_does_not_show_in_the_list_of_processes() {
    let site = Site::new(&[Document::new("guide", 3)]);
    let service = FakeProvider::start(FakeProviderConfig::claude());
    service.fault_next(Behaviour::Hang);
    let line = generate(&site, "claude", "claude-haiku-4-5").env("ANTHROPIC_BASE_URL", service.url());
    let run = line.args(["--api-key", FAKE_KEY]).start();
    service.wait_for(|stats| stats.in_flight >= 1).await;
    let shown = crate::processes::processes_in(site.root());
    assert!(shown.iter().any(|line| line.contains("generate")), "{shown:?}");
    assert!(!shown.concat().contains(FAKE_KEY), "{shown:?}");
    // The queue's processes have no use for it.
    let queue = crate::processes::environments_of("nats-supervisor", site.root());
    assert!(!queue.is_empty() && !queue.concat().contains(FAKE_KEY), "{queue:?}");
    run.kill().await;
    no_process_is_left_in(site.root()).await;
}

#[tokio::test]
async fn a_wrong_key_and_an_unknown_model_are_told_before_anything_is_done() {
    for (provider, config, model) in services() {
        let site = Site::new(&[Document::new("guide", 3)]);
        let service = FakeProvider::start(config.clone());
        let run = generate(&site, provider, "no-such-model").service(&service, provider).run(2).await;
        assert!(run.stderr.contains("no-such-model"), "{}", run.stderr);
        if config.key.is_some() {
            let run =
                generate(&site, provider, model).service(&service, provider).env("QA_API_KEY", "sk-wrong");
            let run = run.run(2).await;
            assert!(run.stderr.contains("does not accept the key"), "{}", run.stderr);
        }
        assert!(!site.qa_dir().exists(), "{provider}");
        // One token is asked for where a list may not be all; a service's word about a name is enough.
        let asked = service.stats();
        let is_vllm = config.service == FakeService::Vllm;
        assert_eq!((asked.calls, asked.refusals.len() as u64 >= asked.calls), (u64::from(is_vllm), true));
    }
}

#[tokio::test]
async fn a_model_that_no_list_names_is_used_and_a_wrong_name_is_told_with_the_near_ones() {
    let site = Site::new(&[Document::new("guide", 3)]);
    let listed = FakeLlm::new("gpt-4.1-mini-2025-04-14");
    let deployed = FakeLlm::new("my-qa-deployment");
    let service = FakeProvider::start(FakeProviderConfig {
        models: vec![listed, deployed],
        unlisted: vec!["my-qa-deployment".to_owned()],
        ..FakeProviderConfig::lm_studio()
    });
    let wrong = generate(&site, "openai", "gpt-4.1-mini").service(&service, "openai").run(2).await;
    assert!(wrong.stderr.contains("it has gpt-4.1-mini-2025-04-14"), "{}", wrong.stderr);
    let run = generate(&site, "openai", "my-qa-deployment").service(&service, "openai").run(0).await;
    assert!(run.stderr.contains("does not list"), "{}", run.stderr);
    site.check();
}

#[tokio::test]
async fn a_spent_quota_stops_taking_tasks_and_loses_nothing() {
    let site = Site::new(&[Document::new("guide", 30)]);
    let service = FakeProvider::start(FakeProviderConfig::claude());
    service.respond_with(|call| if call.number > 10 { Behaviour::QuotaExhausted } else { Behaviour::Answer });
    let mut run = generate(&site, "claude", "claude-haiku-4-5").service(&service, "claude").start();
    run.says("quota or credit is used up").await;
    run.signal("INT");
    run.ends_with(3).await;
    let asked = service.stats().calls;
    assert!(asked <= 10 + 8, "each slot meets it once: {asked}");
    assert_eq!(site.positions("guide", "failed_chunks"), [0_u64; 0]);
    assert_eq!(site.positions("guide", "completed_chunks").len(), 10);
    service.respond_with(|_| Behaviour::Answer);
    generate(&site, "claude", "claude-haiku-4-5").arg("--resume").service(&service, "claude").run(0).await;
    site.check();
    assert_eq!(service.stats().calls, asked + 20);
}

#[tokio::test]
async fn a_killed_run_pays_a_service_only_for_what_was_in_flight() {
    let site = Site::new(&[Document::new("guide", 40)]);
    let service = FakeProvider::start(FakeProviderConfig::gemini());
    service.respond_with(|_| Behaviour::Slow(Duration::from_millis(60)));
    for calls in [9, 25] {
        let line = generate(&site, "gemini", "gemini-2.5-flash").arg("--resume");
        let run = line.service(&service, "gemini").start();
        service.wait_for(|stats| stats.calls >= calls).await;
        run.kill().await;
        no_process_is_left_in(site.root()).await;
    }
    generate(&site, "gemini", "gemini-2.5-flash").arg("--resume").service(&service, "gemini").run(0).await;
    site.check();
    let paid = service.stats().calls;
    assert!((40..=40 + 2 * 8).contains(&paid), "{paid}");
}

#[tokio::test]
async fn refusals_are_failures_with_a_reason_and_not_a_storm() {
    let site = Site::new(&[Document::new("guide", 12)]);
    let service = FakeProvider::start(FakeProviderConfig::claude());
    let target = texts(&[Document::new("guide", 12)])[3].clone();
    service.respond_with(move |call| {
        if call.chunk == target { Behaviour::Refuse("No.".to_owned()) } else { Behaviour::Answer }
    });
    let ended = generate(&site, "claude", "claude-haiku-4-5").service(&service, "claude").run(1).await;
    assert!(ended.stderr.contains("refused"), "{}", ended.stderr);
    assert_eq!(site.positions("guide", "failed_chunks"), [3]);
    assert_eq!(service.stats().calls, 12);
    assert_eq!(site.qa("guide")["chunks"][3]["error"]["reason"], "refused");
}
