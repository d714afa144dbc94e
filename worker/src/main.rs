//! The program `qa-worker`: command line and configuration in, exit code out. What it does is in the library.

use std::io;
use std::path::Path;

use clap::{CommandFactory, Parser};
use qa_shared::console::{self, Console, LAST_LINES, Live, Look};
use qa_shared::settings::args::wanted_log_format;
use qa_shared::settings::variables::{self, Program};
use qa_shared::settings::{Environment, LogSettings, arguments, hide_arguments};
use qa_worker::cli::{Cli, Command};
use qa_worker::commands;
use qa_worker::config::WorkerConfig;
use qa_worker::exit::ExitCode;

fn main() -> std::process::ExitCode {
    let cli = match Cli::try_parse_from(arguments()) {
        Ok(cli) => cli,
        Err(error) => return refuse_line(&error).into(),
    };
    run(&cli).unwrap_or_else(|error| complain(Look::default(), &error.to_string(), ExitCode::Internal)).into()
}

/// Shows what is wrong with the command line, or the help that was asked for.
fn refuse_line(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // A reader of the help that is gone has seen enough.
        drop(error.print());
        return ExitCode::Success;
    }
    let format = wanted_log_format(std::env::args_os());
    let environment = Environment::capture().with_env_file(None, Path::new(""));
    let look = LogSettings::look_of(&environment, format.as_deref());
    if look.format == console::LogFormat::Json {
        let text = error.render().to_string();
        return complain(look, text.trim().trim_start_matches("error: "), ExitCode::Configuration);
    }
    // In clap's own colours.
    drop(error.print());
    ExitCode::Configuration
}

fn run(cli: &Cli) -> io::Result<ExitCode> {
    let cli = match &cli.command {
        Some(Command::Completions { shell }) => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "qa-worker", &mut script);
            console::print(&String::from_utf8_lossy(&script))?;
            return Ok(ExitCode::Success);
        }
        Some(Command::Settings) => {
            console::print(&format!("{}\n", variables::help(Program::Worker)))?;
            return Ok(ExitCode::Success);
        }
        Some(Command::Check(_)) | None => cli.clone().flattened(),
    };
    let environment = Environment::capture().with_env_file(cli.common.env_file.as_deref(), Path::new(""));
    let config = match WorkerConfig::read(&cli, &environment) {
        Ok(config) => config,
        Err(mistakes) => {
            let look = LogSettings::look_of(&environment, cli.common.log_format.as_deref());
            return Ok(complain(look, &mistakes.to_string(), ExitCode::Configuration));
        }
    };
    if let Err(error) = hide_arguments() {
        let look = LogSettings::look_of(&environment, cli.common.log_format.as_deref());
        let console = Console::start(look, Live::No);
        console.say(&format!("warning: others can see secrets of the command line: {error}"));
        console.flush(LAST_LINES);
    }
    let runtime = tokio::runtime::Runtime::new()?;
    match cli.command {
        Some(Command::Check(args)) => runtime.block_on(commands::check(config, args.json)),
        Some(Command::Completions { .. } | Command::Settings) | None => {
            runtime.block_on(commands::work(config))
        }
    }
}

fn complain(look: Look, error: &str, code: ExitCode) -> ExitCode {
    let console = Console::start(look, Live::No);
    console.error(error, code.code());
    console.flush(LAST_LINES);
    code
}
