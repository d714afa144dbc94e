//! What must not stand at the place of an output file, and which names it must not have: a file that others are read
//! from would be gone, and what is no file blocks or fails at the end of a run.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use icu_normalizer::ComposingNormalizerBorrowed;

use super::job_folder::FOLDER;
use super::listing::{CHUNKS_ENDINGS, QA_ENDING};
use super::summary::SUMMARY_NAME;

/// Why no output file can stand at a place.
#[derive(Debug, thiserror::Error)]
#[error("`{}` {problem}: {remedy}", path.display())]
pub struct PlaceError {
    path: PathBuf,
    problem: &'static str,
    remedy: &'static str,
}

/// Whether the combined file of a Q&A directory can stand at `output`.
pub(super) fn check_combined(output: &Path, qa_directory: &Path) -> Result<(), PlaceError> {
    let problem = reserved(output, qa_directory).or_else(|| no_file(output));
    let remedy = "name another file with --output-file";
    problem.map_or(Ok(()), |problem| Err(PlaceError { path: output.to_owned(), problem, remedy }))
}

/// Whether the summary can be written into a directory.
pub fn check_summary(qa_directory: &Path) -> Result<(), PlaceError> {
    let path = qa_directory.join(SUMMARY_NAME);
    let remedy = "the summary is written there: move it away, or choose another --qa-dir";
    no_file(&path).map_or(Ok(()), |problem| Err(PlaceError { path, problem, remedy }))
}

/// A name as the most tolerant file system sees it: one form of each letter, capital or not.
pub(super) fn folded(name: &str) -> String {
    let nfc = ComposingNormalizerBorrowed::new_nfc();
    nfc.normalize(&nfc.normalize(name).to_uppercase().to_lowercase()).into_owned()
}

/// What a file of this name is read or removed as.
fn reserved(output: &Path, qa_directory: &Path) -> Option<&'static str> {
    let name = folded(&output.file_name()?.to_string_lossy());
    let parent = output.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let [parent, qa_directory] =
        [parent, qa_directory].map(|path| path.canonicalize().unwrap_or_else(|_| path.to_owned()));
    if parent.components().any(|part| part.as_os_str() == FOLDER) {
        return Some("is in the folder in which a job keeps itself");
    }
    if name.starts_with(FOLDER) {
        return Some("has the name of a file that this program makes and removes");
    }
    if name == SUMMARY_NAME {
        return Some("has the name of the summary file, which is written after the combined file");
    }
    if CHUNKS_ENDINGS.iter().any(|ending| name.ends_with(ending)) {
        return Some("has the name of a chunk file");
    }
    (parent == qa_directory && name.ends_with(QA_ENDING)).then_some("has the name of a Q&A file")
}

/// What stands there, if that is no regular file. Links are followed.
pub(super) fn no_file(path: &Path) -> Option<&'static str> {
    let kind = fs::metadata(path).ok()?.file_type();
    match () {
        () if kind.is_file() => None,
        () if kind.is_dir() => Some("is a directory"),
        () if kind.is_fifo() => Some("is a FIFO"),
        () if kind.is_socket() => Some("is a socket"),
        () => Some("is a device"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_some_file_system_takes_for_one_are_one() {
        for (one, other) in
            [("Guide", "gUIDE"), ("\u{fc}ber", "U\u{308}BER"), ("Straße", "STRASSE"), ("Σς", "σΣ")]
        {
            assert_eq!(folded(one), folded(other));
        }
        assert_ne!(folded("guide"), folded("guide2"));
    }

    #[test]
    fn an_output_file_replaces_nothing_that_is_read_and_is_a_file() {
        let folder = qa_shared::testing::temporary_folder();
        let (qa, other) = (folder.path().join("qa"), folder.path().join("other"));
        for directory in [&qa.join(FOLDER), &other] {
            fs::create_dir_all(directory).unwrap();
        }
        std::os::unix::fs::symlink(&qa, folder.path().join("link")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
        let at =
            |path: &str| check_combined(&folder.path().join(path), &qa).map_err(|error| error.to_string());
        for path in ["qa/training_data.json", "other/all_qa.json", "other/new.json", "qa/guide_QA.jsonl"] {
            assert_eq!(at(path), Ok(()), "{path}");
        }
        for (path, words) in [
            ("qa/qa_generation_summary.json", "summary file"),
            ("other/QA_Generation_Summary.json", "summary file"),
            ("qa/guide_qa.json", "name of a Q&A file"),
            ("link/guide_qa.json", "name of a Q&A file"),
            ("other/guide_chunks.json", "name of a chunk file"),
            ("other/guide_chunks.jsonl", "name of a chunk file"),
            ("qa/.qa-fleet/job.json", "folder in which a job"),
            ("other/.qa-fleet.tmp-1-x", "makes and removes"),
            ("other", "is a directory"),
            ("socket", "is a socket"),
        ] {
            let error = at(path).unwrap_err();
            assert!(error.contains(words) && error.contains("--output-file"), "{path}: {error}");
        }
        assert!(check_combined(Path::new("/dev/null"), &qa).unwrap_err().to_string().contains("is a device"));
        assert!(check_summary(&qa).is_ok());
        fs::create_dir(qa.join(SUMMARY_NAME)).unwrap();
        assert!(check_summary(&qa).unwrap_err().to_string().contains("is a directory"));
    }
}
