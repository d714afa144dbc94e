//! The checked configuration of the commands that look at what was done: `failures`, `show` and `prompt`.

use std::path::PathBuf;

use qa_shared::model::PromptSettings;
use qa_shared::settings::{Environment, LogSettings, Mistake, Reader, values};

use crate::cli_look::{FailuresArgs, PromptArgs, ShowArgs};
use crate::config::{Common, ConfigError, read_trace_url};
use crate::config_generation;
use crate::config_settings::{CHUNK, CHUNKS_DIR, DOCUMENT, QA_DIR, RANDOM, SHOW_SEED};
use crate::trace_url::TraceUrl;

/// `failures`
#[derive(Debug, Clone, PartialEq)]
pub struct FailuresConfig {
    /// Where the Q&A files are.
    pub qa_dir: PathBuf,
    /// Where traces can be looked at.
    pub trace_url: Option<TraceUrl>,
    /// Whether it is printed as JSON.
    pub json: bool,
    /// What every command has.
    pub common: Common,
}

/// `show`
#[derive(Debug, Clone, PartialEq)]
pub struct ShowConfig {
    /// Where the Q&A files are.
    pub qa_dir: PathBuf,
    /// What is shown.
    pub wanted: WantedChunks,
    /// Where traces can be looked at.
    pub trace_url: Option<TraceUrl>,
    /// Whether it is printed as JSON.
    pub json: bool,
    /// What every command has.
    pub common: Common,
}

/// Which chunks are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WantedChunks {
    /// Those of a document, or one of them.
    Of {
        /// The document as the user names it.
        document: String,
        /// The chunk's position.
        chunk: Option<u32>,
    },
    /// Some, chosen by a seed; by any if absent.
    Random {
        /// How many.
        number: u32,
        /// Decides which.
        seed: Option<u64>,
    },
}

impl FailuresConfig {
    /// Checks everything at once.
    pub fn read(args: &FailuresArgs, environment: &Environment) -> Result<Self, ConfigError> {
        let mut reader = Reader::new(environment);
        let logs = LogSettings::read(&mut reader, &args.common);
        let config = Self {
            qa_dir: reader.path(&QA_DIR, args.qa_dir.as_deref()).unwrap_or_default(),
            trace_url: read_trace_url(&mut reader),
            json: args.json,
            common: Common::new(&mut reader, logs),
        };
        let (mut config, notes, sources) = reader.finish(config)?;
        config.common.tell(notes, sources);
        Ok(config)
    }
}

impl ShowConfig {
    /// Checks everything at once.
    pub fn read(args: &ShowArgs, environment: &Environment) -> Result<Self, ConfigError> {
        let mut reader = Reader::new(environment);
        let logs = LogSettings::read(&mut reader, &args.common);
        let config = Self {
            qa_dir: reader.path(&QA_DIR, args.qa_dir.as_deref()).unwrap_or_default(),
            wanted: read_wanted(&mut reader, args),
            trace_url: read_trace_url(&mut reader),
            json: args.json,
            common: Common::new(&mut reader, logs),
        };
        let (mut config, notes, sources) = reader.finish(config)?;
        config.common.tell(notes, sources);
        Ok(config)
    }
}

/// `prompt`
#[derive(Debug, Clone, PartialEq)]
pub struct PromptConfig {
    /// Where the chunk files are.
    pub chunks_dir: PathBuf,
    /// The document and the position of its chunk; the built-in prompt is shown if absent.
    pub chunk: Option<(String, u32)>,
    /// Pairs asked for.
    pub questions: u32,
    /// The prompt's parts.
    pub prompt: PromptSettings,
    /// What every command has.
    pub common: Common,
}

impl PromptConfig {
    /// Checks everything at once.
    pub fn read(args: &PromptArgs, environment: &Environment) -> Result<Self, ConfigError> {
        let mut reader = Reader::new(environment);
        let logs = LogSettings::read(&mut reader, &args.common);
        let generation = args.generation();
        let expected = "the chunk's position, a whole number of at least 0";
        let chunk = reader.parsed(&CHUNK, args.chunk.as_deref(), expected, values::within(0..=u32::MAX));
        let config = Self {
            chunks_dir: reader.path(&CHUNKS_DIR, args.chunks_dir.as_deref()).unwrap_or_default(),
            chunk: args.document.clone().map(|document| (document, chunk.unwrap_or(0))),
            questions: config_generation::read_questions(&mut reader, &generation),
            prompt: config_generation::read_prompt(&mut reader, &generation),
            common: Common::new(&mut reader, logs),
        };
        let (mut config, notes, sources) = reader.finish(config)?;
        config.common.tell(notes, sources);
        Ok(config)
    }
}

fn read_wanted(reader: &mut Reader<'_>, args: &ShowArgs) -> WantedChunks {
    let expected = "a number of chunks from 1 to 1000";
    let number = reader.parsed(&RANDOM, args.random.as_deref(), expected, values::within(1..=1000));
    let expected = "a whole number of at least 0";
    let seed = reader.parsed(&SHOW_SEED, args.seed.as_deref(), expected, values::within(0..=u64::MAX));
    let expected = "the chunk's position, a whole number of at least 0";
    let chunk = reader.parsed(&CHUNK, args.chunk.as_deref(), expected, values::within(0..=u32::MAX));
    if args.seed.is_some() && args.random.is_none() {
        let mistake = Mistake::new(&SHOW_SEED, "it only counts together with --random");
        reader.mistake(mistake.remedy("add --random N, or leave it out"));
    }
    match (&args.document, &args.random) {
        (Some(_), Some(_)) => {
            let mistake = Mistake::new(&RANDOM, "it chooses among all documents, but one is named");
            reader.mistake(mistake.remedy("keep one of them"));
        }
        (None, None) => {
            let mistake = Mistake::new(&DOCUMENT, "no document is named");
            reader
                .mistake(mistake.remedy("name one, as in `qa-coordinator show NAME 0`, or use --random 10"));
        }
        (Some(_), None) | (None, Some(_)) => {}
    }
    match &args.document {
        Some(document) => WantedChunks::Of { document: document.clone(), chunk },
        None => WantedChunks::Random { number: number.unwrap_or(1), seed },
    }
}
