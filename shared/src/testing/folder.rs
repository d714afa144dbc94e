//! The one place where tests and benchmarks get temporary directories.
//!
//! Product code has none: a container with a read-only root and without `/tmp` runs it to the end. Everything
//! that the programs write stands in a directory that the user named.

use tempfile::TempDir;

/// An empty directory that vanishes with the value.
///
/// # Panics
///
/// When the system's directory for temporary files cannot be written.
#[expect(clippy::disallowed_methods, reason = "tests and benchmarks have no directory that a user named")]
pub fn temporary_folder() -> TempDir {
    tempfile::tempdir().expect("a temporary directory can be made")
}
