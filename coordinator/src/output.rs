//! What a command was asked for, on standard output: made plain. A reader of text may have seen enough; JSON that was
//! not written whole is an error.

use qa_shared::console::{self, LAST_LINES, Printed, fold};
use qa_shared::plain;
use qa_shared::shutdown::Shutdown;
use serde::Serialize;

use crate::exit::ExitCode;
use crate::run_error::RunError;

/// Lines for people.
pub(crate) fn text(text: &str) -> Result<(), RunError> {
    let plain = plain::text(text.trim_end());
    let shown = console::output_columns().map_or_else(|| plain.clone(), |columns| fold(&plain, columns));
    write(&format!("{shown}\n"))
}

/// One value for a machine.
pub(crate) fn json(value: &impl Serialize) -> Result<(), RunError> {
    write_json(&format!("{}\n", json_text(value)?))
}

/// The same as text.
pub(crate) fn json_text(value: &impl Serialize) -> Result<String, RunError> {
    let text = serde_json::to_string_pretty(value);
    Ok(plain::json(&text.map_err(|error| RunError::new(ExitCode::Internal, error))?))
}

/// What is plain already.
pub(crate) fn write(plain: &str) -> Result<(), RunError> {
    print(plain).map(drop)
}

/// A piece of JSON. A program that reads half of it must not be told that all went well.
pub(crate) fn write_json(plain: &str) -> Result<(), RunError> {
    match print(plain)? {
        Printed::Read => Ok(()),
        Printed::ReaderIsGone => Err(no_reader()),
    }
}

fn no_reader() -> RunError {
    RunError::files("the JSON was not written: nobody reads standard output any more")
}

fn print(plain: &str) -> Result<Printed, RunError> {
    console::print(plain)
        .map_err(|error| RunError::files(format!("standard output cannot be written: {error}")))
}

/// Writes within a command that watches signals. A reader that reads nothing is waited for until a stop, and a short
/// time after one; nothing if the waiting was ended.
pub(crate) async fn write_until_stopped(
    plain: String,
    shutdown: &Shutdown,
) -> Option<Result<Printed, RunError>> {
    let writing = tokio::task::spawn_blocking(move || print(&plain));
    let waited_enough = async {
        shutdown.stopping().await;
        tokio::time::sleep(LAST_LINES).await;
    };
    tokio::select! {
        written = writing => {
            Some(written.unwrap_or_else(|error| Err(RunError::new(ExitCode::Internal, error))))
        }
        () = waited_enough => None,
    }
}

/// Writes a run's JSON; whether all of it was written. What goes wrong is a warning, since the run is over.
pub(crate) async fn json_of_run(value: &impl Serialize, shutdown: &Shutdown) -> bool {
    let written = match json_text(value) {
        Ok(json) => write_until_stopped(format!("{json}\n"), shutdown).await,
        Err(error) => Some(Err(error)),
    };
    let error = match written {
        Some(Ok(Printed::Read)) => return true,
        Some(Err(error)) => error,
        Some(Ok(Printed::ReaderIsGone)) | None => no_reader(),
    };
    tracing::warn!("{error}; the same figures are in qa_generation_summary.json");
    false
}
