//! What the coordinator and the workers of qa-fleet both say, and how it travels.
//!
//! [`model`] holds the words (pure data), [`wire`] their versioned form in a message, [`queue`] the only
//! code that knows NATS JetStream, [`nats_server`] the program behind it. The rest is what both programs
//! need at their rim: settings from flags, environment and env files, secrets that cannot be printed,
//! telemetry, orderly shutdown, back-off.
//!
//! Nothing here decides what a result means (that is the coordinator's core) and nothing here talks to a
//! model (that is the worker's `llm`).

pub mod backoff;
pub mod base_url;
pub mod clock;
pub mod connecting;
pub mod console;
pub mod data_uris;
pub mod failpoint;
pub mod host;
pub mod model;
pub mod model_table;
pub mod nats_server;
pub mod plain;
pub mod process_group;
pub mod queue;
pub mod secret;
pub mod settings;
pub mod shutdown;
pub mod telemetry;
pub mod template;
pub mod tokens;
pub mod wire;

#[cfg(feature = "testing")]
pub mod testing;
