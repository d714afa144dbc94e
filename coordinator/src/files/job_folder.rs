//! The hidden folder in an output directory in which the job keeps itself: settings, lock, journal, logs,
//! progress, and previous versions of what it replaced.
//!
//! It says where these are and guards them; what a journal entry or a progress figure means is not its
//! business.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use qa_shared::model::{GenerationSettings, JobId, PoolName};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::atomic::{AtomicFile, remove_unfinished, sync_directory, write_file};
use super::pretty::pretty;
use super::{FileError, KeptSettings};
use crate::core::Spent;

/// The folder's name in the output directory.
pub const FOLDER: &str = ".qa-fleet";

/// The version of `job.json` that this program writes and reads.
const VERSION: u32 = 1;

/// Why a job folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JobFolderError {
    /// The file system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// Written by a newer program.
    #[error(
        "`{}` has version {found}, this program reads version {VERSION}: use the newer program, or --restart \
         for a new job",
        path.display()
    )]
    Version {
        /// `job.json`.
        path: PathBuf,
        /// Its version.
        found: u64,
    },
    /// Not what this program writes.
    #[error("`{}` is damaged ({problem}): restore it from a backup, or use --restart for a new job", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The folder is somewhere else, where another output directory may have its own.
    #[error(
        "`{}` is a link: a job belongs to one output directory, and a folder that two share would mix theirs; put \
         the folder itself there, or link the whole output directory",
        path.display()
    )]
    Linked {
        /// The link.
        path: PathBuf,
    },
    /// Another program works in the directory.
    #[error(
        "another program is working in `{}`: {holder}; wait for it, stop it, or choose another --qa-dir",
        directory.display()
    )]
    Locked {
        /// The output directory.
        directory: PathBuf,
        /// Who, as far as it told.
        holder: String,
    },
}

/// `job.json`: the durable identity of the work on an output directory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobFile {
    /// The format's version, [`JobFile::new`] knows it.
    pub version: u32,
    /// The job.
    pub job: JobId,
    /// When it was made, see [`super::naive_local`].
    pub created: String,
    /// The pool that its tasks go to.
    pub pool: PoolName,
    /// The settings in force.
    pub settings: GenerationSettings,
    /// Model calls that a queued task may make; absent where the job has no budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls_per_task: Option<u32>,
    /// What the job keeps besides; absent where an earlier version of this program wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<KeptSettings>,
    /// What else is kept with the job, and what another version wrote.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl JobFile {
    /// A new job.
    pub fn new(job: JobId, created: String, pool: PoolName, settings: GenerationSettings) -> Self {
        Self {
            version: VERSION,
            job,
            created,
            pool,
            settings,
            calls_per_task: None,
            kept: None,
            other: Map::new(),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Account {
    job: JobId,
    spent: Spent,
}

/// A job folder. Reading from it needs no lock; everything that writes takes a [`super::DirectoryLock`] first.
#[derive(Debug, Clone)]
pub struct JobFolder {
    directory: PathBuf,
    folder: PathBuf,
}

impl JobFolder {
    /// The folder of an output directory, if there is one.
    pub fn open(qa_directory: &Path) -> Option<Self> {
        let folder = Self::of(qa_directory);
        folder.folder.is_dir().then_some(folder)
    }

    /// The folder of an output directory, made where it is missing.
    pub fn create(qa_directory: &Path) -> Result<Self, JobFolderError> {
        let folder = Self::of(qa_directory);
        if folder.folder.is_symlink() {
            return Err(JobFolderError::Linked { path: folder.folder });
        }
        fs::create_dir_all(&folder.folder).map_err(FileError::during("create", &folder.folder))?;
        sync_directory(qa_directory)?;
        Ok(folder)
    }

    /// The folder of an output directory, whether or not it is there.
    pub fn of(qa_directory: &Path) -> Self {
        Self { directory: qa_directory.to_owned(), folder: qa_directory.join(FOLDER) }
    }

    /// Removes what killed processes left unfinished here and in these other directories. The caller holds the
    /// directory's lock and the job's lease.
    pub fn clean_up<'a>(&self, others: impl IntoIterator<Item = &'a Path>) -> Result<(), FileError> {
        remove_unfinished(&self.directory)?;
        remove_unfinished(&self.folder)?;
        for directory in others {
            if let Err(error) = remove_unfinished(directory) {
                tracing::debug!(%error, "unfinished files may stay");
            }
        }
        Ok(())
    }

    /// Removes the folder of a run that made it and did nothing, while that holds the lock. Folders in it stay, and the
    /// folder with them: `--restart` may already have put old files there. A private queue that nothing was published to
    /// goes too.
    pub fn discard(&self) {
        drop(fs::remove_dir_all(self.nats_path()));
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_file()) {
                drop(fs::remove_file(entry.path()));
            }
        }
        drop(fs::remove_dir(&self.folder));
    }

    /// The job that is kept here, if any.
    pub fn load_job(&self) -> Result<Option<JobFile>, JobFolderError> {
        let path = self.job_path();
        let Some(job) = read_json::<Value>(&path)? else { return Ok(None) };
        let damaged = |problem: String| JobFolderError::Damaged { path: path.clone(), problem };
        match job.get("version").and_then(Value::as_u64) {
            Some(version) if version == u64::from(VERSION) => {}
            Some(found) if found > u64::from(VERSION) => return Err(JobFolderError::Version { path, found }),
            _ => return Err(damaged("it has no version".to_owned())),
        }
        serde_json::from_value(job).map(Some).map_err(|error| damaged(error.to_string()))
    }

    /// Keeps the job, durably.
    pub fn save_job(&self, job: &JobFile) -> Result<(), JobFolderError> {
        let text = pretty(job, 0).expect("a job has text keys");
        Ok(write_file(&self.job_path(), &text)?)
    }

    /// Publishes progress figures for `status`: whole for every reader, but not waited for.
    pub fn save_progress<T: Serialize>(&self, progress: &T) -> Result<(), JobFolderError> {
        let mut file = AtomicFile::create(&self.progress_path())?;
        file.put(&pretty(progress, 0).expect("progress has text keys"))?;
        Ok(file.commit_unsynced()?)
    }

    /// The last progress figures; `None` where there are none that can be read.
    pub fn load_progress<T: DeserializeOwned>(&self) -> Result<Option<T>, JobFolderError> {
        read_json(&self.progress_path())
    }

    /// Keeps the account of a job, durably.
    pub fn save_spent(&self, job: &JobId, spent: &Spent) -> Result<(), FileError> {
        let account = Account { job: job.clone(), spent: *spent };
        write_file(&self.spent_path(), &pretty(&account, 0).expect("an account has text keys"))
    }

    /// The account of a job; `None` where there is none, or another job's.
    pub fn load_spent(&self, job: &JobId) -> Result<Option<Spent>, JobFolderError> {
        let account: Option<Account> = read_json(&self.spent_path())?;
        Ok(account.filter(|account| account.job == *job).map(|account| account.spent))
    }

    /// The folder itself; the journal's segments and the failure log lie in it.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// The output directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// `job.json`.
    pub fn job_path(&self) -> PathBuf {
        self.folder.join("job.json")
    }

    /// `progress.json`.
    pub fn progress_path(&self) -> PathBuf {
        self.folder.join("progress.json")
    }

    /// `spent.json`: every result that was paid for is in it before it is in the journal, so that nothing
    /// that happens to records or journal takes spending away. After a crash a result may be in it twice.
    pub fn spent_path(&self) -> PathBuf {
        self.folder.join("spent.json")
    }

    /// `documents.json`: the documents that the job has.
    pub(super) fn documents_path(&self) -> PathBuf {
        self.folder.join("documents.json")
    }

    /// What a coordinator at work holds.
    pub(super) fn running_path(&self) -> PathBuf {
        self.folder.join("running")
    }

    /// Where replaced files are kept.
    pub fn previous_path(&self) -> PathBuf {
        self.folder.join("previous")
    }

    /// Where the private nats-server of local mode keeps its streams.
    pub fn nats_path(&self) -> PathBuf {
        self.folder.join("nats")
    }
}

pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, JobFolderError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(FileError::during("read", path)(error).into()),
    };
    let damaged = |error: serde_json::Error| JobFolderError::Damaged {
        path: path.to_owned(),
        problem: error.to_string(),
    };
    serde_json::from_slice(&text).map(Some).map_err(damaged)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Holder;
    use super::super::fixtures::settings;
    use super::*;

    fn holder() -> Holder {
        Holder::of("generate", "gpu1".into())
    }

    fn job() -> JobFile {
        let pool = PoolName::new("ollama/qwen3:14b");
        JobFile::new(JobId::from_random(5), "2026-11-23T03:11:32.979477".into(), pool, settings())
    }

    #[test]
    fn a_job_survives_with_the_fields_of_others() {
        let output = qa_shared::testing::temporary_folder();
        assert!(JobFolder::open(output.path()).is_none());
        let folder = JobFolder::create(output.path()).unwrap();
        assert_eq!(folder.load_job().unwrap(), None);
        let mut job = job();
        job.other.insert("sample".into(), json!({"seed": 7}));
        folder.save_job(&job).unwrap();
        assert_eq!(JobFolder::open(output.path()).unwrap().load_job().unwrap(), Some(job));
    }

    #[test]
    fn a_newer_version_is_refused_even_where_nothing_else_is_understood() {
        let output = qa_shared::testing::temporary_folder();
        let folder = JobFolder::create(output.path()).unwrap();
        fs::write(folder.job_path(), r#"{"version": 2, "jobs": []}"#).unwrap();
        let error = folder.load_job().unwrap_err();
        assert!(matches!(error, JobFolderError::Version { found: 2, .. }), "{error}");
        for text in ["", "{}", r#"{"version": 1}"#] {
            fs::write(folder.job_path(), text).unwrap();
            let error = folder.load_job().unwrap_err();
            assert!(matches!(error, JobFolderError::Damaged { .. }), "{error}");
        }
    }

    #[test]
    fn what_killed_processes_left_goes_also_where_the_output_file_is() {
        let output = qa_shared::testing::temporary_folder();
        let folder = JobFolder::create(output.path()).unwrap();
        let other = qa_shared::testing::temporary_folder();
        let places = [output.path(), folder.path(), other.path()];
        let left = places.map(|place| place.join(".qa-fleet.tmp-1-x"));
        for path in &left {
            fs::write(path, "half").unwrap();
        }
        folder.clean_up([other.path(), Path::new("/nowhere")]).unwrap();
        assert!(left.iter().all(|path| !path.exists()));
    }

    #[test]
    fn a_discarded_folder_is_gone_unless_something_of_worth_is_in_it() {
        for keeps in [false, true] {
            let output = qa_shared::testing::temporary_folder();
            let folder = JobFolder::create(output.path()).unwrap();
            let _lock = folder.lock(&holder()).unwrap();
            folder.save_job(&job()).unwrap();
            if keeps {
                fs::create_dir(folder.previous_path()).unwrap();
                fs::write(folder.previous_path().join("a_qa.json"), "{}").unwrap();
            }
            folder.discard();
            assert_eq!(folder.path().exists(), keeps);
            assert_eq!(folder.previous_path().join("a_qa.json").exists(), keeps);
        }
    }

    #[test]
    fn progress_is_replaced_whole() {
        let output = qa_shared::testing::temporary_folder();
        let folder = JobFolder::create(output.path()).unwrap();
        assert_eq!(folder.load_progress::<Value>().unwrap(), None);
        for done in [1, 2] {
            folder.save_progress(&json!({"done": done})).unwrap();
        }
        assert_eq!(folder.load_progress::<Value>().unwrap(), Some(json!({"done": 2})));
    }
}
