//! Whether a file is still the one that was read: by length, time of change and inode; where these differ, by
//! content.
//!
//! Network shares set times when a file is closed, and some give it another inode: that is no change.

use std::fs::{File, Metadata};
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// What tells one state of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Length in bytes.
    pub len: u64,
    /// Time of the last change, in nanoseconds since 1970 UTC.
    pub modified_ns: i64,
    /// The inode: a replaced file has another one.
    pub inode: u64,
}

impl Fingerprint {
    /// Of the file at a path; links are followed.
    pub fn of(path: &Path) -> io::Result<Self> {
        Ok(Self::from_metadata(&std::fs::metadata(path)?))
    }

    /// Of an open file.
    pub fn of_file(file: &File) -> io::Result<Self> {
        Ok(Self::from_metadata(&file.metadata()?))
    }

    /// Whether a file is what it was: its content is read only where the fingerprint differs and the length does
    /// not.
    pub fn still_holds(self, path: &Path, content: ContentHash) -> io::Result<bool> {
        let now = Self::of(path)?;
        if now == self {
            return Ok(true);
        }
        Ok(now.len == self.len && ContentHash::of(File::open(path)?)? == content)
    }

    fn from_metadata(metadata: &Metadata) -> Self {
        Self {
            len: metadata.len(),
            modified_ns: metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec()),
            inode: metadata.ino(),
        }
    }
}

/// A hash of a file's bytes; means something within this process only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ContentHash(u64);

impl ContentHash {
    fn of(file: File) -> io::Result<Self> {
        Hashing::new(file).finish()
    }
}

/// Hashes what passes through it.
#[derive(Debug, Default)]
pub(crate) struct Hashing<T> {
    inner: T,
    hasher: DefaultHasher,
}

impl<T> Hashing<T> {
    pub(crate) fn new(inner: T) -> Self {
        Self { inner, hasher: DefaultHasher::new() }
    }

    /// Takes bytes that are written.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.hasher.write(bytes);
    }

    /// The hash of what was taken so far.
    pub(crate) fn hash(&self) -> ContentHash {
        ContentHash(self.hasher.finish())
    }
}

impl<T: Read> Hashing<T> {
    /// Reads the rest; gives the hash of everything.
    pub(crate) fn finish(mut self) -> io::Result<ContentHash> {
        let mut buffer = vec![0; 64 * 1024];
        while self.read(&mut buffer)? > 0 {}
        Ok(self.hash())
    }
}

impl<T: Read> Read for Hashing<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hasher.write(&buffer[..read]);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::{Duration, SystemTime};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_time_or_an_inode_that_changes_is_no_change_and_other_bytes_are_one() {
        let folder = qa_shared::testing::temporary_folder();
        let path = folder.path().join("a");
        fs::write(&path, "one").unwrap();
        let (before, content) =
            (Fingerprint::of(&path).unwrap(), ContentHash::of(File::open(&path).unwrap()).unwrap());
        let later = SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000);
        File::options().write(true).open(&path).unwrap().set_modified(later).unwrap();
        assert_ne!(Fingerprint::of(&path).unwrap(), before);
        assert!(before.still_holds(&path, content).unwrap());
        fs::write(folder.path().join("b"), "one").unwrap();
        fs::rename(folder.path().join("b"), &path).unwrap();
        assert!(before.still_holds(&path, content).unwrap());
        for other in ["two", "longer"] {
            fs::write(&path, other).unwrap();
            assert!(!before.still_holds(&path, content).unwrap(), "{other}");
        }
    }

    proptest! {
        #[test]
        fn a_hash_does_not_depend_on_how_the_bytes_come(bytes: Vec<u8>, at in 0_usize..200) {
            let (first, second) = bytes.split_at(at.min(bytes.len()));
            let mut parts = Hashing::new(());
            parts.add(first);
            parts.add(second);
            prop_assert_eq!(parts.hash(), Hashing::new(bytes.as_slice()).finish().unwrap());
        }
    }
}
