//! Which directories are really used: the Python program's `/data/...` defaults do not exist everywhere.
//!
//! Output directories are made, input directories never. It does not read what is in them.

use std::fs;
use std::path::{Path, PathBuf};

use super::atomic::prove_writable;
use super::job_folder::FOLDER;
use super::{FileError, Journal};

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
    /// There is output of an earlier run, and this run would not go on with it.
    #[error(
        "this run would write to `{}`, but the output of an earlier run is in `{}`: name the one that you mean \
         with {flag} (the second, to go on with it)",
        chosen.display(),
        other.display()
    )]
    OldOutput {
        /// Where this run would write.
        chosen: PathBuf,
        /// Where the output is.
        other: PathBuf,
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

/// The directory in which an earlier run has left its output: the one asked for, or the one that took its place.
pub fn existing_output_directory(asked: &Path, base: &Path) -> PathBuf {
    existing_within(asked, base, Path::new(DATA))
}

fn existing_within(asked: &Path, base: &Path, defaults: &Path) -> PathBuf {
    let fallback = fallback(asked, base).filter(|_| asked.starts_with(defaults));
    match fallback {
        Some(fallback) if !has_output(asked) && has_output(&fallback) => fallback,
        _ => future_output_directory(asked, base),
    }
}

/// What decides where Q&A files go.
#[derive(Debug, Clone, Copy)]
pub struct QaDirectory<'a> {
    /// The directory that was asked for.
    pub asked: &'a Path,
    /// Whether a flag names it: then it is the one that is meant.
    pub is_flag: bool,
    /// Where chunk files are read.
    pub chunks: &'a Path,
    /// Whether a flag names that.
    pub chunks_is_flag: bool,
    /// Whether it is made and tried; otherwise nothing is changed.
    pub make: bool,
}

/// Finds the directory for Q&A files. Chunk files that are read below `BASE/data` instead of `/data` take the output
/// with them: one fallback for both. Output of an earlier run in the other of the two places is an error, since
/// everything would be paid for again.
pub fn qa_directory(wanted: &QaDirectory<'_>, base: &Path) -> Result<Directory, DirectoryError> {
    qa_directory_within(wanted, base, Path::new(DATA))
}

fn qa_directory_within(
    wanted: &QaDirectory<'_>,
    base: &Path,
    defaults: &Path,
) -> Result<Directory, DirectoryError> {
    const FLAG: &str = "--qa-dir";
    let QaDirectory { asked, is_flag, chunks, chunks_is_flag, make } = *wanted;
    let made = |path: &Path| {
        let tried = if make { make_writable(path) } else { Ok(()) };
        tried.map_err(|error| DirectoryError::Output { error, flag: FLAG })
    };
    let fallback = fallback(asked, base).filter(|_| asked.starts_with(defaults) && !is_flag);
    let Some(fallback) = fallback else {
        if make {
            return output_directory_within(asked, base, FLAG, defaults);
        }
        return Ok(Directory { path: future_output_directory(asked, base), note: None });
    };
    let old = |chosen: &Path, other: &Path| {
        let stops = !has_output(chosen) && has_output(other);
        let error =
            || DirectoryError::OldOutput { chosen: chosen.to_owned(), other: other.to_owned(), flag: FLAG };
        if stops { Err(error()) } else { Ok(()) }
    };
    if !chunks_is_flag && is_below(chunks, &base.join("data")) {
        old(&fallback, asked)?;
        made(&fallback)?;
        let note =
            format!("chunk files are read from `{}`: writing to `{}`", chunks.display(), fallback.display());
        return Ok(Directory { path: fallback, note: Some(note) });
    }
    let missing: Vec<PathBuf> = asked.ancestors().filter(|path| !path.exists()).map(Path::to_owned).collect();
    match made(asked) {
        Ok(()) if make || asked.is_dir() || !fallback.is_dir() => {
            let checked = old(asked, &fallback);
            if checked.is_err() && make {
                // Nothing is left behind; a directory that is no longer empty stays.
                for path in &missing {
                    drop(fs::remove_dir(path));
                }
            }
            checked?;
            Ok(Directory { path: asked.to_owned(), note: None })
        }
        Ok(()) => Ok(Directory { path: fallback, note: None }),
        Err(error) => {
            old(&fallback, asked)?;
            made(&fallback)?;
            let DirectoryError::Output { error, .. } = error else { return Err(error) };
            let note = format!("{error}; writing to `{}`", fallback.display());
            Ok(Directory { path: fallback, note: Some(note) })
        }
    }
}

/// Whether a directory stands directly in another one.
fn is_below(path: &Path, directory: &Path) -> bool {
    let [path, directory] = [path, directory].map(std::path::absolute);
    path.is_ok_and(|path| directory.is_ok_and(|directory| path.parent() == Some(&directory)))
}

/// Whether an earlier run has left output: Q&A files, or results that are in none yet.
fn has_output(directory: &Path) -> bool {
    let is_qa = |entry: std::io::Result<fs::DirEntry>| {
        entry.is_ok_and(|entry| entry.file_name().to_string_lossy().ends_with("_qa.json"))
    };
    fs::read_dir(directory).is_ok_and(|mut entries| entries.any(is_qa))
        || Journal::segments(&directory.join(FOLDER)).is_ok_and(|segments| !segments.is_empty())
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

    /// Chunk files and output below `base/data` or below the defaults, which `root` can make.
    fn qa_directory_of(
        base: &Path,
        defaults: &Path,
        chunks: &Path,
        is_flag: bool,
    ) -> Result<Directory, DirectoryError> {
        let asked = defaults.join("qa_results");
        let wanted = QaDirectory { asked: &asked, is_flag, chunks, chunks_is_flag: false, make: true };
        qa_directory_within(&wanted, base, defaults)
    }

    fn leave_output(directory: &Path) {
        fs::create_dir_all(directory).unwrap();
        fs::write(directory.join("a_qa.json"), "{}").unwrap();
    }

    #[test]
    fn one_fallback_decides_for_chunks_and_output() {
        let base = qa_shared::testing::temporary_folder();
        let (root, defaults) = (base.path(), base.path().join("data-of-root"));
        let (near, far) = (root.join("data/qa_results"), defaults.join("qa_results"));
        let found = qa_directory_of(root, &defaults, &root.join("data/chunks"), false).unwrap();
        assert_eq!(found.path, near);
        assert!(found.note.unwrap().contains("data/chunks"));
        assert!(!defaults.exists(), "it could be made, but the chunk files are not there");
        let found = qa_directory_of(root, &defaults, &defaults.join("chunks"), false).unwrap();
        assert_eq!(found.path, far);
    }

    #[test]
    fn old_output_in_the_other_place_stops_the_run_with_both_paths() {
        for is_near in [true, false] {
            let base = qa_shared::testing::temporary_folder();
            let (root, defaults) = (base.path(), base.path().join("data-of-root"));
            let (near, far) = (root.join("data/qa_results"), defaults.join("qa_results"));
            let (chunks, other) =
                if is_near { (root.join("data/chunks"), &far) } else { (defaults.join("chunks"), &near) };
            leave_output(other);
            let error = qa_directory_of(root, &defaults, &chunks, false).unwrap_err();
            assert!(matches!(error, DirectoryError::OldOutput { .. }), "{error}");
            let error = error.to_string();
            for path in [&near, &far] {
                assert!(error.contains(&format!("`{}`", path.display())), "{error}");
            }
            let chosen = if is_near { &near } else { &far };
            assert!(!chosen.exists(), "a run that did nothing leaves nothing behind");
            // A flag says which one is meant, and output on both sides leaves no doubt.
            assert_eq!(qa_directory_of(root, &defaults, &chunks, true).unwrap().path, far);
            leave_output(chosen);
            assert_eq!(&qa_directory_of(root, &defaults, &chunks, false).unwrap().path, chosen);
        }
    }

    #[test]
    fn the_output_of_an_earlier_run_is_found_in_either_place() {
        let base = qa_shared::testing::temporary_folder();
        let defaults = base.path().join("data-of-root");
        let (asked, near) = (defaults.join("qa"), base.path().join("data/qa"));
        fs::create_dir_all(&asked).unwrap();
        fs::create_dir_all(near.join(FOLDER)).unwrap();
        assert_eq!(existing_within(&asked, base.path(), &defaults), asked);
        fs::write(near.join("a_qa.json"), "{}").unwrap();
        assert_eq!(existing_within(&asked, base.path(), &defaults), near);
        fs::write(asked.join("a_qa.json"), "{}").unwrap();
        assert_eq!(existing_within(&asked, base.path(), &defaults), asked);
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
