//! An exporter that never holds anybody up: each request has an end, and a collector that fails is told once.
//!
//! The SDK gathers spans, metrics and log records on threads of its own, which know no runtime; the requests
//! themselves run on the program's. It must not know what is exported.

use std::fmt;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::logs::{LogBatch, LogExporter};
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use tokio::runtime::Handle;

/// How the collectors of this process are, and what was told about them.
#[derive(Debug, Default)]
pub(super) struct Health {
    told: AtomicU8,
    /// The process is about to end.
    is_ending: AtomicBool,
}

const FINE: u8 = 0;
const FAILING: u8 = 1;
const RECOVERED: u8 = 2;

impl Health {
    /// From now on nobody tries again to send a signal whose last request failed.
    pub(super) fn end(&self) {
        self.is_ending.store(true, Ordering::Relaxed);
    }

    fn note(&self, url: &str, outcome: &OTelSdkResult) {
        match outcome {
            Err(error) => {
                if self.told.compare_exchange(FINE, FAILING, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                    tracing::warn!(
                        collector = url,
                        %error,
                        "telemetry cannot be sent: the work goes on, what cannot be sent is dropped"
                    );
                }
            }
            Ok(()) => {
                if self
                    .told
                    .compare_exchange(FAILING, RECOVERED, Ordering::Relaxed, Ordering::Relaxed)
                    .is_ok()
                {
                    tracing::info!(collector = url, "telemetry is sent again");
                }
            }
        }
    }
}

/// An exporter under watch.
pub(super) struct Watched<E> {
    pub(super) exporter: E,
    pub(super) url: String,
    /// One request takes no longer, with all its retries.
    pub(super) limit: Duration,
    pub(super) runtime: Handle,
    pub(super) health: Arc<Health>,
    /// The last request failed. A collector may take one signal and not another.
    pub(super) is_down: AtomicBool,
}

impl<E> fmt::Debug for Watched<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("url", &self.url).finish_non_exhaustive()
    }
}

impl<E> Watched<E> {
    async fn watch(&self, export: impl Future<Output = OTelSdkResult> + Send) -> OTelSdkResult {
        if self.health.is_ending.load(Ordering::Relaxed) && self.is_down.load(Ordering::Relaxed) {
            return Err(OTelSdkError::AlreadyShutdown);
        }
        let export = async {
            let late = |_| Err(OTelSdkError::Timeout(self.limit));
            tokio::time::timeout(self.limit, export).await.unwrap_or_else(late)
        };
        let outcome = InRuntime { runtime: &self.runtime, future: pin!(export) }.await;
        self.is_down.store(outcome.is_err(), Ordering::Relaxed);
        self.health.note(&self.url, &outcome);
        outcome
    }
}

/// Polls a future as if it were a task of the runtime.
struct InRuntime<'a, F> {
    runtime: &'a Handle,
    future: Pin<&'a mut F>,
}

impl<F: Future> Future for InRuntime<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let _inside = self.runtime.enter();
        self.future.as_mut().poll(context)
    }
}

impl<E: SpanExporter> SpanExporter for Watched<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.watch(self.exporter.export(batch)).await
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl<E: LogExporter> LogExporter for Watched<E> {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        self.watch(self.exporter.export(batch)).await
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl<E: PushMetricExporter> PushMetricExporter for Watched<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        self.watch(self.exporter.export(metrics)).await
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}
