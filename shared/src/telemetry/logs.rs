//! Logs: human lines on a terminal, JSON on request, always to standard error; also to a collector where the
//! settings ask for it.

use std::io::{self, IsTerminal, Write};
use std::str::FromStr;

use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use super::log_line::LogLine;
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

/// What the libraries below say is told by our own modules, as far as it matters; telemetry about telemetry
/// would have no end.
const LIBRARIES: &str = "async_nats=warn,h2=warn,hyper=warn,hyper_util=warn,opentelemetry=off,opentelemetry_sdk=off,\
                         opentelemetry-otlp=off,reqwest=warn,rustls=warn,tonic=warn,tower=warn";
/// The same for log records that are sent.
const SENDERS: &str =
    "h2=off,hyper=off,hyper_util=off,opentelemetry=off,reqwest=off,rustls=off,tonic=off,tower=off";

/// Starts logging for this process. `filter` is in `RUST_LOG`'s notation; `writer` lets a progress bar
/// step aside for a line.
pub fn start_logging(
    filter: &str,
    format: LogFormat,
    writer: Option<BoxMakeWriter>,
) -> Result<(), InvalidFilter> {
    start_logging_to(filter, format, writer, None)
}

/// The same, with the events also going to `records`.
pub(super) fn start_logging_to(
    filter: &str,
    format: LogFormat,
    writer: Option<BoxMakeWriter>,
    records: Option<&SdkLoggerProvider>,
) -> Result<(), InvalidFilter> {
    let parsed = |libraries: &str| {
        EnvFilter::try_new(format!("{libraries},{filter}"))
            .map_err(|error| InvalidFilter { filter: filter.to_owned(), reason: error.to_string() })
    };
    let writer = PlainLines(writer.unwrap_or_else(|| BoxMakeWriter::new(io::stderr)));
    let lines = fmt::layer().with_writer(writer);
    let lines = match format {
        LogFormat::Human => {
            let has_colours = io::stderr().is_terminal();
            let inner = fmt::format().with_ansi(has_colours).with_target(false);
            lines.with_ansi(has_colours).event_format(LogLine { inner, format }).boxed()
        }
        LogFormat::Json => {
            let inner = fmt::format().json().flatten_event(true);
            lines.fmt_fields(JsonFields::new()).event_format(LogLine { inner, format }).boxed()
        }
    };
    let lines = lines.with_filter(parsed(LIBRARIES)?);
    let records = match records {
        Some(provider) => {
            let filter = parsed(&format!("{LIBRARIES},{SENDERS}"))?;
            Some(OpenTelemetryTracingBridge::new(provider).with_filter(filter))
        }
        None => None,
    };
    // A second start in one process (local mode's worker) keeps the first.
    drop(tracing_subscriber::registry().with(lines).with(records).try_init());
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
