//! A run on a terminal, as text (PURE): the rows of its live area, and the line that stands for them elsewhere.
//!
//! No row is wider than the terminal: parts are left out by rank. A wide terminal shows each LLM server too.

use std::collections::BTreeSet;

use qa_shared::console::{Size, cut, width};
use qa_shared::model::NanoUsd;

use crate::format::{bar, count, counted, duration, line, token_rate};
use crate::view::{DocumentView, ServerView, View};

/// From this width on each LLM server has a row.
const WIDE: usize = 120;
/// Rows about servers at most.
const MOST_SERVERS: usize = 8;
/// Rows without those about documents and servers.
const HEADLINES: usize = 3;

/// A part of a row.
struct Part {
    /// How readily it is left out: the highest first, 0 never.
    rank: u8,
    /// What stands between it and the part before.
    lead: &'static str,
    text: String,
}

fn part(rank: u8, text: impl Into<String>) -> Part {
    Part { rank, lead: ", ", text: text.into() }
}

/// The parts that fit into this many columns, in their order.
fn fitted(mut parts: Vec<Part>, columns: usize) -> String {
    loop {
        let text = joined(&parts);
        if width(&text) <= columns {
            return text;
        }
        let highest = parts.iter().map(|part| part.rank).max().unwrap_or(0);
        match parts.iter().rposition(|part| part.rank == highest && highest > 0) {
            Some(at) => drop(parts.remove(at)),
            None => return cut(&text, columns),
        }
    }
}

fn joined(parts: &[Part]) -> String {
    let mut text = String::new();
    for part in parts {
        if !text.is_empty() {
            text.push_str(part.lead);
        }
        text.push_str(&part.text);
    }
    text
}

/// The rows of the live area: at most half of the terminal, the rest is for log lines.
pub(crate) fn rows(view: &View, size: Size) -> Vec<String> {
    let columns = size.columns.saturating_sub(1);
    let mut rows = vec![
        main_row(view, columns),
        fitted(detail_parts(view), columns),
        fitted(fleet_parts(view), columns),
    ];
    let room = (size.rows / 2).saturating_sub(HEADLINES);
    let documents = view.active.iter().take(room);
    rows.extend(documents.map(|document| document_row(document, columns)));
    if size.columns >= WIDE {
        rows.extend(server_rows(view, columns, room.saturating_sub(view.active.len()).min(MOST_SERVERS)));
    }
    rows
}

fn main_row(view: &View, columns: usize) -> String {
    let progress = Progress::of(view);
    let bar_width = match columns {
        120.. => 32,
        90.. => 20,
        50.. => 10,
        _ => 0,
    };
    let (bar, room) = match bar_width {
        0 => (String::new(), columns),
        bar_width => {
            (format!("{} ", bar(progress.done(), progress.chunks, bar_width)), columns - bar_width - 1)
        }
    };
    let mut parts = vec![part(0, progress.text())];
    parts.extend(rate_parts(view));
    format!("{bar}{}", fitted(parts, room))
}

fn detail_parts(view: &View) -> Vec<Part> {
    let progress = Progress::of(view);
    let mut parts = vec![
        part(0, format!("{} pairs", count(progress.pairs))),
        part(0, format!("{} failed", count(progress.failed))),
    ];
    let reasons = view.failures.iter().map(|(reason, number)| (number, reason));
    let mut reasons: Vec<_> = reasons.collect();
    reasons.sort_by_key(|(number, reason)| (std::cmp::Reverse(**number), *reason));
    for ((number, reason), rank) in reasons.into_iter().zip((4..=9).chain(std::iter::repeat(9))) {
        parts.push(part(rank, format!("{} x {}", count(*number), line(reason, 40))));
    }
    if view.sample.is_none() {
        parts.push(part(
            2,
            format!("{}/{} documents done", count(view.documents_done.into()), count(view.documents.into())),
        ));
    }
    parts.push(part(3, duration(view.elapsed_seconds)));
    parts
}

fn document_row(document: &DocumentView, columns: usize) -> String {
    let done = document.completed + document.failed;
    let bar_width = if columns >= 70 { 20 } else { 10 };
    let figures = format!(
        "  {} {}/{} ",
        bar(u64::from(done), u64::from(document.chunks), bar_width),
        count(done.into()),
        count(document.chunks.into())
    );
    let failed = match document.failed {
        0 => String::new(),
        failed => format!(", {} failed", count(failed.into())),
    };
    let room = columns.saturating_sub(width(&figures) + width(&failed));
    let row = format!("{figures}{}{failed}", cut(&line(&document.name, 200), room));
    cut(&row, columns)
}

fn server_rows(view: &View, columns: usize, most: usize) -> Vec<String> {
    let serving = || view.servers.iter().filter(|server| server.serving);
    let number = serving().count();
    let shown = if number > most { most.saturating_sub(1) } else { number };
    let mut rows: Vec<_> = serving().take(shown).map(|server| server_row(server, columns)).collect();
    if number > shown && most > 0 {
        rows.push(format!("  and {}", counted((number - shown) as u64, "more server")));
    }
    rows
}

fn server_row(server: &ServerView, columns: usize) -> String {
    let mut parts = vec![
        part(0, format!("  {} on {}", line(&server.url, 80), line(&server.host, 60))),
        part(0, format!("{}/{} slots busy", server.busy, server.slots)),
        part(1, token_rate(server.tokens_per_second)),
    ];
    if server.writing_tokens > 0 {
        parts.push(part(2, format!("writing, {} tokens", count(server.writing_tokens))));
    }
    fitted(parts, columns)
}

/// How far the run is: of a sample its own chunks count.
pub(crate) struct Progress {
    chunks: u64,
    completed: u64,
    failed: u64,
    pairs: u64,
}

impl Progress {
    pub(crate) fn of(view: &View) -> Self {
        match &view.sample {
            Some(sample) => Self {
                chunks: sample.chunks,
                completed: sample.completed,
                failed: sample.failed,
                pairs: sample.pairs,
            },
            None => Self {
                chunks: view.chunks,
                completed: view.completed,
                failed: view.failed,
                pairs: view.pairs,
            },
        }
    }

    pub(crate) fn done(&self) -> u64 {
        self.completed + self.failed
    }

    fn text(&self) -> String {
        let done = self.done();
        let percent = if self.chunks == 0 { 100.0 } else { done as f64 / self.chunks as f64 * 100.0 };
        format!("{}/{} chunks ({percent:.0} %)", count(done), count(self.chunks))
    }
}

/// How fast it goes and how long it will take.
pub(crate) fn rate_and_eta(view: &View) -> String {
    joined(&rate_parts(view))
}

fn rate_parts(view: &View) -> Vec<Part> {
    let progress = Progress::of(view);
    let is_done = progress.done() == progress.chunks;
    let mut parts = Vec::new();
    // Before the first result there is no rate: zeroes would say that nothing happens.
    if view.eta_seconds.is_some() || is_done {
        parts.push(part(3, format!("{:.1} chunks/min", view.chunks_per_minute)));
        parts.push(part(6, token_rate(view.tokens_per_second)));
    }
    parts.extend(spent_so_far(view).map(|spent| part(2, spent)));
    parts.push(part(
        1,
        match view.eta_seconds {
            _ if is_done => "done".to_owned(),
            Some(seconds) => format!("{} left", duration(seconds)),
            None => match &view.stall {
                Some(stall) => format!("stalled for {}", duration(stall.seconds)),
                None => without_rate(view),
            },
        },
    ));
    parts
}

/// What happens while no result says how fast it goes.
fn without_rate(view: &View) -> String {
    let serving = || view.servers.iter().filter(|server| server.serving);
    let tokens: u64 = serving().map(|server| server.writing_tokens).sum();
    let busy: u32 = serving().map(|server| server.busy).sum();
    match (tokens, busy) {
        (1.., _) => format!("writing, {} tokens", count(tokens)),
        (0, 1..) => "waiting for an answer".to_owned(),
        (0, 0) => "no result yet".to_owned(),
    }
}

/// What was spent, where anything costs something.
fn spent_so_far(view: &View) -> Option<String> {
    let cost = view.all_runs_cost_usd.and_then(NanoUsd::from_dollars)?;
    Some(match view.max_cost_usd.and_then(NanoUsd::from_dollars) {
        Some(limit) => format!("{cost} of {limit} spent"),
        None => format!("{cost} spent"),
    })
}

/// One line that says where the run stands, for so many columns if they are bounded.
pub(crate) fn plain_line(view: &View, columns: Option<usize>) -> String {
    let mut parts = figures_parts(view);
    let mut rate = rate_parts(view);
    if let Some(first) = rate.first_mut() {
        first.lead = "; ";
    }
    parts.extend(rate);
    parts.extend(fleet_parts(view).into_iter().map(|part| Part { rank: part.rank + 4, ..part }));
    fitted(parts, columns.unwrap_or(usize::MAX))
}

/// How far the job is.
pub(crate) fn figures_line(view: &View) -> String {
    joined(&figures_parts(view))
}

fn figures_parts(view: &View) -> Vec<Part> {
    let progress = Progress::of(view);
    let sample = if view.sample.is_some() { "sample: " } else { "" };
    let mut parts = vec![
        part(0, format!("{sample}{}", progress.text())),
        part(2, format!("{} failed", count(progress.failed))),
        part(5, format!("{} pairs", count(progress.pairs))),
    ];
    if view.sample.is_none() {
        parts.push(part(
            7,
            format!("{}/{} documents", count(view.documents_done.into()), count(view.documents.into())),
        ));
    }
    parts
}

/// Who works.
pub(crate) fn fleet_line(view: &View) -> String {
    joined(&fleet_parts(view))
}

fn fleet_parts(view: &View) -> Vec<Part> {
    if !view.connected {
        return vec![part(0, "queue server not reachable, waiting")];
    }
    let serving: Vec<_> = view.servers.iter().filter(|server| server.serving).collect();
    let busy: u32 = serving.iter().map(|server| server.busy).sum();
    let slots: u32 = serving.iter().map(|server| server.slots).sum();
    let hosts: BTreeSet<_> = serving.iter().map(|server| &server.host).collect();
    if view.state == "stopping" {
        return vec![part(0, "finishing what is running")];
    }
    if serving.is_empty() {
        return vec![part(0, "no worker serves this model yet")];
    }
    let waiting = view.published.saturating_sub(u64::from(busy));
    let servers = counted(serving.len() as u64, "LLM server");
    vec![
        part(4, format!("{servers} on {}", counted(hosts.len() as u64, "host"))),
        part(0, format!("{busy}/{slots} slots busy")),
        part(3, format!("{} queued", count(waiting))),
    ]
}

#[cfg(test)]
mod tests;
