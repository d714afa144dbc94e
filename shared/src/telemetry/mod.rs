//! What a process tells about itself: log lines, traces, metrics.
//!
//! [`logs`] are lines on standard error; `pipeline` sends spans, metrics and log records to an OpenTelemetry
//! collector where the settings name one. Nothing of it may slow or stop the work: batches wait in bounded
//! queues, a collector that cannot be reached costs one warning, and the last batch at the end of a process a
//! bounded time. Nothing here knows what a span or a metric is about.

pub mod instruments;
pub mod logs;
pub mod names;
pub mod traces;

mod exporters;
mod ids;
mod listener;
mod log_line;
mod metrics;
mod pipeline;
mod repeats;
mod resource;
mod watched;

pub use listener::{is_listening, set_obstacle};
pub use logs::start_logging;
pub use pipeline::{Telemetry, TelemetryError};
