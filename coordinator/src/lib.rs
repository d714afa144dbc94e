//! The coordinator: decides which chunk is asked for when, and owns the files. It never calls a model.
//!
//! [`core`] decides (pure); [`files`] is the only code that touches files.

pub mod core;
pub mod files;
