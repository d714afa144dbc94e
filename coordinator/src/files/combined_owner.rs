//! Whether a combined file may be replaced: whose it is.
//!
//! The file's format has no place for that, and two directories may hold Q&A files of the same names. So the
//! job folder remembers which file its directory wrote. A file that nobody remembers (the Python program's)
//! belongs to the directory that has one of its documents with the same time of generation.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::combined::{Combine, CombineError};
use super::job_folder::FOLDER;
use super::json_scan::{Event, ScanError, Scanner};
use super::output_place::check_combined;
use super::{FileError, Fingerprint};

/// `generated_by` of the combined file, as the Python program writes it.
pub(super) const GENERATED_BY: &str = "qa_combiner";

#[derive(Serialize, Deserialize)]
struct Remembered {
    output: PathBuf,
    fingerprint: Fingerprint,
}

/// The right to write an output file, given by [`Owner::check`].
pub(super) struct Owner {
    memory: PathBuf,
    output: PathBuf,
}

impl Owner {
    /// [`CombineError::NotOurs`] if something stands at the output's place that this directory did not make.
    pub(super) fn check(order: &Combine<'_>) -> Result<Self, CombineError> {
        let output = std::path::absolute(order.output).map_err(FileError::during("find", order.output))?;
        let owner = Self { memory: order.qa_directory.join(FOLDER).join("combined.json"), output };
        let not_ours = |found| CombineError::NotOurs {
            output: order.output.to_owned(),
            directory: order.qa_directory.to_owned(),
            found,
        };
        check_combined(order.output, order.qa_directory)?;
        if fs::metadata(order.output).is_err() {
            return Ok(owner);
        }
        if order.overwrite || owner.remembers() {
            return Ok(owner);
        }
        // In the Q&A directory itself a combined file is the directory's, also after it was moved or copied.
        let is_inside = order.output.parent() == Some(order.qa_directory);
        match same_documents(order.output, order.qa_directory) {
            Ok(Some(true)) => Ok(owner),
            Ok(Some(false)) if is_inside => Ok(owner),
            Ok(Some(false)) => Err(not_ours("was combined from another Q&A directory")),
            Ok(None) | Err(_) => Err(not_ours("is no combined file")),
        }
    }

    /// Notes the file that was written, where the Q&A directory has a job folder.
    pub(super) fn remember(&self, file: &File) -> Result<(), FileError> {
        if !self.memory.parent().is_some_and(Path::is_dir) {
            return Ok(());
        }
        let fingerprint = Fingerprint::of_file(file).map_err(FileError::during("read", &self.output))?;
        let note = Remembered { output: self.output.clone(), fingerprint };
        let text = serde_json::to_vec(&note).map_err(std::io::Error::from);
        super::atomic::write_file(&self.memory, &text.map_err(FileError::during("write", &self.memory))?)
    }

    fn remembers(&self) -> bool {
        let note =
            fs::read(&self.memory).ok().and_then(|text| serde_json::from_slice::<Remembered>(&text).ok());
        note.is_some_and(|note| {
            note.output == self.output && Fingerprint::of(&self.output).ok() == Some(note.fingerprint)
        })
    }
}

#[derive(Deserialize)]
struct DocumentEntry {
    source_file: String,
    #[serde(default)]
    qa_generation_info: Value,
}

/// Whether the combined file and the directory have a document of one generation in common; a combined file
/// without documents belongs to anybody. `None` if it is no combined file.
fn same_documents(output: &Path, directory: &Path) -> Result<Option<bool>, ScanError> {
    let mut scanner = Scanner::new(BufReader::new(File::open(output)?), &["documents", "training_pairs"]);
    let mut is_combined = false;
    let mut documents = 0;
    let mut in_documents = false;
    let mut common = false;
    while let Some(event) = scanner.next()? {
        match event {
            Event::Field { key, value } if key == "metadata" => {
                is_combined = value.parse::<Value>()?["generated_by"] == GENERATED_BY;
            }
            Event::ArrayStart { key } => in_documents = key == "documents",
            Event::Element(piece) if in_documents && !common => {
                let entry: DocumentEntry = piece.parse()?;
                documents += 1;
                common = has_generation(&directory.join(&entry.source_file), &entry.qa_generation_info);
            }
            Event::Field { .. } | Event::Element(_) | Event::ArrayEnd => {}
        }
    }
    Ok(is_combined.then_some(common || documents == 0))
}

fn has_generation(path: &Path, info: &Value) -> bool {
    let Ok(file) = File::open(path) else { return false };
    let mut scanner = Scanner::new(BufReader::new(file), &["chunks", "training_pairs"]);
    while let Ok(Some(event)) = scanner.next() {
        if let Event::Field { key, value } = event
            && key == "qa_generation_info"
        {
            return value.parse::<Value>().is_ok_and(|found| found["generated_at"] == info["generated_at"]);
        }
    }
    false
}
