//! The combined file: all completed Q&A files of a directory in one, as the Python program's combiner
//! writes it.
//!
//! Two streaming passes over the Q&A files, so memory does not grow with them; pairs are copied byte for
//! byte. It does not know how the pairs came about.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use qa_shared::model::DocumentName;
use serde::Serialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};

use super::atomic::{AtomicFile, file_without_name};
use super::columns::{Columns, DocumentColumns, as_text};
use super::combined_owner::{self, Owner};
use super::fingerprint::Hashing;
use super::json_repair::repaired;
use super::json_scan::{Event, ScanError, Scanner};
use super::listing::{DocumentPath, find_qa_files};
use super::pretty::pretty;
use super::{ContentHash, FileError, Fingerprint, PlaceError};

/// Why no combined file was written; one that stood there is untouched.
#[derive(Debug, thiserror::Error)]
pub enum CombineError {
    /// The file system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// No file can stand at the output's place.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// No document is completed.
    #[error(
        "no completed Q&A file in `{}`: nothing to combine ({} of another status, {} unreadable)",
        directory.display(),
        report.skipped.len(),
        report.unreadable.len()
    )]
    Nothing {
        /// The Q&A directory.
        directory: PathBuf,
        /// What was found instead.
        report: Box<CombineReport>,
    },
    /// What stands at the output's place was made from another directory, or is something else.
    #[error(
        "`{}` {found}, not from `{}`: choose another --output-file, or replace it with --overwrite",
        output.display(),
        directory.display()
    )]
    NotOurs {
        /// The output file.
        output: PathBuf,
        /// The Q&A directory.
        directory: PathBuf,
        /// What stands there.
        found: &'static str,
    },
    /// A Q&A file changed between the two passes.
    #[error("Q&A file `{}` changed while it was being combined: run it again when nothing writes there", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
}

/// What to combine.
#[derive(Debug, Clone, Copy)]
pub struct Combine<'a> {
    /// The directory with the Q&A files.
    pub qa_directory: &'a Path,
    /// The combined file.
    pub output: &'a Path,
    /// Documents that are combined although their Q&A files are not `completed`.
    pub unfinished: &'a BTreeSet<DocumentName>,
    /// Whether a combined file of another directory may be replaced.
    pub overwrite: bool,
    /// `generated_at`, see [`super::naive_local`].
    pub generated_at: &'a str,
}

/// What was combined, and what was not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CombineReport {
    /// Names of the combined Q&A files, in their order.
    pub combined: Vec<String>,
    /// Pairs in the combined file.
    pub pairs: u64,
    /// The pairs of each combined Q&A file.
    #[serde(skip)]
    pub pairs_of: BTreeMap<String, u64>,
    /// Names and statuses of Q&A files that are not completed.
    pub skipped: Vec<(String, String)>,
    /// Names of what cannot be read, and why.
    pub unreadable: Vec<(String, String)>,
    /// Fields of pairs that hold values of several types and were written as text.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub text_columns: Vec<String>,
    /// The same for people, with the documents.
    #[serde(skip)]
    pub note: Option<String>,
}

/// Makes sure, before work begins, that the combined file may be written at its end; what stands there now
/// counts as this directory's from then on.
pub fn claim_output(order: &Combine<'_>) -> Result<(), CombineError> {
    let owner = Owner::check(order)?;
    match File::open(order.output) {
        Ok(file) => Ok(owner.remember(&file)?),
        Err(_) => Ok(()),
    }
}

/// The same with nothing noted.
pub fn check_output(order: &Combine<'_>) -> Result<(), CombineError> {
    Owner::check(order).map(drop)
}

/// Combines a directory's completed Q&A files, sorted by file name. The same inputs give the same bytes but
/// for `generated_at`.
pub fn combine(order: Combine<'_>) -> Result<CombineReport, CombineError> {
    let owner = Owner::check(&order)?;
    let mut out = AtomicFile::create(order.output)?;
    let first_pass = FirstPass::over(order)?;
    if first_pass.documents.is_empty() {
        let report = Box::new(first_pass.report);
        return Err(CombineError::Nothing { directory: order.qa_directory.to_owned(), report });
    }
    let report = first_pass.write(order, &mut out)?;
    let file = out.commit()?;
    owner.remember(&file)?;
    Ok(report)
}

/// What is kept of a document between the passes.
struct Combinable {
    path: PathBuf,
    fingerprint: Fingerprint,
    content: ContentHash,
    /// Where the pairs begin, in bytes; a field may stand there more than once.
    pairs_at: Vec<u64>,
    /// Whether a pair is no JSON and has to be repaired, see [`super::Repairs`].
    is_flawed: bool,
}

struct FirstPass {
    documents: Vec<Combinable>,
    /// The elements of `documents`, in a file without a name.
    entries: File,
    processing_config: Value,
    columns: Columns,
    report: CombineReport,
}

impl FirstPass {
    fn over(order: Combine<'_>) -> Result<Self, CombineError> {
        let spool = |error| FileError::during("use a temporary file for", order.output)(error);
        let mut pass = Self {
            documents: Vec::new(),
            entries: file_without_name(order.output)?,
            processing_config: Value::Null,
            columns: Columns::default(),
            report: CombineReport::default(),
        };
        let listing = find_qa_files(order.qa_directory)?;
        for unusable in listing.unusable {
            pass.report.unreadable.push((unusable.name, unusable.reason.to_owned()));
        }
        for document in listing.files {
            let file_name = format!("{}{}", document.name, super::listing::QA_ENDING);
            match read_header(&document) {
                Err(error) => pass.report.unreadable.push((file_name, error.to_string())),
                Ok(header) if header.status != "completed" && !order.unfinished.contains(&document.name) => {
                    pass.report.skipped.push((file_name, header.status));
                }
                Ok(header) => {
                    pass.add(header, document, file_name).map_err(spool)?;
                }
            }
        }
        pass.report.text_columns = pass.columns.mixed();
        pass.report.note = pass.columns.note();
        Ok(pass)
    }

    fn add(&mut self, mut header: Header, document: DocumentPath, file_name: String) -> std::io::Result<()> {
        if self.documents.is_empty() {
            self.processing_config = header.processing_config();
        }
        let separator: &[u8] = if self.documents.is_empty() { b"[\n    " } else { b",\n    " };
        self.entries.write_all(separator)?;
        self.report.pairs += header.pairs;
        self.report.pairs_of.insert(file_name.clone(), header.pairs);
        self.columns.include(&file_name, std::mem::take(&mut header.columns));
        self.entries.write_all(&pretty(&header.entry(&file_name), 2)?)?;
        self.documents.push(Combinable {
            path: document.path,
            fingerprint: header.fingerprint,
            content: header.content,
            pairs_at: header.pairs_at,
            is_flawed: header.is_flawed,
        });
        self.report.combined.push(file_name);
        Ok(())
    }

    fn write(mut self, order: Combine<'_>, out: &mut AtomicFile) -> Result<CombineReport, CombineError> {
        let metadata = json!({
            "generated_by": combined_owner::GENERATED_BY,
            "generated_at": order.generated_at,
            "total_qa_pairs": self.report.pairs,
            "num_documents": self.documents.len(),
            "source_qa_files": self.report.combined,
            "processing_config": self.processing_config,
        });
        out.put(b"{\n  \"metadata\": ")?;
        out.put(&pretty(&metadata, 1).expect("a value with text keys can be written"))?;
        out.put(b",\n  \"documents\": ")?;
        let spool = |error| FileError::during("use a temporary file for", order.output)(error);
        self.entries.seek(SeekFrom::Start(0)).map_err(spool)?;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = self.entries.read(&mut buffer).map_err(spool)?;
            if read == 0 {
                break;
            }
            out.put(&buffer[..read])?;
        }
        out.put(b"\n  ],\n  \"training_pairs\": ")?;
        let mut pairs = 0;
        for document in &self.documents {
            copy_pairs(document, &self.report.text_columns, out, &mut pairs)?;
        }
        out.put(if pairs == 0 { b"[]\n}" } else { b"\n  ]\n}" })?;
        Ok(self.report)
    }
}

fn copy_pairs(
    document: &Combinable,
    text_columns: &[String],
    out: &mut AtomicFile,
    pairs: &mut u64,
) -> Result<(), CombineError> {
    let changed = || CombineError::Changed { path: document.path.clone() };
    let mut file = File::open(&document.path).map_err(|_| changed())?;
    let is_unchanged = || document.fingerprint.still_holds(&document.path, document.content).unwrap_or(false);
    if !is_unchanged() {
        return Err(changed());
    }
    for offset in &document.pairs_at {
        file.seek(SeekFrom::Start(*offset)).map_err(|_| changed())?;
        let mut scanner = Scanner::within_array(BufReader::with_capacity(64 * 1024, &file), *offset);
        while let Some(Event::Element(pair)) = scanner.next().map_err(|_| changed())? {
            out.put(if *pairs == 0 { b"[\n    " } else { b",\n    " })?;
            let as_text = if text_columns.is_empty() { None } else { as_text(pair.raw, text_columns) };
            let repaired = || document.is_flawed.then(|| repaired(pair.raw)).flatten().map(|(text, _)| text);
            out.put(as_text.or_else(repaired).as_deref().unwrap_or(pair.raw))?;
            *pairs += 1;
        }
    }
    if is_unchanged() { Ok(()) } else { Err(changed()) }
}

/// What the combined file says about a document.
struct Header {
    fingerprint: Fingerprint,
    content: ContentHash,
    status: String,
    fields: Map<String, Value>,
    pairs: u64,
    pairs_at: Vec<u64>,
    is_flawed: bool,
    columns: DocumentColumns,
}

fn read_header(document: &DocumentPath) -> Result<Header, ScanError> {
    let file = File::open(&document.path)?;
    let fingerprint = Fingerprint::of_file(&file)?;
    let mut bytes = Hashing::new(file);
    let mut header = Header {
        fingerprint,
        content: bytes.hash(),
        status: "without status".to_owned(),
        fields: Map::new(),
        pairs: 0,
        pairs_at: Vec::new(),
        is_flawed: false,
        columns: DocumentColumns::default(),
    };
    let streamed = ["chunks", "training_pairs"];
    let mut scanner = Scanner::new(BufReader::with_capacity(64 * 1024, &mut bytes), &streamed);
    let mut in_pairs = false;
    while let Some(event) = scanner.next()? {
        match event {
            Event::Field { key, value } => match key.as_str() {
                "status" => {
                    if let Value::String(status) = value.parse()? {
                        header.status = status;
                    }
                }
                "metadata" | "processing_info" | "qa_generation_info" | "summary" => {
                    header.fields.insert(key, value.parse()?);
                }
                _ => drop(value.parse::<IgnoredAny>()?),
            },
            Event::ArrayStart { key } => {
                in_pairs = key == "training_pairs";
                if in_pairs {
                    header.pairs_at.push(scanner.offset());
                }
            }
            Event::Element(piece) if in_pairs => {
                header.is_flawed |= header.columns.add(piece.raw).map_err(|error| piece.wrong(error))?;
                header.pairs += 1;
            }
            Event::Element(piece) => drop(piece.parse::<IgnoredAny>()?),
            Event::ArrayEnd => {}
        }
    }
    drop(scanner);
    header.content = bytes.finish()?;
    Ok(header)
}

impl Header {
    fn part(&self, key: &str) -> Value {
        self.fields.get(key).cloned().unwrap_or_else(|| Value::Object(Map::new()))
    }

    fn entry(&self, file_name: &str) -> Value {
        json!({
            "file_info": self.part("metadata"),
            "processing_info": self.part("processing_info"),
            "qa_generation_info": self.part("qa_generation_info"),
            "summary": self.part("summary"),
            "qa_pairs_count": self.pairs,
            "source_file": file_name,
        })
    }

    fn processing_config(&self) -> Value {
        let (chunking, generation) = (self.part("processing_info"), self.part("qa_generation_info"));
        json!({
            "chunk_size": chunking["chunk_size"],
            "chunk_overlap": chunking["chunk_overlap"],
            "splitting_strategy": chunking["splitting_strategy"],
            "questions_per_chunk": generation["questions_per_chunk"],
            "temperature": generation["temperature"],
            "max_tokens": generation["max_tokens"],
            "llm_provider": generation["provider"],
            "model_used": generation["model"],
        })
    }
}

#[cfg(test)]
mod tests;
