//! The command line of `qa-coordinator`. Syntax only: values are texts that [`crate::config`] checks, so
//! that all mistakes are reported at once. No `Debug` here: flags may hold secrets.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use qa_shared::settings::args::{CommonArgs, NatsArgs};
use qa_shared::settings::variables::{self, Program};

use crate::cli_generate::GenerateArgs;
use crate::cli_look::{FailuresArgs, ShowArgs};
use crate::exit::ExitCode;

fn tail() -> String {
    format!("{}\n\n{}", variables::help(Program::Coordinator), ExitCode::table())
}

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
        after_help = "Try --help for the environment variables and exit codes.",
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
    Cancel(CancelArgs),
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
    /// How the queue is reached.
    #[command(flatten)]
    pub nats: NatsArgs,
    /// Flags of every command.
    #[command(flatten)]
    pub common: CommonArgs,
}

impl Cli {
    /// Reads a command line. Whoever forgot `generate`, which the Python program does not have, is told.
    pub fn read(line: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let line: Vec<_> = line.into_iter().collect();
        Self::try_parse_from(&line).map_err(|mut error| {
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
