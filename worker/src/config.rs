//! The checked configuration of a worker: what it serves, for whom, and within which limits.
//!
//! [`Serving`] is also what the coordinator's local mode hands to its in-process worker. It must not connect
//! to anything.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use qa_shared::model::{PoolName, Provider};
use qa_shared::model_table::ModelTable;
use qa_shared::queue::Timing;
use qa_shared::settings::{
    Address, Environment, LogSettings, Mistake, Mistakes, NatsSettings, Note, Reader, Setting, Source,
    TelemetrySettings, read_model_table, read_timing, values, variables,
};

use crate::cli::{Cli, ServingArgs};
use crate::config_servers::{
    self, ACCOUNT_CONCURRENCY, CONCURRENCY, OLLAMA_BASE_URL, OPENAI_BASE_URL, REQUESTS_PER_MINUTE,
    TOKENS_PER_MINUTE, joined,
};
pub use crate::config_servers::{ServerSettings, Slots, Wanted, is_key_set, set_elsewhere, ways_to_set_key};

static PULL: Setting = Setting::flag("--pull", None);
static DRAIN_TIMEOUT: Setting = Setting::new("--drain-timeout", &[&variables::QA_DRAIN_TIMEOUT]);
static TASK_TIMEOUT: Setting = Setting::new("--task-timeout", &[&variables::QA_TASK_TIMEOUT]);
static REQUEST_TIMEOUT: Setting = Setting::new("--request-timeout", &[&variables::QA_REQUEST_TIMEOUT]);
static IDLE_TIMEOUT: Setting = Setting::new("--idle-timeout", &[&variables::QA_IDLE_TIMEOUT]);
static ATTEMPTS: Setting = Setting::new("--attempts", &[&variables::QA_ATTEMPTS]);
static MODELS: Setting = Setting::new("--models", &[&variables::QA_MODELS]);
static POOL: Setting = Setting::new("--pool", &[&variables::QA_POOL]);

/// What a worker needs to know.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerConfig {
    /// How the queue is reached.
    pub nats: NatsSettings,
    /// Which servers, within which limits.
    pub serving: Serving,
    /// The only models that are served; all that the servers have when empty.
    pub models: Vec<ModelChoice>,
    /// The only pools whose tasks are taken; those of the models when empty.
    pub pools: Vec<PoolName>,
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
    /// Which value came from where.
    pub sources: Vec<Source>,
}

/// Which LLM servers are worked for, and within which limits.
#[derive(Debug, Clone, PartialEq)]
pub struct Serving {
    /// None twice; none at all where the one provider that is wanted has neither key nor address.
    pub servers: Vec<ServerSettings>,
    /// What differs from model to model.
    pub table: ModelTable,
    /// Whether models that are wanted and missing are pulled.
    pub pull: bool,
    /// How long running tasks may finish after a stop; may be zero.
    pub drain_timeout: Duration,
    /// How long a task may take with all its attempts.
    pub task_timeout: Duration,
    /// How long one model call may take.
    pub request_timeout: Duration,
    /// How long a model call may stall between two tokens.
    pub idle_timeout: Duration,
    /// Model calls per task at most.
    pub attempts: u32,
}

/// A model that is served, perhaps under another name than the server knows it by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelChoice {
    /// The name that jobs ask for.
    pub name: String,
    /// The name that the server knows.
    pub served: String,
}

impl WorkerConfig {
    /// Checks everything at once.
    pub fn read(cli: &Cli, environment: &Environment) -> Result<Self, Mistakes> {
        let mut reader = Reader::new(environment);
        let logs = LogSettings::read(&mut reader, &cli.common);
        let table = read_model_table(&mut reader, None);
        let serving = Serving::read(&mut reader, &cli.serving, &cli.providers, table, &Wanted::Configured);
        config_servers::refuse_unserved(&mut reader, &cli.providers, &serving.servers);
        let config = Self {
            nats: NatsSettings::read_or_local(&mut reader, &cli.nats),
            serving,
            models: read_models(&mut reader, &cli.choice.models),
            pools: read_pools(&mut reader, &cli.choice.pool),
            logs,
            telemetry: TelemetrySettings::read_with(&mut reader, &cli.telemetry),
            timing: read_timing(&mut reader),
            env_file: environment.env_file().map(PathBuf::from),
            notes: Vec::new(),
            sources: Vec::new(),
        };
        let (config, notes, sources) = reader.finish(config)?;
        Ok(Self { notes, sources, ..config })
    }
}

impl Serving {
    /// Reads and checks them. `providers` are those that `--providers` names.
    pub fn read(
        reader: &mut Reader<'_>,
        args: &ServingArgs,
        providers: &[String],
        table: ModelTable,
        wanted: &Wanted,
    ) -> Self {
        let drain = "a duration, such as 0, 30, 30s or 5m";
        let attempts = "a whole number from 1 to 20";
        Self {
            servers: config_servers::read(reader, args, providers, wanted),
            table,
            pull: reader.yes_or_no(&PULL, args.pull.then_some(true)),
            drain_timeout: reader
                .parsed(&DRAIN_TIMEOUT, args.drain_timeout.as_deref(), drain, values::duration)
                .unwrap_or_default(),
            task_timeout: reader.duration(&TASK_TIMEOUT, args.task_timeout.as_deref()),
            request_timeout: reader.duration(&REQUEST_TIMEOUT, args.request_timeout.as_deref()),
            idle_timeout: reader.duration(&IDLE_TIMEOUT, args.idle_timeout.as_deref()),
            attempts: reader
                .parsed(&ATTEMPTS, args.attempts.as_deref(), attempts, values::within(1..=20))
                .unwrap_or_default(),
        }
    }

    /// Makes every flag of these a mistake, where other processes do the serving.
    pub fn refuse_flags(reader: &mut Reader<'_>, args: &ServingArgs) {
        let given = [
            (&OLLAMA_BASE_URL, !args.ollama_base_url.is_empty()),
            (&OPENAI_BASE_URL, !args.openai_base_url.is_empty()),
            (&CONCURRENCY, args.concurrency.is_some()),
            (&ACCOUNT_CONCURRENCY, args.account_concurrency.is_some()),
            (&REQUESTS_PER_MINUTE, args.requests_per_minute.is_some()),
            (&TOKENS_PER_MINUTE, args.tokens_per_minute.is_some()),
            (&PULL, args.pull),
            (&DRAIN_TIMEOUT, args.drain_timeout.is_some()),
            (&TASK_TIMEOUT, args.task_timeout.is_some()),
            (&REQUEST_TIMEOUT, args.request_timeout.is_some()),
            (&IDLE_TIMEOUT, args.idle_timeout.is_some()),
            (&ATTEMPTS, args.attempts.is_some()),
        ];
        for (setting, _) in given.into_iter().filter(|(_, given)| *given) {
            let mistake = Mistake::new(setting, "with a NATS server the workers talk to the models")
                .remedy(format!("give {} to qa-worker, or use --local", setting.name()));
            reader.mistake(mistake);
        }
    }

    /// A server on the command line that the job's provider does not use is a mistake.
    pub fn refuse_others(reader: &mut Reader<'_>, args: &ServingArgs, provider: Provider) {
        let given = [
            (&OLLAMA_BASE_URL, !args.ollama_base_url.is_empty() && provider != Provider::Local),
            (&OPENAI_BASE_URL, !args.openai_base_url.is_empty() && provider != Provider::OpenAi),
        ];
        for (setting, _) in given.into_iter().filter(|(_, given)| *given) {
            let mistake = Mistake::new(setting, format!("the provider is {provider}, which does not use it"));
            reader.mistake(mistake.remedy("leave it out, or choose its provider with --provider"));
        }
    }

    /// The addresses of the Ollama servers, where only they are wanted (to look for models after a mistake).
    pub fn base_urls(environment: &Environment, args: &ServingArgs) -> Vec<Address> {
        config_servers::ollama_urls(&mut Reader::new(environment), &args.ollama_base_url)
    }
}

fn read_models(reader: &mut Reader<'_>, flags: &[String]) -> Vec<ModelChoice> {
    let Some(found) = reader.word(&MODELS, joined(flags).as_deref()) else { return Vec::new() };
    let mut names = HashSet::new();
    let mut models = Vec::new();
    for part in values::comma_list(&found.value) {
        let (name, served) = part.split_once('=').unwrap_or((part, part));
        let (name, served) = (name.trim(), served.trim());
        if name.is_empty() || served.is_empty() || served.contains('=') {
            reader.mistake(Mistake::value(
                &MODELS,
                &found,
                "model names or NAME=SERVED, separated by commas",
            ));
        } else if names.insert(name) {
            models.push(ModelChoice { name: name.to_owned(), served: served.to_owned() });
        } else {
            let problem = format!("the model {name} is named twice {}", found.origin);
            reader.mistake(Mistake::new(&MODELS, problem).remedy("name it once"));
        }
    }
    models
}

fn read_pools(reader: &mut Reader<'_>, flags: &[String]) -> Vec<PoolName> {
    let Some(found) = reader.word(&POOL, joined(flags).as_deref()) else { return Vec::new() };
    let mut pools: Vec<_> = values::comma_list(&found.value).into_iter().map(PoolName::new).collect();
    let mut seen = HashSet::new();
    pools.retain(|pool| seen.insert(pool.clone()));
    pools
}
