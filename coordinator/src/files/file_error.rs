//! What went wrong with a file or directory: the action, the path, the system's words, and what helps.
//!
//! It knows nothing about what the files hold.

use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};

/// An operation of the file system that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} `{}`: {error}{}", path.display(), remedy(error.kind()))]
pub struct FileError {
    action: &'static str,
    path: PathBuf,
    error: Error,
}

impl FileError {
    /// For `map_err`: `action` completes "cannot ...", as in `read` or `create`.
    pub(crate) fn during(action: &'static str, path: &Path) -> impl FnOnce(Error) -> Self {
        move |error| Self { action, path: path.to_owned(), error }
    }

    /// The file or directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The system's kind of error.
    pub fn kind(&self) -> ErrorKind {
        self.error.kind()
    }

    /// Whether the disk, the quota or the largest file size is exhausted: works again once there is room.
    pub fn is_full(&self) -> bool {
        is_full(self.kind())
    }
}

fn is_full(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
}

fn remedy(kind: ErrorKind) -> &'static str {
    if is_full(kind) {
        return "; make room on that disk, then go on with --resume";
    }
    match kind {
        ErrorKind::PermissionDenied => "; give this user the permission, or choose another directory",
        ErrorKind::ReadOnlyFilesystem => "; choose a directory on a writable disk",
        ErrorKind::InvalidFilename => "; choose a shorter name",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_recognised_and_its_message_says_what_to_do() {
        let error =
            FileError::during("write", Path::new("/out/a_qa.json"))(Error::from(ErrorKind::StorageFull));
        assert!(error.is_full());
        let text = error.to_string();
        assert!(text.starts_with("cannot write `/out/a_qa.json`: "), "{text}");
        assert!(text.ends_with("; make room on that disk, then go on with --resume"), "{text}");
    }
}
