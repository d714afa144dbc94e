//! The checked configuration of each command.
//!
//! Flags, environment, env file and defaults go in, one value per command comes out, or every mistake at
//! once. It must not connect to anything, nor look at the directories that it names.

use std::path::{Path, PathBuf};
use std::time::Duration;

use qa_shared::model::{GenerationSettings, JobId, PoolName};
use qa_shared::queue::Timing;
use qa_shared::settings::args::TelemetryArgs;
use qa_shared::settings::{
    Environment, LogSettings, Mistake, NatsSettings, Note, Origin, Reader, Source, TelemetrySettings,
    read_model_table, read_timing,
};
use qa_worker::config::Serving;

use crate::cli::{CancelArgs, CombineArgs, ForgetArgs, StatusArgs};
use crate::cli_generate::GenerateArgs;
pub use crate::config_budget::BudgetConfig;
pub use crate::config_error::ConfigError;
pub use crate::config_look::{FailuresConfig, PromptConfig, ShowConfig, WantedChunks};
pub use crate::config_place::{FleetPlace, LocalPlace, Place};
pub use crate::config_run::{RunSettings, Sample, Start};
use crate::config_settings::{INTERVAL, JOB, LOG_DIR, ON_FINISH, OUTPUT_FILE, PURGE, QA_DIR, TRACE_URL};
use crate::resume_command::ResumeCommand;
use crate::trace_url::TraceUrl;
use crate::{config_budget, config_generation, config_place, config_run, config_settings};

/// The combined file's name in a `--qa-dir` that is given.
const COMBINED_FILE_NAME: &str = "training_data.json";

/// `generate`
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateConfig {
    /// Where the chunk files are. A `/data/...` path may have to give way to `./data/...`.
    pub chunks_dir: PathBuf,
    /// Where Q&A files and combined file go.
    pub output: Output,
    /// What decides what pairs look like; travels with each task.
    pub settings: GenerationSettings,
    /// Where tasks go.
    pub pool: PoolName,
    /// Which chunks, and when to stop.
    pub run: RunSettings,
    /// What it may cost.
    pub budget: BudgetConfig,
    /// Where the work is done.
    pub place: Place,
    /// A second place for the log of unusable answers.
    pub log_dir: Option<PathBuf>,
    /// The user's own command at the end.
    pub on_finish: Option<String>,
    /// Where traces can be looked at.
    pub trace_url: Option<TraceUrl>,
    /// Whether the summary is printed as JSON.
    pub json: bool,
    /// The command line that goes on with the job.
    pub again: ResumeCommand,
    /// What every command has.
    pub common: Common,
}

/// `combine`
#[derive(Debug, Clone, PartialEq)]
pub struct CombineConfig {
    /// Where Q&A files are read and the combined file goes.
    pub output: Output,
    /// Whether the summary is printed as JSON.
    pub json: bool,
    /// What every command has.
    pub common: Common,
}

/// `status`
#[derive(Debug, Clone, PartialEq)]
pub struct StatusConfig {
    /// Where the Q&A files are.
    pub qa_dir: PathBuf,
    /// Whether a flag names that directory: then it must be there.
    pub qa_dir_is_flag: bool,
    /// How the queue is reached; without it, only what the files tell (and a local run's own queue).
    pub nats: Option<NatsSettings>,
    /// How often it is shown; once if absent.
    pub watch: Option<Duration>,
    /// Whether it is printed as JSON.
    pub json: bool,
    /// What every command has.
    pub common: Common,
}

/// `cancel`
#[derive(Debug, Clone, PartialEq)]
pub struct CancelConfig {
    /// Which job.
    pub target: CancelTarget,
    /// Whether everything of it is removed from the queue.
    pub purge: bool,
    /// How the queue is reached; always there when the target is an id.
    pub nats: Option<NatsSettings>,
    /// What every command has.
    pub common: Common,
}

/// `forget`
#[derive(Debug, Clone, PartialEq)]
pub struct ForgetConfig {
    /// Which job.
    pub job: JobId,
    /// How the queue is reached; always there.
    pub nats: Option<NatsSettings>,
    /// What every command has.
    pub common: Common,
}

/// The job to cancel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CancelTarget {
    /// The job of this output directory.
    Directory(PathBuf),
    /// The job with this id.
    Job(JobId),
}

/// Where Q&A files and combined file are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Directory of the Q&A files. A `/data/...` path may have to give way to `./data/...`.
    pub qa_dir: PathBuf,
    /// Whether a flag names that directory.
    pub qa_dir_is_flag: bool,
    /// The combined file.
    pub combined_file: PathBuf,
    /// Whether a flag names that file.
    pub combined_is_flag: bool,
    /// Whether a combined file of another Q&A directory may be replaced.
    pub overwrite: bool,
}

/// What every command has.
#[derive(Debug, Clone, PartialEq)]
pub struct Common {
    /// What is logged, and how.
    pub logs: LogSettings,
    /// What is sent to a collector.
    pub telemetry: TelemetrySettings,
    /// How patient the queue is.
    pub timing: Timing,
    /// The env file that was read.
    pub env_file: Option<PathBuf>,
    /// What is worth telling before the work starts.
    pub notes: Vec<Note>,
    /// Which value came from where; secrets as `***`.
    pub sources: Vec<Source>,
}

impl GenerateConfig {
    /// Checks everything at once.
    pub fn read(args: &GenerateArgs, environment: &Environment) -> Result<Self, ConfigError> {
        let mut reader = Reader::new(environment);
        let logs = LogSettings::read(&mut reader, &args.common);
        let chunks_dir = reader.path(&config_settings::CHUNKS_DIR, args.files.chunks_dir.as_deref());
        let output = read_output(
            &mut reader,
            args.files.qa_dir.as_deref(),
            args.files.output_file.as_deref(),
            args.files.overwrite,
        );
        let chosen = config_generation::read_provider(&mut reader, &args.generation, &args.serving);
        let table = read_model_table(&mut reader, args.budget.model_table.as_deref());
        let place = config_place::read(&mut reader, args, chosen.provider, table.clone());
        let generation = config_generation::read(&mut reader, &args.generation, &chosen, &place);
        let pool = config_place::read_pool(&mut reader, args.place.pool.as_deref(), &generation.settings);
        config_generation::note_model(&mut reader, &generation.settings, &place, &table);
        let budget = config_budget::read(&mut reader, &args.budget, &generation.settings, &place, table);
        let config = Self {
            chunks_dir: chunks_dir.unwrap_or_default(),
            output,
            budget,
            settings: generation.settings,
            pool,
            run: config_run::read(&mut reader, &args.run),
            place,
            log_dir: reader.path(&LOG_DIR, None),
            on_finish: reader.text(&ON_FINISH, args.run.on_finish.as_deref()).map(|found| found.value),
            trace_url: read_trace_url(&mut reader),
            json: args.run.json,
            again: ResumeCommand::default(),
            common: Common::with_telemetry(&mut reader, logs, &args.telemetry),
        };
        let again = ResumeCommand::read(&reader, args, &config.place);
        let config = Self { again, ..config };
        let missing = generation.missing;
        match reader.finish(config) {
            Ok((mut config, notes, sources)) => {
                config.common.tell(notes, sources);
                Ok(config)
            }
            Err(mistakes) => {
                let servers = Serving::base_urls(environment, &args.serving);
                Err(ConfigError::new(mistakes, missing, servers))
            }
        }
    }
}

impl CombineConfig {
    /// Checks everything at once.
    pub fn read(args: &CombineArgs, environment: &Environment) -> Result<Self, ConfigError> {
        let mut reader = Reader::new(environment);
        let logs = LogSettings::read(&mut reader, &args.common);
        let (qa_dir, output_file) = (args.qa_dir.as_deref(), args.output_file.as_deref());
        let output = read_output(&mut reader, qa_dir, output_file, args.overwrite);
        let config = Self { output, json: args.json, common: Common::new(&mut reader, logs) };
        let (mut config, notes, sources) = reader.finish(config)?;
        config.common.tell(notes, sources);
        Ok(config)
    }
}

impl StatusConfig {
    /// Checks everything at once.
    pub fn read(args: &StatusArgs, environment: &Environment) -> Result<Self, ConfigError> {
        let mut reader = Reader::new(environment);
        let logs = LogSettings::read(&mut reader, &args.common);
        if args.interval.is_some() && !args.watch {
            reader.mistake(
                Mistake::new(&INTERVAL, "it only counts together with --watch").remedy("add --watch"),
            );
        }
        let interval = reader.duration(&INTERVAL, args.interval.as_deref());
        let config = Self {
            qa_dir: reader.path(&QA_DIR, args.qa_dir.as_deref()).unwrap_or_default(),
            qa_dir_is_flag: args.qa_dir.as_deref().is_some_and(|dir| !dir.trim().is_empty()),
            nats: NatsSettings::read(&mut reader, &args.nats),
            watch: args.watch.then_some(interval),
            json: args.json,
            common: Common::new(&mut reader, logs),
        };
        let (mut config, notes, sources) = reader.finish(config)?;
        config.common.tell(notes, sources);
        Ok(config)
    }
}

impl CancelConfig {
    /// Checks everything at once.
    pub fn read(args: &CancelArgs, environment: &Environment) -> Result<Self, ConfigError> {
        let mut reader = Reader::new(environment);
        let logs = LogSettings::read(&mut reader, &args.common);
        let nats = NatsSettings::read(&mut reader, &args.nats);
        let job = read_job(&mut reader, args.job.as_deref());
        if args.purge && nats.is_none() {
            let mistake = Mistake::new(&PURGE, "it removes the job from a NATS server, and none is named");
            reader.mistake(mistake.remedy("add --nats-url URL, or leave it out"));
        }
        if args.job.is_some() && args.qa_dir.is_some() {
            reader.mistake(Mistake::new(&JOB, "--qa-dir names a job too").remedy("keep one of them"));
        }
        if args.job.is_some() && nats.is_none() {
            let mistake = Mistake::new(&JOB, "a job can be found by its id on a NATS server only");
            reader.mistake(mistake.remedy("add --nats-url URL, or name its directory with --qa-dir"));
        }
        let target = match job {
            Some(job) => CancelTarget::Job(job),
            None => CancelTarget::Directory(reader.path(&QA_DIR, args.qa_dir.as_deref()).unwrap_or_default()),
        };
        let config = Self { target, purge: args.purge, nats, common: Common::new(&mut reader, logs) };
        let (mut config, notes, sources) = reader.finish(config)?;
        config.common.tell(notes, sources);
        Ok(config)
    }
}

impl ForgetConfig {
    /// Checks everything at once.
    pub fn read(args: &ForgetArgs, environment: &Environment) -> Result<Self, ConfigError> {
        let mut reader = Reader::new(environment);
        let logs = LogSettings::read(&mut reader, &args.common);
        let nats = NatsSettings::read(&mut reader, &args.nats);
        if nats.is_none() {
            let mistake = Mistake::new(NatsSettings::url_setting(), "no NATS server is named");
            reader.mistake(mistake.remedy("add --nats-url URL"));
        }
        let job = read_job(&mut reader, args.job.as_deref());
        if args.job.is_none() {
            let mistake = Mistake::new(&JOB, "no job is named");
            reader.mistake(mistake.remedy("add --job ID; `status` with --nats-url lists the jobs"));
        }
        let job = job.unwrap_or_else(|| JobId::from_random(0));
        let config = Self { job, nats, common: Common::new(&mut reader, logs) };
        let (mut config, notes, sources) = reader.finish(config)?;
        config.common.tell(notes, sources);
        Ok(config)
    }
}

fn read_job(reader: &mut Reader<'_>, flag: Option<&str>) -> Option<JobId> {
    let expected = "a job id of 12 lowercase hexadecimal digits, as `status` shows it";
    reader.parsed(&JOB, flag, expected, |text| text.parse().ok())
}

impl Common {
    pub(crate) fn new(reader: &mut Reader<'_>, logs: LogSettings) -> Self {
        Self::with_telemetry(reader, logs, &TelemetryArgs::default())
    }

    /// The same for a command that has flags for it.
    fn with_telemetry(reader: &mut Reader<'_>, logs: LogSettings, telemetry: &TelemetryArgs) -> Self {
        let env_file = reader.environment().env_file().map(Path::to_owned);
        Self {
            logs,
            telemetry: TelemetrySettings::read_with(reader, telemetry),
            timing: read_timing(reader),
            env_file,
            notes: Vec::new(),
            sources: Vec::new(),
        }
    }

    pub(crate) fn tell(&mut self, notes: Vec<Note>, sources: Vec<Source>) {
        self.notes = notes;
        self.sources = sources;
    }
}

/// The directory of the Q&A files, of a command that only looks.
pub(crate) fn directory(flag: Option<&str>, environment: &Environment) -> Option<PathBuf> {
    Reader::new(environment).path(&QA_DIR, flag)
}

/// The directory whose job a command line resumes; what is wrong with it is said when all settings are read.
pub(crate) fn resumed_directory(args: &GenerateArgs, environment: &Environment) -> Option<PathBuf> {
    let mut reader = Reader::new(environment);
    if !config_run::resumes(&mut reader, &args.run) {
        return None;
    }
    reader.path(&QA_DIR, args.files.qa_dir.as_deref())
}

pub(crate) fn read_trace_url(reader: &mut Reader<'_>) -> Option<TraceUrl> {
    reader.parsed(&TRACE_URL, None, TraceUrl::EXPECTED, TraceUrl::parse)
}

/// Directory and combined file. A directory that is named, wherever that is, is meant for the combined file too.
/// A file counts where it is named with the directory or by what beats it: a flag beats the environment, the
/// environment the env file. Otherwise it belongs to another directory.
fn read_output(
    reader: &mut Reader<'_>,
    qa_dir_flag: Option<&str>,
    output_file_flag: Option<&str>,
    overwrite: bool,
) -> Output {
    let found = reader.word(&QA_DIR, qa_dir_flag);
    let origin = found.as_ref().map_or(Origin::Default, |found| found.origin.clone());
    let qa_dir = PathBuf::from(found.map(|found| found.value).unwrap_or_default());
    let flag_is_given = output_file_flag.is_some_and(|file| !file.trim().is_empty());
    let variable = reader.is_set(&OUTPUT_FILE).filter(|_| !flag_is_given);
    let counts = flag_is_given || variable.as_ref().is_some_and(|found| found.rank() >= origin.rank());
    let kept = reader.in_job(&OUTPUT_FILE).filter(|_| !counts);
    let combined_file = if counts {
        reader.path(&OUTPUT_FILE, output_file_flag).unwrap_or_default()
    } else if let Some(kept) = kept {
        reader.note_source(&OUTPUT_FILE, &kept);
        qa_dir.join(&kept.value)
    } else if origin == Origin::Default {
        reader.path(&OUTPUT_FILE, None).unwrap_or_default()
    } else {
        qa_dir.join(COMBINED_FILE_NAME)
    };
    if let Some(variable) = variable.filter(|_| !counts) {
        let named = match &origin {
            Origin::Environment(name) | Origin::File { variable: name, .. } => name,
            Origin::Flag(_) | Origin::Job(_) | Origin::Default => "--qa-dir",
        };
        reader.note(format!(
            "the combined file goes to {}: {named} is given, so the path {variable} does not count (set it \
             with --output-file)",
            combined_file.display()
        ));
    }
    Output {
        qa_dir,
        qa_dir_is_flag: matches!(origin, Origin::Flag(_)),
        combined_file,
        combined_is_flag: flag_is_given,
        overwrite,
    }
}
