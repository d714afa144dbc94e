//! A file of lines that is only appended to and never grows beyond a limit: when it is full it is set aside,
//! and the one set aside before is gone.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

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

/// Gives every JSON line that can be read to `each`; returns how many could not be. No file is an empty one, and
/// of one that is not ours no more than `limit` bytes are read.
pub(super) fn read_lines<T: DeserializeOwned>(
    path: &Path,
    limit: u64,
    each: &mut impl FnMut(T),
) -> Result<u64, FileError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(FileError::during("read", path)(error)),
    };
    let mut reader = BufReader::new(file.take(limit));
    let (mut line, mut unreadable) = (Vec::new(), 0);
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line).map_err(FileError::during("read", path))? == 0 {
            return Ok(unreadable);
        }
        match serde_json::from_slice(&line) {
            Ok(read) => each(read),
            Err(_) if line.trim_ascii().is_empty() => {}
            Err(_) => unreadable += 1,
        }
    }
}
