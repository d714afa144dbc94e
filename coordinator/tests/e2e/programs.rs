//! Finds the two programs as they were built last. It must not know what they do.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

/// `qa-coordinator`, which cargo builds for these tests.
pub(crate) fn coordinator() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_qa-coordinator"))
}

/// `qa-worker`. Cargo names and builds only this package's programs for its tests, so it is looked for
/// beside the coordinator, and built when it is missing or older than its sources.
pub(crate) fn worker() -> &'static Path {
    static WORKER: OnceLock<PathBuf> = OnceLock::new();
    WORKER.get_or_init(|| {
        let path = coordinator().with_file_name("qa-worker");
        if !is_fresh(&path) {
            build(&path);
        }
        path
    })
}

/// Whether it is there and no source that it was built from has changed since.
fn is_fresh(program: &Path) -> bool {
    let changed = |path: &Path| fs::metadata(path).and_then(|found| found.modified()).ok();
    let (Some(built), Ok(rule)) = (changed(program), fs::read_to_string(program.with_extension("d"))) else {
        return false;
    };
    let sources = rule.split_once(": ").map_or("", |(_, sources)| sources);
    let is_older = |source: &str| changed(Path::new(source)).is_some_and(|when: SystemTime| when <= built);
    // A path with a space would be split, not found, and cost a build that does nothing.
    sources.split_whitespace().all(is_older)
}

fn build(program: &Path) {
    let directory = program.parent().unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--package", "qa-worker", "--bin", "qa-worker", "--target-dir"]);
    cargo.arg(directory.parent().unwrap());
    if directory.ends_with("release") {
        cargo.arg("--release");
    }
    let built = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap();
    assert!(built.success() && program.exists(), "cargo did not build {}", program.display());
}
