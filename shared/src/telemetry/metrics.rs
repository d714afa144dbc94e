//! Where metrics go: to a collector, and to whoever asks [`super::listener`] for them. What there is to measure
//! is in [`super::instruments`].

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use prometheus::Registry;

use super::exporters::Exporters;
use super::instruments;
use super::pipeline::TelemetryError;
use crate::settings::TelemetrySettings;

/// The provider of all meters, if metrics are wanted, with what a listener reads them from.
pub(super) fn provider(
    settings: &TelemetrySettings,
    exporters: &Exporters,
    resource: &Resource,
) -> Result<Option<(SdkMeterProvider, Option<Registry>)>, TelemetryError> {
    if settings.metrics.is_none() && settings.listen.is_none() {
        return Ok(None);
    }
    let mut builder = SdkMeterProvider::builder().with_resource(resource.clone());
    if let Some(collector) = &settings.metrics {
        let exporter = exporters.metrics(collector)?;
        builder = builder
            .with_reader(PeriodicReader::builder(exporter).with_interval(settings.metric_interval).build());
    }
    let registry = settings.listen.map(|_| Registry::new());
    if let Some(registry) = &registry {
        let exporter = opentelemetry_prometheus::exporter().with_registry(registry.clone()).build();
        builder = builder.with_reader(exporter.map_err(TelemetryError::listener)?);
    }
    Ok(Some((builder.build(), registry)))
}

/// From now on metrics are measured.
pub(super) fn start(provider: &SdkMeterProvider) {
    opentelemetry::global::set_meter_provider(provider.clone());
    instruments::switch_on();
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use opentelemetry::metrics::MeterProvider;

    use super::instruments::{ALL, Kind};
    use super::*;

    #[test]
    fn prometheus_calls_each_metric_what_the_table_says() {
        let registry = Registry::new();
        let exporter = opentelemetry_prometheus::exporter().with_registry(registry.clone()).build().unwrap();
        let provider = SdkMeterProvider::builder().with_reader(exporter).build();
        let meter = provider.meter("test");
        for metric in ALL {
            match metric.kind {
                Kind::Counter => meter.u64_counter(metric.name).with_unit(metric.unit).build().add(1, &[]),
                Kind::Gauge => meter.f64_gauge(metric.name).with_unit(metric.unit).build().record(1.0, &[]),
                Kind::Histogram(_) => {
                    meter.f64_histogram(metric.name).with_unit(metric.unit).build().record(1.0, &[]);
                }
            }
        }
        let shown: BTreeSet<_> = registry.gather().iter().map(|family| family.name().to_owned()).collect();
        for metric in ALL {
            assert!(shown.contains(&metric.prometheus_name()), "{}: {shown:#?}", metric.name);
        }
    }
}
