//! The `show` command: chunks with their text, pairs and how they came about, from the files alone. It writes
//! nothing, and prints one chunk after the other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use qa_shared::model::{DocumentName, Pair, TextHash};
use serde::Serialize;

use crate::config::{ShowConfig, WantedChunks};
use crate::document_names;
use crate::exit::ExitCode;
use crate::files::{
    BrowseError, Browser, ChunkRecord, JobFolder, SeenChunk, Stage, existing_output_directory,
    input_directory, read_events,
};
use crate::format::{counted, line};
use crate::ground::unusable_directory;
use crate::happening::Happening;
use crate::output;
use crate::report_chunk;
use crate::run_error::RunError;
use crate::trace_url::TraceUrl;

/// What is told of a text in JSON, in characters.
const LONGEST_TEXT: usize = 20_000;
/// Beside a run a file may be replaced between two looks.
const TRIES: usize = 3;

/// A chunk as it is told.
#[derive(Debug, Serialize)]
pub(crate) struct ShownChunk {
    pub(crate) document: String,
    pub(crate) chunk: u32,
    pub(crate) status: &'static str,
    /// The beginning, if it is long; absent where no file has it any more.
    pub(crate) text: Option<String>,
    /// Of the whole text.
    pub(crate) text_characters: Option<usize>,
    /// Whether the chunk file has another text by now.
    pub(crate) text_changed: bool,
    pub(crate) pairs: Vec<Pair>,
    /// How it came about.
    pub(crate) record: Option<ChunkRecord>,
    pub(crate) trace_url: Option<String>,
}

/// Shows what is wanted.
pub(crate) fn show(config: &ShowConfig) -> Result<ExitCode, RunError> {
    let base = std::env::current_dir().map_err(RunError::files)?;
    let directory =
        input_directory(&existing_output_directory(&config.qa_dir, &base), &base, "Q&A files", "--qa-dir")
            .map_err(unusable_directory)?
            .path;
    let browser = Browser::open(&directory, last_chunks_dir(&directory)).map_err(RunError::files)?;
    let mut printer = Printer { json: config.json, url: config.trace_url.clone(), printed: 0 };
    match &config.wanted {
        WantedChunks::Of { document, chunk } => {
            let names = browser.documents().map_err(RunError::files)?;
            let name = document_names::find(document, &names)
                .map_err(|near| unknown(document, &near, names.len(), &directory))?;
            show_document(&browser, name, *chunk, &mut printer)?;
        }
        WantedChunks::Random { number, seed } => {
            let seed = seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
            let chosen = choose(&browser, *number as usize, seed)?;
            if !config.json {
                let count = counted(chosen.len() as u64, "completed chunk");
                output::text(&format!("{count} by --seed {seed}\n "))?;
            }
            for (name, chunk) in chosen {
                show_document(&browser, &name, Some(chunk), &mut printer)?;
            }
        }
    }
    printer.end()?;
    Ok(ExitCode::Success)
}

/// Where the last run read chunk files, by the event log.
fn last_chunks_dir(directory: &Path) -> Option<PathBuf> {
    let mut last = None;
    let read = read_events(JobFolder::of(directory).path(), |line| {
        if let Happening::RunStarted(beginning) = line.what {
            last = Some(beginning.chunks_dir).filter(|path| !path.is_empty());
        }
    });
    if let Err(error) = read {
        tracing::debug!(%error, "the event log does not tell where the chunk files are");
    }
    last.map(PathBuf::from)
}

fn unknown(asked: &str, near: &[&str], documents: usize, directory: &Path) -> RunError {
    let near: Vec<_> = near.iter().map(|name| format!("`{}`", line(name, 120))).collect();
    let hint = match near.as_slice() {
        [] if documents == 0 => "there is none in it: check --qa-dir".to_owned(),
        [] => "`qa-coordinator status` lists them".to_owned(),
        near => format!("did you mean {}?", near.join(" or ")),
    };
    let message = format!("no document `{}` in `{}`; {hint}", line(asked, 120), directory.display());
    RunError::new(ExitCode::Configuration, message)
}

fn show_document(
    browser: &Browser,
    name: &DocumentName,
    only: Option<u32>,
    printer: &mut Printer,
) -> Result<(), RunError> {
    let mut open = browser.document(name).map_err(RunError::files)?;
    let chunks = open.chunks();
    let wanted = match only {
        Some(chunk) if chunk >= chunks => {
            let message = match chunks {
                0 => format!("document `{}` has no chunks", line(name.as_str(), 120)),
                1 => format!("document `{}` has one chunk, 0", line(name.as_str(), 120)),
                _ => format!("document `{}` has chunks 0 to {}", line(name.as_str(), 120), chunks - 1),
            };
            return Err(RunError::new(ExitCode::Configuration, message));
        }
        Some(chunk) => chunk..chunk + 1,
        None => 0..chunks,
    };
    for chunk in wanted {
        let mut tries = 0;
        let seen = loop {
            tries += 1;
            match open.read(chunk) {
                Ok(seen) => break seen,
                // A segment of the journal is gone: by now the Q&A file has what was in it.
                Err(BrowseError::Journal(_) | BrowseError::File(_)) if tries < TRIES => {
                    open = browser.document(name).map_err(RunError::files)?;
                }
                Err(error) => return Err(RunError::files(error)),
            }
        };
        printer.print(name, seen)?;
    }
    Ok(())
}

/// Chunks with pairs, chosen by the seed whatever the order in which they come.
fn choose(browser: &Browser, number: usize, seed: u64) -> Result<Vec<(DocumentName, u32)>, RunError> {
    let mut chosen: BTreeMap<TextHash, (DocumentName, u32)> = BTreeMap::new();
    let each = |name: &DocumentName, chunk: u32| {
        let rank = TextHash::of(&format!("{seed} {chunk} {name}"));
        if chosen.len() >= number && chosen.last_key_value().is_some_and(|(last, _)| rank >= *last) {
            return;
        }
        chosen.insert(rank, (name.clone(), chunk));
        if chosen.len() > number {
            chosen.pop_last();
        }
    };
    let unreadable = |error| tracing::warn!("left out: {error}");
    browser.each_completed(each, unreadable).map_err(RunError::files)?;
    Ok(chosen.into_values().collect())
}

/// Prints chunks as they come.
struct Printer {
    json: bool,
    url: Option<TraceUrl>,
    printed: u64,
}

impl Printer {
    fn print(&mut self, name: &DocumentName, seen: SeenChunk) -> Result<(), RunError> {
        let trace_id = seen.record.as_ref().and_then(|record| record.trace_id.as_deref());
        let trace_url = self.url.as_ref().zip(trace_id).and_then(|(url, id)| url.link(id));
        let shown = ShownChunk {
            document: name.to_string(),
            chunk: seen.chunk,
            status: match seen.stage {
                Stage::Completed => "completed",
                Stage::Failed => "failed",
                Stage::Outstanding => "outstanding",
            },
            text_characters: seen.text.as_ref().map(|text| text.chars().count()),
            text: seen.text.map(|text| text.chars().take(LONGEST_TEXT).collect()),
            text_changed: seen.is_changed,
            pairs: seen.pairs,
            record: seen.record,
            trace_url,
        };
        self.printed += 1;
        if self.json {
            let before = if self.printed == 1 { "[\n" } else { ",\n" };
            output::write_json(&format!("{before}{}", output::json_text(&shown)?))
        } else {
            let before = if self.printed == 1 { "" } else { "\n" };
            output::write(before)?;
            output::text(&report_chunk::chunk(&shown))
        }
    }

    fn end(&self) -> Result<(), RunError> {
        match (self.json, self.printed) {
            (true, 0) => output::write_json("[]\n"),
            (true, _) => output::write_json("\n]\n"),
            (false, 0) => output::text("nothing to show"),
            (false, _) => Ok(()),
        }
    }
}
