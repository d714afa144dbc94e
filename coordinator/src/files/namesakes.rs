//! Documents that would share an output file or a token: one would have the other's results.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use qa_shared::model::DocumentName;

use super::atomic::UNFINISHED;
use super::listing::qa_path;
use super::output_place::folded;
use super::{FileError, Listing};

/// Two names that something takes for one.
pub type Namesakes<'a> = (&'a DocumentName, &'a DocumentName);

/// The first two names that have the same key.
pub fn first_double<'a, K: Ord>(
    names: impl IntoIterator<Item = &'a DocumentName>,
    key: impl Fn(&DocumentName) -> K,
) -> Option<Namesakes<'a>> {
    let mut seen = BTreeMap::new();
    names.into_iter().find_map(|name| seen.insert(key(name), name).map(|first| (first, name)))
}

/// The first two documents whose Q&A files are one file where `folder` is. Names that differ in case or in the form of
/// a letter only are tried: most file systems tell them apart.
pub fn one_file<'a>(listing: &'a Listing, folder: &Path) -> Result<Option<Namesakes<'a>>, FileError> {
    let mut alike: BTreeMap<String, Vec<&DocumentName>> = BTreeMap::new();
    for file in &listing.files {
        alike.entry(folded(file.name.as_str())).or_default().push(&file.name);
    }
    alike.retain(|_, names| names.len() > 1);
    if alike.is_empty() {
        return Ok(None);
    }
    let failed = |error| FileError::during("try names in", folder)(error);
    let place = tempfile::Builder::new().prefix(UNFINISHED).tempdir_in(folder).map_err(failed)?;
    for names in alike.values() {
        for (position, name) in names.iter().enumerate() {
            let path = qa_path(place.path(), name);
            if path.exists() {
                return Ok(names[..position].last().map(|first| (*first, *name)));
            }
            File::create(&path).map_err(|error| FileError::during("try names in", folder)(error))?;
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::super::find_chunk_files;
    use super::*;

    #[test]
    fn documents_that_differ_in_case_only_go_side_by_side_where_the_disk_tells_them_apart() {
        let folder = qa_shared::testing::temporary_folder();
        for name in ["Guide", "guide", "\u{fc}", "u\u{308}", "other"] {
            std::fs::write(folder.path().join(format!("{name}_chunks.json")), "{}").unwrap();
        }
        let listing = find_chunk_files(folder.path()).unwrap();
        assert_eq!(listing.files.len(), 5);
        assert_eq!(one_file(&listing, folder.path()).unwrap(), None);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 5, "the trial left something behind");
    }

    #[test]
    fn two_names_with_one_key_are_named() {
        let names = ["a", "b", "C", "c"].map(DocumentName::new);
        let (first, second) = first_double(&names, |name| name.as_str().to_lowercase()).unwrap();
        assert_eq!((first.as_str(), second.as_str()), ("C", "c"));
        assert_eq!(first_double(&names, DocumentName::token), None);
    }
}
