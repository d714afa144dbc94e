//! Runs one of the tests' fake model services until standard input ends, to try the programs by hand:
//! `cargo run -p qa-shared --features testing --example fake_provider SERVICE [MODEL...]`
//! where SERVICE is openai, llamacpp, vllm, lmstudio, claude or gemini.

#![expect(clippy::print_stdout, reason = "a tool for the terminal")]

use std::io::Read;
use std::process::ExitCode;

use qa_shared::testing::fake_provider::{FakeLlm, FakeProvider, FakeProviderConfig};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let service = arguments.next().unwrap_or_default();
    let mut config = match service.as_str() {
        "openai" => FakeProviderConfig::open_ai(),
        "llamacpp" => FakeProviderConfig::llama_cpp(),
        "vllm" => FakeProviderConfig::vllm(),
        "lmstudio" => FakeProviderConfig::lm_studio(),
        "claude" => FakeProviderConfig::claude(),
        "gemini" => FakeProviderConfig::gemini(),
        _ => {
            println!("expected one of openai, llamacpp, vllm, lmstudio, claude, gemini, not `{service}`");
            return ExitCode::from(2);
        }
    };
    // A named model has the traits of the service's first one.
    let named: Vec<FakeLlm> = arguments.map(|name| FakeLlm { name, ..config.models[0].clone() }).collect();
    if !named.is_empty() {
        config.models = named;
    }
    let models: Vec<_> = config.models.iter().map(|model| model.name.clone()).collect();
    let key = config.key.clone().unwrap_or_else(|| "(none)".to_owned());
    let fake = FakeProvider::start(config);
    println!("{} serves {} with the key {key}", fake.url(), models.join(", "));
    drop(std::io::stdin().read_to_end(&mut Vec::new()));
    println!("{:?}", fake.stats());
    ExitCode::SUCCESS
}
