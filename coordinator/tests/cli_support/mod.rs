//! Reads configurations as the program does, with an environment and an env file of the test's own.
#![allow(dead_code, reason = "each test file uses a part, so an expectation would not hold everywhere")]
#![expect(clippy::unwrap_used, reason = "part of the tests")]

use qa_coordinator::cli::{Cli, Command};
use qa_coordinator::config::{CancelConfig, CombineConfig, ConfigError, GenerateConfig, StatusConfig};
use qa_shared::settings::Environment;

/// The least that `generate` needs.
pub(crate) const ENOUGH: [(&str, &str); 2] =
    [("GENERATOR_PROVIDER", "local"), ("GENERATOR_MODEL", "qwen3:14b")];

pub(crate) fn command(name: &str, args: &[&str]) -> Command {
    let line = ["qa-coordinator", name].into_iter().chain(args.iter().copied()).map(std::ffi::OsString::from);
    match Cli::read(line) {
        Ok(cli) => cli.command,
        Err(error) => panic!("{error}"),
    }
}

/// An environment with what `generate` needs at least.
pub(crate) fn enough(more: &[(&str, &str)]) -> Environment {
    let pairs = ENOUGH.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Environment::from_pairs(pairs)
}

/// The same with an env file `config.env`.
pub(crate) fn with_file(environment: Environment, file: &str) -> Environment {
    let directory = qa_shared::testing::temporary_folder();
    std::fs::write(directory.path().join("config.env"), file).unwrap();
    environment.with_env_file(None, directory.path())
}

pub(crate) fn generate_in(args: &[&str], environment: &Environment) -> Result<GenerateConfig, ConfigError> {
    match command("generate", args) {
        Command::Generate(args) => GenerateConfig::read(&args, environment),
        _ => unreachable!(),
    }
}

/// `generate` with what it needs at least.
pub(crate) fn generate(args: &[&str], environment: &[(&str, &str)]) -> Result<GenerateConfig, ConfigError> {
    generate_in(args, &enough(environment))
}

pub(crate) fn combine(args: &[&str], environment: &[(&str, &str)]) -> Result<CombineConfig, ConfigError> {
    match command("combine", args) {
        Command::Combine(args) => CombineConfig::read(&args, &enough(environment)),
        _ => unreachable!(),
    }
}

pub(crate) fn status(args: &[&str], environment: &[(&str, &str)]) -> Result<StatusConfig, ConfigError> {
    match command("status", args) {
        Command::Status(args) => StatusConfig::read(&args, &enough(environment)),
        _ => unreachable!(),
    }
}

pub(crate) fn cancel(args: &[&str], environment: &[(&str, &str)]) -> Result<CancelConfig, ConfigError> {
    match command("cancel", args) {
        Command::Cancel(args) => CancelConfig::read(&args, &enough(environment)),
        _ => unreachable!(),
    }
}

/// The lines of an error, without its first.
pub(crate) fn mistakes<T: std::fmt::Debug>(result: Result<T, ConfigError>) -> Vec<String> {
    result.unwrap_err().mistakes.all().iter().map(ToString::to_string).collect()
}

pub(crate) fn notes(config: &GenerateConfig) -> Vec<&str> {
    config.common.notes.iter().map(|note| note.text.as_str()).collect()
}

/// Compares a text with a file that is checked in. With `UPDATE_SNAPSHOTS=1` the file is written instead.
pub(crate) fn compare_with_file(path: &std::path::Path, text: &str) {
    #[expect(clippy::disallowed_methods, reason = "a switch of the test, not a setting")]
    let update = std::env::var_os("UPDATE_SNAPSHOTS").is_some();
    if update {
        std::fs::write(path, text).unwrap();
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        expected == text,
        "{} is out of date: run the tests with UPDATE_SNAPSHOTS=1 and look at the difference; now:\n{text}",
        path.display()
    );
}
