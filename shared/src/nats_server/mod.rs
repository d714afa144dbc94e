//! nats-server as a program: finding it, configuring a private one, running it as a child.
//!
//! Local mode runs the job over such a private server, tests do too. Nothing here speaks to the server beyond
//! seeing that it listens; that is [`crate::queue`]'s part.

mod config;
mod find;
mod private;
mod supervise;
mod write_failure;

pub use config::{Listen, ServerConfig, UnusableConfig};
pub use find::{FindError, FoundServer, find_nats_server};
pub use private::{PrivateServer, ServerFailure, StartError, wait_until_listening};
pub use supervise::{SuperviseError, supervise};
