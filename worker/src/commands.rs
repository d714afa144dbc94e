//! What the program does once its configuration is known.

use std::io::{self, Write};
use std::time::Duration;

use qa_shared::connecting::connect_options;
use qa_shared::plain;
use qa_shared::queue::{ConnectError, ConnectOptions, Queue, Timing};
use qa_shared::secret;
use qa_shared::settings::Origin;
use qa_shared::settings::variables::Program;
use qa_shared::shutdown::Shutdown;
use qa_shared::telemetry::{Telemetry, start_logging};

use crate::config::WorkerConfig;
use crate::exit::ExitCode;
use crate::{check, driver, setup};

/// How long after a second signal the goodbyes may take.
const LEAVING: Duration = Duration::from_secs(2);

/// Works until told to stop.
pub async fn work(config: WorkerConfig) -> io::Result<ExitCode> {
    let telemetry = match Telemetry::start(Program::Worker, &config.logs, &config.telemetry, None) {
        Ok(telemetry) => telemetry,
        Err(error) => return complain(&error.to_string(), ExitCode::Configuration),
    };
    let code = serve(config).await;
    telemetry.flush(matches!(code, Ok(ExitCode::SecondSignal))).await;
    code
}

async fn serve(config: WorkerConfig) -> io::Result<ExitCode> {
    // Before the first word: whoever has seen it may want to stop in good order.
    let shutdown = Shutdown::on_signals()?;
    if !config.logs.quiet {
        show_header(&config)?;
    }
    guard_keys(&config);
    let setup = match setup::worker_setup(&config.serving, &config.models, &config.pools) {
        Ok(setup) => setup,
        Err(error) => return complain(&error.to_string(), ExitCode::Configuration),
    };
    let options = connect_options(&config.nats, Program::Worker, setup.instance.as_str());
    let queue = tokio::select! {
        queue = connect(&options, &config.timing) => queue,
        () = shutdown.stopping() => return Ok(ExitCode::Success),
    };
    let queue = match queue {
        Ok(queue) => queue,
        Err(error) => return complain(&error.to_string(), ExitCode::Queue),
    };
    tracing::info!(instance = %setup.instance, nats = queue.servers(), version = queue.server_version(), "connected");
    let running = driver::run(setup, queue.clone(), shutdown.clone());
    let left_at_once = async {
        shutdown.leaving_now().await;
        tokio::time::sleep(LEAVING).await;
    };
    tokio::select! {
        () = running => {
            queue.close().await;
            Ok(ExitCode::Success)
        }
        () = left_at_once => Ok(ExitCode::SecondSignal),
    }
}

/// Looks at every server and tells what works.
pub async fn check(config: WorkerConfig, as_json: bool) -> io::Result<ExitCode> {
    if let Err(error) = start_logging(&config.logs.filter, config.logs.format, None) {
        return complain(&error.to_string(), ExitCode::Configuration);
    }
    if !config.logs.quiet {
        show_header(&config)?;
    }
    guard_keys(&config);
    let findings = match check::check(&config.serving, &config.models).await {
        Ok(findings) => findings,
        Err(error) => return complain(&error.to_string(), ExitCode::Configuration),
    };
    let mut out = io::stdout().lock();
    if as_json {
        let json = serde_json::to_string_pretty(&findings).unwrap_or_default();
        writeln!(out, "{}", plain::json(&json))?;
    } else {
        write!(out, "{}", plain::text(&check::table(&findings)))?;
    }
    let works = !findings.is_empty() && findings.iter().all(|finding| finding.works);
    Ok(if works { ExitCode::Success } else { ExitCode::Check })
}

/// Whoever holds a key leaves no memory behind when it crashes.
fn guard_keys(config: &WorkerConfig) {
    if config.serving.servers.iter().any(|server| server.key.is_some()) {
        secret::keep_out_of_core_dumps();
    }
}

/// Connects; a server that cannot be reached yet is waited for, since machines start in any order.
async fn connect(options: &ConnectOptions, timing: &Timing) -> Result<Queue, ConnectError> {
    let mut said = false;
    loop {
        match Queue::connect(options, timing.clone()).await {
            Err(error @ ConnectError::Unreachable { .. }) => {
                if !said {
                    tracing::warn!("{error}; trying again until it answers");
                    said = true;
                }
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            outcome => return outcome,
        }
    }
}

fn show_header(config: &WorkerConfig) -> io::Result<()> {
    let mut err = io::stderr().lock();
    if let Some(path) = &config.env_file {
        writeln!(err, "settings file: {}", path.display())?;
    }
    // Defaults are in --help; with -v they are shown as well.
    let is_verbose = config.logs.filter.contains("debug");
    for source in config.sources.iter().filter(|source| is_verbose || source.origin != Origin::Default) {
        writeln!(err, "  {source}")?;
    }
    for note in &config.notes {
        writeln!(err, "{}: {note}", if note.warning { "warning" } else { "note" })?;
    }
    Ok(())
}

fn complain(error: &str, code: ExitCode) -> io::Result<ExitCode> {
    writeln!(io::stderr(), "error: {}", plain::text(error))?;
    Ok(code)
}
