//! What tests of both programs start: a real nats-server, a fake Ollama server, builders.

pub mod fake_ollama;
mod nats_server;

pub use nats_server::{TestNats, TestNatsOptions};
