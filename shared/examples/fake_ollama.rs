//! Runs the tests' fake Ollama server until standard input ends, to try the programs by hand without a model:
//! `cargo run -p qa-shared --features testing --example fake_ollama [SLOTS [TOKEN_DELAY_MS]] [MODEL...]`

#![expect(clippy::print_stdout, reason = "a tool for the terminal")]

use std::io::Read;
use std::time::Duration;

use qa_shared::testing::fake_ollama::{FakeConfig, FakeModel, FakeOllama};

fn main() {
    let (numbers, names): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|argument| argument.parse::<u64>().is_ok());
    let numbers: Vec<u64> = numbers.iter().filter_map(|number| number.parse().ok()).collect();
    let slots = numbers.first().and_then(|slots| usize::try_from(*slots).ok()).unwrap_or(1);
    let token_delay = Duration::from_millis(numbers.get(1).copied().unwrap_or(2));
    let mut config = FakeConfig { slots, token_delay, ..FakeConfig::default() };
    if !names.is_empty() {
        config.models = names.iter().map(|name| FakeModel::new(name)).collect();
    }
    let models: Vec<_> = config.models.iter().map(|model| model.name.clone()).collect();
    let server = FakeOllama::start(config);
    println!("{} serves {}", server.url(), models.join(", "));
    drop(std::io::stdin().read_to_end(&mut Vec::new()));
    println!("{:?}", server.stats());
}
