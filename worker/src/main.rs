//! The program `qa-worker`: command line and configuration in, exit code out. What it does is in the library.

use std::io::{self, Write};
use std::path::Path;

use clap::{CommandFactory, Parser};
use qa_shared::settings::Environment;
use qa_worker::cli::{Cli, Command};
use qa_worker::commands;
use qa_worker::config::WorkerConfig;
use qa_worker::exit::ExitCode;

fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    run(&cli).unwrap_or_else(|error| complain(&error.to_string(), ExitCode::Internal)).into()
}

fn run(cli: &Cli) -> io::Result<ExitCode> {
    let cli = match &cli.command {
        Some(Command::Completions { shell }) => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "qa-worker", &mut script);
            io::stdout().write_all(&script)?;
            return Ok(ExitCode::Success);
        }
        Some(Command::Check(_)) | None => cli.clone().flattened(),
    };
    let environment = Environment::capture().with_env_file(cli.common.env_file.as_deref(), Path::new(""));
    let config = match WorkerConfig::read(&cli, &environment) {
        Ok(config) => config,
        Err(mistakes) => return Ok(complain(&mistakes.to_string(), ExitCode::Configuration)),
    };
    let runtime = tokio::runtime::Runtime::new()?;
    match cli.command {
        Some(Command::Check(args)) => runtime.block_on(commands::check(config, args.json)),
        Some(Command::Completions { .. }) | None => runtime.block_on(commands::work(config)),
    }
}

fn complain(error: &str, code: ExitCode) -> ExitCode {
    // Nobody is left to tell when standard error is closed.
    drop(writeln!(io::stderr(), "error: {}", qa_shared::plain::text(error)));
    code
}
