//! One chunk as people read it (PURE).

use std::fmt::Write;

use qa_shared::model::NanoUsd;

use crate::files::ChunkRecord;
use crate::format::{count, counted, line, text};
use crate::report_story::when;
use crate::show::ShownChunk;

/// What is shown of a text, in characters.
const TEXT_SHOWN: usize = 2000;
/// What is shown of a question, and of an answer.
const WORDS_SHOWN: usize = 2000;

/// The chunk as text.
pub(crate) fn chunk(chunk: &ShownChunk) -> String {
    let mut told = String::new();
    let mut say = |label: &str, value: &str| {
        writeln!(told, "{label:<11}{value}").expect("a String takes every text");
    };
    let name = line(&chunk.document, 120);
    say("chunk", &format!("{} of {name}: {}", chunk.chunk, chunk.status));
    if let Some(record) = &chunk.record {
        say("made", &made(record));
        say("usage", &usage(record));
        if let Some(error) = &record.error {
            say("error", &format!("{}: {}", error.reason, line(&error.message, 500)));
            say("what to do", error.reason.remedy());
        }
        if let Some(id) = &record.trace_id {
            let link = chunk.trace_url.as_ref().map(|url| format!("  {url}")).unwrap_or_default();
            say("trace", &format!("{}{link}", line(id, 40)));
        }
    }
    match &chunk.text {
        Some(words) => {
            let shown: String = text(words).chars().take(TEXT_SHOWN).collect();
            for (number, line) in shown.lines().enumerate() {
                say(if number == 0 { "text" } else { "" }, &format!("| {line}"));
            }
            let all = chunk.text_characters.unwrap_or_default();
            if all > TEXT_SHOWN {
                say("", &format!("| … ({} characters in all)", count(all as u64)));
            }
        }
        None => say("text", "in no file any more"),
    }
    if chunk.text_changed {
        say("", "(the chunk file has another text by now; --resume asks about it)");
    }
    for pair in &chunk.pairs {
        say("Q", &line(&pair.question, WORDS_SHOWN));
        say("A", &line(&pair.answer, WORDS_SHOWN));
    }
    told
}

fn made(record: &ChunkRecord) -> String {
    let mut parts = Vec::new();
    if let Some(model) = &record.model {
        let provider = record.provider.as_ref().map(|provider| format!(" ({})", line(provider, 40)));
        parts.push(format!("{}{}", line(model, 120), provider.unwrap_or_default()));
    }
    if let Some(worker) = &record.worker {
        let host = record.host.as_ref().map(|host| format!(" on {}", line(host, 60))).unwrap_or_default();
        parts.push(format!("worker {}{host}", line(worker, 80)));
    }
    if let Some(server) = &record.server {
        parts.push(line(server, 120));
    }
    parts.push(format!("round {}", record.round));
    parts.push(format!("{:.1} s", record.duration_seconds));
    if let Some(at) = &record.completed_at {
        parts.push(when(at));
    }
    parts.join(", ")
}

fn usage(record: &ChunkRecord) -> String {
    let cost = record.cost_usd.and_then(NanoUsd::from_dollars);
    format!(
        "{} of {} pairs, {}, {} input and {} output tokens{}{}",
        record.got,
        record.asked,
        counted(u64::from(record.attempts), "attempt"),
        count(record.input_tokens),
        count(record.output_tokens),
        estimated(record.estimated_input_tokens.saturating_add(record.estimated_output_tokens)),
        cost.map_or_else(String::new, |cost| format!(", about {cost}"))
    )
}

/// Tokens that no server reported, where there are any.
fn estimated(tokens: u64) -> String {
    if tokens == 0 { String::new() } else { format!(" ({} estimated)", count(tokens)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_without_a_record_is_told_with_what_there_is() {
        let shown = ShownChunk {
            document: "a\x1b[2J".to_owned(),
            chunk: 4,
            status: "outstanding",
            text: Some(format!("one\ntwo {}", "x".repeat(3000))),
            text_characters: Some(3008),
            text_changed: false,
            pairs: Vec::new(),
            record: None,
            trace_url: None,
        };
        let told = chunk(&shown);
        assert!(
            told.starts_with("chunk      4 of a [2J: outstanding\ntext       | one\n           | two xxx")
        );
        assert!(told.ends_with("| … (3 008 characters in all)\n") && told.len() < 2200, "{told}");
    }
}
