//! What tests of both programs start: a real nats-server, a fake Ollama server, fakes of the other services, a
//! collector of telemetry. And what benchmarks share.

pub mod bench;
pub mod certificates;
pub mod fake_ollama;
pub mod fake_provider;
mod fake_server;
mod folder;
pub mod fuzz;
mod nats_cluster;
pub mod nats_jwt;
mod nats_monitor;
mod nats_operator;
mod nats_server;
pub mod otlp_receiver;
pub mod samples;
mod tls_proxy;
pub mod token_counts;

pub use folder::temporary_folder;
pub use nats_cluster::TestCluster;
pub use nats_monitor::Monitor;
pub use nats_operator::NatsOperator;
pub use nats_server::{Shipped, TestNats, TestNatsOptions};
pub use tls_proxy::TlsProxy;
