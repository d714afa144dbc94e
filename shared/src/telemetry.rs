//! Logs: human lines on a terminal, JSON on request, always to standard error.

use std::io::IsTerminal;
use std::str::FromStr;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Human,
    /// One JSON object per line.
    Json,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "human" => Ok(Self::Human),
            "json" => Ok(Self::Json),
            _ => Err(format!("`{text}` is not a log format: expected human or json")),
        }
    }
}

/// A filter that the log library does not understand.
#[derive(Debug, thiserror::Error)]
#[error("log filter `{filter}` is not readable: {reason}")]
pub struct InvalidFilter {
    filter: String,
    reason: String,
}

/// Starts logging for this process. `filter` is in `RUST_LOG`'s notation; `writer` lets a progress bar
/// step aside for a line.
pub fn start_logging(
    filter: &str,
    format: LogFormat,
    writer: Option<BoxMakeWriter>,
) -> Result<(), InvalidFilter> {
    // The client announces every connection; what matters of that is told by the queue module.
    let parsed = EnvFilter::try_new(format!("async_nats=warn,{filter}"))
        .map_err(|error| InvalidFilter { filter: filter.to_owned(), reason: error.to_string() })?;
    let writer = writer.unwrap_or_else(|| BoxMakeWriter::new(std::io::stderr));
    let builder = tracing_subscriber::fmt().with_env_filter(parsed).with_writer(writer);
    // A second start in one process (local mode's worker) keeps the first.
    let started = match format {
        LogFormat::Human => builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    drop(started);
    Ok(())
}
