//! The lock of an output directory: one program writes there at a time.
//!
//! Two files: `lock` decides, and `running` shows those who only look that a coordinator is at work. A look takes a
//! lock for a moment, which must not make a start fail.

use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use qa_shared::queue::LockId;
use serde::{Deserialize, Serialize};

use super::{FileError, JobFolder, JobFolderError};

/// How often the lock is tried where its file is replaced meanwhile: by a run that did nothing and left nothing.
const ATTEMPTS: u32 = 10;
/// How long those who look may keep a coordinator from showing itself.
const LOOKS: u32 = 100;
const LOOK: Duration = Duration::from_millis(20);

/// Who holds a directory, for the message to the program that comes second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The process id.
    pub pid: u32,
    /// Its host.
    pub host: String,
    /// When it began, see [`super::naive_local`].
    pub started: String,
    /// Its command, such as `generate`.
    #[serde(default)]
    pub command: String,
}

impl Holder {
    /// This process, which runs a command.
    pub fn of(command: &str, host: String) -> Self {
        Self { pid: std::process::id(), host, started: super::now(), command: command.to_owned() }
    }
}

/// The right to write an output directory; given back when dropped or when the process ends.
#[derive(Debug)]
pub struct DirectoryLock {
    file: File,
    _running: Option<File>,
}

impl DirectoryLock {
    /// What tells this lock from that of any other directory, and from a copy of this one. Nothing where the system
    /// does not tell (other systems than Linux, a service that does not see `/proc/sys`).
    pub fn identity(&self, directory: &Path) -> Option<LockId> {
        let metadata = self.file.metadata().ok()?;
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned();
        let path = directory.canonicalize().ok()?.to_str()?.to_owned();
        (!boot.is_empty()).then(|| LockId { path, device: metadata.dev(), inode: metadata.ino(), boot })
    }
}

impl JobFolder {
    /// Makes this process the only one that writes here.
    pub fn lock(&self, holder: &Holder) -> Result<DirectoryLock, JobFolderError> {
        let path = self.path().join("lock");
        let failed = |error| FileError::during("lock", &path)(error);
        let mut file = self.locked(&path)?;
        let text = serde_json::to_vec(holder).expect("a holder has plain fields only");
        let note = |file: &mut File| {
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&text)
        };
        note(&mut file).map_err(failed)?;
        Ok(DirectoryLock { file, _running: None })
    }

    /// The same for a coordinator, which `status` shows.
    pub fn lock_for_run(&self, holder: &Holder) -> Result<DirectoryLock, JobFolderError> {
        let lock = self.lock(holder)?;
        let path = self.running_path();
        let opened = File::options().write(true).create(true).truncate(false).open(&path);
        let running = opened.map_err(FileError::during("lock", &path))?;
        for _ in 0..LOOKS {
            match running.try_lock() {
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOOK),
                Ok(()) | Err(TryLockError::Error(_)) => break,
            }
        }
        Ok(DirectoryLock { _running: Some(running), ..lock })
    }

    /// Whether a living coordinator works in the directory.
    pub fn is_running(&self) -> bool {
        match File::open(self.running_path()) {
            Ok(file) => matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)),
            Err(_) => false,
        }
    }

    fn locked(&self, path: &Path) -> Result<File, JobFolderError> {
        let failed = |error| FileError::during("lock", path)(error);
        for _ in 0..ATTEMPTS {
            let mut file = open(path).map_err(failed)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let holder = told_by(&mut file);
                    return Err(JobFolderError::Locked { directory: self.directory().to_owned(), holder });
                }
                Err(TryLockError::Error(error)) => return Err(failed(error).into()),
            }
            // A file that was removed after it was opened locks nothing.
            let inode = file.metadata().map_err(failed)?.ino();
            if fs::metadata(path).is_ok_and(|there| there.ino() == inode) {
                return Ok(file);
            }
        }
        Err(failed(ErrorKind::ResourceBusy.into()).into())
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    File::options().read(true).write(true).create(true).truncate(false).open(path)
}

fn told_by(file: &mut File) -> String {
    let mut text = String::new();
    let holder = file.read_to_string(&mut text).ok().and_then(|_| serde_json::from_str::<Holder>(&text).ok());
    match holder {
        Some(Holder { pid, host, started, command }) => {
            let command = if command.is_empty() { String::new() } else { format!("`{command}`, ") };
            format!("{command}process {pid} on {host} since {started}")
        }
        None => "a process that did not say who it is".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder() -> Holder {
        Holder {
            pid: 4711,
            host: "gpu1".into(),
            started: "2026-11-23T03:11:32.979477".into(),
            command: "combine".into(),
        }
    }

    #[test]
    fn the_second_program_is_told_who_the_first_is() {
        let output = qa_shared::testing::temporary_folder();
        let folder = JobFolder::create(output.path()).unwrap();
        let lock = folder.lock(&holder()).unwrap();
        let error = folder.lock(&holder()).unwrap_err().to_string();
        assert!(
            error.contains("`combine`, process 4711 on gpu1 since 2026-11-23T03:11:32.979477"),
            "{error}"
        );
        drop(lock);
        folder.lock(&holder()).unwrap();
    }

    #[test]
    fn who_looks_makes_no_start_fail_and_sees_coordinators_only() {
        let output = qa_shared::testing::temporary_folder();
        let folder = JobFolder::create(output.path()).unwrap();
        assert!(!folder.is_running());
        let lock = folder.lock(&holder()).unwrap();
        assert!(!folder.is_running(), "another command is no run");
        drop(lock);
        let lock = folder.lock_for_run(&holder()).unwrap();
        assert!(folder.is_running());
        drop(lock);
        assert!(!folder.is_running());
        // A look that takes its time.
        let watcher = File::open(folder.running_path()).unwrap();
        watcher.lock_shared().unwrap();
        let looking = std::thread::spawn(move || {
            std::thread::sleep(LOOK * 3);
            drop(watcher);
        });
        let _lock = folder.lock_for_run(&holder()).unwrap();
        looking.join().unwrap();
        assert!(folder.is_running());
    }

    #[test]
    fn a_lock_whose_file_was_removed_holds_nothing_and_has_another_identity() {
        let output = qa_shared::testing::temporary_folder();
        let folder = JobFolder::create(output.path()).unwrap();
        let first = folder.lock(&holder()).unwrap();
        let of_first = first.identity(output.path());
        assert_eq!(of_first, first.identity(&output.path().join(".")), "one path in two forms");
        fs::remove_file(folder.path().join("lock")).unwrap();
        let second = folder.lock(&holder()).unwrap();
        #[cfg(target_os = "linux")]
        assert!(of_first.is_some());
        assert_ne!(of_first, second.identity(output.path()));
    }
}
