//! Where a run reads and writes, and the lock that makes it the only one there.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use qa_shared::console::Console;
use qa_shared::queue::LockId;
use qa_shared::settings::{Environment, Origin};

use crate::cli_generate::GenerateArgs;
use crate::config::{self, GenerateConfig, Output};
use crate::config_job;
use crate::config_settings::CHUNKS_DIR;
use crate::exit::ExitCode;
use crate::files::{
    Combine, Directory, DirectoryError, DirectoryLock, Holder, JobFolder, JobFolderError, NewDirectories,
    QaDirectory, check_output, check_summary, claim_output, existing_output_directory,
    future_output_directory, input_directory, needed_directory, output_directory, qa_directory,
};
use crate::plan_input::Places;
use crate::run_error::RunError;

/// The places of a run.
pub(crate) struct Ground {
    pub(crate) chunks_dir: PathBuf,
    pub(crate) qa_dir: PathBuf,
    pub(crate) combined_file: PathBuf,
    pub(crate) folder: JobFolder,
    new: NewDirectories,
    lock: DirectoryLock,
    /// Other directories into which the run writes.
    others: Vec<PathBuf>,
}

impl Ground {
    /// Takes away what was made for a run that did nothing; whether there was anything.
    pub(crate) fn leave_nothing(&self) -> bool {
        leave_nothing(&self.new, &self.folder)
    }

    /// Removes what killed processes left unfinished wherever the run writes. To be called once the job is this run's.
    pub(crate) fn clean_up(&self) -> Result<(), RunError> {
        self.folder.clean_up(self.others.iter().map(PathBuf::as_path)).map_err(RunError::files)
    }

    /// What tells the lock of this directory from all others.
    pub(crate) fn lock_id(&self) -> Option<LockId> {
        self.lock.identity(&self.qa_dir)
    }

    /// The same for the plan.
    pub(crate) fn places(&self) -> Places<'_> {
        Places {
            chunks_dir: &self.chunks_dir,
            qa_dir: &self.qa_dir,
            combined_file: &self.combined_file,
            folder: &self.folder,
        }
    }
}

/// The environment with what the job keeps, where a job is resumed: its settings hold where neither flag nor
/// variable says anything.
pub(crate) fn with_resumed_job(
    args: &GenerateArgs,
    environment: Environment,
) -> Result<Environment, RunError> {
    with_job_of(config::resumed_directory(args, &environment), environment)
}

/// The environment with what the job of a directory keeps, if there is one.
pub(crate) fn with_job_of(asked: Option<PathBuf>, environment: Environment) -> Result<Environment, RunError> {
    let Some(asked) = asked else { return Ok(environment) };
    let base = std::env::current_dir().map_err(RunError::files)?;
    let Some(folder) = JobFolder::open(&existing_output_directory(&asked, &base)) else {
        return Ok(environment);
    };
    let Some(job) = folder.load_job().map_err(unusable_folder)? else { return Ok(environment) };
    Ok(environment.with_job(config_job::values_of(&job, &folder.job_path())))
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
    let new = new_directories(config, &base);
    let prepared = prepare_within(config, host, console, &base);
    match prepared {
        Ok(ground) => Ok(Ground { new, ..ground }),
        Err(error) => {
            new.remove();
            Err(error)
        }
    }
}

/// What the directories of a run would add to the file system.
fn new_directories(config: &GenerateConfig, base: &Path) -> NewDirectories {
    let output = &config.output;
    let below_data = |path: &Path| path.file_name().map(|name| base.join("data").join(name));
    let combined = output.combined_file.parent();
    let qa_dirs = [Some(output.qa_dir.clone()), below_data(&output.qa_dir)];
    let paths = qa_dirs.into_iter().flatten().flat_map(|path| [JobFolder::of(&path).path().to_owned(), path]);
    let paths = paths.chain(combined.map(Path::to_owned)).chain(combined.and_then(below_data));
    let paths: Vec<_> = paths.chain(config.log_dir.clone()).collect();
    NewDirectories::before(paths.iter().map(PathBuf::as_path))
}

fn leave_nothing(new: &NewDirectories, folder: &JobFolder) -> bool {
    let is_new = new.contains(folder.path());
    if is_new {
        folder.discard();
    }
    new.remove();
    is_new
}

fn prepare_within(
    config: &GenerateConfig,
    host: &str,
    console: &Console,
    base: &Path,
) -> Result<Ground, RunError> {
    let chunks = input_directory(&config.chunks_dir, base, "chunk files", "--chunks-dir")
        .map_err(unusable_directory)?;
    let qa = qa_directory(&wanted_directory(config, &chunks, true), base).map_err(unusable_directory)?;
    let (combined_file, combined_note) = combined_file(&config.output, &qa)?;
    for note in [&chunks.note, &qa.note, &combined_note].into_iter().flatten() {
        console.say(&format!("note: {note}"));
    }
    let is_new = !JobFolder::of(&qa.path).path().exists();
    let folder = JobFolder::create(&qa.path).map_err(unusable_folder)?;
    let lock = folder.lock_for_run(&Holder::of("generate", host.to_owned())).map_err(unusable_folder)?;
    // Everything that the end of the run needs is shown to work now, and not after a run of days.
    let claimed = claim(config, &qa.path, &folder, &combined_file);
    if claimed.is_err() && is_new {
        folder.discard();
    }
    claimed?;
    let new = NewDirectories::default();
    let others =
        combined_file.parent().map(Path::to_owned).into_iter().chain(config.log_dir.clone()).collect();
    Ok(Ground { chunks_dir: chunks.path, qa_dir: qa.path, combined_file, folder, new, lock, others })
}

/// Shows that the places of the run can be written, and that the combined file is ours to replace.
fn claim(
    config: &GenerateConfig,
    qa_dir: &Path,
    folder: &JobFolder,
    combined_file: &Path,
) -> Result<(), RunError> {
    prove_places(config, folder, combined_file)?;
    check_summary(qa_dir)?;
    claim_output(&Combine {
        qa_directory: qa_dir,
        output: combined_file,
        unfinished: &BTreeSet::new(),
        overwrite: config.output.overwrite,
        generated_at: "",
    })?;
    Ok(())
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

pub(crate) fn unusable_folder(error: JobFolderError) -> RunError {
    match error {
        JobFolderError::Locked { .. } => RunError::new(ExitCode::Held, error),
        JobFolderError::Linked { .. } => RunError::new(ExitCode::Configuration, error),
        _ => RunError::files(error),
    }
}

/// The places of a run that does not take place.
pub(crate) struct FutureGround {
    pub(crate) chunks_dir: PathBuf,
    pub(crate) qa_dir: PathBuf,
    pub(crate) combined_file: PathBuf,
    pub(crate) notes: Vec<String>,
}

/// Finds the directories and makes the same complaints as [`prepare`], but changes nothing.
pub(crate) fn look(config: &GenerateConfig) -> Result<FutureGround, RunError> {
    let base = std::env::current_dir().map_err(RunError::files)?;
    let chunks = input_directory(&config.chunks_dir, &base, "chunk files", "--chunks-dir")
        .map_err(unusable_directory)?;
    let output = &config.output;
    let qa = qa_directory(&wanted_directory(config, &chunks, false), &base).map_err(unusable_directory)?;
    let qa_dir = qa.path;
    let name = output.combined_file.file_name().unwrap_or(OsStr::new("training_data.json"));
    let combined_file = match output.combined_file.parent() {
        Some(parent) if parent == output.qa_dir => qa_dir.join(name),
        Some(parent) if !parent.as_os_str().is_empty() => moved_with(output, &qa_dir, &base)
            .unwrap_or_else(|| future_output_directory(parent, &base))
            .join(name),
        Some(_) | None => base.join(name),
    };
    check_summary(&qa_dir)?;
    check_output(&Combine {
        qa_directory: &qa_dir,
        output: &combined_file,
        unfinished: &BTreeSet::new(),
        overwrite: output.overwrite,
        generated_at: "",
    })?;
    Ok(FutureGround {
        chunks_dir: chunks.path,
        qa_dir,
        combined_file,
        notes: [chunks.note, qa.note].into_iter().flatten().collect(),
    })
}

/// Where the combined file goes: a directory that had to give way takes the file with it.
pub(crate) fn combined_file(output: &Output, qa: &Directory) -> Result<(PathBuf, Option<String>), RunError> {
    let base = std::env::current_dir().map_err(RunError::files)?;
    let parent = output.combined_file.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = match parent {
        Some(parent) if parent == output.qa_dir => Directory { path: qa.path.clone(), note: None },
        Some(parent) => {
            let moved = moved_with(output, &qa.path, &base);
            let directory = moved.as_deref().unwrap_or(parent);
            let made = output_directory(directory, &base, "--output-file").map_err(unusable_directory)?;
            let note = moved.map(|path| format!("the combined file goes to `{}` too", path.display()));
            Directory { note: made.note.or(note), ..made }
        }
        None => Directory { path: base, note: None },
    };
    let name = output.combined_file.file_name().unwrap_or(OsStr::new("training_data.json"));
    Ok((directory.path.join(name), directory.note))
}

/// What decides where Q&A files go.
fn wanted_directory<'a>(config: &'a GenerateConfig, chunks: &'a Directory, make: bool) -> QaDirectory<'a> {
    let mut sources = config.common.sources.iter();
    let chunks_is_flag =
        sources.any(|source| source.setting == CHUNKS_DIR.name() && matches!(source.origin, Origin::Flag(_)));
    QaDirectory {
        asked: &config.output.qa_dir,
        is_flag: config.output.qa_dir_is_flag,
        chunks: &chunks.path,
        chunks_is_flag,
        make,
    }
}

/// The directory of a combined file that goes with Q&A files that had to leave `/data`.
fn moved_with(output: &Output, qa_dir: &Path, base: &Path) -> Option<PathBuf> {
    let parent = output.combined_file.parent()?;
    let has_moved = qa_dir != output.qa_dir && !output.combined_is_flag && parent.starts_with("/data");
    has_moved.then(|| base.join("data").join(parent.file_name().unwrap_or_default()))
}

/// The exit code of a directory that cannot be used.
pub(crate) fn unusable_directory(error: DirectoryError) -> RunError {
    match &error {
        DirectoryError::NoInput { .. } | DirectoryError::OldOutput { .. } => {
            RunError::new(ExitCode::Configuration, error)
        }
        DirectoryError::Output { .. } => RunError::files(error),
    }
}
