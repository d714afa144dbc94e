//! What each command does once its configuration is known: logging on, header shown, work done, exit code.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use qa_shared::console::{Console, LAST_LINES, Live, Look};
use qa_shared::secret;
use qa_shared::settings::variables::Program;
use qa_shared::settings::{Address, Environment, Header, LogSettings};
use qa_shared::shutdown::Shutdown;
use qa_shared::telemetry::{Telemetry, start_logging};
use qa_worker::llm::http::Timeouts;
use qa_worker::llm::ollama::OllamaServer;

use crate::cli_generate::GenerateArgs;
use crate::config;
use crate::config::{
    CancelConfig, CombineConfig, Common, FailuresConfig, ForgetConfig, GenerateConfig, Place, PromptConfig,
    ShowConfig, StatusConfig,
};
use crate::exit::ExitCode;
use crate::run_error::RunError;
use crate::{dry_run, failures, ground, local, output, report_forecast, run, show, show_prompt, status};

/// How long a run may take to end after a second signal.
const LEAVING: Duration = Duration::from_secs(2);
/// How long the last lines may take then.
const LAST_LINES_IN_HASTE: Duration = Duration::from_millis(300);

/// The environment of `generate`: where a job is resumed, with what the job keeps. The error has been shown.
pub fn resumed_environment(args: &GenerateArgs, environment: Environment, look: Look) -> Resumed {
    resumed(ground::with_resumed_job(args, environment), look)
}

/// The environment of `prompt`: with what a job in the directory keeps.
pub fn environment_of_job(qa_dir: Option<&str>, environment: Environment, look: Look) -> Resumed {
    resumed(ground::with_job_of(config::directory(qa_dir, &environment), environment), look)
}

fn resumed(found: Result<Environment, RunError>, look: Look) -> Resumed {
    match found {
        Ok(environment) => Resumed::With(environment),
        Err(error) => Resumed::Refused(finish(&Console::start(look, Live::No), Err(error))),
    }
}

/// Whether a job can be resumed.
pub enum Resumed {
    /// Yes, with this environment; also where nothing is resumed.
    With(Environment),
    /// No.
    Refused(ExitCode),
}

/// `generate`; `search_path` is the value of PATH.
pub async fn generate(config: GenerateConfig, search_path: Option<OsString>) -> io::Result<ExitCode> {
    let common = &config.common;
    if config.budget.dry_run {
        let console = Console::start(common.logs.look, Live::No);
        return Ok(finish(&console, dry_run(&config, &console).await));
    }
    // Before the first word: whoever has seen it may want to stop in good order.
    let shutdown = Shutdown::on_signals()?;
    let console = Console::start(common.logs.look, if common.logs.quiet { Live::No } else { Live::Stderr });
    console.follow_size();
    let telemetry = match Telemetry::start(Program::Coordinator, &common.logs, &common.telemetry, &console) {
        Ok(telemetry) => telemetry,
        Err(error) => return Ok(finish(&console, Err(RunError::new(ExitCode::Configuration, error)))),
    };
    header(common).show(&console);
    let outcome = run_to_the_end(&config, &console, search_path, shutdown).await;
    let is_in_haste = matches!(&outcome, Err(error) if error.code == ExitCode::SecondSignal);
    telemetry.flush(is_in_haste).await;
    Ok(finish(&console, outcome))
}

/// Runs until the end or until the second signal.
async fn run_to_the_end(
    config: &GenerateConfig,
    console: &Console,
    search_path: Option<OsString>,
    shutdown: Shutdown,
) -> Result<ExitCode, RunError> {
    if let Place::Local(place) = &config.place
        && place.serving.servers.iter().any(|server| server.key.is_some())
    {
        secret::keep_out_of_core_dumps();
    }
    let left = shutdown.clone();
    let running = Box::pin(run::generate(config, console, search_path, shutdown));
    let left_at_once = async {
        left.leaving_now().await;
        // The run itself goes first, where it can.
        tokio::time::sleep(LEAVING).await;
    };
    tokio::select! {
        outcome = running => outcome,
        () = left_at_once => Err(RunError::new(ExitCode::SecondSignal, "left at once; go on with --resume")),
    }
}

async fn dry_run(config: &GenerateConfig, console: &Console) -> Result<ExitCode, RunError> {
    begin(&config.common, console)?;
    let forecast = dry_run::dry_run(config).await?;
    console.flush(LAST_LINES);
    if config.json {
        output::json(&forecast)?;
    } else {
        output::text(&report_forecast::forecast(&forecast, config))?;
    }
    Ok(ExitCode::Success)
}

/// `combine`
pub async fn combine(config: CombineConfig) -> io::Result<ExitCode> {
    let console = Console::start(config.common.logs.look, Live::No);
    if let Err(error) = begin(&config.common, &console) {
        return Ok(finish(&console, Err(error)));
    }
    let told = console.clone();
    let combined = tokio::task::spawn_blocking(move || crate::combine::combine_command(&config, &told));
    Ok(finish(&console, combined.await.unwrap_or_else(|error| Err(RunError::new(ExitCode::Internal, error)))))
}

/// `status`
pub async fn status(config: StatusConfig) -> io::Result<ExitCode> {
    // Once, the default of a signal is right: the program ends at once, whatever it waits for.
    let shutdown = if config.watch.is_some() { Shutdown::on_signals()? } else { Shutdown::new() };
    let live = if config.watch.is_some() && !config.json { Live::Stdout } else { Live::No };
    let console = Console::start(config.common.logs.look, live);
    console.follow_size();
    if let Err(error) = logging(&config.common.logs, &console) {
        return Ok(finish(&console, Err(error)));
    }
    let outcome = status::show(config, &console, shutdown).await;
    Ok(finish(&console, outcome))
}

/// `failures`
pub async fn failures(config: FailuresConfig) -> io::Result<ExitCode> {
    let console = Console::start(config.common.logs.look, Live::No);
    if let Err(error) = logging(&config.common.logs, &console) {
        return Ok(finish(&console, Err(error)));
    }
    let shown = tokio::task::spawn_blocking(move || failures::show(&config));
    Ok(finish(&console, shown.await.unwrap_or_else(|error| Err(RunError::new(ExitCode::Internal, error)))))
}

/// `show`
pub async fn show(config: ShowConfig) -> io::Result<ExitCode> {
    let console = Console::start(config.common.logs.look, Live::No);
    if let Err(error) = logging(&config.common.logs, &console) {
        return Ok(finish(&console, Err(error)));
    }
    let shown = tokio::task::spawn_blocking(move || show::show(&config));
    Ok(finish(&console, shown.await.unwrap_or_else(|error| Err(RunError::new(ExitCode::Internal, error)))))
}

/// `prompt`
pub async fn prompt(config: PromptConfig) -> io::Result<ExitCode> {
    let console = Console::start(config.common.logs.look, Live::No);
    if let Err(error) = logging(&config.common.logs, &console) {
        return Ok(finish(&console, Err(error)));
    }
    let shown = tokio::task::spawn_blocking(move || show_prompt::show(&config));
    Ok(finish(&console, shown.await.unwrap_or_else(|error| Err(RunError::new(ExitCode::Internal, error)))))
}

/// `cancel`
pub async fn cancel(config: CancelConfig) -> io::Result<ExitCode> {
    let console = Console::start(config.common.logs.look, Live::No);
    if let Err(error) = logging(&config.common.logs, &console) {
        return Ok(finish(&console, Err(error)));
    }
    let outcome = crate::cancel::cancel(config, &console).await;
    Ok(finish(&console, outcome))
}

/// `forget`
pub async fn forget(config: ForgetConfig) -> io::Result<ExitCode> {
    let console = Console::start(config.common.logs.look, Live::No);
    if let Err(error) = logging(&config.common.logs, &console) {
        return Ok(finish(&console, Err(error)));
    }
    let outcome = crate::forget::forget(config, &console).await;
    Ok(finish(&console, outcome))
}

/// The hidden `nats-supervisor`
pub async fn nats_supervisor(server: PathBuf, config: PathBuf, lock: PathBuf) -> io::Result<ExitCode> {
    match local::supervise_nats(server, config, lock).await {
        Ok(()) => Ok(ExitCode::Success),
        Err(error) => Ok(finish(&Console::start(Look::default(), Live::No), Err(RunError::queue(error)))),
    }
}

/// The chat models of these Ollama servers, for the message that a key or a model is missing.
pub async fn local_models(servers: &[Address]) -> Vec<String> {
    let timeouts = Timeouts { info: Duration::from_secs(3), ..Timeouts::default() };
    let mut names = Vec::new();
    for server in servers {
        let Ok(server) = OllamaServer::new(server.expose(), timeouts, None) else { continue };
        let Ok(info) = server.inspect().await else { continue };
        names.extend(info.models.into_iter().map(|model| model.name));
    }
    names.sort();
    names.dedup();
    names
}

fn begin(common: &Common, console: &Console) -> Result<(), RunError> {
    logging(&common.logs, console)?;
    header(common).show(console);
    Ok(())
}

fn header(common: &Common) -> Header<'_> {
    Header {
        logs: &common.logs,
        env_file: common.env_file.as_deref(),
        sources: &common.sources,
        notes: &common.notes,
    }
}

fn logging(logs: &LogSettings, console: &Console) -> Result<(), RunError> {
    start_logging(&logs.filter, console).map_err(|error| RunError::new(ExitCode::Configuration, error))
}

/// Shows why the command failed, if it did, and waits for the last lines.
fn finish(console: &Console, outcome: Result<ExitCode, RunError>) -> ExitCode {
    console.hide();
    let code = outcome.unwrap_or_else(|error| {
        console.error(&error.message, error.code.code());
        error.code
    });
    console.flush(if code == ExitCode::SecondSignal { LAST_LINES_IN_HASTE } else { LAST_LINES });
    code
}
