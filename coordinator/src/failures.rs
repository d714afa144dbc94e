//! The `failures` command: what failed and why, from the files alone. It writes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;

use crate::config::FailuresConfig;
use crate::exit::ExitCode;
use crate::failure_groups::{Grouped, Groups};
use crate::files::{
    JobFolder, Journalled, RecordStatus, beats, each_record, existing, existing_output_directory,
    failure_log_paths, find_qa_files, input_directory, journalled, load_summary, read_failures,
};
use crate::ground::unusable_directory;
use crate::output;
use crate::report_failures;
use crate::run_error::RunError;
use crate::trace_url::TraceUrl;

/// Everything that is told.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Failures {
    pub(crate) directory: String,
    #[serde(flatten)]
    pub(crate) grouped: Grouped,
    /// Documents that the last run could not process at all, with the reason.
    pub(crate) failed_documents: BTreeMap<String, String>,
    /// Documents with failed chunks.
    pub(crate) documents: u64,
    /// Files that cannot be read, with the reason.
    pub(crate) unreadable: Vec<String>,
    /// Lines of the failure log that cannot be read.
    pub(crate) unreadable_lines: u64,
    /// Where the failure log is.
    pub(crate) failure_logs: Vec<String>,
}

/// Shows the failures of a directory.
pub(crate) fn show(config: &FailuresConfig) -> Result<ExitCode, RunError> {
    let base = std::env::current_dir().map_err(RunError::files)?;
    let directory =
        input_directory(&existing_output_directory(&config.qa_dir, &base), &base, "Q&A files", "--qa-dir")
            .map_err(unusable_directory)?;
    let failures = read(&directory.path, config.trace_url.clone())?;
    if config.json {
        output::json(&failures)?;
    } else {
        output::text(&report_failures::failures(&failures))?;
    }
    Ok(ExitCode::Success)
}

fn read(directory: &Path, url: Option<TraceUrl>) -> Result<Failures, RunError> {
    let folder = JobFolder::of(directory);
    let mut groups = Groups::new(url);
    let mut found = Failures { directory: directory.display().to_string(), ..Failures::default() };
    let mut documents = BTreeSet::new();
    // Before the Q&A files: what the journal lets go of meanwhile is in them.
    let job = folder.load_job().map_err(RunError::files)?;
    let mut newer = match &job {
        Some(job) => journalled(folder.path(), &job.job, None).map_err(RunError::files)?,
        None => Journalled::new(),
    };
    for file in find_qa_files(directory).map_err(RunError::files)?.files {
        let read = each_record(&file.path, |record| {
            let key = (file.name.clone(), record.chunk);
            let record = match newer.remove(&key) {
                Some(other) if beats(&other.record, &record) => *other.record,
                Some(_) | None => record,
            };
            if record.status == RecordStatus::Failed {
                documents.insert(file.name.clone());
                groups.hear_record(file.name.as_str(), &record);
            }
        });
        if let Err(error) = read {
            found.unreadable.push(error.to_string());
        }
    }
    for ((document, _), other) in newer {
        if other.record.status == RecordStatus::Failed {
            groups.hear_record(document.as_str(), &other.record);
            documents.insert(document);
        }
    }
    found.unreadable_lines =
        read_failures(folder.path(), |failure| groups.hear_line(failure)).map_err(RunError::files)?;
    found.failure_logs = existing(&failure_log_paths(folder.path()));
    found.grouped = groups.into_grouped();
    found.failed_documents = load_summary(directory).map(|run| run.failed_documents).unwrap_or_default();
    found.documents = documents.len() as u64;
    Ok(found)
}
