//! A piece of a file: where it lies and how to read it again without its surroundings.
//!
//! It does not know what the piece means.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Span {
    /// Where the piece begins, in bytes from the start of the file.
    pub offset: u64,
    /// How long it is, in bytes.
    pub len: u64,
}

/// Reads spans of one open file, in any order. Pieces are large enough to need no buffer around them.
#[derive(Debug)]
pub(crate) struct SpanReader {
    file: File,
}

impl SpanReader {
    /// Opens a file.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::open(path)? })
    }

    /// The open file.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Replaces `piece` by the bytes of `span`. A span past the end is an `UnexpectedEof`.
    pub(crate) fn read(&self, span: Span, piece: &mut Vec<u8>) -> io::Result<()> {
        let len = usize::try_from(span.len).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        piece.resize(len, 0);
        self.file.read_exact_at(piece, span.offset)
    }
}
