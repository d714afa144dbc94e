//! The table of variables is the truth: both programs read exactly what it lists, and the example file says so.

mod cli_support;

use std::collections::BTreeSet;
use std::path::Path;

use clap::Parser;
use cli_support::generate_in;
use qa_shared::settings::Environment;
use qa_shared::settings::variables::{self, Program, Variable};
use qa_worker::cli::Cli as WorkerCli;
use qa_worker::config::WorkerConfig;

/// What both configurations of the coordinator, local and fleet, say when this variable is set.
fn coordinator_says(variable: &Variable, value: &str) -> String {
    let provider = match variable.name() {
        name if name.starts_with("OPENAI") => "openai",
        name if name.starts_with("ANTHROPIC") || name.starts_with("CLAUDE") => "claude",
        name if name.starts_with("GEMINI") || name.starts_with("GOOGLE") => "gemini",
        _ => "local",
    };
    // Without a key the addresses of its service are not looked at.
    let key = if variable.name().ends_with("_BASE_URL") { "sk" } else { "" };
    let base = [("GENERATOR_PROVIDER", provider), ("GENERATOR_MODEL", "m"), ("QA_API_KEY", key)];
    let said = [None, Some(("QA_NATS_URL", "q"))].map(|place| {
        let pairs = base.into_iter().chain(place).chain([(variable.name(), value)]);
        match generate_in(&[], &Environment::from_pairs(pairs)) {
            Ok(config) => format!("{:?} {:?}", config.common.sources, config.common.notes),
            Err(error) => error.to_string(),
        }
    });
    said.join("\n")
}

fn worker_says(variable: &Variable, value: &str) -> String {
    let cli = WorkerCli::parse_from(["qa-worker"]);
    match WorkerConfig::read(&cli, &Environment::from_pairs([(variable.name(), value)])) {
        Ok(config) => format!("{:?} {:?}", config.sources, config.notes),
        Err(mistakes) => mistakes.to_string(),
    }
}

/// A value that counts as set.
fn value(variable: &Variable) -> &'static str {
    if variable.is_secret() { "sk-secret" } else { variable.example() }
}

#[test]
fn every_variable_is_read_by_the_programs_that_the_table_names() {
    for variable in variables::ALL {
        let said = coordinator_says(variable, value(variable));
        let is_read = said.contains(variable.name());
        assert_eq!(is_read, variable.is_read_by(Program::Coordinator), "{}: {said}", variable.name());
        let said = worker_says(variable, value(variable));
        let is_read = said.contains(&format!("\"{}\"", variable.name()))
            || said.contains(&format!("  {}:", variable.name()));
        assert_eq!(is_read, variable.is_read_by(Program::Worker), "{}: {said}", variable.name());
    }
}

#[test]
fn no_secret_is_ever_shown() {
    for variable in variables::ALL.iter().filter(|variable| variable.is_secret()) {
        let said = coordinator_says(variable, "sk-secret") + &worker_says(variable, "sk-secret");
        assert!(!said.contains("sk-secret"), "{}: {said}", variable.name());
    }
}

#[test]
fn the_example_file_lists_exactly_the_variables_with_their_defaults() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config.env.example");
    cli_support::compare_with_file(&path, &variables::example_file());
    let text = std::fs::read_to_string(&path).unwrap();
    let uncommented: Vec<_> = text
        .lines()
        .map(|line| {
            line.strip_prefix('#').filter(|rest| rest.starts_with(char::is_alphabetic)).unwrap_or(line)
        })
        .collect();
    let listed: BTreeSet<_> = uncommented
        .iter()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .collect();
    let expected: BTreeSet<_> =
        variables::ALL.iter().map(|variable| (variable.name(), variable.example())).collect();
    assert_eq!(listed, expected);
}

#[test]
fn the_example_file_with_everything_uncommented_is_understood() {
    let directory = qa_shared::testing::temporary_folder();
    let text =
        variables::example_file().replace("\n#", "\n").replace("\n ", "\n# ").replace("\n----", "\n# ----");
    std::fs::write(directory.path().join("config.env"), text).unwrap();
    let environment =
        Environment::from_pairs([("GENERATOR_PROVIDER", "local")]).with_env_file(None, directory.path());
    let error = generate_in(&[], &environment).unwrap_err();
    for mistake in error.mistakes.all() {
        assert!(
            mistake.problem.contains("cannot be read") || mistake.setting == "QA_NATS_USER",
            "only files that are not there are wrong: {mistake}"
        );
    }
}
