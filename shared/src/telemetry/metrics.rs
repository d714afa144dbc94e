//! Where metrics go. The instruments belong to those who measure; they take their meter from
//! `opentelemetry::global`, which measures nothing until this has started.

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};

use super::exporters::Exporters;
use super::pipeline::TelemetryError;
use crate::settings::TelemetrySettings;

/// The provider of all meters, if metrics are sent.
pub(super) fn provider(
    settings: &TelemetrySettings,
    exporters: &Exporters,
    resource: &Resource,
) -> Result<Option<SdkMeterProvider>, TelemetryError> {
    let Some(collector) = &settings.metrics else { return Ok(None) };
    let reader = PeriodicReader::builder(exporters.metrics(collector)?)
        .with_interval(settings.metric_interval)
        .build();
    Ok(Some(SdkMeterProvider::builder().with_resource(resource.clone()).with_reader(reader).build()))
}
