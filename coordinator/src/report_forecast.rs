//! What `generate --dry-run` says, as text (PURE).

use std::fmt::{Display, Write};

use qa_shared::model::NanoUsd;

use crate::config::GenerateConfig;
use crate::dry_run::{BudgetForecast, Forecast, Range};
use crate::format::{count, counted, duration, line, token_rate};

/// The forecast for people.
pub(crate) fn forecast(forecast: &Forecast, config: &GenerateConfig) -> String {
    let mut text = String::new();
    let mut say = |label: &str, value: String| {
        writeln!(text, "{label:<14}{value}").expect("a String takes every text");
    };
    let documents = forecast.documents;
    say("dry run", format!("{} -> {}; nothing is changed", forecast.chunks_dir, forecast.qa_dir));
    say("model", format!("{}; pool {}", forecast.model, config.pool));
    say(
        "documents",
        format!(
            "{}: {} new, {} partly done, {} done, {} unusable; {} skipped, not finished by the chunker",
            documents.total,
            documents.new,
            documents.partly_done,
            documents.done,
            documents.broken,
            documents.skipped
        ),
    );
    let sample = if config.run.sample.is_some() { " (a sample)" } else { "" };
    let chunks = forecast.chunks;
    say("chunks", format!("{} to do of {}{sample}", count(chunks.to_do), count(chunks.total)));
    let per_chunk = config.budget.calls_per_task;
    say(
        "model calls",
        format!(
            "{}, at most {} ({per_chunk} per chunk)",
            count(forecast.calls.estimate),
            count(forecast.calls.at_most)
        ),
    );
    say("input tokens", about(forecast.input_tokens, count));
    say("output tokens", format!("{}; the estimate is 150 per pair", about(forecast.output_tokens, count)));
    say("cost", cost(forecast, config));
    if let Some(budget) = &forecast.budget {
        say("budget", spent(budget));
    }
    let time = &forecast.time;
    say(
        "time",
        match (time.seconds, time.tokens_per_second) {
            (Some(seconds), Some(rate)) => {
                format!("about {} at {}: {}", duration(seconds), token_rate(rate), time.basis)
            }
            _ => format!("unknown: {}", time.basis),
        },
    );
    for (name, status) in &forecast.skipped {
        say("skipped", format!("{} has status {}", line(name, 120), line(status, 40)));
    }
    for (name, error) in &forecast.broken {
        say("unusable", format!("{}: {}", line(name, 120), line(error, 400)));
    }
    for note in &forecast.notes {
        say("note", note.clone());
    }
    text
}

fn about<T: Copy, D: Display>(range: Range<T>, show: impl Fn(T) -> D) -> String {
    format!("about {}, at most {}", show(range.estimate), show(range.at_most))
}

fn cost(forecast: &Forecast, config: &GenerateConfig) -> String {
    match forecast.cost_usd {
        None => "unknown: the model has no price; give one with --model-table".to_owned(),
        Some(_) if config.budget.real_price().is_none() => "none by the table of models".to_owned(),
        Some(cost) => about(cost, dollars),
    }
}

fn spent(budget: &BudgetForecast) -> String {
    let mut parts = Vec::new();
    if let Some(limit) = budget.max_cost_usd {
        parts.push(format!("{} of {} spent", dollars(budget.spent_usd), dollars(limit)));
    }
    if let Some(limit) = budget.max_tokens {
        parts.push(format!("{} of {} used", count(budget.spent_tokens), counted(limit, "token")));
    }
    let outlook = if budget.is_enough { "the estimate fits" } else { "the run would stop before its end" };
    format!("{}; {outlook}", parts.join(", "))
}

fn dollars(amount: f64) -> NanoUsd {
    NanoUsd::from_dollars(amount).unwrap_or_default()
}
