//! The runs of a job as people read them (PURE).

use std::fmt::Write;

use qa_shared::model::{FailureReason, NanoUsd};

use crate::format::{count, counted, duration, line, rounded};
use crate::happening::Figures;
use crate::story::{RunStory, Story, Trouble, What};

/// Runs that are shown.
const RUNS_SHOWN: usize = 5;
/// Troubles of a run that are shown.
const TROUBLES_SHOWN: usize = 12;

/// What happened, the latest run first; nothing where no run is known.
pub(crate) fn story(story: &Story) -> String {
    let mut text = String::new();
    for run in story.runs.iter().rev().take(RUNS_SHOWN) {
        tell_run(&mut text, run);
    }
    let not_shown = story.earlier_runs + story.runs.len().saturating_sub(RUNS_SHOWN) as u64;
    if not_shown > 0 {
        say(&mut text, "", &format!("and {} before; --json shows the last 50", counted(not_shown, "run")));
    }
    if story.unreadable_lines > 0 {
        let lines = counted(story.unreadable_lines, "line");
        say(&mut text, "", &format!("{lines} of the event log cannot be read"));
    }
    text
}

/// The command that goes on, if the last run is over and something is left to do.
pub(crate) fn go_on(story: &Story) -> Option<String> {
    let run = story.runs.back().filter(|run| run.outcome != "running" && !run.beginning.resume.is_empty())?;
    let has_left = run.figures.as_ref().is_none_or(|figures| figures.outstanding() > 0);
    let can_retry =
        run.figures.iter().flat_map(|figures| figures.failures.keys()).any(|r| !reason(r).caused_by_input());
    let is_unfinished = matches!(run.outcome.as_str(), "killed" | "error" | "interrupted" | "stopped");
    // Not cut, since it is pasted. Earlier versions of this program wrote prose at its end.
    let command =
        run.beginning.resume.strip_suffix(" and your other settings").unwrap_or(&run.beginning.resume);
    (has_left || can_retry || is_unfinished).then(|| line(command, usize::MAX))
}

/// A time in local time without zone, to the second.
pub(crate) fn when(at: &str) -> String {
    let at: String = line(at, 64).chars().take(19).collect();
    at.replace('T', " ")
}

fn say(text: &mut String, label: &str, value: &str) {
    writeln!(text, "{label:<13}{value}").expect("a String takes every text");
}

fn tell_run(text: &mut String, run: &RunStory) {
    let mut head = when(&run.began);
    if let Some(ended) = run.ended.as_deref().map(when) {
        // The day is not said twice.
        let is_same_day = ended.get(..10) == head.get(..10);
        let shown = if is_same_day { ended.get(11..).unwrap_or(&ended) } else { &ended };
        write!(head, " to {shown}").expect("a String takes every text");
    }
    write!(head, ", {}", duration(run.seconds)).expect("a String takes every text");
    if !run.beginning.host.is_empty() {
        write!(head, " on {}", line(&run.beginning.host, 60)).expect("a String takes every text");
    }
    say(text, "run", &format!("{head}: {}", how(run)));
    if let Some(error) = &run.error {
        say(text, "  error", &line(error, 500));
    }
    if let Some(problem) = run.disk_full.as_ref().filter(|_| run.error.is_none()) {
        say(text, "  disk full", &line(problem, 300));
    }
    match &run.figures {
        Some(figures) => say(text, "  done", &done(run, figures)),
        None => say(text, "  done", "unknown"),
    }
    for (name, number) in run.figures.iter().flat_map(|figures| &figures.failures) {
        say(text, "  failed", &format!("{} x {}: {}", count(*number), line(name, 60), reason(name).remedy()));
    }
    for trouble in run.troubles.iter().take(TROUBLES_SHOWN) {
        say(text, "  trouble", &tell_trouble(trouble, run));
    }
    let more = run.more_troubles + run.troubles.len().saturating_sub(TROUBLES_SHOWN) as u64;
    if more > 0 {
        say(text, "", &format!("and {}", counted(more, "further trouble")));
    }
    if run.redelivered + run.republished > 0 {
        let moved = format!(
            "{} went to another worker or came again, {} were published again",
            counted(run.redelivered, "task"),
            count(run.republished)
        );
        say(text, "  moved", &moved);
    }
    if let Some(file) = &run.combined {
        say(text, "  combined", &line(file, 300));
    }
}

fn how(run: &RunStory) -> String {
    let word = match run.outcome.as_str() {
        "completed" => "finished".to_owned(),
        "failed_chunks" => "finished, with failures".to_owned(),
        "killed" => "ended without a word (killed, or the machine went down)".to_owned(),
        "error" => "ended by an error".to_owned(),
        "running" => "running".to_owned(),
        other => line(other, 40),
    };
    let by = match run.stopped_by.as_deref() {
        Some("signal") => " by a signal".to_owned(),
        Some("cancel") => " by `cancel`".to_owned(),
        Some("detach") => ": the fleet goes on without it (--detach)".to_owned(),
        Some("budget") => " by the budget".to_owned(),
        Some("failure_rate") => " by --max-failure-rate".to_owned(),
        Some(other) => format!(" by {}", line(other, 40)),
        None => String::new(),
    };
    let why = run.stopped_why.as_ref().map(|why| format!(": {}", line(why, 200))).unwrap_or_default();
    let code = run.exit_code.map(|code| format!(" (exit code {code})")).unwrap_or_default();
    format!("{word}{by}{why}{code}")
}

fn done(run: &RunStory, figures: &Figures) -> String {
    let mut parts = vec![
        format!("{} of {} chunks", count(figures.completed), count(run.beginning.outstanding)),
        counted(figures.pairs, "pair"),
        format!(
            "{} tokens{}{}",
            count(figures.input_tokens.saturating_add(figures.output_tokens)),
            match figures.estimated_tokens {
                0 => String::new(),
                estimated => format!(" ({} estimated)", count(estimated)),
            },
            figures
                .tokens_per_pair
                .map_or_else(String::new, |tokens| format!(" ({} per pair)", rounded(tokens)))
        ),
    ];
    if figures.failed > 0 {
        parts.insert(1, format!("{} failed", count(figures.failed)));
    }
    if run.beginning.retried > 0 {
        parts.push(format!("{} tried again", counted(run.beginning.retried, "failed chunk")));
    }
    if let Some(cost) = figures.cost_usd.and_then(NanoUsd::from_dollars) {
        parts.push(format!("about {cost}"));
    }
    if let Some(rate) = run.chunks_per_hour {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped before")]
        let rate = rate.clamp(0.0, 1e12).round() as u64;
        parts.push(format!("{} chunks/h", count(rate)));
    }
    parts.join(", ")
}

fn tell_trouble(trouble: &Trouble, run: &RunStory) -> String {
    let (what, who) = match trouble.what {
        What::Queue => ("queue server not reachable", String::new()),
        What::Worker => ("worker lost on ", line(&trouble.who, 80)),
        What::Server => ("LLM server not reachable: ", line(&trouble.who, 200)),
        What::Stall => ("no result came", String::new()),
    };
    let last = when(&trouble.last);
    let is_running = run.outcome == "running";
    let length = duration(trouble.seconds);
    let how_long = match (trouble.is_open, trouble.times) {
        (true, _) if is_running => format!("since {last}"),
        (true, 1) => format!("at {last}, and to the end of the run"),
        (true, times) => format!("{times} times, the last at {last} and to the end of the run"),
        (false, 1) => format!("at {last} for {length}"),
        (false, times) => format!("{times} times, {length} in all, the last at {last}"),
    };
    let problem = trouble.problem.as_ref().map(|problem| format!(" ({})", line(problem, 120)));
    format!("{what}{who}, {how_long}{}", problem.unwrap_or_default())
}

/// The kind of failure with this name.
pub(crate) fn reason(word: &str) -> FailureReason {
    serde_json::from_value(serde_json::Value::String(word.to_owned())).unwrap_or(FailureReason::Other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Logged;
    use crate::happening::{Beginning, Ending, Happening};

    fn logged(time: &str, second: u64, what: Happening) -> Logged {
        Logged { at: format!("2026-11-{time}.123456"), unix_ms: second * 1000, what }
    }

    #[test]
    fn a_night_is_told_in_a_few_lines() {
        let mut night = Story::default();
        let beginning = Beginning {
            host: "vm\x1b[2J".to_owned(),
            outstanding: 900,
            resume: "qa-coordinator generate --resume".to_owned(),
            ..Beginning::default()
        };
        let figures = Figures {
            completed: 600,
            failed: 3,
            pairs: 1800,
            input_tokens: 500_000,
            output_tokens: 100_000,
            estimated_tokens: 250_000,
            tokens_per_pair: Some(333.3),
            failures: [("no_usable_answer".to_owned(), 3)].into(),
            job_chunks: 900,
            job_completed: 600,
            job_failed: 3,
            ..Figures::default()
        };
        let url = "http://gpu1:11434".to_owned();
        let lines = [
            logged("22T22:03:00", 0, Happening::RunStarted(Box::new(beginning))),
            logged("22T23:00:00", 3420, Happening::QueueLost),
            logged("22T23:00:12", 3432, Happening::QueueBack { seconds: 12.0 }),
            logged("23T01:00:00", 9000, Happening::WorkerLost { host: "gpu2".to_owned() }),
            logged(
                "23T02:00:00",
                12_600,
                Happening::ServerLost { host: "gpu1".to_owned(), url, problem: None },
            ),
            logged("23T03:00:00", 18_000, Happening::Stopping { by: "signal".to_owned(), why: None }),
            logged(
                "23T03:03:00",
                18_000,
                Happening::RunEnded(Box::new(Ending {
                    outcome: "interrupted".to_owned(),
                    exit_code: 3,
                    figures: Some(figures),
                    ..Ending::default()
                })),
            ),
        ];
        for line in lines {
            night.hear(line);
        }
        let night = night.end(None, None);
        let expected = "\
run          2026-11-22 22:03:00 to 2026-11-23 03:03:00, 5 h 00 min on vm [2J: interrupted by a signal (exit code 3)
  done       600 of 900 chunks, 3 failed, 1 800 pairs, 600 000 tokens (250 000 estimated) (333 per pair), 121 chunks/h
  failed     3 x no_usable_answer: look at the raw answers in the failure log; try a larger model, fewer questions or a lower temperature
  trouble    queue server not reachable, at 2026-11-22 23:00:00 for 12 s
  trouble    worker lost on gpu2, at 2026-11-23 01:00:00, and to the end of the run
  trouble    LLM server not reachable: http://gpu1:11434 (gpu1), at 2026-11-23 02:00:00, and to the end of the run
";
        assert_eq!(story(&night), expected);
        assert_eq!(go_on(&night).as_deref(), Some("qa-coordinator generate --resume"));
    }

    #[test]
    fn who_has_finished_needs_no_command() {
        let mut done = Story::default();
        let beginning = Beginning { resume: "x".to_owned(), ..Beginning::default() };
        done.hear(logged("22T22:03:00", 0, Happening::RunStarted(Box::new(beginning))));
        let ending = Ending {
            outcome: "completed".to_owned(),
            figures: Some(Figures { job_chunks: 2, job_completed: 2, ..Figures::default() }),
            ..Ending::default()
        };
        done.hear(logged("22T22:04:00", 60, Happening::RunEnded(Box::new(ending))));
        assert_eq!(go_on(&done), None);
        assert!(
            story(&done).starts_with("run          2026-11-22 22:03:00 to 22:04:00, 1 min 00 s: finished")
        );
    }
}
