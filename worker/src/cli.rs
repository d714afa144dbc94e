//! The command line of `qa-worker`. Syntax only: values are texts that [`crate::config`] checks, so that all
//! mistakes are reported at once. No `Debug` here: flags may hold secrets.

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use qa_shared::settings::args::{CommonArgs, NatsArgs};
use qa_shared::settings::variables::{self, Program};

use crate::exit::ExitCode;

/// Generates question-answer pairs with your Ollama servers for the coordinators of a fleet
///
/// It connects to NATS, looks at its Ollama servers and works for every job that needs a model they have,
/// until it is stopped. Start as many workers as you like; they may come and go at any time.
#[derive(Parser, Clone)]
#[command(
    name = "qa-worker",
    version,
    max_term_width = 110,
    args_conflicts_with_subcommands = true,
    after_help = "Try --help for the environment variables and exit codes.",
    after_long_help = format!("{}\n\n{}", variables::help(Program::Worker), ExitCode::table())
)]
pub struct Cli {
    /// Print completions for a shell instead of working.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Which servers, how hard, how long.
    #[command(flatten)]
    pub serving: ServingArgs,
    /// Which tasks.
    #[command(flatten)]
    pub choice: ChoiceArgs,
    /// How the queue is reached.
    #[command(flatten)]
    pub nats: NatsArgs,
    /// Flags of every command.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// What else the program can do.
#[derive(Subcommand, Clone)]
pub enum Command {
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// Which tasks a worker takes.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Tasks")]
pub struct ChoiceArgs {
    /// Serve these models only, separated by commas; NAME=SERVED serves NAME with SERVED [env: QA_MODELS]
    #[arg(long, value_name = "LIST")]
    pub models: Vec<String>,
    /// Take tasks of this pool only; may be repeated [env: QA_POOL]
    #[arg(long, value_name = "NAME")]
    pub pool: Vec<String>,
}

/// Which LLM servers are worked for, and within which limits. The coordinator's local mode has these too.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Ollama servers")]
pub struct ServingArgs {
    /// Address of an Ollama server; repeat it or separate several by commas [env: OLLAMA_BASE_URL]
    /// [default: http://127.0.0.1:11434]
    #[arg(long, value_name = "URL")]
    pub ollama_base_url: Vec<String>,
    /// Requests in flight per server: one number, or one per server separated by commas
    /// [env: QA_CONCURRENCY] [default: 2]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub concurrency: Option<String>,
    /// Pull models that are wanted and not there
    #[arg(long)]
    pub pull: bool,
    /// How long running tasks may finish after a stop [env: QA_DRAIN_TIMEOUT] [default: 30s]
    #[arg(long, value_name = "DURATION", allow_negative_numbers = true)]
    pub drain_timeout: Option<String>,
    /// How long a task may take with all its attempts [env: QA_TASK_TIMEOUT] [default: 30m]
    #[arg(long, value_name = "DURATION", allow_negative_numbers = true)]
    pub task_timeout: Option<String>,
    /// How long one model call may take [env: QA_REQUEST_TIMEOUT] [default: 10m]
    #[arg(long, value_name = "DURATION", allow_negative_numbers = true)]
    pub request_timeout: Option<String>,
    /// How long a model call may stall between two tokens [env: QA_IDLE_TIMEOUT] [default: 2m]
    #[arg(long, value_name = "DURATION", allow_negative_numbers = true)]
    pub idle_timeout: Option<String>,
    /// Model calls per task at most, 1 to 20 [env: QA_ATTEMPTS] [default: 3]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub attempts: Option<String>,
}
