//! The flags of `generate`: those of the Python program, and ours. Syntax only, as in [`crate::cli`]; no
//! `Debug`, since flags may hold secrets.

use clap::Args;
use qa_shared::settings::args::{CommonArgs, NatsArgs, TelemetryArgs};
use qa_worker::cli::ServingArgs;

/// `generate`
#[derive(Args, Clone, Default)]
pub struct GenerateArgs {
    /// What is read and written.
    #[command(flatten)]
    pub files: FileArgs,
    /// How pairs are generated.
    #[command(flatten)]
    pub generation: GenerationArgs,
    /// Which chunks, and when to stop.
    #[command(flatten)]
    pub run: RunArgs,
    /// What it may cost.
    #[command(flatten)]
    pub budget: BudgetArgs,
    /// Where the work is done.
    #[command(flatten)]
    pub place: PlaceArgs,
    /// How the queue is reached.
    #[command(flatten)]
    pub nats: NatsArgs,
    /// Which LLM servers local mode uses, and how.
    #[command(flatten)]
    pub serving: ServingArgs,
    /// What it tells about itself.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
    /// Flags of every command.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// What is read and written.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Files")]
pub struct FileArgs {
    /// Directory of the chunk files [env: GENERATOR_PROCESS_DIR] [default: /data/chunks]
    #[arg(long, value_name = "DIR")]
    pub chunks_dir: Option<String>,
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
}

/// How pairs are generated.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Generation")]
pub struct GenerationArgs {
    /// Who generates: openai (also any server with its API), claude, gemini or local (Ollama)
    /// [env: GENERATOR_PROVIDER] [default: openai]
    #[arg(long, value_name = "NAME")]
    pub provider: Option<String>,
    /// The model's name [env: GENERATOR_MODEL]
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Key of the provider; better in a variable or a file that one names [env: QA_API_KEY, OPENAI_API_KEY,
    /// ANTHROPIC_API_KEY, GEMINI_API_KEY, and the last three with _FILE]
    #[arg(long, value_name = "KEY")]
    pub api_key: Option<String>,
    /// Pairs asked for per chunk, 1 to 50 [env: GENERATOR_QUESTIONS_PER_CHUNK] [default: 3]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub questions_per_chunk: Option<String>,
    /// Sampling temperature, 0 to 2 [env: GENERATOR_TEMPERATURE] [default: 0.7]
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    pub temperature: Option<String>,
    /// Ceiling of one answer in tokens; allow about 150 per pair [env: GENERATOR_MAX_TOKENS] [default: 2000]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub max_tokens: Option<String>,
    /// How much the model reasons first: off, minimal, low, medium or high; as little as it allows if unset
    /// [env: QA_REASONING]
    #[arg(long, value_name = "LEVEL")]
    pub reasoning: Option<String>,
    /// Ollama: only the K most likely tokens [env: OLLAMA_TOP_K]
    #[arg(long, value_name = "K", allow_negative_numbers = true)]
    pub ollama_top_k: Option<String>,
    /// Ollama: only the most likely tokens that sum up to P, 0 to 1 [env: OLLAMA_TOP_P]
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub ollama_top_p: Option<String>,
    /// Ollama: penalty on repetition, above 0 [env: OLLAMA_REPEAT_PENALTY]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub ollama_repeat_penalty: Option<String>,
    /// Ollama: ceiling of one answer in tokens; wins over --max-tokens [env: OLLAMA_NUM_PREDICT]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub ollama_num_predict: Option<String>,
    /// Ollama: context of every request in tokens; as much as the chunks need if unset [env: OLLAMA_NUM_CTX]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub ollama_num_ctx: Option<String>,
    /// Ollama: how long a model stays loaded after a request, such as 10m, 3600 or -1 (for ever); 30m if unset
    /// [env: OLLAMA_KEEP_ALIVE]
    #[arg(long, value_name = "TIME", allow_negative_numbers = true)]
    pub ollama_keep_alive: Option<String>,
    /// Ollama: end an answer before this text; may be repeated [env: OLLAMA_STOP, a JSON list or one text]
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub ollama_stop: Vec<String>,
    /// Replace the built-in system message [env: QA_SYSTEM_MESSAGE]
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub qa_system_message: Option<String>,
    /// Add this to the instructions of the prompt [env: QA_EXTRA_INSTRUCTIONS]
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub qa_extra_instructions: Option<String>,
    /// File with a prompt of your own: {text}, {num_questions}, {extra_instructions}; {{ and }} are braces
    /// [env: QA_PROMPT_TEMPLATE_FILE]
    #[arg(long, value_name = "PATH")]
    pub qa_prompt_template_file: Option<String>,
    /// Accepted for the Python program's sake; changes nothing [env: GENERATOR_BATCH_PROCESSING]
    #[arg(long)]
    pub batch_processing: bool,
}

/// Which chunks, and when to stop.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Run")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag on the command line")]
pub struct RunArgs {
    /// Go on with what is in the output directory; just start when it is empty [env: GENERATOR_RESUME]
    #[arg(long)]
    pub resume: bool,
    /// Do not resume, whatever GENERATOR_RESUME says
    #[arg(long)]
    pub no_resume: bool,
    /// Start all over; replaced files are kept in the job folder
    #[arg(long)]
    pub restart: bool,
    /// With --resume: generate what is outstanding with settings that have changed
    #[arg(long)]
    pub accept_changes: bool,
    /// With --resume: leave failed chunks alone
    #[arg(long)]
    pub no_retry_failed: bool,
    /// Never ask two servers for the same chunk; otherwise, when nothing waits any more, free slots try up to
    /// 3 % of the chunks that seem stuck elsewhere, and the first answer counts
    /// [env: QA_SPECULATION=false] [default: QA_SPECULATION=true]
    #[arg(long)]
    pub no_speculation: bool,
    /// Try N chunks spread over the documents, show their pairs and stop
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub sample: Option<String>,
    /// With --sample: another seed picks other chunks [default: 0]
    #[arg(long, value_name = "S", allow_negative_numbers = true)]
    pub seed: Option<String>,
    /// Local mode: keep waiting when no LLM server can serve (no memory, a subscription, an unknown model, refused
    /// credentials, nothing listens), instead of ending with exit code 7 after QA_NO_SERVER_TIMEOUT (2 minutes)
    /// [env: QA_WAIT]
    #[arg(long)]
    pub wait: bool,
    /// Stop when more than this percentage of the last 100 chunks failed, or `off`
    /// [env: QA_MAX_FAILURE_RATE] [default: 20]
    #[arg(long, value_name = "PERCENT", allow_negative_numbers = true)]
    pub max_failure_rate: Option<String>,
    /// Run this command at the end, by /bin/sh and for 60 s at most; it finds the outcome in QA_OUTCOME
    /// (completed, failed_chunks, interrupted, stopped or error), QA_EXIT_CODE, QA_REPORT and others
    /// [env: QA_ON_FINISH]
    #[arg(long, value_name = "COMMAND", allow_hyphen_values = true)]
    pub on_finish: Option<String>,
    /// Print the final summary as JSON on standard output
    #[arg(long)]
    pub json: bool,
}

/// What it may cost.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Cost and budget")]
pub struct BudgetArgs {
    /// Say what there is to do, what it may cost and how long it may take; change nothing, call no model
    #[arg(long)]
    pub dry_run: bool,
    /// Stop before the job has cost more than this many US dollars; all its runs count [env: QA_MAX_COST]
    #[arg(long, value_name = "USD", allow_negative_numbers = true)]
    pub max_cost: Option<String>,
    /// Stop before the job has used more than this many tokens, input and output together; all its runs count
    /// [env: QA_MAX_TOKENS_TOTAL]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub max_tokens_total: Option<String>,
    /// File with rows of your own for the table of models, such as prices [env: QA_MODEL_TABLE]
    #[arg(long, value_name = "PATH")]
    pub model_table: Option<String>,
}

/// Where the work is done.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Place")]
pub struct PlaceArgs {
    /// Work on this machine alone, with a private nats-server (the default without a NATS server's address)
    #[arg(long)]
    pub local: bool,
    /// Local mode: let workers on other machines join at this address, such as 0.0.0.0:4222
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// Local mode: the nats-server program [env: QA_NATS_SERVER] [default: found on PATH]
    #[arg(long, value_name = "PATH")]
    pub nats_server: Option<String>,
    /// Leave the tasks to the fleet's workers when this process stops
    #[arg(long)]
    pub detach: bool,
    /// Pool of the tasks instead of the model's own [env: QA_POOL]
    #[arg(long, value_name = "NAME")]
    pub pool: Option<String>,
}
