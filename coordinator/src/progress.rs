//! Shows a run while it goes on: a live area on a terminal, plain lines elsewhere, nothing with `--quiet`.

use std::time::{Duration, Instant};

use qa_shared::console::Console;
use qa_shared::model::{Outcome, TaskResult};
use serde_json::Map;
use tracing::Level;

use crate::core::{Core, ResultFact, StopCause};
use crate::format::line;
use crate::report::terminal::{Progress, plain_line, rows};
use crate::view::View;

/// Plain lines come at most this often.
const PLAIN_EVERY: Duration = Duration::from_secs(10);
/// Failed chunks that are told one by one, per reason.
const FAILURES_TOLD: u64 = 3;

/// Shows progress.
#[derive(Debug)]
pub(crate) struct Reporter {
    console: Console,
    kind: Kind,
    told: std::collections::BTreeMap<String, u64>,
    examples: Vec<String>,
    examples_wanted: usize,
}

#[derive(Debug)]
enum Kind {
    Live,
    /// When the last line came, and the finished chunks that it showed.
    Lines {
        last: (Instant, u64),
    },
    Quiet,
}

impl Reporter {
    pub(crate) fn new(console: &Console, quiet: bool, examples_wanted: usize) -> Self {
        let kind = match (console.has_live(), quiet) {
            (_, true) => Kind::Quiet,
            (false, false) => Kind::Lines { last: (Instant::now(), 0) },
            (true, false) => Kind::Live,
        };
        let told = std::collections::BTreeMap::new();
        Self { console: console.clone(), kind, told, examples: Vec::new(), examples_wanted }
    }

    /// Shows the figures; plain lines only now and then.
    pub(crate) fn show(&mut self, view: &View) {
        match &mut self.kind {
            Kind::Live => {
                let view = view.clone();
                self.console.show(move |size| rows(&view, size));
            }
            Kind::Lines { last } => {
                let done = Progress::of(view).done();
                let (when, shown) = *last;
                let pause = if shown == done { PLAIN_EVERY * 6 } else { PLAIN_EVERY };
                if when.elapsed() >= pause {
                    *last = (Instant::now(), done);
                    tell_progress(&self.console, view);
                }
            }
            Kind::Quiet => {}
        }
    }

    /// Tells the first failures of each kind with their reason; the rest is in the summary. Keeps a few
    /// chunks' pairs for a sample.
    pub(crate) fn result(&mut self, core: &Core, fact: &ResultFact, result: &TaskResult) {
        let failure = match &result.outcome {
            Outcome::Failed { failure } => failure,
            Outcome::Completed { pairs } => {
                if self.examples.len() < self.examples_wanted {
                    let document = core.documents().get(fact.task.document as usize);
                    let name = document.map_or("?", |document| document.name().as_str());
                    let mut text = format!("{}, chunk {}:", line(name, 80), fact.task.chunk);
                    for pair in pairs {
                        text.push_str("\n  Q: ");
                        text.push_str(&line(&pair.question, 300));
                        text.push_str("\n  A: ");
                        text.push_str(&line(&pair.answer, 600));
                    }
                    self.examples.push(text);
                }
                return;
            }
        };
        let told = self.told.entry(failure.reason.to_string()).or_default();
        *told += 1;
        if *told > FAILURES_TOLD {
            return;
        }
        let document = core.documents().get(fact.task.document as usize);
        let document = document.map_or("?", |document| document.name().as_str());
        tracing::warn!(
            document,
            chunk = fact.task.chunk,
            reason = failure.reason.as_str(),
            chunk_trace_id = %result.key.trace_id(),
            "chunk failed: {}{}",
            line(&failure.message, 300),
            if *told == FAILURES_TOLD { " (further ones of this kind are only counted)" } else { "" }
        );
    }

    /// Takes the live area away before the summary; gives the kept pairs as text.
    pub(crate) fn finish(self) -> Vec<String> {
        self.console.hide();
        self.examples
    }
}

fn tell_progress(console: &Console, view: &View) {
    let fields = serde_json::to_value(view).map(|view| Map::from_iter([("progress".to_owned(), view)]));
    console.tell(Level::INFO, "progress", &plain_line(view, console.columns()), fields.unwrap_or_default());
}

/// Says why the run stops.
pub(crate) fn tell_stop(cause: &StopCause) {
    match cause {
        StopCause::Signal => {
            tracing::info!("stopping: queued tasks are taken back; a second signal leaves at once");
        }
        StopCause::Detached => tracing::info!("detaching: the fleet goes on with what is queued"),
        StopCause::Cancelled => tracing::info!("the job was cancelled: its tasks are dropped"),
        StopCause::Budget(figures) => {
            tracing::error!(
                "{figures}: stopping; raise the limit, or lower --max-tokens, and go on with --resume"
            );
        }
        StopCause::FailureRate(figures) => tracing::error!("{figures}: stopping (--max-failure-rate)"),
        StopCause::StoreFull(reason) => tracing::error!("{reason}: stopping; go on with --resume"),
        StopCause::NoServer(causes) => tracing::error!("no LLM server can serve: stopping\n{causes}"),
    }
}
