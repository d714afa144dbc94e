//! `qa-worker check`: looks at every configured server and has it write one pair.
//!
//! It talks to models as the work itself does, so that what works here works there. It must not touch the
//! queue.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::time::Duration;

use qa_shared::model::{FailureReason, Provider, is_same_model, normalised_model};
use serde::Serialize;
use tokio::time::Instant;

use crate::config::{ModelChoice, Serving};
use crate::llm::client::Client;
use crate::llm::http::{HttpError, Timeouts};
use crate::llm::{ChatRequest, Finish, LlmError, LlmErrorKind, LlmServer};
use crate::process::read_reply;
use crate::prompt::{CHUNK_END, CHUNK_START, answer_schema};
use crate::setup;

/// What the models are asked about.
const CHUNK: &str = "The boiler of the Corvina 300 must be descaled every 200 hours of operation. \
If it is not, the display shows the error E07 and the heating is switched off.";
/// Room for one pair, and for the reasoning of models that cannot do without.
const MOST_OUTPUT: u32 = 4096;
/// The context that Ollama loads a model with for this.
const CONTEXT: u32 = 8192;

/// What one server is like with one model.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Finding {
    /// The kind of service.
    pub provider: String,
    /// Its address without credentials.
    pub server: String,
    /// Its version, where it tells one.
    pub version: Option<String>,
    /// The model that was tried.
    pub model: Option<String>,
    /// The model's context in tokens, where it is known.
    pub context: Option<u32>,
    /// How answers are held to their form: `schema`, `tool`, `json` or `prompt`.
    pub structured: Option<&'static str>,
    /// How long one pair took, loading included, in seconds.
    pub seconds: Option<f64>,
    /// Generated tokens per second, as the server measured them, or over the whole time.
    pub tokens_per_second: Option<f64>,
    /// What is wrong, or what was left out.
    pub note: Option<String>,
    /// Whether everything that was tried works.
    pub works: bool,
    /// Whether the service does not have the model.
    #[serde(skip)]
    lacks_model: bool,
}

/// Looks at every server, all at once, and at its models one after the other.
pub async fn check(serving: &Serving, models: &[ModelChoice]) -> Result<Vec<Finding>, HttpError> {
    let timeouts =
        Timeouts { request: serving.request_timeout, idle: serving.idle_timeout, ..Timeouts::default() };
    let table = std::sync::Arc::new(serving.table.clone());
    let clients: Vec<Client> = serving
        .servers
        .iter()
        .map(|server| setup::client(server, &table, timeouts))
        .collect::<Result<_, _>>()?;
    let looking = clients.iter().map(|client| look_at(client, models));
    let mut findings: Vec<Finding> =
        futures_util::future::join_all(looking).await.into_iter().flatten().collect();
    // A named model is somebody's: that the other services do not have it is no defect.
    let working: HashSet<Option<String>> =
        findings.iter().filter(|finding| finding.works).map(|finding| finding.model.clone()).collect();
    findings.retain(|finding| !finding.lacks_model || !working.contains(&finding.model));
    Ok(findings)
}

async fn look_at(client: &Client, models: &[ModelChoice]) -> Vec<Finding> {
    let blank = Finding {
        provider: client.provider().to_string(),
        server: client.url().to_owned(),
        ..Finding::default()
    };
    let info = match client.inspect().await {
        Ok(info) => info,
        Err(error) => return vec![Finding { note: Some(error.message), ..blank }],
    };
    let base = Finding { version: info.version.clone(), ..blank };
    let names: Vec<String> = info.models.iter().map(|model| model.name.clone()).collect();
    let loaded = info.models.iter().filter(|model| model.gpu_percent.is_some());
    let loaded: Vec<String> = loaded.map(|model| model.name.clone()).collect();
    let chosen = match choose(client, models, &names, &loaded) {
        Ok(chosen) => chosen,
        Err(note) => {
            let works = client.is_hosted() || !names.is_empty();
            return vec![Finding { note: Some(note), works, ..base }];
        }
    };
    let mut tried = Vec::new();
    for model in chosen {
        let base = Finding { model: Some(model.clone()), ..base.clone() };
        tried.push(try_model(client, &model, base).await);
    }
    tried
}

/// The models to try: those that are named, else what is loaded, else the only one.
fn choose(
    client: &Client,
    models: &[ModelChoice],
    names: &[String],
    loaded: &[String],
) -> Result<Vec<String>, String> {
    let normal = |model: &ModelChoice| normalised_model(client.provider(), &model.served);
    let wished: Vec<String> = models.iter().map(normal).collect();
    if client.is_hosted() && wished.is_empty() {
        return Err("the key is accepted; name a model with --models to try it".to_owned());
    }
    if client.is_hosted() {
        return Ok(wished);
    }
    // What a server does not list it may have all the same.
    let listed = |wish: String| {
        let same = names.iter().find(|name| is_same_model(client.provider(), name, &wish));
        same.cloned().unwrap_or(wish)
    };
    let wished: Vec<String> = wished.into_iter().map(listed).collect();
    if !wished.is_empty() {
        return Ok(wished);
    }
    if names.is_empty() {
        return Err("it has no model".to_owned());
    }
    match (loaded, names) {
        ([first, ..], _) | ([], [first]) => Ok(vec![first.clone()]),
        _ => Err(format!("it has {}; name one with --models to try it", shortened(names))),
    }
}

fn shortened(names: &[String]) -> String {
    const MOST: usize = 8;
    let shown = names[..names.len().min(MOST)].join(", ");
    if names.len() > MOST { format!("{shown} and {} more", names.len() - MOST) } else { shown }
}

async fn try_model(client: &Client, model: &str, finding: Finding) -> Finding {
    match write_pair(client, model).await {
        Ok(written) => Finding {
            context: written.context,
            structured: client.structured(model),
            seconds: Some(written.took.as_secs_f64()),
            tokens_per_second: written.tokens_per_second,
            works: written.problem.is_none(),
            note: written.problem,
            ..finding
        },
        Err(error) => Finding {
            lacks_model: error.kind == LlmErrorKind::ModelNotFound,
            note: Some(error.message),
            ..finding
        },
    }
}

struct Written {
    context: Option<u32>,
    took: Duration,
    tokens_per_second: Option<f64>,
    problem: Option<String>,
}

async fn write_pair(client: &Client, model: &str) -> Result<Written, LlmError> {
    let info = client.show(model).await?;
    let context = info.context_length;
    if !info.completion {
        let problem = Some("the model does not generate text".to_owned());
        return Ok(Written { context, took: Duration::ZERO, tokens_per_second: None, problem });
    }
    let num_ctx = match client.provider() {
        Provider::Local => CONTEXT.min(context.unwrap_or(CONTEXT)),
        Provider::OpenAi | Provider::Claude | Provider::Gemini => context.unwrap_or(u32::MAX),
    };
    let began = Instant::now();
    client.warm_up(model, num_ctx).await?;
    let question = format!(
        "Write exactly 1 question-answer pair about the chunk. Reply with one JSON object of this form:\n\
         {{\"pairs\": [{{\"question\": \"...\", \"response\": \"...\"}}]}}\n\n{CHUNK_START}\n{CHUNK}\n{CHUNK_END}"
    );
    let request = ChatRequest {
        schema: Some(answer_schema(1)),
        max_output: MOST_OUTPUT,
        num_ctx,
        ..ChatRequest::of(model, &question)
    };
    let reply = client.chat(&request).await?;
    let took = began.elapsed();
    let milliseconds = match reply.usage.generation_ms {
        0 => u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        measured => measured,
    };
    let tokens = reply.usage.output_tokens;
    let tokens_per_second =
        (milliseconds > 0 && tokens > 0).then(|| tokens as f64 / (milliseconds as f64 / 1000.0));
    let pairs = read_reply(&reply, 1, &[]).pairs;
    let start: String = reply.content.chars().take(120).collect();
    let problem = match reply.finish {
        Finish::Refused(reason) => Some(format!("it declines to answer: {reason}")),
        Finish::Stop if pairs.is_empty() => Some(format!("its answer holds no pair: {start:?}")),
        Finish::Length if pairs.is_empty() => {
            Some(format!("{MOST_OUTPUT} tokens were too few for its answer, reasoning included"))
        }
        Finish::Repetition if pairs.is_empty() => {
            Some(format!("it repeated itself without end; {}", FailureReason::Repetition.remedy()))
        }
        Finish::Invalid(reason) if pairs.is_empty() => {
            Some(format!("its answer failed the service's own check (`{reason}`): {start:?}"))
        }
        Finish::Other(reason) if pairs.is_empty() => Some(format!("it ended its answer by `{reason}`")),
        Finish::Stop | Finish::Length | Finish::Repetition | Finish::Invalid(_) | Finish::Other(_) => None,
    };
    Ok(Written { context, took, tokens_per_second, problem })
}

/// The findings as a table for people.
pub fn table(findings: &[Finding]) -> String {
    let header = ["", "provider", "server", "version", "model", "context", "form", "time", "tokens/s"];
    let dash = || "-".to_owned();
    let mut rows = vec![header.map(str::to_owned)];
    for finding in findings {
        rows.push([
            if finding.works { "ok" } else { "FAILED" }.to_owned(),
            finding.provider.clone(),
            finding.server.clone(),
            finding.version.clone().unwrap_or_else(dash),
            finding.model.clone().unwrap_or_else(dash),
            finding.context.map_or_else(dash, |tokens| tokens.to_string()),
            finding.structured.map_or_else(dash, str::to_owned),
            finding.seconds.map_or_else(dash, |seconds| format!("{seconds:.1} s")),
            finding.tokens_per_second.map_or_else(dash, |speed| format!("{speed:.0}")),
        ]);
    }
    let mut widths = [0; 9];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        writeln!(text, "{}", line.trim_end()).expect("a String takes every text");
        let note = index.checked_sub(1).and_then(|index| findings[index].note.as_deref());
        if let Some(note) = note {
            writeln!(text, "        {note}").expect("a String takes every text");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_shows_what_is_known_and_what_is_wrong() {
        let good = Finding {
            provider: "local".into(),
            server: "http://gpu1:11434".into(),
            version: Some("0.32.15".into()),
            model: Some("qwen3:8b".into()),
            context: Some(40_960),
            structured: Some("schema"),
            seconds: Some(1.25),
            tokens_per_second: Some(61.3),
            works: true,
            ..Finding::default()
        };
        let bad = Finding {
            provider: "openai".into(),
            server: "https://api.openai.com".into(),
            note: Some("it answered 401".into()),
            ..Finding::default()
        };
        let text = table(&[good, bad]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(lines[1].starts_with("ok      local     http://gpu1:11434"), "{text}");
        assert!(lines[1].ends_with("1.2 s  61"), "{text}");
        assert!(lines[2].starts_with("FAILED  openai"), "{text}");
        assert_eq!(lines[3].trim(), "it answered 401");
    }
}
