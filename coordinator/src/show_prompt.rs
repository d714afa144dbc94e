//! The `prompt` command: the built-in prompt, or what is sent for a chunk. It writes nothing and asks no model.

use std::collections::BTreeSet;
use std::path::Path;

use qa_shared::data_uris::leave_out;
use qa_shared::model::{DocumentName, GenerationSettings, OllamaOptions, PromptSettings, Provider};
use qa_shared::plain;
use qa_worker::prompt;

use crate::config::PromptConfig;
use crate::document_names;
use crate::exit::ExitCode;
use crate::files::{
    ChunkFile, ChunkReader, DocumentPath, Listing, Scanned, find_chunk_files, input_directory,
};
use crate::format::{counted, line};
use crate::ground::unusable_directory;
use crate::output;
use crate::run_error::RunError;

/// Stands for a chunk's text in the built-in prompt, as in a template of the user's own.
const PLACEHOLDER: &str = "{text}";

/// Shows the prompt that is wanted.
pub(crate) fn show(config: &PromptConfig) -> Result<ExitCode, RunError> {
    let shown = match &config.chunk {
        None => built_in(config.questions)?,
        Some((document, chunk)) => {
            let text = chunk_text(config, document, *chunk)?;
            // As the publisher makes a task of it.
            messages(&config.prompt, &leave_out(&text).0, config.questions, "")?
        }
    };
    // As it is sent: not folded to the terminal's width.
    output::write(&plain::text(&shown))?;
    Ok(ExitCode::Success)
}

/// The prompt of a job that has no part of its own.
fn built_in(questions: u32) -> Result<String, RunError> {
    messages(&PromptSettings::default(), PLACEHOLDER, questions, " (built in)")
}

fn messages(parts: &PromptSettings, text: &str, questions: u32, note: &str) -> Result<String, RunError> {
    // What the rest of the settings say changes nothing about the prompt.
    let settings = GenerationSettings {
        provider: Provider::Local,
        model: String::new(),
        questions_per_chunk: questions,
        temperature: 0.0,
        max_tokens: 1,
        reasoning: None,
        prompt: parts.clone(),
        ollama: OllamaOptions::default(),
    };
    let built = prompt::build(&settings, text, questions)
        .map_err(|error| RunError::new(ExitCode::Configuration, error))?;
    Ok(format!(
        "--- system message{note} ---\n{}\n--- user message{note} ---\n{}\n",
        built.system, built.user
    ))
}

fn chunk_text(config: &PromptConfig, document: &str, chunk: u32) -> Result<String, RunError> {
    let base = std::env::current_dir().map_err(RunError::files)?;
    let directory = input_directory(&config.chunks_dir, &base, "chunk files", "--chunks-dir")
        .map_err(unusable_directory)?
        .path;
    let Listing { files, .. } = find_chunk_files(&directory).map_err(RunError::files)?;
    let names: BTreeSet<DocumentName> = files.iter().map(|file| file.name.clone()).collect();
    let name = document_names::find(document, &names).map_err(|near| unknown(document, &near, &directory))?;
    let file = files.iter().find(|file| file.name == *name);
    let DocumentPath { path, name, .. } = file.ok_or_else(|| unknown(document, &[], &directory))?;
    let file = match ChunkFile::scan(path, name.clone()).map_err(RunError::files)? {
        Scanned::Ready(file) => file,
        Scanned::Skipped { status } => {
            let status = status.unwrap_or_else(|| "none".to_owned());
            let message = format!("DOCUMENT: {name} has status {}, not completed", line(&status, 40));
            return Err(RunError::new(ExitCode::Configuration, message));
        }
    };
    let count = file.chunks.len();
    if chunk as usize >= count {
        let message = format!(
            "CHUNK: found {chunk}, but {name} has {}, counted from 0",
            counted(count as u64, "chunk")
        );
        return Err(RunError::new(ExitCode::Configuration, message));
    }
    let mut reader = ChunkReader::open(&file).map_err(RunError::files)?;
    let text = reader.read(chunk as usize).map_err(RunError::files)?.text;
    text.map_err(|problem| RunError::files(format!("{name}, chunk {chunk}: {problem}")))
}

fn unknown(document: &str, near: &[&str], directory: &Path) -> RunError {
    let near = if near.is_empty() { String::new() } else { format!("; near are {}", near.join(", ")) };
    let message =
        format!("DOCUMENT: no chunk file of `{}` in `{}`{near}", line(document, 120), directory.display());
    RunError::new(ExitCode::Configuration, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_prompt_has_the_placeholder_and_both_messages() {
        let shown = built_in(4).unwrap();
        assert!(shown.contains("--- system message (built in) ---\nYou write"), "{shown}");
        assert!(shown.contains("<chunk>\n{text}\n</chunk>") && shown.contains("exactly 4"), "{shown}");
    }

    #[test]
    fn what_is_shown_of_a_chunk_is_what_the_worker_sends() {
        let parts = PromptSettings {
            system_message: Some("Be brief.".into()),
            extra_instructions: Some("No prices.".into()),
            template: Some("{num_questions} about {text}. {extra_instructions}".into()),
        };
        let shown = messages(&parts, "the boiler", 2, "").unwrap();
        assert_eq!(
            shown,
            "--- system message ---\nBe brief.\n--- user message ---\n2 about the boiler. No prices.\n"
        );
    }
}
