//! What each command does once its configuration is known: logging on, header shown, work done, exit code.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use qa_shared::secret;
use qa_shared::settings::variables::Program;
use qa_shared::settings::{Address, LogSettings, Origin};
use qa_shared::shutdown::Shutdown;
use qa_shared::telemetry::{Telemetry, start_logging};
use qa_worker::llm::http::Timeouts;
use qa_worker::llm::ollama::OllamaServer;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use crate::config::{
    CancelConfig, CombineConfig, Common, FailuresConfig, GenerateConfig, Place, ShowConfig, StatusConfig,
};
use crate::exit::ExitCode;
use crate::progress::Screen;
use crate::run_error::RunError;
use crate::{dry_run, failures, format, local, report_forecast, run, show, status, summary};

/// How long a run may take to end after a second signal.
const LEAVING: Duration = Duration::from_secs(2);

/// `generate`; `search_path` is the value of PATH.
pub async fn generate(config: GenerateConfig, search_path: Option<OsString>) -> io::Result<ExitCode> {
    let screen = Screen::new(config.common.logs.quiet);
    if config.budget.dry_run {
        return match begin(&config.common, &screen) {
            Ok(()) => finish(forecast(&config).await),
            Err(error) => complain(&error),
        };
    }
    let writer = BoxMakeWriter::new(screen.clone());
    let common = &config.common;
    let telemetry =
        match Telemetry::start(Program::Coordinator, &common.logs, &common.telemetry, Some(writer)) {
            Ok(telemetry) => telemetry,
            Err(error) => return complain(&RunError::new(ExitCode::Configuration, error)),
        };
    // Before the first word: whoever has seen it may want to stop in good order.
    let shutdown = Shutdown::on_signals()?;
    show_header(common, &screen);
    let outcome = run_to_the_end(&config, &screen, search_path, shutdown).await;
    let is_in_haste = matches!(&outcome, Err(error) if error.code == ExitCode::SecondSignal);
    telemetry.flush(is_in_haste).await;
    finish(outcome)
}

/// Runs until the end or until the second signal.
async fn run_to_the_end(
    config: &GenerateConfig,
    screen: &Screen,
    search_path: Option<OsString>,
    shutdown: Shutdown,
) -> Result<ExitCode, RunError> {
    if let Place::Local(place) = &config.place
        && place.serving.servers.iter().any(|server| server.key.is_some())
    {
        secret::keep_out_of_core_dumps();
    }
    let left = shutdown.clone();
    let running = Box::pin(run::generate(config, screen, search_path, shutdown));
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

async fn forecast(config: &GenerateConfig) -> Result<ExitCode, RunError> {
    let forecast = dry_run::dry_run(config).await?;
    if config.json {
        summary::print_json(&forecast);
    } else {
        let text = report_forecast::forecast(&forecast, config);
        // Nobody is left to tell when standard output is closed.
        drop(write!(io::stdout().lock(), "{}", format::text(&text)));
    }
    Ok(ExitCode::Success)
}

/// `combine`
pub async fn combine(config: CombineConfig) -> io::Result<ExitCode> {
    let screen = Screen::new(true);
    if let Err(error) = begin(&config.common, &screen) {
        return complain(&error);
    }
    let combined = tokio::task::spawn_blocking(move || crate::combine::combine_command(&config, &screen));
    finish(combined.await.unwrap_or_else(|error| Err(RunError::new(ExitCode::Internal, error))))
}

/// `status`
pub async fn status(config: StatusConfig) -> io::Result<ExitCode> {
    if let Err(error) = logging(&config.common.logs, &Screen::new(true)) {
        return complain(&error);
    }
    let shutdown = Shutdown::on_signals()?;
    finish(status::show(config, shutdown).await)
}

/// `failures`
pub async fn failures(config: FailuresConfig) -> io::Result<ExitCode> {
    if let Err(error) = logging(&config.common.logs, &Screen::new(true)) {
        return complain(&error);
    }
    let shown = tokio::task::spawn_blocking(move || failures::show(&config));
    finish(shown.await.unwrap_or_else(|error| Err(RunError::new(ExitCode::Internal, error))))
}

/// `show`
pub async fn show(config: ShowConfig) -> io::Result<ExitCode> {
    if let Err(error) = logging(&config.common.logs, &Screen::new(true)) {
        return complain(&error);
    }
    let shown = tokio::task::spawn_blocking(move || show::show(&config));
    finish(shown.await.unwrap_or_else(|error| Err(RunError::new(ExitCode::Internal, error))))
}

/// `cancel`
pub async fn cancel(config: CancelConfig) -> io::Result<ExitCode> {
    let screen = Screen::new(true);
    if let Err(error) = logging(&config.common.logs, &screen) {
        return complain(&error);
    }
    finish(crate::cancel::cancel(config, &screen).await)
}

/// The hidden `nats-supervisor`
pub async fn nats_supervisor(server: PathBuf, config: PathBuf, lock: PathBuf) -> io::Result<ExitCode> {
    match local::supervise_nats(server, config, lock).await {
        Ok(()) => Ok(ExitCode::Success),
        Err(error) => complain(&RunError::queue(error)),
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

fn begin(common: &Common, screen: &Screen) -> Result<(), RunError> {
    logging(&common.logs, screen)?;
    show_header(common, screen);
    Ok(())
}

fn show_header(common: &Common, screen: &Screen) {
    if common.logs.quiet {
        return;
    }
    if let Some(path) = &common.env_file {
        screen.say(&format!("settings file: {}", path.display()));
    }
    // Defaults are in --help; with -v they are shown as well.
    let is_verbose = common.logs.filter.contains("debug");
    for source in common.sources.iter().filter(|source| is_verbose || source.origin != Origin::Default) {
        screen.say(&format!("  {source}"));
    }
    for note in &common.notes {
        screen.say(&format!("{}: {note}", if note.warning { "warning" } else { "note" }));
    }
}

fn logging(logs: &LogSettings, screen: &Screen) -> Result<(), RunError> {
    let writer = BoxMakeWriter::new(screen.clone());
    start_logging(&logs.filter, logs.format, Some(writer))
        .map_err(|error| RunError::new(ExitCode::Configuration, error))
}

fn finish(outcome: Result<ExitCode, RunError>) -> io::Result<ExitCode> {
    match outcome {
        Ok(code) => Ok(code),
        Err(error) => complain(&error),
    }
}

fn complain(error: &RunError) -> io::Result<ExitCode> {
    writeln!(io::stderr(), "error: {}", format::text(&error.message))?;
    Ok(error.code)
}
