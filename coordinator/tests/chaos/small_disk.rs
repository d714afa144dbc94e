//! A disk for one directory that can be full, or refuse to be written.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A disk of its own under a directory, so that it can be full.
pub(crate) struct SmallDisk {
    directory: PathBuf,
    is_read_only: bool,
}

impl SmallDisk {
    /// The reason where this process cannot mount.
    pub(crate) fn under(directory: &Path) -> Result<Self, String> {
        fs::create_dir(directory).unwrap();
        let directory = directory.to_owned();
        mount(&["-t", "tmpfs", "-o", "size=192m", "qa-chaos"], &directory)?;
        Ok(Self { directory, is_read_only: false })
    }

    /// Lets nobody make, rename or remove anything in it; files that are open stay writable.
    pub(crate) fn forbid(&mut self) -> bool {
        let name = self.directory.display().to_string();
        if self.is_read_only || mount(&["--bind", &name], &self.directory).is_err() {
            return false;
        }
        self.is_read_only = true;
        mount(&["-o", "remount,ro,bind"], &self.directory).is_ok()
    }

    pub(crate) fn allow(&mut self) {
        if std::mem::take(&mut self.is_read_only) {
            self.unmount();
        }
    }

    fn unmount(&self) {
        // A failure leaves a mount in a temporary directory; there is nobody to tell.
        drop(Command::new("umount").arg("-l").arg(&self.directory).status());
    }

    fn ballast(&self) -> PathBuf {
        self.directory.join("ballast")
    }

    /// Whether it could be: nothing can be put onto a disk that nobody may write.
    pub(crate) fn fill(&mut self) -> bool {
        if let Ok(mut ballast) = File::create(self.ballast()) {
            let zeros = vec![0; 64 * 1024];
            while ballast.write_all(&zeros).is_ok() {}
        }
        !self.is_read_only
    }

    pub(crate) fn empty(&self) {
        drop(fs::remove_file(self.ballast()));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        self.allow();
        self.unmount();
    }
}

fn mount(arguments: &[&str], directory: &Path) -> Result<(), String> {
    match Command::new("mount").args(arguments).arg(directory).output() {
        Ok(mounted) if mounted.status.success() => Ok(()),
        Ok(mounted) => Err(String::from_utf8_lossy(&mounted.stderr).trim().to_owned()),
        Err(error) => Err(format!("mount: {error}")),
    }
}
