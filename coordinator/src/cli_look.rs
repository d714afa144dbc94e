//! The flags of `failures`, `show` and `prompt`. Syntax only, as in [`crate::cli`].

use clap::Args;
use qa_shared::settings::args::CommonArgs;

use crate::cli_generate::GenerationArgs;

/// `failures`
#[derive(Args, Clone, Default)]
pub struct FailuresArgs {
    /// Directory of the Q&A files [env: GENERATOR_OUTPUT_DIR] [default: /data/qa_results]
    #[arg(long, value_name = "DIR")]
    pub qa_dir: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Flags of every command.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// `show`
#[derive(Args, Clone, Default)]
pub struct ShowArgs {
    /// The document: its name, or the path or name of its chunk file or Q&A file
    pub document: Option<String>,
    /// The chunk's position in the chunk file, from 0; all chunks if absent
    #[arg(allow_negative_numbers = true)]
    pub chunk: Option<String>,
    /// Show N completed chunks of all documents, chosen at random
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub random: Option<String>,
    /// With --random: the same seed shows the same chunks again [default: another one each time, 0 or more]
    #[arg(long, value_name = "S", allow_negative_numbers = true)]
    pub seed: Option<String>,
    /// Directory of the Q&A files [env: GENERATOR_OUTPUT_DIR] [default: /data/qa_results]
    #[arg(long, value_name = "DIR")]
    pub qa_dir: Option<String>,
    /// Print a JSON list
    #[arg(long)]
    pub json: bool,
    /// Flags of every command.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// `prompt`
#[derive(Args, Clone, Default)]
pub struct PromptArgs {
    /// Print the built-in prompt, or with DOCUMENT what is sent for one of its chunks; the command does nothing
    /// else
    #[arg(long)]
    pub show: bool,
    /// The document: its name, or the path or name of its chunk file
    pub document: Option<String>,
    /// The chunk's position in the chunk file, from 0 [default: 0]
    #[arg(allow_negative_numbers = true)]
    pub chunk: Option<String>,
    /// Directory of the chunk files [env: GENERATOR_PROCESS_DIR] [default: /data/chunks]
    #[arg(long, value_name = "DIR")]
    pub chunks_dir: Option<String>,
    /// Directory of the Q&A files: where a job is in it, its settings hold [env: GENERATOR_OUTPUT_DIR]
    /// [default: /data/qa_results]
    #[arg(long, value_name = "DIR")]
    pub qa_dir: Option<String>,
    /// Pairs asked for per chunk, 1 to 50 [env: GENERATOR_QUESTIONS_PER_CHUNK] [default: 3]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub questions_per_chunk: Option<String>,
    /// Replace the built-in system message [env: QA_SYSTEM_MESSAGE]
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub qa_system_message: Option<String>,
    /// Add this to the instructions of the prompt [env: QA_EXTRA_INSTRUCTIONS]
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub qa_extra_instructions: Option<String>,
    /// File with a prompt of your own [env: QA_PROMPT_TEMPLATE_FILE]
    #[arg(long, value_name = "PATH")]
    pub qa_prompt_template_file: Option<String>,
    /// Flags of every command.
    #[command(flatten)]
    pub common: CommonArgs,
}

impl PromptArgs {
    /// What it has of the flags of `generate`.
    pub(crate) fn generation(&self) -> GenerationArgs {
        GenerationArgs {
            questions_per_chunk: self.questions_per_chunk.clone(),
            qa_system_message: self.qa_system_message.clone(),
            qa_extra_instructions: self.qa_extra_instructions.clone(),
            qa_prompt_template_file: self.qa_prompt_template_file.clone(),
            ..GenerationArgs::default()
        }
    }
}
