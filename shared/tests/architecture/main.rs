//! The architecture is a test: walks the source of the workspace and refuses what design and README promise
//! not to do. [`rules`] says what may be named where, [`source`] what a source file says once comments and
//! texts are taken out, [`layout`] what lies at the top level and which package may use which.
//!
//! When a test here fails, the design is either broken or has changed: in the second case change the rule and
//! the **Architecture invariant** line of README.md in the same commit.
#![expect(clippy::unwrap_used, reason = "part of the tests")]

mod layout;
mod rules;
mod source;

use std::path::{Path, PathBuf};

/// The root of the workspace.
fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().expect("the package lies in the workspace").to_owned()
}

#[test]
fn nothing_is_named_where_the_design_forbids_it() {
    let files = source::rust_files(&root());
    assert!(files.len() > 100, "only {} source files found: the walk is broken", files.len());
    let violations: Vec<String> = files.iter().flat_map(rules::violations).collect();
    assert!(violations.is_empty(), "the architecture is broken:\n{}", violations.join("\n"));
}

#[test]
fn every_rule_still_speaks_about_files_that_exist() {
    let files = source::rust_files(&root());
    let missing = rules::paths_without_files(&files);
    assert!(missing.is_empty(), "rules name paths that are not there: {}", missing.join(", "));
}

#[test]
fn every_source_file_opens_with_what_it_is_for() {
    let silent: Vec<_> = source::rust_files(&root())
        .into_iter()
        .filter(|file| !file.text.trim_start().starts_with("//!"))
        .map(|file| file.path)
        .collect();
    assert!(silent.is_empty(), "these files do not open with `//!`: {}", silent.join(", "));
}
