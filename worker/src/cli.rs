//! The command line of `qa-worker`. Syntax only: values are texts that [`crate::config`] checks, so that all
//! mistakes are reported at once. No `Debug` here: flags may hold secrets.

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use qa_shared::settings::args::{CommonArgs, NatsArgs, TelemetryArgs};
use qa_shared::settings::variables::{self, Program};

use crate::exit::ExitCode;

/// Generates question-answer pairs with your LLM servers for the coordinators of a fleet
///
/// It connects to NATS, looks at its servers (Ollama, any with OpenAI's API, and the services of OpenAI,
/// Anthropic and Google whose keys are set) and works for every job that needs a model they have, until it is
/// stopped. Start as many workers as you like; they may come and go at any time.
#[derive(Parser, Clone)]
#[command(
    name = "qa-worker",
    version,
    max_term_width = 110,
    args_conflicts_with_subcommands = true,
    after_help = "Try --help for more about each flag and for the exit codes.",
    after_long_help = format!("The variables: qa-worker help settings\n\n{}", ExitCode::table())
)]
pub struct Cli {
    /// Do something else than work.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Which servers, how hard, how long.
    #[command(flatten)]
    pub serving: ServingArgs,
    /// Serve these providers only, separated by commas: local, openai, claude, gemini [env: QA_PROVIDERS]
    #[arg(long, value_name = "LIST", help_heading = "LLM servers")]
    pub providers: Vec<String>,
    /// Which tasks.
    #[command(flatten)]
    pub choice: ChoiceArgs,
    /// How the queue is reached.
    #[command(flatten)]
    pub nats: NatsArgs,
    /// What it tells about itself.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
    /// Flags of every command.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// What else the program can do.
#[derive(Subcommand, Clone)]
pub enum Command {
    /// Look at every configured server and have it write one pair: what works, how fast, what is wrong
    Check(Box<CheckArgs>),
    /// List every variable
    #[command(after_help = variables::help(Program::Worker))]
    Settings,
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// What `check` looks at.
#[derive(Args, Clone, Default)]
pub struct CheckArgs {
    /// Print the findings as JSON on standard output
    #[arg(long)]
    pub json: bool,
    /// Address of an Ollama server; repeat it or separate several by commas [env: OLLAMA_BASE_URL]
    /// [default: http://127.0.0.1:11434]
    #[arg(long, value_name = "URL")]
    pub ollama_base_url: Vec<String>,
    /// Address of a server with OpenAI's API; repeat it or separate several by commas [env: OPENAI_BASE_URL]
    #[arg(long, value_name = "URL")]
    pub openai_base_url: Vec<String>,
    /// Look at these providers only, separated by commas: local, openai, claude, gemini [env: QA_PROVIDERS]
    #[arg(long, value_name = "LIST")]
    pub providers: Vec<String>,
    /// Try these models, separated by commas; what is loaded if none is named [env: QA_MODELS]
    #[arg(long, value_name = "LIST")]
    pub models: Vec<String>,
    /// How long the model call may take [env: QA_REQUEST_TIMEOUT] [default: 10m]
    #[arg(long, value_name = "DURATION", allow_negative_numbers = true)]
    pub request_timeout: Option<String>,
    /// Flags of every command.
    #[command(flatten)]
    pub common: CommonArgs,
}

impl Cli {
    /// The same with a command's own flags where the program's stand.
    #[must_use]
    pub fn flattened(self) -> Self {
        let Some(Command::Check(check)) = self.command else { return self };
        let CheckArgs { json, ollama_base_url, openai_base_url, providers, models, request_timeout, common } =
            *check;
        let serving =
            ServingArgs { ollama_base_url, openai_base_url, request_timeout, ..ServingArgs::default() };
        let command = Some(Command::Check(Box::new(CheckArgs { json, ..CheckArgs::default() })));
        let choice = ChoiceArgs { models, ..ChoiceArgs::default() };
        Self { command, serving, providers, choice, nats: self.nats, telemetry: self.telemetry, common }
    }
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
#[command(next_help_heading = "LLM servers")]
pub struct ServingArgs {
    /// Address of an Ollama server; repeat it or separate several by commas [env: OLLAMA_BASE_URL]
    /// [default: http://127.0.0.1:11434]
    #[arg(long, value_name = "URL")]
    pub ollama_base_url: Vec<String>,
    /// Address of a server with OpenAI's API, such as http://gpu1:8000/v1; repeat it or separate several by
    /// commas [env: OPENAI_BASE_URL]
    #[arg(long, value_name = "URL")]
    pub openai_base_url: Vec<String>,
    /// Requests in flight per server of your own: auto (measured, and followed when it changes), a number, or
    /// one of these per server separated by commas, those of Ollama first [env: QA_CONCURRENCY] [default: auto]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub concurrency: Option<String>,
    /// Requests in flight per provider account: auto (as many as its limits allow, up to 64), or a number
    /// [env: QA_ACCOUNT_CONCURRENCY] [default: auto]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub account_concurrency: Option<String>,
    /// Requests per minute per account: a number, or PROVIDER=N separated by commas
    /// [env: QA_REQUESTS_PER_MINUTE]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub requests_per_minute: Option<String>,
    /// Tokens per minute per account: a number, or PROVIDER=N separated by commas [env: QA_TOKENS_PER_MINUTE]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub tokens_per_minute: Option<String>,
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
