//! What a run says before it begins and after it has ended, as text.

pub(crate) mod terminal;

use std::fmt::Write;

use crate::config::{BudgetConfig, GenerateConfig};
use crate::core::{Finish, Spent, StopCause};
use crate::files::{CombinedFigures, EXPECTED, RunSummary, SampleFigures, SpeculationFigures, UsageFigures};
use crate::format::{count, counted, duration, line, rounded};
use crate::ground::Ground;
use crate::plan::PlanReport;
use crate::plan_documents::NO_STATUS;
use crate::report_story::reason;
use qa_shared::model::{JobId, NanoUsd};

/// What the run is about.
pub(crate) fn heading(config: &GenerateConfig, job: &JobId, ground: &Ground) -> String {
    let settings = &config.settings;
    let prompt = &settings.prompt;
    let own =
        prompt.system_message.is_some() || prompt.extra_instructions.is_some() || prompt.template.is_some();
    format!(
        "job {job}: {} -> {}\n{} model {}: {} pairs per chunk, temperature {}, at most {} tokens per answer{}{}; pool {}",
        ground.chunks_dir.display(),
        ground.qa_dir.display(),
        settings.provider,
        settings.model,
        settings.questions_per_chunk,
        settings.temperature,
        count(settings.output_ceiling().into()),
        settings.reasoning.map_or(String::new(), |level| format!(", reasoning {level}")),
        if own { ", with prompt parts of yours" } else { "" },
        config.pool
    )
}

/// What the job may cost and has cost before this run, where it has a budget.
pub(crate) fn budget(budget: &BudgetConfig, spent: &Spent) -> Option<String> {
    let cost = budget.max_cost.map(|limit| format!("{} of {limit} spent (--max-cost)", spent.cost));
    let tokens = budget.max_tokens.map(|limit| {
        format!("{} of {} used (--max-tokens-total)", count(spent.usage.tokens()), counted(limit, "token"))
    });
    let parts: Vec<_> = [cost, tokens].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| format!("budget: {}", parts.join(", ")))
}

/// Missing documents that are named before and after the run.
const MISSING_SHOWN: usize = 10;
/// What to do about them.
const BRING_BACK: &str = "bring the chunk files back (is everything mounted?) and use --resume, or use --resume \
                          --accept-changes to give up what is outstanding of them";

/// The counts shown before the run begins.
pub(crate) fn plan(report: &PlanReport, total_chunks: u64, outstanding: u64) -> String {
    let mut text = String::new();
    let mut say = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    let counts = report.chunks;
    if report.resumed {
        say(format!(
            "resuming: {} done, {} changed, {} not begun",
            counted(report.done_documents as u64, "document"),
            count(report.changed_documents as u64),
            count(report.new_documents as u64)
        ));
        say(format!(
            "  chunks: {} kept, {} moved, {} changed, {} not asked yet, {} dropped, {} failed before ({} tried again)",
            count(counts.kept as u64),
            count(counts.moved as u64),
            count(counts.changed as u64),
            count(counts.new as u64),
            count(counts.dropped as u64),
            count(counts.failed as u64),
            count(report.retried as u64)
        ));
        if report.replayed > 0 {
            say(format!("  {} taken from the journal", counted(report.replayed as u64, "result")));
        }
    }
    for change in &report.changes {
        say(format!("  {}: {} before, {} from now on", change.setting, change.before, change.now));
    }
    for (name, status) in &report.skipped {
        say(format!(
            "skipped: {} has status {}, only `completed` ones are worked on{}",
            line(name, 120),
            line(status, 40),
            // It may be another form of file, not one that is not finished.
            if status == NO_STATUS { format!(": {EXPECTED}") } else { String::new() }
        ));
    }
    for (name, error) in &report.broken {
        say(format!("cannot be processed: {}: {}", line(name, 120), line(error, 400)));
    }
    for (name, missing) in report.missing.iter().take(MISSING_SHOWN) {
        say(format!("missing: {}: {}", line(name, 120), missing.describe()));
    }
    if report.missing.len() > MISSING_SHOWN {
        let more = report.missing.len() - MISSING_SHOWN;
        say(format!("missing: and {} more, see qa_generation_summary.json", count(more as u64)));
    }
    if !report.missing.is_empty() {
        say(format!("  {BRING_BACK}"));
    }
    for note in &report.notes {
        say(format!("note: {note}"));
    }
    match report.sample {
        Some(sample) => {
            let outstanding = counted(outstanding, "outstanding chunk");
            say(format!("a sample of {} of {outstanding}", count(sample as u64)));
        }
        None => say(format!("{} to do of {}", counted(outstanding, "chunk"), count(total_chunks))),
    }
    text
}

/// Failed documents that are shown; the summary file has all.
const FAILED_SHOWN: usize = 5;
/// Slow chunks that are shown; the summary file has ten.
const SLOWEST_SHOWN: usize = 3;

/// How to go on.
pub(crate) struct Resume {
    /// The command line and nothing else: it is pasted into a shell.
    pub(crate) line: String,
    /// What it needs besides.
    pub(crate) needs: Option<String>,
}

/// The summary of a run that has ended.
pub(crate) fn summary(run: &RunSummary, finish: &Finish, resume: &Resume, logs: &[String]) -> String {
    let mut text = String::from("\n");
    let mut say = |label: &str, value: String| {
        writeln!(text, "{label:<12}{value}").expect("a String takes every text");
    };
    for (label, value) in slowest(run) {
        say(label, value);
    }
    say("result", headline(run, finish));
    for (label, value) in figures(run) {
        say(label, value);
    }
    let mut failures: Vec<_> = run.failures.iter().collect();
    failures.sort_by_key(|(_, number)| std::cmp::Reverse(**number));
    for (name, number) in failures.into_iter().take(5) {
        let remedy = reason(name).remedy();
        say("failures", format!("{} x {name}: {remedy}", count(*number as u64)));
    }
    for (name, error) in run.failed_documents.iter().take(FAILED_SHOWN) {
        say("document", format!("{}: {}", line(name, 100), line(error, 300)));
    }
    if run.failed_documents.len() > FAILED_SHOWN {
        let more = run.failed_documents.len() - FAILED_SHOWN;
        say("", format!("and {} more, see qa_generation_summary.json", count(more as u64)));
    }
    for (name, missing) in run.missing_documents.iter().take(MISSING_SHOWN) {
        say("missing", format!("{}: {}", line(name, 100), missing.describe()));
    }
    if run.missing_documents.len() > MISSING_SHOWN {
        let more = run.missing_documents.len() - MISSING_SHOWN;
        say("", format!("and {} more, see qa_generation_summary.json", count(more as u64)));
    }
    if !run.missing_documents.is_empty() {
        say("", BRING_BACK.to_owned());
    }
    say("Q&A files", run.qa_directory.display().to_string());
    if let Some(combined) = &run.combined_file {
        say("combined", combined.display().to_string());
    }
    for line in run.combined.iter().flat_map(beside_the_job) {
        say("", line);
    }
    for path in logs {
        say("failure log", path.clone());
    }
    let can_be_retried = run.failures.keys().any(|name| !reason(name).caused_by_input());
    if run.chunks.outstanding > 0 || can_be_retried {
        say("go on with", resume.line.clone());
        if let Some(needs) = &resume.needs {
            say("", needs.clone());
        }
    }
    text
}

/// Where the combined file differs from the job's pairs.
fn beside_the_job(combined: &CombinedFigures) -> Vec<String> {
    let parts = [("without", &combined.left_out), ("also with", &combined.others)];
    let there = parts.into_iter().filter(|(_, files)| !files.is_empty());
    let lines = there.map(|(word, files)| {
        let first = files.keys().next().map_or_else(String::new, |name| line(name, 100));
        let more = if files.len() > 1 { ", ..." } else { "" };
        let pairs = counted(files.values().sum(), "pair");
        format!("{word} {pairs} of {} ({first}{more})", counted(files.len() as u64, "Q&A file"))
    });
    lines.collect()
}

/// How the run ended, in a phrase.
fn headline(run: &RunSummary, finish: &Finish) -> String {
    match finish {
        Finish::Complete if !run.missing_documents.is_empty() => {
            let missing = counted(run.missing_documents.len() as u64, "document");
            format!("finished, but {missing} of the job could not be worked on")
        }
        Finish::Complete if run.chunks.failed == 0 && run.failed_documents.is_empty() => {
            "finished".to_owned()
        }
        Finish::Complete => "finished, with failures".to_owned(),
        Finish::Sampled => "sample finished".to_owned(),
        Finish::Stopped(StopCause::Signal) => "interrupted".to_owned(),
        Finish::Stopped(StopCause::Detached) => {
            "detached: queued tasks go on without this coordinator".to_owned()
        }
        Finish::Stopped(StopCause::Cancelled) => "cancelled".to_owned(),
        Finish::Stopped(StopCause::Budget(figures)) => {
            format!("interrupted: {figures}; raise the limit, or lower --max-tokens, to go on")
        }
        Finish::Stopped(StopCause::FailureRate(figures)) => format!("stopped: {figures}"),
        Finish::Stopped(StopCause::StoreFull(reason)) => {
            format!("interrupted: {reason}; then go on with --resume")
        }
        Finish::Stopped(StopCause::NoServer(causes)) => {
            format!("interrupted: no LLM server can serve (--wait keeps waiting)\n{causes}")
        }
    }
}

/// Lines about documents, chunks, pairs and cost.
fn figures(run: &RunSummary) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    lines.push((
        "documents",
        format!(
            "{} completed, {} failed, {}{} in all{}",
            count(run.successful_files as u64),
            count(run.failed_files as u64),
            if run.missing_documents.is_empty() {
                String::new()
            } else {
                format!("{} without their chunk file, ", count(run.missing_documents.len() as u64))
            },
            count(run.total_files as u64),
            if run.skipped_files.is_empty() {
                String::new()
            } else {
                format!("; {} skipped, not finished by the chunker", count(run.skipped_files.len() as u64))
            }
        ),
    ));
    lines.push((
        "chunks",
        format!(
            "{} completed, {} failed, {} outstanding, {} in all",
            count(run.chunks.completed as u64),
            count(run.chunks.failed as u64),
            count(run.chunks.outstanding as u64),
            count(run.chunks.total as u64)
        ),
    ));
    if let Some(sample) = run.sample {
        lines.push(("sample", of_sample(sample)));
    }
    lines.push(("pairs", count(run.total_qa_pairs)));
    lines.push((
        "this run",
        format!(
            "{} of {} pairs asked for, {}, {}{}{}, {}",
            count(run.pairs.got),
            count(run.pairs.asked),
            counted(run.usage.calls, "model call"),
            tokens(&run.usage),
            per_pair(run.usage.tokens_per_pair),
            about(run.usage.cost_usd),
            duration(run.usage.seconds)
        ),
    ));
    if let Some(stuck) = run.speculation {
        lines.push(("stuck", second_rounds(stuck)));
    }
    if run.all_runs.calls > run.usage.calls && run.all_runs.cost_usd.is_some_and(|cost| cost > 0.0) {
        let (calls, all) = (counted(run.all_runs.calls, "model call"), count(run.all_runs.tokens));
        lines.push(("all runs", format!("{calls}, {all} tokens{}", about(run.all_runs.cost_usd))));
    }
    lines
}

/// How far a sample came.
fn of_sample(sample: SampleFigures) -> String {
    let [done, chunks, failed] =
        [sample.done, sample.chunks, sample.failed].map(|number| count(number.into()));
    format!("{done} of {chunks} chunks done, {failed} failed")
}

/// The slowest chunks of the job: as many as are shown.
fn slowest(run: &RunSummary) -> Vec<(&'static str, String)> {
    let labels = std::iter::once("slowest").chain(std::iter::repeat(""));
    let shown = run.slowest_chunks.iter().take(SLOWEST_SHOWN).zip(labels);
    let lines = shown.map(|(slow, label)| {
        let worker = slow.worker.as_ref().or(slow.host.as_ref());
        let by = worker.map(|worker| format!(" by {}", line(worker, 80))).unwrap_or_default();
        let link = slow.trace_url.as_ref().map(|url| format!("  {url}")).unwrap_or_default();
        let (took, document) = (slow.duration_seconds, line(&slow.document, 80));
        (label, format!("{took:.1} s  {document}, chunk {}{by}{link}", slow.chunk))
    });
    lines.collect()
}

/// What became of chunks that seemed stuck.
fn second_rounds(stuck: SpeculationFigures) -> String {
    format!(
        "{} also given to a free server, {} answered there first, {} for nothing",
        counted(stuck.started, "chunk"),
        count(stuck.won),
        count(stuck.started.saturating_sub(stuck.won))
    )
}

/// Tokens, and what is special about them where anything is.
fn tokens(usage: &UsageFigures) -> String {
    let parts = |parts: [(u64, &str); 2]| {
        let there = parts.into_iter().filter(|(number, _)| *number > 0);
        let said: Vec<String> = there.map(|(number, what)| format!("{} {what}", count(number))).collect();
        if said.is_empty() { String::new() } else { format!(" ({})", said.join(", ")) }
    };
    format!(
        "{} input{} and {} output{} tokens",
        count(usage.input_tokens),
        parts([(usage.cached_tokens, "cached"), (usage.estimated_input_tokens, "estimated")]),
        count(usage.output_tokens),
        parts([(usage.reasoning_tokens, "reasoning"), (usage.estimated_output_tokens, "estimated")]),
    )
}

/// What a pair took, as a further part of a line.
fn per_pair(tokens: Option<f64>) -> String {
    tokens.map_or_else(String::new, |tokens| format!(", {} per pair", rounded(tokens)))
}

/// What costs something, as a further part of a line.
fn about(cost_usd: Option<f64>) -> String {
    let cost = cost_usd.and_then(NanoUsd::from_dollars).filter(|cost| *cost > NanoUsd(0));
    cost.map_or_else(String::new, |cost| format!(", about {cost}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_alike() {
        let counts = crate::files::AdoptedCounts { kept: 12_345, new: 4_321, ..Default::default() };
        let (done_documents, sample) = (1_234, Some(2_000));
        let report =
            PlanReport { resumed: true, chunks: counts, done_documents, sample, ..PlanReport::default() };
        let text = plan(&report, 98_765, 4_321);
        for part in
            ["1 234 documents done", "12 345 kept", "4 321 not asked yet", "a sample of 2 000 of 4 321"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn tokens_tell_what_is_special_about_them() {
        let mut usage = UsageFigures { input_tokens: 12_000, output_tokens: 300, ..UsageFigures::default() };
        assert_eq!(tokens(&usage), "12 000 input and 300 output tokens");
        (usage.cached_tokens, usage.reasoning_tokens) = (9_000, 120);
        assert_eq!(tokens(&usage), "12 000 input (9 000 cached) and 300 output (120 reasoning) tokens");
        (usage.estimated_input_tokens, usage.estimated_output_tokens) = (1_000, 300);
        assert_eq!(
            tokens(&usage),
            "12 000 input (9 000 cached, 1 000 estimated) and 300 output (120 reasoning, 300 estimated) tokens"
        );
    }

    #[test]
    fn what_a_pair_took_is_told_where_there_is_one() {
        assert_eq!((per_pair(None), per_pair(Some(1246.4))), (String::new(), ", 1 246 per pair".to_owned()));
    }

    #[test]
    fn only_what_costs_something_is_told() {
        assert_eq!((about(None), about(Some(0.0))), (String::new(), String::new()));
        assert_eq!(about(Some(1.234)), ", about $1.23");
    }
}
