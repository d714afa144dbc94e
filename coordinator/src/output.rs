//! What a command that only tells says on standard output: made plain, and no error where nobody reads on.

use std::io::{ErrorKind, Write};

use qa_shared::plain;
use serde::Serialize;

use crate::exit::ExitCode;
use crate::run_error::RunError;

/// Lines for people.
pub(crate) fn text(text: &str) -> Result<(), RunError> {
    write(&format!("{}\n", plain::text(text.trim_end())))
}

/// One value for a machine.
pub(crate) fn json(value: &impl Serialize) -> Result<(), RunError> {
    write(&format!("{}\n", json_text(value)?))
}

/// The same as text.
pub(crate) fn json_text(value: &impl Serialize) -> Result<String, RunError> {
    let text = serde_json::to_string_pretty(value);
    Ok(plain::json(&text.map_err(|error| RunError::new(ExitCode::Internal, error))?))
}

/// What is plain already.
pub(crate) fn write(plain: &str) -> Result<(), RunError> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(plain.as_bytes()).and_then(|()| stdout.flush()) {
        // Whoever reads has seen enough.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(RunError::files(error)),
        _ => Ok(()),
    }
}
