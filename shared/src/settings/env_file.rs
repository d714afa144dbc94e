//! The env file: which one is read, and what its values are.
//!
//! Values mean what python-dotenv gives, since users bring their files from a Python program. The file is
//! read by `dotenvy`, which understands less and differs in several points, so each line is first written
//! in the one form that both understand (see [`env_syntax`]). What a variable is for is not known here.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::env_syntax;
use super::errors::Mistake;

/// The files that are looked for in the working directory when none is named.
const USUAL_NAMES: [&str; 2] = ["config.env", ".env"];

/// An env file that was read.
#[derive(Clone)]
pub struct EnvFile {
    path: PathBuf,
    values: BTreeMap<String, (String, usize)>,
}

impl EnvFile {
    /// The file as the user knows it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Every name with the line that it stands on.
    pub(super) fn names(&self) -> impl Iterator<Item = (&str, usize)> {
        self.values.iter().map(|(name, (_, line))| (name.as_str(), *line))
    }

    /// A variable's value and the line, counted from 1, that it stands on; of several the last one wins.
    pub(super) fn get(&self, name: &str) -> Option<(&str, usize)> {
        self.values.get(name).map(|(value, line)| (value.as_str(), *line))
    }
}

/// Finds and reads the env file. `process` gives variables of the process environment for `${NAME}`.
pub(super) fn find(
    explicit: Option<&Path>,
    directory: &Path,
    process: &dyn Fn(&str) -> Option<String>,
) -> (Option<EnvFile>, Vec<Mistake>) {
    if let Some(path) = explicit {
        return match std::fs::read(directory.join(path)) {
            Ok(bytes) => parse(path, &bytes, process),
            Err(error) => (None, vec![unreadable("--env-file", path, &error)]),
        };
    }
    for name in USUAL_NAMES {
        let path = directory.join(name);
        // A directory `.env` is a Python virtual environment of some users, not a file of ours.
        if path.is_dir() {
            continue;
        }
        match std::fs::read(&path) {
            Ok(bytes) => return parse(Path::new(name), &bytes, process),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return (None, vec![unreadable(name, Path::new(name), &error)]),
        }
    }
    (None, Vec::new())
}

fn unreadable(setting: &str, path: &Path, error: &std::io::Error) -> Mistake {
    Mistake {
        setting: setting.to_owned(),
        problem: format!("cannot read the env file `{}`: {error}", path.display()),
        remedy: Some("name a file that exists and that you may read".to_owned()),
    }
}

fn parse(
    path: &Path,
    bytes: &[u8],
    process: &dyn Fn(&str) -> Option<String>,
) -> (Option<EnvFile>, Vec<Mistake>) {
    let mistake = |line: usize, problem: String, remedy: &str| Mistake {
        setting: format!("{}:{line}", path.display()),
        problem,
        remedy: Some(remedy.to_owned()),
    };
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let valid = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            let line = 1 + valid.matches('\n').count();
            let problem = "the line is not UTF-8 text".to_owned();
            return (None, vec![mistake(line, problem, "save the file as UTF-8")]);
        }
    };
    let prepared = env_syntax::prepare(text, process);
    let mut mistakes: Vec<_> =
        prepared.errors.into_iter().map(|error| mistake(error.line, error.problem, error.remedy)).collect();
    let mut values = BTreeMap::new();
    let mut lines = prepared.lines.into_iter();
    for pair in dotenvy::from_read_iter(prepared.text.as_bytes()) {
        let line = lines.next().unwrap_or_default();
        match pair {
            Ok((name, value)) => drop(values.insert(name, (value, line))),
            // Its error text repeats the line, which may hold a secret.
            Err(_) => mistakes.push(mistake(
                line,
                "the line is not understood".to_owned(),
                "write NAME=\"value\" on one line",
            )),
        }
    }
    (Some(EnvFile { path: path.to_owned(), values }), mistakes)
}
