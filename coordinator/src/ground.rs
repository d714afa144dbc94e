//! Where a run reads and writes, and the lock that makes it the only one there.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use qa_shared::console::Console;

use crate::config::{GenerateConfig, Output};
use crate::exit::ExitCode;
use crate::files::{
    Combine, Directory, DirectoryError, DirectoryLock, Holder, JobFolder, JobFolderError, check_output,
    claim_output, future_output_directory, input_directory, needed_directory, now, output_directory,
};
use crate::run_error::RunError;

/// The places of a run.
pub(crate) struct Ground {
    pub(crate) chunks_dir: PathBuf,
    pub(crate) qa_dir: PathBuf,
    pub(crate) combined_file: PathBuf,
    pub(crate) folder: JobFolder,
    _lock: DirectoryLock,
}

/// Whether there is anything to read, before anything is started for it.
pub(crate) fn check_input(config: &GenerateConfig) -> Result<(), RunError> {
    let base = std::env::current_dir().map_err(RunError::files)?;
    input_directory(&config.chunks_dir, &base, "chunk files", "--chunks-dir")
        .map(drop)
        .map_err(unusable_directory)
}

/// Finds or makes the directories and takes the lock.
pub(crate) fn prepare(config: &GenerateConfig, host: &str, console: &Console) -> Result<Ground, RunError> {
    let base = std::env::current_dir().map_err(RunError::files)?;
    let chunks = input_directory(&config.chunks_dir, &base, "chunk files", "--chunks-dir")
        .map_err(unusable_directory)?;
    let qa = output_directory(&config.output.qa_dir, &base, "--qa-dir").map_err(unusable_directory)?;
    let (combined_file, combined_note) = combined_file(&config.output, &qa)?;
    for note in [&chunks.note, &qa.note, &combined_note].into_iter().flatten() {
        console.say(&format!("note: {note}"));
    }
    let folder = JobFolder::create(&qa.path).map_err(unusable_folder)?;
    let holder = Holder { pid: std::process::id(), host: host.to_owned(), started: now() };
    let lock = folder.lock(&holder).map_err(unusable_folder)?;
    // Everything that the end of the run needs is shown to work now, and not after a run of days.
    prove_places(config, &folder, &combined_file)?;
    claim_output(&Combine {
        qa_directory: &qa.path,
        output: &combined_file,
        chunks_directory: None,
        overwrite: config.output.overwrite,
        generated_at: "",
    })?;
    Ok(Ground { chunks_dir: chunks.path, qa_dir: qa.path, combined_file, folder, _lock: lock })
}

fn prove_places(config: &GenerateConfig, folder: &JobFolder, combined_file: &Path) -> Result<(), RunError> {
    let combined = combined_file.parent().map(|directory| (directory, "--output-file"));
    let logs = config.log_dir.as_deref().map(|directory| (directory, "QA_LOG_DIR"));
    let places = [Some((folder.path(), "--qa-dir")), combined, logs];
    for (directory, setting) in places.into_iter().flatten() {
        needed_directory(directory, setting).map_err(unusable_directory)?;
    }
    Ok(())
}

fn unusable_folder(error: JobFolderError) -> RunError {
    match error {
        JobFolderError::Locked { .. } | JobFolderError::Linked { .. } => {
            RunError::new(ExitCode::Configuration, error)
        }
        _ => RunError::files(error),
    }
}

/// The places of a run that does not take place.
pub(crate) struct FutureGround {
    pub(crate) chunks_dir: PathBuf,
    pub(crate) qa_dir: PathBuf,
    pub(crate) notes: Vec<String>,
}

/// Finds the directories and makes the same complaints as [`prepare`], but changes nothing.
pub(crate) fn look(config: &GenerateConfig) -> Result<FutureGround, RunError> {
    let base = std::env::current_dir().map_err(RunError::files)?;
    let chunks = input_directory(&config.chunks_dir, &base, "chunk files", "--chunks-dir")
        .map_err(unusable_directory)?;
    let output = &config.output;
    let qa_dir = future_output_directory(&output.qa_dir, &base);
    let name = output.combined_file.file_name().unwrap_or(OsStr::new("training_data.json"));
    let combined_file = match output.combined_file.parent() {
        Some(parent) if parent == output.qa_dir => qa_dir.join(name),
        Some(parent) if !parent.as_os_str().is_empty() => future_output_directory(parent, &base).join(name),
        Some(_) | None => base.join(name),
    };
    check_output(&Combine {
        qa_directory: &qa_dir,
        output: &combined_file,
        chunks_directory: None,
        overwrite: output.overwrite,
        generated_at: "",
    })?;
    Ok(FutureGround { chunks_dir: chunks.path, qa_dir, notes: chunks.note.into_iter().collect() })
}

/// Where the combined file goes: a directory that had to give way takes the file with it.
pub(crate) fn combined_file(output: &Output, qa: &Directory) -> Result<(PathBuf, Option<String>), RunError> {
    let base = std::env::current_dir().map_err(RunError::files)?;
    let parent = output.combined_file.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = match parent {
        Some(parent) if parent == output.qa_dir => Directory { path: qa.path.clone(), note: None },
        Some(parent) => output_directory(parent, &base, "--output-file").map_err(unusable_directory)?,
        None => Directory { path: base, note: None },
    };
    let name = output.combined_file.file_name().unwrap_or(OsStr::new("training_data.json"));
    Ok((directory.path.join(name), directory.note))
}

/// The exit code of a directory that cannot be used.
pub(crate) fn unusable_directory(error: DirectoryError) -> RunError {
    match &error {
        DirectoryError::NoInput { .. } => RunError::new(ExitCode::Configuration, error),
        DirectoryError::Output { .. } => RunError::files(error),
    }
}
