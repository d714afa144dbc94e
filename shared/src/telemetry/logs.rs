//! Logs: human lines on a terminal, JSON on request, always to standard error; also to a collector where the
//! settings ask for it.

use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use tracing_subscriber::fmt;
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use super::log_line::LogLine;
use crate::console::{Console, LogFormat};

/// A filter that the log library does not understand.
#[derive(Debug, thiserror::Error)]
#[error("log filter `{filter}` is not readable: {reason}")]
pub struct InvalidFilter {
    filter: String,
    reason: String,
}

/// What the libraries below say is told by our own modules, as far as it matters; telemetry about telemetry
/// would have no end.
const LIBRARIES: &str = "async_nats=warn,h2=warn,hyper=warn,hyper_util=warn,opentelemetry=off,opentelemetry_sdk=off,\
                         opentelemetry-otlp=off,reqwest=warn,rustls=warn,tonic=warn,tower=warn";
/// The same for log records that are sent.
const SENDERS: &str =
    "h2=off,hyper=off,hyper_util=off,opentelemetry=off,reqwest=off,rustls=off,tonic=off,tower=off";

/// Starts logging for this process. `filter` is in `RUST_LOG`'s notation.
pub fn start_logging(filter: &str, console: &Console) -> Result<(), InvalidFilter> {
    start_logging_to(filter, console, None)
}

/// The same, with the events also going to `records`.
pub(super) fn start_logging_to(
    filter: &str,
    console: &Console,
    records: Option<&SdkLoggerProvider>,
) -> Result<(), InvalidFilter> {
    let parsed = |libraries: &str| {
        EnvFilter::try_new(format!("{libraries},{filter}"))
            .map_err(|error| InvalidFilter { filter: filter.to_owned(), reason: error.to_string() })
    };
    // The log library would say on standard error that standard error cannot be written.
    let lines = fmt::layer().with_writer(console.clone()).log_internal_errors(false);
    let lines = if console.is_json() {
        let inner = fmt::format().json().flatten_event(true);
        lines.fmt_fields(JsonFields::new()).event_format(LogLine { inner, format: LogFormat::Json }).boxed()
    } else {
        let has_colours = console.has_colours();
        let inner = fmt::format().with_ansi(has_colours).with_target(false);
        lines.with_ansi(has_colours).event_format(LogLine { inner, format: LogFormat::Human }).boxed()
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
