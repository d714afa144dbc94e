//! `qa-worker check` as its user runs it.

use std::process::Command;

use qa_shared::testing::fake_ollama::{FakeConfig, FakeOllama};
use qa_shared::testing::fake_provider::{FAKE_KEY, FakeProvider, FakeProviderConfig};

fn check(args: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_qa-worker"))
        .arg("check")
        .args(args)
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn every_server_is_tried_and_shown() {
    let ollama = FakeOllama::start(FakeConfig::default());
    let vllm = FakeProvider::start(FakeProviderConfig::vllm());
    let claude = FakeProvider::start(FakeProviderConfig::claude());
    let gemini = FakeProvider::start(FakeProviderConfig::gemini());
    let environment = [
        ("OLLAMA_BASE_URL", ollama.url()),
        ("OPENAI_BASE_URL", vllm.url()),
        ("ANTHROPIC_BASE_URL", claude.url()),
        ("ANTHROPIC_API_KEY", FAKE_KEY.to_owned()),
        ("GEMINI_BASE_URL", gemini.url()),
        ("GEMINI_API_KEY", FAKE_KEY.to_owned()),
    ];
    let environment: Vec<(&str, &str)> =
        environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let (code, out, err) = check(&[], &environment);
    assert_eq!(code, Some(0), "{out}{err}");
    let lines: Vec<&str> = out.lines().filter(|line| line.starts_with("ok")).collect();
    assert_eq!(lines.len(), 4, "{out}");
    for part in
        ["local", "qwen3:8b", "40960", "schema", "0.32.15", "Qwen/Qwen2.5-7B-Instruct", "claude", "gemini"]
    {
        assert!(out.contains(part), "{part}: {out}");
    }
    assert!(!format!("{out}{err}").contains(FAKE_KEY));

    let models = ["--providers", "claude,gemini", "--models", "claude-haiku-4-5"];
    let (code, out, _) = check(&[models.as_slice(), &["--json"]].concat(), &environment);
    let findings: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(findings.as_array().unwrap().len(), 1, "the model is Claude's, not Gemini's: {out}");
    assert_eq!((&findings[0]["works"], &findings[0]["structured"]), (&true.into(), &"schema".into()));
    assert!(findings[0]["seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(code, Some(0));
    let models = ["--providers", "claude,gemini", "--models", "no-such-model"];
    let (code, out, _) = check(&models, &environment);
    assert_eq!((code, out.matches("FAILED").count()), (Some(1), 2), "{out}");
}

#[test]
fn a_looping_model_is_told_as_such() {
    use qa_shared::testing::fake_ollama::Behaviour;
    let ollama = FakeOllama::start(FakeConfig::default());
    ollama.respond_with(|_| Behaviour::Text("and so on ".repeat(2000)));
    let (code, out, _) = check(&[], &[("OLLAMA_BASE_URL", ollama.url().as_str())]);
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("it repeated itself without end; use a larger model"), "{out}");
    assert!(out.contains("--ollama-repeat-penalty") && !out.contains("tokens were too few"), "{out}");
}

#[test]
fn what_does_not_work_is_shown_with_its_reason() {
    let openai = FakeProvider::start(FakeProviderConfig {
        key: Some("x".to_owned()),
        ..FakeProviderConfig::open_ai()
    });
    let gone = FakeOllama::start(FakeConfig::default());
    gone.disappear();
    let (openai_url, ollama_url) = (openai.url(), gone.url());
    let environment = [
        ("OPENAI_BASE_URL", openai_url.as_str()),
        ("OPENAI_API_KEY", FAKE_KEY),
        ("OLLAMA_BASE_URL", &ollama_url),
    ];
    let (code, out, _) = check(&[], &environment);
    assert_eq!(code, Some(1), "{out}");
    assert_eq!(out.lines().filter(|line| line.starts_with("FAILED")).count(), 2, "{out}");
    assert!(out.contains("does not answer") && out.contains("set a valid one (OPENAI_API_KEY)"), "{out}");
    assert!(!out.contains(FAKE_KEY));
}
