//! README's example with several Ollama hosts, run with the real program, a real nats-server and the example
//! documents; only the Ollama servers are fake.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use qa_shared::testing::fake_ollama::{FakeConfig, FakeModel, FakeOllama};
use serde_json::Value;

use crate::markdown::{Readme, ShellCommand};
use crate::root;

fn example() -> ShellCommand {
    let is_it = |command: &ShellCommand| command.words.iter().any(|word| word.contains("gpu1"));
    Readme::load().commands().into_iter().find(is_it).unwrap()
}

/// Copies the example documents, so that nothing is written into the checkout.
fn copy_documents(to: &Path) -> usize {
    fs::create_dir(to).unwrap();
    let mut chunks = 0;
    for entry in fs::read_dir(root().join("deploy/examples/chunks")).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        let document: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        chunks += document["chunks"].as_array().unwrap().len();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
    chunks
}

#[test]
fn the_example_with_several_hosts_runs() {
    let directory = qa_shared::testing::temporary_folder();
    let chunks = copy_documents(&directory.path().join("chunks"));
    let config = FakeConfig { models: vec![FakeModel::new("qwen3:14b")], ..FakeConfig::default() };
    let hosts: Vec<_> = (0..3).map(|_| FakeOllama::start(config.clone())).collect();
    let mut words = example().words;
    for word in &mut words {
        for (number, host) in hosts.iter().enumerate() {
            *word = word.replace(&format!("http://gpu{}:11434", number + 1), &host.url());
        }
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_qa-coordinator"));
    command.args(&words[1..]).current_dir(directory.path()).env_clear();
    for name in ["PATH", "QA_NATS_SERVER"] {
        #[expect(clippy::disallowed_methods, reason = "where the machine has its nats-server")]
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let last = said.rsplit("result ").next().unwrap();
    assert!(
        last.contains(&format!("{chunks} completed, 0 failed, 0 outstanding, {chunks} in all")),
        "{said}"
    );

    let combined = fs::read(directory.path().join("qa_results/training_data.json")).unwrap();
    let combined: Value = serde_json::from_slice(&combined).unwrap();
    let pairs = combined["training_pairs"].as_array().unwrap();
    assert_eq!(pairs.len(), chunks * 3);
    assert_same_fields(&pairs[0], "question");
    let path = directory.path().join("qa_results/remote-work-policy_qa.json");
    let document: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    assert_same_fields(&document["chunks"][0], "chunk");
    let calls: u64 = hosts.iter().map(|host| host.stats().chat_calls).sum();
    assert_eq!(calls, chunks as u64, "each chunk is asked for once");
}

/// README shows this object with exactly these fields, in this order.
fn assert_same_fields(found: &Value, first: &str) {
    let readme = Readme::load().text;
    let shown = readme.split("```json\n").skip(1).filter_map(|block| block.split("```").next());
    let shown: Vec<Value> = shown.map(|block| serde_json::from_str(block).unwrap()).collect();
    let fields = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let shown = shown.iter().find(|value| fields(value)[0] == first).unwrap();
    assert_eq!(fields(shown), fields(found), "README.md shows other fields");
}
