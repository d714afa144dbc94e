//! Which documents a directory holds: by the names of the files, nothing else.
//!
//! It opens no file.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use qa_shared::model::DocumentName;

use super::FileError;

/// How the name of a chunk file ends.
pub const CHUNKS_ENDING: &str = "_chunks.json";

/// How the name of a Q&A file ends.
pub const QA_ENDING: &str = "_qa.json";

/// The files of one kind in a directory, sorted by file name in byte order.
#[derive(Debug, Default)]
pub struct Listing {
    /// The documents.
    pub files: Vec<DocumentPath>,
    /// What has the right name and cannot be a document; each counts as a failed one.
    pub unusable: Vec<Unusable>,
    /// `tmp_*.json`: left by a killed Python program; to be reported, not touched.
    pub leftovers: Vec<PathBuf>,
}

/// A document's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentPath {
    /// The document.
    pub name: DocumentName,
    /// The file.
    pub path: PathBuf,
}

/// A file with the name of a document that cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unusable {
    /// The file's name, made readable.
    pub name: String,
    /// Why.
    pub reason: &'static str,
}

/// The document's Q&A file in an output directory.
pub fn qa_path(directory: &Path, name: &DocumentName) -> PathBuf {
    directory.join(format!("{name}{QA_ENDING}"))
}

/// The chunk files of a directory.
pub fn find_chunk_files(directory: &Path) -> Result<Listing, FileError> {
    find(directory, CHUNKS_ENDING)
}

/// The Q&A files of a directory.
pub fn find_qa_files(directory: &Path) -> Result<Listing, FileError> {
    find(directory, QA_ENDING)
}

fn find(directory: &Path, ending: &str) -> Result<Listing, FileError> {
    let mut listing = Listing::default();
    for entry in fs::read_dir(directory).map_err(FileError::during("list", directory))? {
        let entry = entry.map_err(FileError::during("list", directory))?;
        let file_name = entry.file_name();
        let bytes = file_name.as_encoded_bytes();
        if bytes.starts_with(b"tmp_") && bytes.ends_with(b".json") && !bytes.ends_with(ending.as_bytes()) {
            listing.leftovers.push(entry.path());
        }
        // `._NAME` is what macOS leaves beside files on foreign disks.
        if bytes.starts_with(b"._") || !bytes.ends_with(ending.as_bytes()) {
            continue;
        }
        match usable(&entry.path(), &file_name, ending) {
            Ok(name) => listing.files.push(DocumentPath { name, path: entry.path() }),
            Err(reason) => {
                listing.unusable.push(Unusable { name: file_name.to_string_lossy().into_owned(), reason });
            }
        }
    }
    // By file name, as the Python program's combiner sorts: there `FAQ2` comes before `FAQ`.
    listing.files.sort_by(|a, b| a.path.file_name().cmp(&b.path.file_name()));
    listing.unusable.sort();
    listing.leftovers.sort();
    Ok(listing)
}

fn usable(path: &Path, file_name: &OsStr, ending: &str) -> Result<DocumentName, &'static str> {
    let name = file_name.to_str().and_then(|name| name.strip_suffix(ending));
    let name = name.ok_or("its name is not UTF-8: rename it")?;
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(DocumentName::new(name)),
        Ok(metadata) if metadata.is_dir() => Err("it is a directory"),
        Ok(_) => Err("it is no regular file"),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err("it is a link to nothing"),
        Err(_) => Err("it cannot be looked at"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn documents_of_any_name_are_found_and_strays_are_told_apart() {
        let folder = qa_shared::testing::temporary_folder();
        let long = "x".repeat(243);
        let names =
            ["FAQ – überblick 概要", "v2.final", "Guide", "guide", "", "with space", long.as_str(), "tmp_a"];
        for name in names {
            fs::write(folder.path().join(format!("{name}{CHUNKS_ENDING}")), "{}").unwrap();
        }
        for name in ["._Guide_chunks.json", "tmp_x1.json", "chunking_summary.json", "a_qa.json"] {
            fs::write(folder.path().join(name), "{}").unwrap();
        }
        fs::create_dir(folder.path().join("folder_chunks.json")).unwrap();
        symlink("nothing", folder.path().join("dangling_chunks.json")).unwrap();
        symlink("Guide_chunks.json", folder.path().join("link_chunks.json")).unwrap();
        fs::write(folder.path().join(OsStr::from_bytes(b"bad\xff_chunks.json")), "{}").unwrap();

        let listing = find_chunk_files(folder.path()).unwrap();
        let found: Vec<_> = listing.files.iter().map(|file| file.name.as_str()).collect();
        let expected =
            ["FAQ – überblick 概要", "Guide", "", "guide", "link", "tmp_a", "v2.final", "with space", &long];
        assert_eq!(found, expected);
        let unusable: Vec<_> =
            listing.unusable.iter().map(|file| (file.name.as_str(), file.reason)).collect();
        let expected = [
            ("bad\u{fffd}_chunks.json", "its name is not UTF-8: rename it"),
            ("dangling_chunks.json", "it is a link to nothing"),
            ("folder_chunks.json", "it is a directory"),
        ];
        assert_eq!(unusable, expected);
        assert_eq!(listing.leftovers, [folder.path().join("tmp_x1.json")]);
    }

    #[test]
    fn the_longest_name_has_a_qa_file_too() {
        let path = qa_path(Path::new("/out"), &DocumentName::new("x".repeat(243)));
        assert!(path.file_name().unwrap().len() <= 255);
    }
}
