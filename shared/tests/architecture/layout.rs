//! What lies at the top level, and which package may depend on which.

use std::collections::BTreeSet;
use std::fs;

use crate::root;

/// The top level, apart from dot files and what builds leave behind.
const TOP_LEVEL: [&str; 12] = [
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "clippy.toml",
    "config.env.example",
    "coordinator",
    "deny.toml",
    "deploy",
    "rustfmt.toml",
    "shared",
    "worker",
];

/// Crates that a package may not have in its manifest, for programs or for tests.
const FORBIDDEN: [(&str, &[&str]); 3] = [
    ("shared", &["qa-worker", "qa-coordinator"]),
    ("worker", &["qa-coordinator", "async-nats", "dotenvy"]),
    ("coordinator", &["async-nats", "reqwest", "dotenvy"]),
];

#[test]
fn the_top_level_holds_exactly_what_the_layout_says() {
    let names = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let found: BTreeSet<String> = names.filter(|name| !name.starts_with('.') && name != "target").collect();
    let expected: BTreeSet<String> = TOP_LEVEL.map(str::to_owned).into();
    assert_eq!(found, expected);
}

#[test]
fn dependencies_run_from_both_programs_to_what_they_share() {
    for (package, forbidden) in FORBIDDEN {
        let manifest = fs::read_to_string(root().join(package).join("Cargo.toml")).unwrap();
        let named = crates_of(&manifest);
        assert!(!named.is_empty(), "{package} names no crate: the manifest is read wrongly");
        for name in forbidden {
            assert!(!named.contains(*name), "{package}/Cargo.toml may not depend on {name}");
        }
    }
}

/// The crates in the dependency sections of a manifest.
fn crates_of(manifest: &str) -> BTreeSet<&str> {
    let mut is_dependency = false;
    let mut crates = BTreeSet::new();
    for line in manifest.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            is_dependency = section.trim_end_matches(']').ends_with("dependencies");
        } else if is_dependency && !line.starts_with('#') {
            let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
            if !name.is_empty() {
                crates.insert(name);
            }
        }
    }
    crates
}

#[test]
fn crates_are_found_in_every_dependency_section_and_nowhere_else() {
    let manifest = "[package]\nname = \"x\"\n[features]\ny = []\n[dependencies]\na.workspace = true\nb = \"1\"\n\
                    [dev-dependencies]\nc = { path = \".\" }\n[lints]\nworkspace = true\n";
    assert_eq!(crates_of(manifest).into_iter().collect::<Vec<_>>(), ["a", "b", "c"]);
}
