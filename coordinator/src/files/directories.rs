//! Which directories are really used: the Python program's `/data/...` defaults do not exist everywhere.
//!
//! Output directories are made, input directories never. It does not read what is in them.

use std::fs;
use std::path::{Path, PathBuf};

use super::FileError;
use super::atomic::prove_writable;

/// Where the defaults point.
const DATA: &str = "/data";

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// No such input directory.
    #[error("no directory with {what}: tried {}; name it with {flag}", listed(tried))]
    NoInput {
        /// What it should hold.
        what: &'static str,
        /// The flag that names it.
        flag: &'static str,
        /// Everything that was tried.
        tried: Vec<PathBuf>,
    },
    /// The output directory cannot be made or written.
    #[error("{error}; the output directory is named with {flag}")]
    Output {
        /// The last attempt's error.
        error: FileError,
        /// The flag that names it.
        flag: &'static str,
    },
}

fn listed(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| format!("`{}`", path.display())).collect::<Vec<_>>().join(", ")
}

/// A directory that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// Where it is.
    pub path: PathBuf,
    /// To be printed: why it is not the one that was asked for.
    pub note: Option<String>,
}

/// Finds a directory to read from: the one asked for, else `BASE/data/<its last part>`. `base` is the
/// current directory, as `.`.
pub fn input_directory(
    asked: &Path,
    base: &Path,
    what: &'static str,
    flag: &'static str,
) -> Result<Directory, DirectoryError> {
    if asked.is_dir() {
        return Ok(Directory { path: asked.to_owned(), note: None });
    }
    let fallback = fallback(asked, base);
    if let Some(path) = fallback.clone().filter(|path| path.is_dir()) {
        let note = format!("`{}` does not exist: reading from `{}`", asked.display(), path.display());
        return Ok(Directory { path, note: Some(note) });
    }
    let tried = [Some(asked.to_owned()), fallback].into_iter().flatten().collect();
    Err(DirectoryError::NoInput { what, flag, tried })
}

/// Makes a directory to write to and tries it; one under `/data` that cannot be used is replaced by
/// `BASE/data/<its last part>`.
pub fn output_directory(asked: &Path, base: &Path, flag: &'static str) -> Result<Directory, DirectoryError> {
    output_directory_within(asked, base, flag, Path::new(DATA))
}

fn output_directory_within(
    asked: &Path,
    base: &Path,
    flag: &'static str,
    defaults: &Path,
) -> Result<Directory, DirectoryError> {
    let error = match make_writable(asked) {
        Ok(()) => return Ok(Directory { path: asked.to_owned(), note: None }),
        Err(error) => error,
    };
    let Some(path) = fallback(asked, base).filter(|_| asked.starts_with(defaults)) else {
        return Err(DirectoryError::Output { error, flag });
    };
    make_writable(&path).map_err(|error| DirectoryError::Output { error, flag })?;
    let note = format!("{error}; writing to `{}`", path.display());
    Ok(Directory { path, note: Some(note) })
}

/// Makes a directory that a run needs at its end and tries it. `setting` names it in the error.
pub fn needed_directory(path: &Path, setting: &'static str) -> Result<(), DirectoryError> {
    make_writable(path).map_err(|error| DirectoryError::Output { error, flag: setting })
}

/// The directory that [`output_directory`] would use, with nothing made or tried.
pub fn future_output_directory(asked: &Path, base: &Path) -> PathBuf {
    let fallback = fallback(asked, base).filter(|path| asked.starts_with(DATA) && path.is_dir());
    if asked.is_dir() { asked.to_owned() } else { fallback.unwrap_or_else(|| asked.to_owned()) }
}

fn fallback(asked: &Path, base: &Path) -> Option<PathBuf> {
    Some(base.join("data").join(asked.file_name()?))
}

fn make_writable(path: &Path) -> Result<(), FileError> {
    fs::create_dir_all(path).map_err(FileError::during("create", path))?;
    prove_writable(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_directory_is_made_and_left_empty() {
        let base = qa_shared::testing::temporary_folder();
        let asked = base.path().join("a/b");
        let found = output_directory(&asked, base.path(), "--qa-dir").unwrap();
        assert_eq!(found, Directory { path: asked.clone(), note: None });
        assert_eq!(fs::read_dir(&asked).unwrap().count(), 0);
    }

    #[test]
    fn a_default_that_cannot_be_made_moves_below_the_current_directory() {
        let base = qa_shared::testing::temporary_folder();
        let defaults = base.path().join("file");
        fs::write(&defaults, "no directory").unwrap();
        let asked = defaults.join("qa");
        let found = output_directory_within(&asked, base.path(), "--qa-dir", &defaults).unwrap();
        assert_eq!(found.path, base.path().join("data/qa"));
        let note = found.note.unwrap();
        assert!(note.contains("file/qa") && note.contains("data/qa"), "{note}");
        let error = output_directory(&asked, base.path(), "--qa-dir").unwrap_err().to_string();
        assert!(error.starts_with("cannot create `") && error.ends_with("with --qa-dir"), "{error}");
    }

    #[test]
    fn an_input_directory_is_searched_and_never_made() {
        let base = qa_shared::testing::temporary_folder();
        let asked = Path::new("/data/nowhere/chunks");
        let error =
            input_directory(asked, base.path(), "chunk files", "--chunks-dir").unwrap_err().to_string();
        let fallback = base.path().join("data/chunks");
        let tried =
            format!("tried `/data/nowhere/chunks`, `{}`; name it with --chunks-dir", fallback.display());
        assert!(error.contains(&tried), "{error}");
        assert!(!fallback.exists());
        fs::create_dir_all(&fallback).unwrap();
        let found = input_directory(asked, base.path(), "chunk files", "--chunks-dir").unwrap();
        assert_eq!(found.path, fallback);
        assert!(found.note.unwrap().contains("/data/nowhere/chunks"));
    }
}
