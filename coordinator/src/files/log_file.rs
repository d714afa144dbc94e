//! A file of lines that is only appended to and never grows beyond a limit: when it is full it is set aside,
//! and the one set aside before is gone.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::FileError;

/// Appends whole lines.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    limit: u64,
    open: Option<(File, u64)>,
}

impl LogFile {
    /// A file that is opened with the first line. `limit` is in bytes.
    pub(super) fn new(path: PathBuf, limit: u64) -> Self {
        Self { path, limit, open: None }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends text that ends with a newline.
    pub(super) fn append(&mut self, text: &[u8]) -> Result<(), FileError> {
        let (mut file, len) = match self.open.take() {
            Some(open) => open,
            None => self.reopen()?,
        };
        if len > 0 && len + text.len() as u64 > self.limit {
            fs::rename(&self.path, self.path.with_extension("jsonl.1"))
                .map_err(FileError::during("set aside", &self.path))?;
            (file, _) = self.reopen()?;
        }
        file.write_all(text).map_err(FileError::during("append to", &self.path))?;
        let len = file.metadata().map_err(FileError::during("append to", &self.path))?.len();
        self.open = Some((file, len));
        Ok(())
    }

    fn reopen(&self) -> Result<(File, u64), FileError> {
        let open = || {
            let file = File::options().create(true).append(true).open(&self.path)?;
            let len = file.metadata()?.len();
            Ok((file, len))
        };
        open().map_err(FileError::during("open", &self.path))
    }
}
