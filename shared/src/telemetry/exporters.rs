//! OTLP exporters as the settings want them, over HTTP or gRPC. The only code here that connects to something.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use opentelemetry_otlp::tonic_types::metadata::MetadataMap;
use opentelemetry_otlp::tonic_types::transport::{Certificate, ClientTlsConfig};
use opentelemetry_otlp::{
    Compression, LogExporter, MetricExporter, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig,
};
use tokio::runtime::Handle;

use super::pipeline::TelemetryError;
use super::watched::{Health, Watched};
use crate::base_url::is_loopback;
use crate::settings::{Collector, Protocol};

/// Builds the exporters of a process, which tell together once that a collector fails.
#[derive(Debug)]
pub(super) struct Exporters {
    runtime: Handle,
    health: Arc<Health>,
}

/// The three builders have the same methods and no common type.
macro_rules! exporter {
    ($kind:ident, $collector:expr) => {{
        let collector: &Collector = $collector;
        let url = collector.url.expose();
        let built = match collector.protocol {
            Protocol::Http => {
                let mut builder = $kind::builder()
                    .with_http()
                    .with_http_client(http_client(collector)?)
                    .with_headers(headers(collector))
                    .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
                    .with_endpoint(url)
                    .with_timeout(collector.timeout);
                if collector.gzip {
                    builder = builder.with_compression(Compression::Gzip);
                }
                builder.build()
            }
            Protocol::Grpc => {
                authorities(collector)?;
                let mut builder = $kind::builder()
                    .with_tonic()
                    .with_metadata(metadata(collector)?)
                    .with_protocol(opentelemetry_otlp::Protocol::Grpc)
                    .with_endpoint(url)
                    .with_timeout(collector.timeout);
                if url.starts_with("https://") {
                    builder = builder.with_tls_config(tls(collector));
                }
                if collector.gzip {
                    builder = builder.with_compression(Compression::Gzip);
                }
                builder.build()
            }
        };
        built.map_err(|error| TelemetryError::new(&collector.url, error))
    }};
}

impl Exporters {
    /// To be called within the runtime that the requests shall run on.
    pub(super) fn new() -> Self {
        // Whoever comes first sets it; all of us set the same.
        drop(rustls::crypto::ring::default_provider().install_default());
        Self { runtime: Handle::current(), health: Arc::default() }
    }

    pub(super) fn spans(&self, collector: &Collector) -> Result<Watched<SpanExporter>, TelemetryError> {
        Ok(self.watched(exporter!(SpanExporter, collector)?, collector))
    }

    pub(super) fn metrics(&self, collector: &Collector) -> Result<Watched<MetricExporter>, TelemetryError> {
        Ok(self.watched(exporter!(MetricExporter, collector)?, collector))
    }

    pub(super) fn logs(&self, collector: &Collector) -> Result<Watched<LogExporter>, TelemetryError> {
        Ok(self.watched(exporter!(LogExporter, collector)?, collector))
    }

    /// How the collectors are.
    pub(super) fn health(&self) -> Arc<Health> {
        Arc::clone(&self.health)
    }

    fn watched<E>(&self, exporter: E, collector: &Collector) -> Watched<E> {
        Watched {
            exporter,
            url: collector.url.to_string(),
            limit: collector.timeout,
            runtime: self.runtime.clone(),
            health: Arc::clone(&self.health),
            is_down: AtomicBool::new(false),
        }
    }
}

fn http_client(collector: &Collector) -> Result<reqwest::Client, TelemetryError> {
    let url = collector.url.expose();
    // A redirected POST becomes a GET: better an error that names the status.
    let redirect = reqwest::redirect::Policy::none();
    let mut builder = reqwest::Client::builder().timeout(collector.timeout).redirect(redirect);
    if is_loopback(url) {
        builder = builder.no_proxy();
    }
    let authorities = authorities(collector)?;
    // Bare containers have no CA certificates, and plain HTTP needs none.
    if !authorities.is_empty() || !url.starts_with("https://") {
        builder = builder.tls_certs_only(authorities);
    }
    builder.build().map_err(|error| TelemetryError::new(&collector.url, error))
}

/// The only authorities to trust; none means those of the system.
fn authorities(collector: &Collector) -> Result<Vec<reqwest::Certificate>, TelemetryError> {
    let Some((path, pem)) = &collector.authorities else { return Ok(Vec::new()) };
    let unusable = |reason: &str| {
        TelemetryError::new(
            &collector.url,
            format!("`{}` is no file of certificates: {reason}", path.display()),
        )
    };
    let found = reqwest::Certificate::from_pem_bundle(pem.as_bytes());
    let found = found.map_err(|error| unusable(&error.to_string()))?;
    if found.is_empty() { Err(unusable("it holds none")) } else { Ok(found) }
}

fn headers(collector: &Collector) -> HashMap<String, String> {
    let headers = collector.headers.iter();
    headers.map(|(name, value)| (name.clone(), value.expose().to_owned())).collect()
}

fn metadata(collector: &Collector) -> Result<MetadataMap, TelemetryError> {
    let map = reqwest::header::HeaderMap::try_from(&headers(collector))
        .map_err(|error| TelemetryError::new(&collector.url, error))?;
    Ok(MetadataMap::from_headers(map))
}

fn tls(collector: &Collector) -> ClientTlsConfig {
    match &collector.authorities {
        Some((_, pem)) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
        None => ClientTlsConfig::new().with_native_roots(),
    }
}
