//! The command line of `qa-coordinator`. Syntax only: values are texts that [`crate::config`] checks, so
//! that all mistakes are reported at once. No `Debug` here: flags may hold secrets.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;
use qa_shared::settings::args::{CommonArgs, NatsArgs};
use qa_shared::settings::variables::{self, Program};

use crate::cli_generate::GenerateArgs;
use crate::cli_look::{FailuresArgs, PromptArgs, ShowArgs};
use crate::exit::ExitCode;

/// The end of a long help.
fn tail() -> String {
    format!("All other flags, and the variables: qa-coordinator help settings\n\n{}", ExitCode::table())
}

/// Flags of `generate` that its help leaves out, by their names in the code; `help settings` has them all.
const RARE: [&str; 27] = [
    "overwrite",
    "reasoning",
    "ollama_top_k",
    "ollama_top_p",
    "ollama_repeat_penalty",
    "ollama_num_predict",
    "ollama_num_ctx",
    "ollama_keep_alive",
    "ollama_stop",
    "batch_processing",
    "no_resume",
    "no_speculation",
    "seed",
    "max_failure_rate",
    "model_table",
    "nats_server",
    "pool",
    "nats_token",
    "account_concurrency",
    "requests_per_minute",
    "tokens_per_minute",
    "drain_timeout",
    "task_timeout",
    "request_timeout",
    "idle_timeout",
    "attempts",
    "metrics_listen",
];

/// Turns chunk files into question-answer training data, on this machine or on a fleet of workers
///
/// `generate` reads NAME_chunks.json files, has a model write question-answer pairs for every chunk, and
/// writes one NAME_qa.json per document and one combined training file. It can be stopped and resumed at any
/// moment.
#[derive(Parser, Clone)]
#[command(
    name = "qa-coordinator",
    version,
    max_term_width = 110,
    arg_required_else_help = true,
    after_help = "Start with: qa-coordinator generate --provider local --model MODEL --chunks-dir DIR --qa-dir DIR",
    after_long_help = tail()
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Subcommand, Clone)]
pub enum Command {
    /// Generate the pairs of all chunk files: the main job
    #[command(
        after_help = "Try --help for more about each flag and for the exit codes.",
        after_long_help = tail()
    )]
    Generate(Box<GenerateArgs>),
    /// Combine the finished Q&A files of a directory into one training file
    Combine(CombineArgs),
    /// Show a job: run, what happened, documents, queue, workers
    ///
    /// It works while a coordinator runs and without one. What happened in this run and those before (who was lost
    /// and back, outages, stalls, how it ended and how to go on) comes from the files. Queue and workers are shown where a NATS server is
    /// known.
    Status(StatusArgs),
    /// Show what failed and why: chunks and answers by reason, model and host, with what to do
    Failures(FailuresArgs),
    /// Show chunks with their text, their pairs and how they came about
    ///
    /// It works while a coordinator runs and without one.
    Show(ShowArgs),
    /// Stop a job from anywhere: its tasks are dropped, its documents stay resumable
    ///
    /// A job whose coordinator was killed leaves nothing on the queue server then if it is named with --job, or with
    /// --purge. A resume asks again for what no coordinator has received.
    Cancel(CancelArgs),
    /// Remove what a dead job has left on a queue server; status lists it
    ///
    /// Tasks, results that no coordinator has received, consumers, notes and the job's entry. The files stay: a resume asks for
    /// what they do not hold. Refused while a coordinator works for the job.
    Forget(ForgetArgs),
    /// Show the prompt: the built-in one, or what is sent for a chunk
    Prompt(Box<PromptArgs>),
    /// List every flag of `generate` and every variable
    Settings,
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Run a nats-server that ends when standard input is closed
    #[command(hide = true)]
    NatsSupervisor {
        /// The nats-server program
        server: PathBuf,
        /// Its configuration file
        config: PathBuf,
        /// The file that keeps a second server away from the same store
        lock: PathBuf,
    },
}

/// `combine`
#[derive(Args, Clone, Default)]
pub struct CombineArgs {
    /// Directory of the Q&A files [env: GENERATOR_OUTPUT_DIR] [default: /data/qa_results]
    #[arg(long, value_name = "DIR")]
    pub qa_dir: Option<String>,
    /// The combined file [env: GENERATOR_OUTPUT_FILE] [default: training_data.json in a --qa-dir that is
    /// given, else /data/results/training_data.json]
    #[arg(long, value_name = "PATH")]
    pub output_file: Option<String>,
    /// Replace a combined file that belongs to another Q&A directory
    #[arg(long)]
    pub overwrite: bool,
    /// Print the summary as JSON on standard output
    #[arg(long)]
    pub json: bool,
    /// Flags of every command.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// `status`
#[derive(Args, Clone, Default)]
pub struct StatusArgs {
    /// Directory of the Q&A files [env: GENERATOR_OUTPUT_DIR] [default: /data/qa_results]
    #[arg(long, value_name = "DIR")]
    pub qa_dir: Option<String>,
    /// Show it again and again until stopped
    #[arg(short, long)]
    pub watch: bool,
    /// How often with --watch [default: 2s]
    #[arg(long, value_name = "DURATION", allow_negative_numbers = true)]
    pub interval: Option<String>,
    /// Print JSON; with --watch one object per line
    #[arg(long)]
    pub json: bool,
    /// How the queue is reached.
    #[command(flatten)]
    pub nats: NatsArgs,
    /// Flags of every command.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// `cancel`
#[derive(Args, Clone, Default)]
pub struct CancelArgs {
    /// Stop the job of this directory [env: GENERATOR_OUTPUT_DIR] [default: /data/qa_results]
    #[arg(long, value_name = "DIR")]
    pub qa_dir: Option<String>,
    /// Stop the job with this id (see status); needs the address of the NATS server
    #[arg(long, value_name = "ID")]
    pub job: Option<String>,
    /// Also remove everything of the job from the queue server once its coordinator has ended, results that wait for a
    /// resume included
    #[arg(long)]
    pub purge: bool,
    /// How the queue is reached.
    #[command(flatten)]
    pub nats: NatsArgs,
    /// Flags of every command.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// `forget`
#[derive(Args, Clone, Default)]
pub struct ForgetArgs {
    /// The job's id (see status)
    #[arg(long, value_name = "ID")]
    pub job: Option<String>,
    /// How the queue is reached.
    #[command(flatten)]
    pub nats: NatsArgs,
    /// Flags of every command.
    #[command(flatten)]
    pub common: CommonArgs,
}

impl Cli {
    /// The command line as its help shows it: `generate --help` has the flags that are used often, `help settings`
    /// has all.
    pub fn shown() -> clap::Command {
        let hidden = |argument: clap::Arg| {
            let is_rare = RARE.contains(&argument.get_id().as_str());
            if is_rare { argument.hide_short_help(true).hide_long_help(true) } else { argument }
        };
        Self::command()
            .mut_subcommand("generate", |generate| generate.mut_args(hidden))
            .mut_subcommand("settings", |settings| settings.after_help(Self::settings_text()))
    }

    /// Every flag of `generate` and every variable.
    pub fn settings_text() -> String {
        let command = Self::command();
        let flags = command.find_subcommand("generate").map_or_else(String::new, |generate| {
            let mut generate = generate.clone().after_long_help("").help_template("{all-args}");
            generate.render_long_help().to_string()
        });
        format!("Flags of generate\n\n{}\n\n{}", flags.trim_end(), variables::help(Program::Coordinator))
    }

    /// Reads a command line. Whoever forgot `generate`, which the Python program does not have, is told.
    pub fn read(line: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let line: Vec<_> = line.into_iter().collect();
        let mut shown = Self::shown();
        let parsed = shown.try_get_matches_from_mut(&line).and_then(|mut matches| {
            Self::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut shown))
        });
        parsed.map_err(|mut error| {
            let starts_with_flag =
                line.get(1).and_then(|first| first.to_str()).is_some_and(|first| first.starts_with("--"));
            if starts_with_flag && error.kind() == ErrorKind::UnknownArgument {
                let tip = "the main job is a command of its own: qa-coordinator generate ...".to_owned();
                // Whatever clap suggests instead belongs to a command that was not named.
                error.remove(clap::error::ContextKind::SuggestedArg);
                error.insert(
                    clap::error::ContextKind::Suggested,
                    clap::error::ContextValue::StyledStrs(vec![tip.into()]),
                );
            }
            error
        })
    }
}
