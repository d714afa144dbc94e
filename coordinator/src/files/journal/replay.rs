//! Reading a journal's segments again from the start: headers, entries, torn ends.
//!
//! It changes nothing but what it is told to cut.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use qa_shared::model::JobId;
use serde::Deserialize;

use super::{Entry, EntryLocation, FileError, Header, JournalError, TornEnd, VERSION};

pub(super) fn segment_path(directory: &Path, number: u32) -> PathBuf {
    directory.join(format!("journal-{number:06}.jsonl"))
}

pub(super) fn segment_numbers(directory: &Path) -> Result<Vec<u32>, FileError> {
    let mut numbers = Vec::new();
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(numbers),
        entries => entries.map_err(FileError::during("list", directory))?,
    };
    for entry in entries {
        let name = entry.map_err(FileError::during("list", directory))?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("journal-")?.strip_suffix(".jsonl"));
        numbers.extend(number.and_then(|number| number.parse::<u32>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

pub(super) fn truncate(path: &Path, len: u64) -> Result<(), FileError> {
    let cut = |file: File| file.set_len(len).and_then(|()| file.sync_all());
    File::options().write(true).open(path).and_then(cut).map_err(FileError::during("cut", path))
}

/// Gives a segment's entries to `replay`; returns how many, and what of its end must be cut.
pub(super) fn replay_segment(
    path: &Path,
    number: u32,
    job: &JobId,
    replay: &mut impl FnMut(EntryLocation, Entry),
) -> Result<(u64, Option<TornEnd>), JournalError> {
    let failed = |error| FileError::during("read", path)(error);
    let file = File::open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    let mut reader = BufReader::with_capacity(256 * 1024, file);
    let mut line = Vec::new();
    let mut offset = 0;
    let mut entries = 0;
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line).map_err(failed)? as u64;
        // NUL bytes are what a power failure leaves where a file had grown before its data was written;
        // nothing from there on was ever synced.
        if read > 0 && (line.pop_if(|last| *last == b'\n').is_none() || line.contains(&0)) {
            let torn = TornEnd { path: path.to_owned(), kept: offset, cut: size.saturating_sub(offset) };
            return Ok((entries, Some(torn)));
        }
        if read == 0 {
            return Ok((entries, None));
        }
        let damaged = |error: serde_json::Error| JournalError::Damaged {
            path: path.to_owned(),
            offset,
            problem: error.to_string(),
        };
        if offset == 0 {
            check_header(&line, path, job, damaged)?;
        } else {
            let entry = serde_json::from_slice(&line).map_err(damaged)?;
            let len = u32::try_from(line.len()).unwrap_or(u32::MAX);
            replay(EntryLocation { segment: number, offset, len }, entry);
            entries += 1;
        }
        offset += read;
    }
}

fn check_header(
    line: &[u8],
    path: &Path,
    job: &JobId,
    damaged: impl Fn(serde_json::Error) -> JournalError,
) -> Result<(), JournalError> {
    #[derive(Deserialize)]
    struct Version {
        qa_fleet_journal: u32,
    }
    let version: Version = serde_json::from_slice(line).map_err(&damaged)?;
    if version.qa_fleet_journal != VERSION {
        return Err(JournalError::Version { path: path.to_owned(), found: version.qa_fleet_journal });
    }
    let header: Header = serde_json::from_slice(line).map_err(damaged)?;
    if header.job == *job {
        Ok(())
    } else {
        Err(JournalError::OtherJob { path: path.to_owned(), found: header.job, expected: job.clone() })
    }
}
