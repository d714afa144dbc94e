//! The program `qa-coordinator`: command line and configuration in, exit code out. What the commands do is in
//! the library.

mod hide_key;

use std::io::{self, Write};
use std::path::Path;

use clap::CommandFactory;
use qa_coordinator::cli::{Cli, Command};
use qa_coordinator::commands;
use qa_coordinator::config::{
    CancelConfig, CombineConfig, ConfigError, FailuresConfig, GenerateConfig, ShowConfig, StatusConfig,
};
use qa_coordinator::exit::ExitCode;
use qa_shared::plain;
use qa_shared::settings::Environment;
use qa_shared::settings::args::CommonArgs;

fn main() -> std::process::ExitCode {
    let cli = match Cli::read(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => {
            // Nobody is left to tell when the stream is closed.
            drop(error.print());
            let code = if error.use_stderr() { ExitCode::Configuration } else { ExitCode::Success };
            return code.into();
        }
    };
    run(cli).unwrap_or_else(|error| complain(&error.to_string(), ExitCode::Internal)).into()
}

fn run(cli: Cli) -> io::Result<ExitCode> {
    let runtime = tokio::runtime::Runtime::new()?;
    let outcome = perform(cli, &runtime);
    // Whatever still reads or writes a file in the background must not keep a program that has ended.
    runtime.shutdown_background();
    outcome
}

fn perform(cli: Cli, runtime: &tokio::runtime::Runtime) -> io::Result<ExitCode> {
    match cli.command {
        Command::Generate(args) => {
            let environment = environment(&args.common);
            match GenerateConfig::read(&args, &environment) {
                Ok(config) => {
                    if args.generation.api_key.is_some()
                        && let Err(error) = hide_key::hide_key()
                    {
                        drop(writeln!(io::stderr(), "warning: others can see the key of --api-key: {error}"));
                    }
                    runtime.block_on(commands::generate(config, environment.search_path()))
                }
                Err(error) => Ok(runtime.block_on(refuse(error))),
            }
        }
        Command::Combine(args) => match CombineConfig::read(&args, &environment(&args.common)) {
            Ok(config) => runtime.block_on(commands::combine(config)),
            Err(error) => Ok(runtime.block_on(refuse(error))),
        },
        Command::Status(args) => match StatusConfig::read(&args, &environment(&args.common)) {
            Ok(config) => runtime.block_on(commands::status(config)),
            Err(error) => Ok(runtime.block_on(refuse(error))),
        },
        Command::Failures(args) => match FailuresConfig::read(&args, &environment(&args.common)) {
            Ok(config) => runtime.block_on(commands::failures(config)),
            Err(error) => Ok(runtime.block_on(refuse(error))),
        },
        Command::Show(args) => match ShowConfig::read(&args, &environment(&args.common)) {
            Ok(config) => runtime.block_on(commands::show(config)),
            Err(error) => Ok(runtime.block_on(refuse(error))),
        },
        Command::Cancel(args) => match CancelConfig::read(&args, &environment(&args.common)) {
            Ok(config) => runtime.block_on(commands::cancel(config)),
            Err(error) => Ok(runtime.block_on(refuse(error))),
        },
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "qa-coordinator", &mut script);
            io::stdout().write_all(&script)?;
            Ok(ExitCode::Success)
        }
        Command::NatsSupervisor { server, config, lock } => {
            runtime.block_on(commands::nats_supervisor(server, config, lock))
        }
    }
}

fn environment(common: &CommonArgs) -> Environment {
    Environment::capture().with_env_file(common.env_file.as_deref(), Path::new(""))
}

async fn refuse(error: ConfigError) -> ExitCode {
    let error = match error.servers_to_ask() {
        Some(servers) => {
            let models = commands::local_models(servers).await;
            error.with_local_models(&models)
        }
        None => error,
    };
    complain(&error.to_string(), ExitCode::Configuration)
}

fn complain(error: &str, code: ExitCode) -> ExitCode {
    // Nobody is left to tell when standard error is closed.
    drop(writeln!(io::stderr(), "error: {}", plain::text(error)));
    code
}
