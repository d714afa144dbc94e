//! Settings from flags, environment and env files; the only code that reads the environment.
//!
//! [`variables`] is the table of every variable, [`Environment`] what was found at start, [`Reader`] takes
//! typed values from flags, environment, env file and defaults, in this order, and collects every mistake,
//! so that a user sees all of them at once. Which settings a program has, and which go together, is the
//! business of the programs' own `config` modules.

pub mod args;
#[cfg(debug_assertions)]
pub mod failpoints;
pub mod values;
pub mod variables;

mod address;
mod env_file;
mod env_syntax;
mod errors;
mod header;
mod hidden_arguments;
mod logs;
mod model_table;
mod nats;
mod reader;
mod setting;
mod source;
mod telemetry;
mod timing;

pub use address::Address;
pub use env_file::EnvFile;
pub use errors::{Mistake, Mistakes};
pub use header::Header;
pub use hidden_arguments::{HIDDEN_ARGUMENTS, arguments, hide_arguments};
pub use logs::LogSettings;
pub use model_table::read_model_table;
pub use nats::{NatsAuth, NatsSettings, NatsTls};
pub use reader::{Note, Reader, Source};
pub use setting::Setting;
pub use source::{Environment, Found, JobValues, Origin};
pub use telemetry::{Batch, Collector, Protocol, Sampler, TelemetrySettings};
pub use timing::read_timing;
