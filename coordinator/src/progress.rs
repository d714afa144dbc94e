//! Shows a run while it goes on: bars on a terminal, plain lines elsewhere, nothing with `--quiet`.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use qa_shared::model::{NanoUsd, Outcome, TaskResult};
use tracing_subscriber::fmt::MakeWriter;

use crate::core::{Core, ResultFact, StopCause};
use crate::format::{bar, count, counted, duration, line, text};
use crate::view::View;

/// Plain lines come at most this often.
const PLAIN_EVERY: Duration = Duration::from_secs(10);
/// Failed chunks that are told one by one, per reason.
const FAILURES_TOLD: u64 = 3;

/// Shows progress.
#[derive(Debug)]
pub(crate) struct Reporter {
    kind: Kind,
    told: std::collections::BTreeMap<String, u64>,
    examples: Vec<String>,
    examples_wanted: usize,
}

#[derive(Debug)]
enum Kind {
    Bars(Box<Bars>),
    /// When the last line came, and the finished chunks that it showed.
    Lines {
        last: (Instant, u64),
    },
    Quiet,
}

#[derive(Debug)]
struct Bars {
    main: ProgressBar,
    details: ProgressBar,
    fleet: ProgressBar,
    documents: Vec<ProgressBar>,
    multi: MultiProgress,
}

/// Where bars and log lines share a terminal.
#[derive(Debug, Clone)]
pub(crate) struct Screen(Option<MultiProgress>);

impl Screen {
    /// Bars only where standard error is a terminal and somebody wants to see them.
    pub(crate) fn new(quiet: bool) -> Self {
        let has_bars = !quiet && std::io::stderr().is_terminal();
        Self(has_bars.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(5))))
    }

    /// Writes a line to standard error without tearing the bars.
    pub(crate) fn say(&self, words: &str) {
        self.write(&text(words));
    }

    /// Writes what is plain already, or has the colours of a log line.
    fn write(&self, plain: &str) {
        let write = || {
            // Nobody is left to tell when standard error is closed.
            drop(writeln!(std::io::stderr().lock(), "{plain}"));
        };
        match &self.0 {
            Some(multi) => multi.suspend(write),
            None => write(),
        }
    }
}

/// One log line on its way to the screen.
#[derive(Debug)]
pub(crate) struct ScreenWriter {
    screen: Screen,
    buffer: Vec<u8>,
}

impl<'a> MakeWriter<'a> for Screen {
    type Writer = ScreenWriter;

    fn make_writer(&'a self) -> ScreenWriter {
        ScreenWriter { screen: self.clone(), buffer: Vec::new() }
    }
}

impl Write for ScreenWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for ScreenWriter {
    fn drop(&mut self) {
        if !self.buffer.is_empty() {
            self.screen.write(String::from_utf8_lossy(&self.buffer).trim_end_matches('\n'));
        }
    }
}

impl Reporter {
    pub(crate) fn new(screen: &Screen, quiet: bool, examples_wanted: usize) -> Self {
        let kind = match (&screen.0, quiet) {
            (_, true) => Kind::Quiet,
            (None, false) => Kind::Lines { last: (Instant::now(), 0) },
            (Some(multi), false) => Kind::Bars(Box::new(Bars::new(multi))),
        };
        Self { kind, told: std::collections::BTreeMap::new(), examples: Vec::new(), examples_wanted }
    }

    /// Shows the figures; plain lines only now and then.
    pub(crate) fn show(&mut self, view: &View) {
        match &mut self.kind {
            Kind::Bars(bars) => bars.show(view),
            Kind::Lines { last } => {
                let done = view.completed + view.failed;
                let (when, shown) = *last;
                let pause = if shown == done { PLAIN_EVERY * 6 } else { PLAIN_EVERY };
                if when.elapsed() >= pause {
                    *last = (Instant::now(), done);
                    say(&plain_line(view));
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

    /// Takes the bars away before the summary; gives the kept pairs as text.
    pub(crate) fn finish(self) -> Vec<String> {
        if let Kind::Bars(bars) = self.kind {
            // A bar that is only cleared comes back below the next line that is said.
            for bar in [&bars.main, &bars.details, &bars.fleet].into_iter().chain(&bars.documents) {
                bar.finish_and_clear();
                bars.multi.remove(bar);
            }
        }
        self.examples
    }
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
        StopCause::NoServer(causes) => tracing::error!("no LLM server can serve: stopping\n{causes}"),
    }
}

fn say(words: &str) {
    // Nobody is left to tell when standard error is closed.
    drop(writeln!(std::io::stderr().lock(), "{}", text(words)));
}

/// How fast it goes and how long it will take.
pub(crate) fn rate_and_eta(view: &View) -> String {
    let eta = match view.eta_seconds {
        _ if view.completed + view.failed == view.chunks => "done".to_owned(),
        Some(seconds) => format!("{} left", duration(seconds)),
        None => "no result yet".to_owned(),
    };
    format!(
        "{:.1} chunks/min, {:.0} tokens/s{}, {eta}",
        view.chunks_per_minute,
        view.tokens_per_second,
        spent_so_far(view)
    )
}

/// What was spent, where anything costs something.
fn spent_so_far(view: &View) -> String {
    let Some(cost) = view.all_runs_cost_usd.and_then(NanoUsd::from_dollars) else { return String::new() };
    match view.max_cost_usd.and_then(NanoUsd::from_dollars) {
        Some(limit) => format!(", {cost} of {limit} spent"),
        None => format!(", {cost} spent"),
    }
}

/// One line that says where the run stands.
pub(crate) fn plain_line(view: &View) -> String {
    format!("{}; {}, {}", figures_line(view), rate_and_eta(view), fleet_line(view))
}

/// How far the job is.
pub(crate) fn figures_line(view: &View) -> String {
    let done = view.completed + view.failed;
    let percent = if view.chunks == 0 { 100.0 } else { done as f64 / view.chunks as f64 * 100.0 };
    format!(
        "{}/{} chunks ({percent:.0} %), {} failed, {} pairs, {}/{} documents",
        count(done),
        count(view.chunks),
        count(view.failed),
        count(view.pairs),
        view.documents_done,
        view.documents
    )
}

/// Who works.
pub(crate) fn fleet_line(view: &View) -> String {
    if !view.connected {
        return "queue server not reachable, waiting".to_owned();
    }
    let serving: Vec<_> = view.servers.iter().filter(|server| server.serving).collect();
    let busy: u32 = serving.iter().map(|server| server.busy).sum();
    let slots: u32 = serving.iter().map(|server| server.slots).sum();
    let hosts: std::collections::BTreeSet<_> = serving.iter().map(|server| &server.host).collect();
    if view.state == "stopping" {
        return "finishing what is running".to_owned();
    }
    if serving.is_empty() {
        return "no worker serves this model yet".to_owned();
    }
    let waiting = view.published.saturating_sub(u64::from(busy));
    format!(
        "{} on {}, {busy}/{slots} slots busy, {} queued",
        counted(serving.len() as u64, "LLM server"),
        counted(hosts.len() as u64, "host"),
        count(waiting)
    )
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// A line of text among the bars.
fn text_line(multi: &MultiProgress) -> ProgressBar {
    let line = multi.add(ProgressBar::new(0));
    line.set_style(style("{msg}"));
    line
}

impl Bars {
    fn new(multi: &MultiProgress) -> Self {
        let main = multi.add(ProgressBar::new(0));
        main.set_style(style("{bar:32} {pos}/{len} chunks {percent}%  {msg}").progress_chars("=> "));
        Self {
            main,
            details: text_line(multi),
            fleet: text_line(multi),
            documents: Vec::new(),
            multi: multi.clone(),
        }
    }

    fn show(&mut self, view: &View) {
        self.main.set_length(view.chunks);
        self.main.set_position(view.completed + view.failed);
        self.main.set_message(rate_and_eta(view));
        let failures: Vec<_> =
            view.failures.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        let failures =
            if failures.is_empty() { String::new() } else { format!(" ({})", failures.join(", ")) };
        self.details.set_message(format!(
            "{} pairs, {} failed{failures}, {}/{} documents done, {}",
            count(view.pairs),
            count(view.failed),
            view.documents_done,
            view.documents,
            duration(view.elapsed_seconds)
        ));
        self.fleet.set_message(fleet_line(view));
        while self.documents.len() < view.active.len() {
            self.documents.push(text_line(&self.multi));
        }
        while self.documents.len() > view.active.len() {
            if let Some(bar) = self.documents.pop() {
                self.multi.remove(&bar);
            }
        }
        for (shown, document) in self.documents.iter().zip(&view.active) {
            let done = document.completed + document.failed;
            let failed =
                if document.failed == 0 { String::new() } else { format!(", {} failed", document.failed) };
            shown.set_message(format!(
                "  {} {done}/{} {}{failed}",
                bar(u64::from(done), u64::from(document.chunks), 20),
                document.chunks,
                line(&document.name, 50)
            ));
        }
    }
}
