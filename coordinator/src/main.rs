//! The program `qa-coordinator`: command line and configuration in, exit code out. What the commands do is in
//! the library.

use std::io;
use std::path::Path;

use clap::CommandFactory;
use qa_coordinator::cli::{Cli, Command};
use qa_coordinator::commands::{self, Resumed};
use qa_coordinator::config::{
    CancelConfig, CombineConfig, ConfigError, FailuresConfig, ForgetConfig, GenerateConfig, PromptConfig,
    ShowConfig, StatusConfig,
};
use qa_coordinator::exit::ExitCode;
use qa_shared::console::{self, Console, LAST_LINES, Live, Look};
use qa_shared::settings::args::{CommonArgs, wanted_log_format};
use qa_shared::settings::{Environment, LogSettings, arguments, hide_arguments};
use serde_json::Map;
use tracing::Level;

fn main() -> std::process::ExitCode {
    let cli = match Cli::read(arguments()) {
        Ok(cli) => cli,
        Err(error) => return refuse_line(&error).into(),
    };
    run(cli).unwrap_or_else(|error| complain(Look::default(), &error.to_string(), ExitCode::Internal)).into()
}

/// Shows what is wrong with the command line, or the help that was asked for.
fn refuse_line(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // A reader of the help that is gone has seen enough.
        drop(error.print());
        return ExitCode::Success;
    }
    let format = wanted_log_format(arguments());
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
            let look = look(&args.common, &environment);
            let environment = match commands::resumed_environment(&args, environment, look) {
                Resumed::With(environment) => environment,
                Resumed::Refused(code) => return Ok(code),
            };
            let search_path = environment.search_path();
            let config = GenerateConfig::read(&args, &environment);
            begin(config, look, runtime, |config| commands::generate(config, search_path))
        }
        Command::Combine(args) => {
            let environment = environment(&args.common);
            let config = CombineConfig::read(&args, &environment);
            begin(config, look(&args.common, &environment), runtime, commands::combine)
        }
        Command::Status(args) => {
            let environment = environment(&args.common);
            let config = StatusConfig::read(&args, &environment);
            begin(config, look(&args.common, &environment), runtime, commands::status)
        }
        Command::Failures(args) => {
            let environment = environment(&args.common);
            let config = FailuresConfig::read(&args, &environment);
            begin(config, look(&args.common, &environment), runtime, commands::failures)
        }
        Command::Show(args) => {
            let environment = environment(&args.common);
            let config = ShowConfig::read(&args, &environment);
            begin(config, look(&args.common, &environment), runtime, commands::show)
        }
        Command::Cancel(args) => {
            let environment = environment(&args.common);
            let config = CancelConfig::read(&args, &environment);
            begin(config, look(&args.common, &environment), runtime, commands::cancel)
        }
        Command::Forget(args) => {
            let environment = environment(&args.common);
            let config = ForgetConfig::read(&args, &environment);
            begin(config, look(&args.common, &environment), runtime, commands::forget)
        }
        Command::Prompt(args) => {
            let environment = environment(&args.common);
            let look = look(&args.common, &environment);
            let environment = match commands::environment_of_job(args.qa_dir.as_deref(), environment, look) {
                Resumed::With(environment) => environment,
                Resumed::Refused(code) => return Ok(code),
            };
            begin(PromptConfig::read(&args, &environment), look, runtime, commands::prompt)
        }
        Command::Settings => {
            console::print(&format!("{}\n", Cli::settings_text()))?;
            Ok(ExitCode::Success)
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "qa-coordinator", &mut script);
            console::print(&String::from_utf8_lossy(&script))?;
            Ok(ExitCode::Success)
        }
        Command::NatsSupervisor { server, config, lock } => {
            runtime.block_on(commands::nats_supervisor(server, config, lock))
        }
    }
}

/// Begins a command whose settings are right. Its secrets are hidden before: a mistake is told with the flags that
/// were given.
fn begin<C, F: Future<Output = io::Result<ExitCode>>>(
    config: Result<C, ConfigError>,
    look: Look,
    runtime: &tokio::runtime::Runtime,
    command: impl FnOnce(C) -> F,
) -> io::Result<ExitCode> {
    match config {
        Ok(config) => {
            if let Err(error) = hide_arguments() {
                warn(look, &format!("others can see secrets of the command line: {error}"));
            }
            runtime.block_on(command(config))
        }
        Err(error) => Ok(runtime.block_on(refuse(error, look))),
    }
}

fn environment(common: &CommonArgs) -> Environment {
    Environment::capture().with_env_file(common.env_file.as_deref(), Path::new(""))
}

fn look(common: &CommonArgs, environment: &Environment) -> Look {
    LogSettings::look_of(environment, common.log_format.as_deref())
}

async fn refuse(error: ConfigError, look: Look) -> ExitCode {
    let error = match error.servers_to_ask() {
        Some(servers) => {
            let models = commands::local_models(servers).await;
            error.with_local_models(&models)
        }
        None => error,
    };
    complain(look, &error.to_string(), ExitCode::Configuration)
}

fn warn(look: Look, warning: &str) {
    let console = Console::start(look, Live::No);
    let label = if console.is_json() { "" } else { "warning: " };
    console.tell(Level::WARN, "note", &format!("{label}{warning}"), Map::new());
    console.flush(LAST_LINES);
}

fn complain(look: Look, error: &str, code: ExitCode) -> ExitCode {
    let console = Console::start(look, Live::No);
    console.error(error, code.code());
    console.flush(LAST_LINES);
    code
}
