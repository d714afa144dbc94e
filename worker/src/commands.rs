//! What the program does once its configuration is known.

use std::io;
use std::time::Duration;

use qa_shared::connecting::connect_options;
use qa_shared::console::{self, Console, LAST_LINES, Live, Printed};
use qa_shared::plain;
use qa_shared::queue::{ConnectError, ConnectOptions, Queue, Timing};
use qa_shared::secret;
use qa_shared::settings::Header;
use qa_shared::settings::variables::Program;
use qa_shared::shutdown::Shutdown;
use qa_shared::telemetry::{Telemetry, start_logging};

use crate::config::WorkerConfig;
use crate::exit::ExitCode;
use crate::{check, driver, setup};

/// How long after a second signal the goodbyes may take.
const LEAVING: Duration = Duration::from_secs(2);
/// How long the last lines may take then.
const LAST_LINES_IN_HASTE: Duration = Duration::from_millis(300);

/// Works until told to stop.
pub async fn work(config: WorkerConfig) -> io::Result<ExitCode> {
    // Before the first word: whoever has seen it may want to stop in good order.
    let shutdown = Shutdown::on_signals()?;
    let console = Console::start(config.logs.look, Live::No);
    let telemetry = match Telemetry::start(Program::Worker, &config.logs, &config.telemetry, &console) {
        Ok(telemetry) => telemetry,
        Err(error) => return Ok(complain(&console, &error.to_string(), ExitCode::Configuration)),
    };
    let code = serve(config, &console, shutdown).await;
    let is_in_haste = code == ExitCode::SecondSignal;
    telemetry.flush(is_in_haste).await;
    console.flush(if is_in_haste { LAST_LINES_IN_HASTE } else { LAST_LINES });
    Ok(code)
}

async fn serve(config: WorkerConfig, console: &Console, shutdown: Shutdown) -> ExitCode {
    header(&config).show(console);
    guard_keys(&config);
    let setup = match setup::worker_setup(&config.serving, &config.models, &config.pools) {
        Ok(setup) => setup,
        Err(error) => return complain(console, &error.to_string(), ExitCode::Configuration),
    };
    let options = connect_options(&config.nats, Program::Worker, setup.instance.as_str());
    let queue = tokio::select! {
        queue = connect(&options, &config.timing) => queue,
        () = shutdown.stopping() => return ExitCode::Success,
    };
    let queue = match queue {
        Ok(queue) => queue,
        Err(error) => return complain(console, &error.to_string(), ExitCode::Queue),
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
            ExitCode::Success
        }
        () = left_at_once => ExitCode::SecondSignal,
    }
}

/// Looks at every server and tells what works.
pub async fn check(config: WorkerConfig, as_json: bool) -> io::Result<ExitCode> {
    let console = Console::start(config.logs.look, Live::No);
    if let Err(error) = start_logging(&config.logs.filter, &console) {
        return Ok(complain(&console, &error.to_string(), ExitCode::Configuration));
    }
    header(&config).show(&console);
    guard_keys(&config);
    let findings = match check::check(&config.serving, &config.models).await {
        Ok(findings) => findings,
        Err(error) => return Ok(complain(&console, &error.to_string(), ExitCode::Configuration)),
    };
    console.flush(LAST_LINES);
    let told = if as_json {
        format!("{}\n", plain::json(&serde_json::to_string_pretty(&findings).unwrap_or_default()))
    } else {
        plain::text(&check::table(&findings))
    };
    let problem = match console::print(&told) {
        Ok(Printed::ReaderIsGone) if as_json => Some("nobody reads it any more".to_owned()),
        Ok(Printed::Read | Printed::ReaderIsGone) => None,
        Err(error) => Some(error.to_string()),
    };
    if let Some(problem) = problem {
        let message = format!("standard output cannot be written: {problem}");
        return Ok(complain(&console, &message, ExitCode::Check));
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

fn header(config: &WorkerConfig) -> Header<'_> {
    Header {
        logs: &config.logs,
        env_file: config.env_file.as_deref(),
        sources: &config.sources,
        notes: &config.notes,
    }
}

fn complain(console: &Console, error: &str, code: ExitCode) -> ExitCode {
    console.error(error, code.code());
    console.flush(LAST_LINES);
    code
}
