//! Which documents a directory holds: by the names of files and folders, nothing else.
//!
//! It opens no file.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use qa_shared::model::DocumentName;

use super::FileError;

/// How the name of a chunk file ends.
pub const CHUNKS_ENDING: &str = "_chunks.json";

/// How the names of chunk files end.
pub(super) const CHUNKS_ENDINGS: [&str; 2] = [CHUNKS_ENDING, "_chunks.jsonl"];

/// What stands between a folder and a name in the name of a document.
const WITHIN: &str = "__";

/// Chunk files in folders that are not worked on, and are listed at most.
const MOST_BELOW: usize = 1000;

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
    /// Chunk files in folders of a directory that has chunk files itself: to be reported, not worked on.
    pub below: Vec<PathBuf>,
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

/// The document's chunk file in a directory, if it is there.
pub fn chunk_path(directory: &Path, name: &DocumentName) -> Option<PathBuf> {
    let mut direct = CHUNKS_ENDINGS.into_iter().map(|ending| directory.join(format!("{name}{ending}")));
    direct.find(|path| path.exists()).or_else(|| {
        let files = find_chunk_files(directory).ok()?.files;
        files.into_iter().find(|file| file.name == *name).map(|file| file.path)
    })
}

/// The chunk files of a directory; those of its folders where none stands in the directory itself.
pub fn find_chunk_files(directory: &Path) -> Result<Listing, FileError> {
    let mut listing = Listing::default();
    let mut folders = find(directory, "", &CHUNKS_ENDINGS, &mut listing)?;
    let is_flat = !listing.files.is_empty() || !listing.unusable.is_empty();
    while let Some((folder, prefix)) = folders.pop() {
        // A folder that cannot be read is none of ours as long as there are files beside it.
        let mut within = Listing::default();
        match find(&folder, &prefix, &CHUNKS_ENDINGS, &mut within) {
            Ok(more) => folders.extend(more),
            Err(_) if is_flat => continue,
            Err(error) => return Err(error),
        }
        if is_flat {
            listing.below.extend(within.files.into_iter().map(|file| file.path));
        } else {
            listing.files.append(&mut within.files);
            listing.unusable.append(&mut within.unusable);
        }
        if listing.below.len() >= MOST_BELOW {
            break;
        }
    }
    sort(&mut listing, CHUNKS_ENDING);
    set_namesakes_aside(&mut listing);
    Ok(listing)
}

/// The Q&A files of a directory.
pub fn find_qa_files(directory: &Path) -> Result<Listing, FileError> {
    let mut listing = Listing::default();
    find(directory, "", &[QA_ENDING], &mut listing)?;
    sort(&mut listing, QA_ENDING);
    Ok(listing)
}

/// Adds what stands in one directory; gives its folders. `prefix` is what documents' names begin with there.
fn find(
    directory: &Path,
    prefix: &str,
    endings: &[&str],
    listing: &mut Listing,
) -> Result<Vec<(PathBuf, String)>, FileError> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(directory).map_err(FileError::during("list", directory))? {
        let entry = entry.map_err(FileError::during("list", directory))?;
        let file_name = entry.file_name();
        let bytes = file_name.as_encoded_bytes();
        let ending = endings.iter().find(|ending| bytes.ends_with(ending.as_bytes()));
        if bytes.starts_with(b"tmp_") && bytes.ends_with(b".json") && ending.is_none() {
            listing.leftovers.push(entry.path());
        }
        // `._NAME` is what macOS leaves beside files on foreign disks.
        let Some(ending) = ending.filter(|_| !bytes.starts_with(b"._")) else {
            let name = file_name.to_str().filter(|name| !name.starts_with('.'));
            if let Some(name) = name.filter(|_| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
                folders.push((entry.path(), format!("{prefix}{name}{WITHIN}")));
            }
            continue;
        };
        match usable(&entry.path(), &file_name, ending) {
            Ok(name) => {
                let name = DocumentName::new(format!("{prefix}{name}"));
                listing.files.push(DocumentPath { name, path: entry.path() });
            }
            Err(reason) => {
                let name = format!("{prefix}{}", file_name.to_string_lossy());
                listing.unusable.push(Unusable { name, reason });
            }
        }
    }
    Ok(folders)
}

fn sort(listing: &mut Listing, ending: &str) {
    // By file name, as the Python program's combiner sorts: there `FAQ2` comes before `FAQ`.
    listing.files.sort_by_cached_key(|file| (format!("{}{ending}", file.name), file.path.clone()));
    listing.unusable.sort();
    listing.leftovers.sort();
    listing.below.sort();
}

/// Two files with one document name would have one Q&A file: the first one counts.
fn set_namesakes_aside(listing: &mut Listing) {
    let mut last: Option<DocumentName> = None;
    let unusable = &mut listing.unusable;
    listing.files.retain(|file| {
        let is_first = last.as_ref() != Some(&file.name);
        if is_first {
            last = Some(file.name.clone());
        } else {
            let name = file.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let reason = "another chunk file has the same document name: rename one of them";
            unusable.push(Unusable { name, reason });
        }
        is_first
    });
    listing.unusable.sort();
}

fn usable<'a>(path: &Path, file_name: &'a OsStr, ending: &str) -> Result<&'a str, &'static str> {
    let name = file_name.to_str().and_then(|name| name.strip_suffix(ending));
    let name = name.ok_or("its name is not UTF-8: rename it")?;
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(name),
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

    fn names(listing: &Listing) -> Vec<&str> {
        listing.files.iter().map(|file| file.name.as_str()).collect()
    }

    #[test]
    fn folders_count_where_no_chunk_file_stands_beside_them() {
        let root = qa_shared::testing::temporary_folder();
        let write = |path: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "{}").unwrap();
        };
        for path in ["a/b_chunks.json", "a/c/b_chunks.jsonl", ".hidden/x_chunks.json", "a__b_notes.json"] {
            write(path);
        }
        let listing = find_chunk_files(root.path()).unwrap();
        assert_eq!((names(&listing), listing.unusable.len()), (vec!["a__b", "a__c__b"], 0));
        let path = chunk_path(root.path(), &DocumentName::new("a__c__b")).unwrap();
        assert_eq!(path, root.path().join("a/c/b_chunks.jsonl"));
        write("top_chunks.json");
        let listing = find_chunk_files(root.path()).unwrap();
        assert_eq!(names(&listing), ["top"]);
        assert_eq!(
            listing.below,
            [root.path().join("a/b_chunks.json"), root.path().join("a/c/b_chunks.jsonl")]
        );
    }

    #[test]
    fn no_two_files_are_one_document() {
        let root = qa_shared::testing::temporary_folder();
        for name in ["a_chunks.json", "a_chunks.jsonl", "b_chunks.jsonl"] {
            fs::write(root.path().join(name), "{}").unwrap();
        }
        let listing = find_chunk_files(root.path()).unwrap();
        assert_eq!(names(&listing), ["a", "b"]);
        assert_eq!((listing.unusable[0].name.as_str(), listing.unusable.len()), ("a_chunks.jsonl", 1));
        let nested = qa_shared::testing::temporary_folder();
        for folder in ["x/y", "x__y"] {
            fs::create_dir_all(nested.path().join(folder)).unwrap();
            fs::write(nested.path().join(folder).join("z_chunks.json"), "{}").unwrap();
        }
        let listing = find_chunk_files(nested.path()).unwrap();
        assert_eq!((names(&listing), listing.unusable.len()), (vec!["x__y__z"], 1));
    }

    #[test]
    fn the_longest_name_has_a_qa_file_too() {
        let path = qa_path(Path::new("/out"), &DocumentName::new("x".repeat(243)));
        assert!(path.file_name().unwrap().len() <= 255);
    }
}
