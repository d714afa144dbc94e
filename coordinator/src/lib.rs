//! The coordinator: decides which chunk is asked for when, and owns the files. It never calls a model.
//!
//! [`core`] decides (pure).

pub mod core;
