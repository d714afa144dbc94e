//! Directories that a run makes, and takes away again where it did nothing.

use std::fs;
use std::path::{Path, PathBuf};

/// Directories that were missing when it was made.
#[derive(Debug, Default)]
pub struct NewDirectories {
    /// The deepest ones first.
    missing: Vec<PathBuf>,
}

impl NewDirectories {
    /// Those of the paths, and of what they stand in, that are missing.
    pub fn before<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Self {
        let ancestors = paths.into_iter().flat_map(Path::ancestors);
        let mut missing: Vec<PathBuf> =
            ancestors.filter(|path| is_missing(path)).map(Path::to_owned).collect();
        missing.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
        missing.dedup();
        Self { missing }
    }

    /// Whether this directory was missing.
    pub fn contains(&self, path: &Path) -> bool {
        self.missing.iter().any(|missing| missing == path)
    }

    /// Removes those that are there now and empty.
    pub fn remove(&self) {
        for path in &self.missing {
            drop(fs::remove_dir(path));
        }
    }
}

fn is_missing(path: &Path) -> bool {
    !path.as_os_str().is_empty() && fs::symlink_metadata(path).is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_missing_and_is_empty_is_removed() {
        let base = qa_shared::testing::temporary_folder();
        let (old, new) = (base.path().join("old"), base.path().join("a/b/c"));
        fs::create_dir(&old).unwrap();
        let directories = NewDirectories::before([old.as_path(), new.as_path()]);
        assert!(directories.contains(&new) && !directories.contains(&old));
        fs::create_dir_all(&new).unwrap();
        fs::write(base.path().join("a/file"), "kept").unwrap();
        directories.remove();
        assert!(old.is_dir() && !new.exists() && !base.path().join("a/b").exists());
        assert!(base.path().join("a/file").is_file());
    }
}
