//! The `combine` command: Q&A files in, one training file out.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;

use qa_shared::console::{Console, LAST_LINES};

use crate::config::CombineConfig;
use crate::exit::ExitCode;
use crate::files::{
    Combine, DirectoryLock, Holder, JobFolder, JobFolderError, combine, existing_output_directory,
    input_directory, now, remove_unfinished,
};
use crate::format::counted;
use crate::ground::{combined_file, unusable_directory, unusable_folder};
use crate::output;
use crate::run_error::RunError;

/// Combines and tells what was left out.
pub(crate) fn combine_command(config: &CombineConfig, console: &Console) -> Result<ExitCode, RunError> {
    let base = std::env::current_dir().map_err(RunError::files)?;
    let qa = input_directory(
        &existing_output_directory(&config.output.qa_dir, &base),
        &base,
        "Q&A files",
        "--qa-dir",
    )
    .map_err(unusable_directory)?;
    let (output, note) = combined_file(&config.output, &qa)?;
    let order = Combine {
        qa_directory: &qa.path,
        output: &output,
        unfinished: &BTreeSet::new(),
        overwrite: config.output.overwrite,
        generated_at: &now(),
    };
    let _lock = lock(&qa.path)?;
    if let Some(Err(error)) = output.parent().map(remove_unfinished) {
        tracing::debug!(%error, "unfinished files of killed processes may stay");
    }
    let report = combine(order)?;
    if !config.common.logs.quiet {
        for note in [&qa.note, &note, &report.note].into_iter().flatten() {
            console.say(&format!("note: {note}"));
        }
        for (file, status) in &report.skipped {
            console.say(&format!("left out: {file} has status {status}"));
        }
        for (file, reason) in &report.unreadable {
            console.say(&format!("unreadable: {file}: {reason}"));
        }
        console.say(&format!(
            "combined {} with {} into {}",
            counted(report.combined.len() as u64, "document"),
            counted(report.pairs, "pair"),
            output.display()
        ));
    }
    if config.json {
        let json = serde_json::json!({
            "combined_file": output,
            "documents": report.combined,
            "pairs": report.pairs,
            "text_columns": report.text_columns,
            "skipped": report.skipped.iter().map(|(file, status)| serde_json::json!({"file": file, "status": status})).collect::<Vec<_>>(),
            "unreadable": report.unreadable.iter().map(|(file, reason)| serde_json::json!({"file": file, "reason": reason})).collect::<Vec<_>>(),
        });
        console.flush(LAST_LINES);
        output::json(&json)?;
    }
    Ok(if report.unreadable.is_empty() { ExitCode::Success } else { ExitCode::Failures })
}

/// Keeps runs out while the files are read. A directory that nothing of ours was written to has no lock; in one that
/// cannot be written nothing changes.
fn lock(qa_directory: &Path) -> Result<Option<DirectoryLock>, RunError> {
    let Some(folder) = JobFolder::open(qa_directory) else { return Ok(None) };
    match folder.lock(&Holder::of("combine", qa_shared::host::name())) {
        Ok(lock) => Ok(Some(lock)),
        Err(JobFolderError::File(error))
            if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) =>
        {
            Ok(None)
        }
        Err(error @ JobFolderError::Locked { .. }) => {
            let message = format!("{error}; a run combines its documents by itself when it is finished");
            Err(RunError::new(ExitCode::Held, message))
        }
        Err(error) => Err(unusable_folder(error)),
    }
}
