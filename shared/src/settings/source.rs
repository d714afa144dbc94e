//! Where values come from: the process environment, captured once, and the env file.
//!
//! The process environment is never changed. What a value means is not decided here.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use super::env_file::{self, EnvFile};
use super::errors::Mistake;
use super::setting::Setting;
use super::variables::{ALL, Variable};

/// Where a value was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A flag, such as `--model`.
    Flag(&'static str),
    /// A variable of the process environment.
    Environment(&'static str),
    /// A variable in the env file.
    File {
        /// The variable.
        variable: &'static str,
        /// The file as the user knows it.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
    /// Nowhere today: the job keeps it, in this file.
    Job(PathBuf),
    /// Nowhere: the program's own default.
    Default,
}

impl Origin {
    /// Its precedence: a value of a higher rank wins.
    pub fn rank(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::Job(_) => 1,
            Self::File { .. } => 2,
            Self::Environment(_) => 3,
            Self::Flag(_) => 4,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(_) => f.write_str("on the command line"),
            Self::Environment(variable) => write!(f, "in {variable} (environment)"),
            Self::File { variable, path, line } => write!(f, "in {variable} ({}:{line})", path.display()),
            Self::Job(path) => write!(f, "in the job ({})", path.display()),
            Self::Default => f.write_str("by default"),
        }
    }
}

/// A value and where it was found.
#[derive(Clone, PartialEq, Eq)]
pub struct Found {
    /// The text as it was written.
    pub value: String,
    /// Where.
    pub origin: Origin,
}

/// The environment of this process and its env file, as they were at start.
#[derive(Clone, Default)]
pub struct Environment {
    process: BTreeMap<String, OsString>,
    file: Option<EnvFile>,
    mistakes: Vec<Mistake>,
    job: Option<JobValues>,
}

/// What a job keeps of its settings: it holds where neither flag nor variable says anything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobValues {
    path: PathBuf,
    values: BTreeMap<&'static str, String>,
}

impl JobValues {
    /// Nothing yet, kept in this file.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), values: BTreeMap::new() }
    }

    /// Keeps the value of the setting with this name, in the notation of its flag.
    pub fn keep(&mut self, setting: &'static str, value: impl Into<String>) {
        self.values.insert(setting, value.into());
    }
}

impl Environment {
    /// Captures the environment of this process.
    pub fn capture() -> Self {
        #[expect(clippy::disallowed_methods, reason = "this is the one place")]
        let process = std::env::vars_os()
            .filter_map(|(name, value)| name.into_string().ok().map(|name| (name, value)))
            .collect();
        Self { process, ..Self::default() }
    }

    /// An environment for a test.
    pub fn from_pairs<N: Into<String>, V: Into<OsString>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let process = pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { process, ..Self::default() }
    }

    /// Reads the env file: `explicit`, or else the first of `config.env` and `.env` in `directory`. What is
    /// wrong with it is reported together with all other mistakes.
    #[must_use]
    pub fn with_env_file(mut self, explicit: Option<&Path>, directory: &Path) -> Self {
        let process = |name: &str| self.process.get(name).map(|value| value.to_string_lossy().into_owned());
        let (file, mistakes) = env_file::find(explicit, directory, &process);
        self.file = file;
        self.mistakes = mistakes;
        self
    }

    /// The env file that was read.
    pub fn env_file(&self) -> Option<&Path> {
        self.file.as_ref().map(EnvFile::path)
    }

    /// What is wrong with the env file.
    pub(super) fn mistakes(&self) -> &[Mistake] {
        &self.mistakes
    }

    /// Names in the env file that nobody reads and that look like a slip of the pen, each with what it should
    /// probably be. The file may hold variables of other programs: those look different.
    pub(super) fn likely_slips(&self) -> Vec<String> {
        const FEW: usize = 2;
        let Some(file) = &self.file else { return Vec::new() };
        let is_known = |name: &str| ALL.iter().any(|variable| variable.name() == name);
        let unknown = file.names().filter(|(name, _)| !is_known(name));
        let slips = unknown.filter_map(|(name, line)| {
            let near =
                ALL.iter().map(|variable| (strsim::osa_distance(name, variable.name()), variable.name()));
            let (distance, meant) = near.min()?;
            let text =
                format!("{}:{line}: {name} is not a setting; did you mean {meant}?", file.path().display());
            (distance <= FEW).then_some(text)
        });
        slips.collect()
    }

    /// With the values of the job that is resumed.
    #[must_use]
    pub fn with_job(mut self, job: JobValues) -> Self {
        self.job = Some(job);
        self
    }

    /// What the job keeps of a setting.
    pub(super) fn in_job(&self, setting: &Setting) -> Option<Found> {
        let job = self.job.as_ref()?;
        let value = job.values.get(setting.name())?.clone();
        Some(Found { value, origin: Origin::Job(job.path.clone()) })
    }

    /// Whether a job is resumed.
    pub(super) fn has_job(&self) -> bool {
        self.job.is_some()
    }

    /// The search path for programs.
    pub fn search_path(&self) -> Option<OsString> {
        self.process.get("PATH").cloned()
    }

    /// A variable that says what the terminal can do or shall do, such as `TERM` or `NO_COLOR`. They are none of our
    /// settings: they hold for all programs of a terminal, and not in our env file.
    pub(super) fn terminal_variable(&self, name: &str) -> Option<String> {
        self.process.get(name).map(|value| value.to_string_lossy().into_owned())
    }

    /// Looks a setting up: flag, process environment, env file, job. A flag that is empty or a placeholder asks
    /// for the default; such a value of a variable counts as unset.
    pub(super) fn find(&self, setting: &Setting, flag: Option<&str>) -> Result<Option<Found>, Mistake> {
        match self.find_given(setting, flag)? {
            None if flag.is_none() => Ok(self.in_job(setting)),
            found => Ok(found),
        }
    }

    /// The same without the job.
    pub(super) fn find_given(&self, setting: &Setting, flag: Option<&str>) -> Result<Option<Found>, Mistake> {
        if let Some(value) = flag {
            let found = Found { value: value.to_owned(), origin: Origin::Flag(setting.name()) };
            return Ok((!counts_as_unset(value)).then_some(found));
        }
        for variable in setting.variables() {
            if let Some(found) = self.in_process(setting, variable)? {
                return Ok(Some(found));
            }
        }
        Ok(setting.variables().iter().find_map(|variable| self.in_file(variable)))
    }

    fn in_process(&self, setting: &Setting, variable: &'static Variable) -> Result<Option<Found>, Mistake> {
        let Some(value) = self.process.get(variable.name()) else { return Ok(None) };
        let Some(value) = value.to_str() else {
            let problem = format!("the value of {} in the environment is not UTF-8 text", variable.name());
            return Err(Mistake::new(setting, problem).remedy("set it again in a UTF-8 terminal"));
        };
        let found = Found { value: value.to_owned(), origin: Origin::Environment(variable.name()) };
        Ok((!counts_as_unset(value)).then_some(found))
    }

    fn in_file(&self, variable: &'static Variable) -> Option<Found> {
        let file = self.file.as_ref()?;
        let (value, line) = file.get(variable.name())?;
        let origin = Origin::File { variable: variable.name(), path: file.path().to_owned(), line };
        (!counts_as_unset(value)).then(|| Found { value: value.to_owned(), origin })
    }
}

/// Empty values and placeholders such as `your_openai_api_key_here`.
fn counts_as_unset(value: &str) -> bool {
    let value = value.trim().to_ascii_lowercase();
    value.is_empty() || (value.starts_with("your_") && value.ends_with("_here"))
}
