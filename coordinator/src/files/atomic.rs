//! Whole files or none: written beside their target, made durable, then put in its place.
//!
//! A reader sees the old file or the new one. It does not know what the files hold.

use std::fs::{self, File, Metadata, TryLockError};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use qa_shared::clock;
use qa_shared::failpoint::{CrashPoint, crash_at};
use tempfile::NamedTempFile;

use super::FileError;

/// How the names of unfinished files begin. The target's name is no part of them: it may use all of the
/// 255 bytes that a name may have.
pub(super) const UNFINISHED: &str = ".qa-fleet.tmp-";

/// A file that does not exist under its name before [`AtomicFile::commit`]; dropped before, it vanishes.
#[derive(Debug)]
pub struct AtomicFile {
    file: BufWriter<NamedTempFile>,
    target: PathBuf,
    written: u64,
}

impl AtomicFile {
    /// Begins a file that will stand at `target`, whose directory must exist.
    pub fn create(target: &Path) -> Result<Self, FileError> {
        let file = unfinished_in(directory_of(target)).map_err(FileError::during("create", target))?;
        if let Ok(existing) = fs::metadata(target) {
            let permissions = existing.permissions();
            file.as_file().set_permissions(permissions).map_err(FileError::during("create", target))?;
        }
        crash_at(CrashPoint::FileBegun, target);
        Ok(Self { file: BufWriter::with_capacity(256 * 1024, file), target: target.to_owned(), written: 0 })
    }

    /// Appends bytes.
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        self.file.write_all(bytes).map_err(FileError::during("write", &self.target))?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Replaces the target; durable on return. The open file is handed back.
    pub fn commit(self) -> Result<File, FileError> {
        let (file, target) = self.finished(true)?;
        let file = file.persist(&target).map_err(|e| FileError::during("replace", &target)(e.error))?;
        crash_at(CrashPoint::FileRenamed, &target);
        sync_directory(directory_of(&target))?;
        crash_at(CrashPoint::FileDurable, &target);
        Ok(file)
    }

    /// Like [`AtomicFile::commit`], but an existing target stays and is an error of kind `AlreadyExists`.
    pub fn commit_new(self) -> Result<File, FileError> {
        let (file, target) = self.finished(true)?;
        let file =
            file.persist_noclobber(&target).map_err(|e| FileError::during("create", &target)(e.error))?;
        sync_directory(directory_of(&target))?;
        Ok(file)
    }

    /// Replaces the target without waiting for the disk: whole for every reader, but a power failure may
    /// take it. For figures that nobody needs after a crash.
    pub fn commit_unsynced(self) -> Result<(), FileError> {
        let (file, target) = self.finished(false)?;
        file.persist(&target).map_err(|e| FileError::during("replace", &target)(e.error))?;
        Ok(())
    }

    fn finished(self, durable: bool) -> Result<(NamedTempFile, PathBuf), FileError> {
        let target = self.target;
        let file = self.file.into_inner().map_err(|e| FileError::during("write", &target)(e.into_error()))?;
        crash_at(CrashPoint::FileWritten, &target);
        if durable {
            file.as_file().sync_all().map_err(FileError::during("write", &target))?;
            crash_at(CrashPoint::FileSynced, &target);
        }
        Ok((file, target))
    }
}

/// An empty file that has no name and vanishes with its handle, on the disk of `target`: the only place that the
/// writer of `target` is known to need. A directory for temporary files need not exist, nor have room.
pub(super) fn file_without_name(target: &Path) -> Result<File, FileError> {
    tempfile::tempfile_in(directory_of(target)).map_err(FileError::during("use a temporary file for", target))
}

/// Shows that files can be written durably in a directory, and put in another one's place there: everything that
/// [`AtomicFile`] does, with enough bytes to find a disk without room.
pub(super) fn prove_writable(directory: &Path) -> Result<(), FileError> {
    const BYTES: usize = 64 * 1024;
    let prove = || {
        let mut file = unfinished_in(directory)?;
        file.write_all(&vec![b' '; BYTES])?;
        file.as_file().sync_all()?;
        let target = directory.join(format!("{UNFINISHED}{}-proof", std::process::id()));
        file.persist(&target)?;
        fs::remove_file(target)
    };
    prove().map_err(FileError::during("write to", directory))
}

/// A file under an unfinished file's name, locked for as long as it is open: that is what tells [`remove_unfinished`]
/// that its process lives, on whichever host or in whichever container.
fn unfinished_in(directory: &Path) -> io::Result<NamedTempFile> {
    const ATTEMPTS: u32 = 10;
    for _ in 0..ATTEMPTS {
        let file = tempfile::Builder::new()
            .prefix(&format!("{UNFINISHED}{}-", std::process::id()))
            .permissions(fs::Permissions::from_mode(0o666))
            .tempfile_in(directory)?;
        match file.as_file().try_lock() {
            // A clean-up may have taken it before it was locked.
            Err(TryLockError::WouldBlock) => {}
            Ok(()) if file.as_file().metadata()?.nlink() == 0 => {}
            // A file system without locks: there only old files are removed.
            Ok(()) | Err(TryLockError::Error(_)) => return Ok(file),
        }
    }
    Err(ErrorKind::ResourceBusy.into())
}

/// Writes a whole file at once, durably.
pub fn write_file(target: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let mut file = AtomicFile::create(target)?;
    file.put(bytes)?;
    file.commit().map(drop)
}

/// Removes a file; one that is gone is as good.
pub fn remove_file(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(FileError::during("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Makes the names in a directory durable.
pub fn sync_directory(directory: &Path) -> Result<(), FileError> {
    match File::open(directory).and_then(|opened| opened.sync_all()) {
        // Some network file systems cannot sync a directory; they have nothing else to offer.
        Err(error) if !matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => {
            Err(FileError::during("sync", directory)(error))
        }
        _ => Ok(()),
    }
}

/// Removes what killed processes left unfinished in a directory; returns how many files. Those of living processes
/// stay.
pub fn remove_unfinished(directory: &Path) -> Result<usize, FileError> {
    let failed = |error| FileError::during("clean up", directory)(error);
    let mut removed = 0;
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(|error| FileError::during("clean up", directory)(error))?;
        if entry.file_name().as_encoded_bytes().starts_with(UNFINISHED.as_bytes()) {
            match remove_if_dead(&entry.path()) {
                Ok(is_removed) => removed += usize::from(is_removed),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(FileError::during("remove", &entry.path())(error)),
            }
        }
    }
    Ok(removed)
}

fn remove_if_dead(path: &Path) -> io::Result<bool> {
    let metadata = fs::symlink_metadata(path)?;
    if metadata.is_dir() {
        return fs::remove_dir_all(path).map(|()| true);
    }
    if metadata.is_file() {
        let locked =
            File::open(path).map_err(TryLockError::Error).and_then(|file| file.try_lock().map(|()| file));
        let _locked = match locked {
            Ok(file) => Some(file),
            Err(TryLockError::Error(error)) if error.kind() == ErrorKind::NotFound => return Err(error),
            // Nothing tells whether its process lives: one that writes for days is not ours.
            Err(TryLockError::Error(_)) if is_old(&metadata) => None,
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => return Ok(false),
        };
        return fs::remove_file(path).map(|()| true);
    }
    fs::remove_file(path).map(|()| true)
}

/// Whether nothing was written for two days.
fn is_old(metadata: &Metadata) -> bool {
    const SECONDS: i64 = 2 * 24 * 3600;
    let now = i64::try_from(clock::unix_millis() / 1000).unwrap_or(i64::MAX);
    now.saturating_sub(metadata.mtime()) > SECONDS
}

fn directory_of(target: &Path) -> &Path {
    match target.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_file_stands_until_the_commit() {
        let folder = qa_shared::testing::temporary_folder();
        let target = folder.path().join("a.json");
        fs::write(&target, "old").unwrap();
        let mut file = AtomicFile::create(&target).unwrap();
        file.put(b"new").unwrap();
        assert_eq!((fs::read_to_string(&target).unwrap().as_str(), file.written()), ("old", 3));
        file.commit().unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "new");
    }

    #[test]
    fn a_file_that_was_given_up_leaves_nothing() {
        let folder = qa_shared::testing::temporary_folder();
        drop(AtomicFile::create(&folder.path().join("a.json")).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_name_of_255_bytes_can_be_written() {
        let folder = qa_shared::testing::temporary_folder();
        let target = folder.path().join("ü".repeat(125) + ".json");
        write_file(&target, b"{}").unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"{}");
    }

    #[test]
    fn an_existing_file_stays_where_replacing_is_not_wanted() {
        let folder = qa_shared::testing::temporary_folder();
        let target = folder.path().join("a.json");
        fs::write(&target, "old").unwrap();
        let error = AtomicFile::create(&target).unwrap().commit_new().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&target).unwrap(), "old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_new_file_has_the_permissions_of_the_one_it_replaces() {
        let folder = qa_shared::testing::temporary_folder();
        let target = folder.path().join("a.json");
        fs::write(&target, "old").unwrap();
        fs::set_permissions(&target, fs::Permissions::from_mode(0o640)).unwrap();
        write_file(&target, b"new").unwrap();
        assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o640);
    }

    #[test]
    fn what_a_killed_process_left_is_removed_and_nothing_else() {
        let folder = qa_shared::testing::temporary_folder();
        for name in [".qa-fleet.tmp-1-abcdef", "a_qa.json", ".hidden", "tmp_python.json"] {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        assert_eq!(remove_unfinished(folder.path()).unwrap(), 1);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    #[test]
    fn the_unfinished_file_of_a_living_process_stays() {
        let folder = qa_shared::testing::temporary_folder();
        let target = folder.path().join("a.json");
        let mut file = AtomicFile::create(&target).unwrap();
        file.put(b"new").unwrap();
        assert_eq!(remove_unfinished(folder.path()).unwrap(), 0);
        let finished = file.commit().unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "new");
        drop(finished);
        let left = AtomicFile::create(&target).unwrap();
        let path = left.file.get_ref().path().to_owned();
        // As a process that is killed leaves it: nothing holds the lock any more.
        let file = left.file.into_inner().unwrap().keep().unwrap().0;
        assert_eq!(remove_unfinished(folder.path()).unwrap(), 0);
        drop(file);
        assert_eq!(remove_unfinished(folder.path()).unwrap(), 1);
        assert!(!path.exists());
    }

    #[test]
    fn a_directory_that_can_be_written_is_left_as_it_was_and_another_one_is_told() {
        let folder = qa_shared::testing::temporary_folder();
        prove_writable(folder.path()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let missing = folder.path().join("missing");
        let error = prove_writable(&missing).unwrap_err().to_string();
        assert!(error.starts_with("cannot write to `") && error.contains("missing"), "{error}");
        // A directory in which nobody can make a file, the administrator included.
        #[cfg(target_os = "linux")]
        prove_writable(Path::new("/proc/self/fdinfo")).unwrap_err();
    }

    #[test]
    fn a_missing_directory_is_named() {
        let folder = qa_shared::testing::temporary_folder();
        let error = AtomicFile::create(&folder.path().join("none/a.json")).unwrap_err();
        assert!(error.to_string().contains("none/a.json"), "{error}");
    }
}
