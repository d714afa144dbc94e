//! The flags of `failures` and `show`. Syntax only, as in [`crate::cli`].

use clap::Args;
use qa_shared::settings::args::CommonArgs;

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
