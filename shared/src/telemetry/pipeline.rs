//! The telemetry of a process from start to end: what is on, and the last batches before the process ends.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry_sdk::logs::{BatchLogProcessor, SdkLoggerProvider};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;

use super::exporters::Exporters;
use super::logs::{InvalidFilter, start_logging_to};
use super::resource::resource;
use super::watched::Health;
use super::{listener, metrics, repeats, traces};
use crate::console::Console;
use crate::settings::variables::Program;
use crate::settings::{Address, LogSettings, TelemetrySettings};

/// How long the last batches may take.
const LAST_BATCHES: Duration = Duration::from_secs(5);
/// The same after a second signal.
const IN_HASTE: Duration = Duration::from_millis(500);

/// Why telemetry could not start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The log's filter.
    #[error(transparent)]
    Filter(#[from] InvalidFilter),
    /// An exporter.
    #[error("telemetry cannot be sent to {url}: {reason} (see the OTEL_EXPORTER_OTLP_ variables)")]
    Exporter {
        /// The collector.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// Nobody can ask for metrics.
    #[error(
        "--metrics-listen cannot be served: {0}; choose a free address of this machine, such as 127.0.0.1:9464"
    )]
    Listener(String),
}

impl TelemetryError {
    pub(super) fn new(url: &Address, error: impl fmt::Display) -> Self {
        Self::Exporter { url: url.to_string(), reason: error.to_string() }
    }

    pub(super) fn listener(error: impl fmt::Display) -> Self {
        Self::Listener(error.to_string())
    }
}

/// What this process tells about itself. To be flushed at its end.
#[derive(Debug)]
#[must_use = "the last batches are sent by flush"]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
    metrics: Option<SdkMeterProvider>,
    logs: Option<SdkLoggerProvider>,
    health: Arc<Health>,
}

impl Telemetry {
    /// Starts log, traces and metrics; within the program's runtime.
    pub fn start(
        program: Program,
        logs: &LogSettings,
        settings: &TelemetrySettings,
        console: &Console,
    ) -> Result<Self, TelemetryError> {
        if !settings.is_on() {
            start_logging_to(&logs.filter, console, None)?;
            return Ok(Self { traces: None, metrics: None, logs: None, health: Arc::default() });
        }
        let exporters = Exporters::new();
        let resource = resource(program, settings);
        let records = match &settings.logs {
            Some(collector) => {
                let processor = BatchLogProcessor::builder(exporters.logs(collector)?).build();
                let provider = SdkLoggerProvider::builder().with_resource(resource.clone());
                Some(provider.with_log_processor(processor).build())
            }
            None => None,
        };
        start_logging_to(&logs.filter, console, records.as_ref())?;
        let metrics = metrics::provider(settings, &exporters, &resource)?;
        if let Some((provider, registry)) = &metrics {
            metrics::start(provider);
            if let (Some(address), Some(registry)) = (settings.listen, registry) {
                let part = match program {
                    Program::Coordinator => "coordinator",
                    Program::Worker => "worker",
                };
                listener::listen(part, address, registry.clone())?;
            }
        }
        let spans = traces::provider(settings, &exporters, &resource)?;
        if let Some(spans) = &spans {
            traces::start(spans, settings);
        }
        let metrics = metrics.map(|(provider, _)| provider);
        Ok(Self { traces: spans, metrics, logs: records, health: exporters.health() })
    }

    /// Sends what waits, as far as that takes a bounded time, a short one for somebody in haste. Nothing is
    /// sent afterwards.
    pub async fn flush(self, is_in_haste: bool) {
        let limit = if is_in_haste { IN_HASTE } else { LAST_BATCHES };
        let left_out = repeats::left_out();
        if left_out > 0 {
            tracing::warn!(lines = left_out, "warnings that repeated themselves were left out");
        }
        let Self { traces, metrics, logs, health } = self;
        if traces.is_none() && metrics.is_none() && logs.is_none() {
            return;
        }
        health.end();
        let (done, ended) = tokio::sync::oneshot::channel();
        // A thread of its own: the end of the program must not wait for it longer than we do.
        let flushing = std::thread::Builder::new().name("telemetry-end".to_owned()).spawn(move || {
            // At the same time: none may use up what the others need. What could not be sent was told when it
            // could not be sent.
            std::thread::scope(|scope| {
                scope.spawn(|| traces.map(|traces| traces.shutdown_with_timeout(limit)));
                scope.spawn(|| metrics.map(|metrics| metrics.shutdown_with_timeout(limit)));
                scope.spawn(|| logs.map(|logs| logs.shutdown_with_timeout(limit)));
            });
            done.send(()).ok();
        });
        if flushing.is_ok() {
            drop(tokio::time::timeout(limit, ended).await);
        }
    }
}
