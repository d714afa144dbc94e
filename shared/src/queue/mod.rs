//! The only code that names async-nats.
