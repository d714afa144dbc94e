//! Logs: human lines on a terminal, JSON on request, always to standard error.

use std::io::{self, IsTerminal, Write};
use std::str::FromStr;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use crate::plain;

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

/// Log lines hold names and messages of others.
struct PlainLines(BoxMakeWriter);

struct PlainLine<W>(W);

impl<'a> MakeWriter<'a> for PlainLines {
    type Writer = PlainLine<<BoxMakeWriter as MakeWriter<'a>>::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        PlainLine(self.0.make_writer())
    }
}

impl<W: Write> Write for PlainLine<W> {
    /// The log library writes a whole event at once.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write_all(plain::log_line(&String::from_utf8_lossy(bytes)).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
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
    let writer = writer.unwrap_or_else(|| BoxMakeWriter::new(io::stderr));
    let builder = tracing_subscriber::fmt().with_env_filter(parsed).with_writer(PlainLines(writer));
    // A second start in one process (local mode's worker) keeps the first.
    let started = match format {
        LogFormat::Human => builder.with_ansi(io::stderr().is_terminal()).with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    drop(started);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_line_cannot_steer_the_terminal() {
        let mut written = Vec::new();
        let line = "WARN host=\x1b]0;title\x07 \u{202e}gpu\r1\n";
        PlainLine(&mut written).write_all(line.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(written).unwrap(), "WARN host= ]0;title   gpu 1\n");
    }
}
