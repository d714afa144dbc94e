//! What the event log tells about each run: when, how long, what was done, what went wrong, how it ended (PURE).
//!
//! It reads lines one by one and keeps what they sum up to; how that is shown is for others.

use std::collections::VecDeque;

use serde::Serialize;

use crate::files::Logged;
use crate::happening::{Beginning, Ending, Figures, Happening};

/// Runs that are kept; of earlier ones there is only a count.
const MOST_RUNS: usize = 50;
/// Workers of one host that are followed while they are away.
const MOST_AWAY: usize = 1000;
/// Different troubles that are kept for each run.
const MOST_TROUBLES: usize = 100;

/// The runs of a job, the latest last.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Story {
    pub(crate) runs: VecDeque<RunStory>,
    /// Runs before these.
    pub(crate) earlier_runs: u64,
    /// Lines of the log that cannot be read.
    pub(crate) unreadable_lines: u64,
    #[serde(skip)]
    last_ms: u64,
    #[serde(skip)]
    last_at: String,
}

/// One run.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct RunStory {
    /// When it began, in local time without zone.
    pub(crate) began: String,
    pub(crate) began_ms: u64,
    /// When it ended, or the last that was heard of it.
    pub(crate) ended: Option<String>,
    /// From begin to end, in seconds.
    pub(crate) seconds: f64,
    /// `completed`, `failed_chunks`, `interrupted`, `stopped`, `error`, `running`, or `killed` where it ended
    /// without a word.
    pub(crate) outcome: String,
    pub(crate) exit_code: Option<u8>,
    /// The error that ended it.
    pub(crate) error: Option<String>,
    /// Who or what stopped it.
    pub(crate) stopped_by: Option<String>,
    /// The figures that led to that.
    pub(crate) stopped_why: Option<String>,
    #[serde(flatten)]
    pub(crate) beginning: Beginning,
    /// How far it came.
    pub(crate) figures: Option<Figures>,
    pub(crate) chunks_per_hour: Option<f64>,
    /// Workers that joined.
    pub(crate) workers: u64,
    pub(crate) troubles: Vec<Trouble>,
    /// Kinds of trouble beyond those.
    pub(crate) more_troubles: u64,
    /// Results of tasks that were delivered more than once.
    pub(crate) redelivered: u64,
    /// Tasks that the queue had lost.
    pub(crate) republished: u64,
    /// What could not be written for want of room.
    pub(crate) disk_full: Option<String>,
    /// The combined file, if one was written.
    pub(crate) combined: Option<String>,
    #[serde(skip)]
    is_over: bool,
}

/// The last that a run has said outside the event log.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LastSign {
    /// When, in milliseconds since 1970 UTC.
    pub(crate) unix_ms: u64,
    /// The same in local time without zone.
    pub(crate) at: String,
    /// How far the run was.
    pub(crate) figures: Figures,
}

/// Somebody or something that was away, once or several times.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Trouble {
    pub(crate) what: What,
    /// The host, or host and address.
    pub(crate) who: String,
    pub(crate) times: u64,
    /// All times together.
    pub(crate) seconds: f64,
    /// When it last began, in local time without zone.
    pub(crate) last: String,
    /// Whether it lasted to the end of the run, or lasts now.
    pub(crate) is_open: bool,
    pub(crate) problem: Option<String>,
    /// When each that is away now went.
    #[serde(skip)]
    since_ms: Vec<u64>,
}

/// A kind of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum What {
    /// The queue server could not be reached.
    Queue,
    /// A worker gave no sign of life.
    Worker,
    /// An LLM server did not answer.
    Server,
    /// No result came.
    Stall,
}

impl Story {
    /// Takes the next line.
    pub(crate) fn hear(&mut self, line: Logged) {
        let Logged { at, unix_ms, what } = line;
        if matches!(what, Happening::Cancelled) {
            // After the run, however that ended: its end was not now.
            if let Some(run) = self.runs.back_mut() {
                run.stopped_by = Some("cancel".to_owned());
            }
            return;
        }
        if let Happening::RunStarted(beginning) = what {
            self.give_up_last();
            self.begin(&at, unix_ms, *beginning);
        } else if !matches!(what, Happening::Unknown) {
            if self.runs.back().is_none_or(|run| run.is_over) {
                if !self.runs.is_empty() {
                    // Nothing belongs between two runs.
                    return;
                }
                // The line of its begin is gone with an older file.
                self.begin(&at, unix_ms, Beginning::default());
            }
            if let Some(run) = self.runs.back_mut() {
                run.hear(&at, unix_ms, what);
            }
        }
        (self.last_at, self.last_ms) = (at, unix_ms);
    }

    /// The story as it stands. `running_now_ms` is the time of now if a coordinator works at the moment;
    /// `last_sign` the last sign of life from elsewhere.
    pub(crate) fn end(mut self, running_now_ms: Option<u64>, last_sign: Option<LastSign>) -> Self {
        if let Some(run) = self.runs.back_mut().filter(|run| !run.is_over) {
            if let Some(sign) = last_sign.filter(|sign| sign.unix_ms >= run.began_ms) {
                run.figures = Some(sign.figures);
                if sign.unix_ms > self.last_ms {
                    (self.last_ms, self.last_at) = (sign.unix_ms, sign.at);
                }
            }
            if let Some(now) = running_now_ms {
                "running".clone_into(&mut run.outcome);
                run.close(now);
            }
        }
        self.give_up_last();
        self
    }

    fn begin(&mut self, at: &str, unix_ms: u64, beginning: Beginning) {
        if self.runs.len() == MOST_RUNS {
            self.runs.pop_front();
            self.earlier_runs += 1;
        }
        self.runs.push_back(RunStory {
            began: at.to_owned(),
            began_ms: unix_ms,
            beginning,
            ..RunStory::default()
        });
    }

    fn give_up_last(&mut self) {
        if let Some(run) = self.runs.back_mut().filter(|run| !run.is_over) {
            "killed".clone_into(&mut run.outcome);
            run.ended = Some(self.last_at.clone());
            run.close(self.last_ms);
        }
    }
}

impl RunStory {
    fn hear(&mut self, at: &str, unix_ms: u64, what: Happening) {
        match what {
            Happening::RunEnded(ending) => {
                let Ending { outcome, exit_code, error, seconds, figures } = *ending;
                self.outcome = outcome;
                self.exit_code = Some(exit_code);
                self.error = error;
                self.figures = figures.or(self.figures.take());
                self.ended = Some(at.to_owned());
                self.close(unix_ms);
                self.seconds = self.seconds.max(seconds);
                self.count_rate();
            }
            Happening::Figures(figures) => self.figures = Some(figures),
            Happening::WorkerPresent { .. } => self.workers += 1,
            Happening::WorkerLost { host } => self.begins(What::Worker, host, at, unix_ms, None),
            Happening::WorkerBack { host, seconds } => self.ends(What::Worker, &host, seconds),
            Happening::ServerLost { host, url, problem } => {
                self.begins(What::Server, server(&url, &host), at, unix_ms, problem);
            }
            Happening::ServerBack { host, url, seconds } => {
                self.ends(What::Server, &server(&url, &host), seconds);
            }
            Happening::QueueLost => self.begins(What::Queue, String::new(), at, unix_ms, None),
            Happening::QueueBack { seconds } => self.ends(What::Queue, "", seconds),
            Happening::StallBegan { seconds } => {
                // It began before it was noticed.
                let since = unix_ms.saturating_sub(millis(seconds));
                self.begins(What::Stall, String::new(), at, since, None);
            }
            Happening::StallEnded { seconds } => self.ends(What::Stall, "", seconds),
            Happening::TasksMoved { redelivered, republished } => {
                self.redelivered = self.redelivered.saturating_add(redelivered);
                self.republished = self.republished.saturating_add(republished);
            }
            Happening::DiskFull { problem } => self.disk_full = Some(problem),
            Happening::Stopping { by, why } => (self.stopped_by, self.stopped_why) = (Some(by), why),
            Happening::Combined { file, .. } => self.combined = Some(file),
            Happening::WorkerLeft { .. }
            | Happening::SecondRound { .. }
            | Happening::RunStarted(_)
            | Happening::Cancelled
            | Happening::Unknown => {}
        }
    }

    fn begins(&mut self, what: What, who: String, at: &str, since_ms: u64, problem: Option<String>) {
        if let Some(trouble) = self.trouble(what, &who) {
            trouble.times += 1;
            trouble.is_open = true;
            at.clone_into(&mut trouble.last);
            if trouble.since_ms.len() < MOST_AWAY {
                trouble.since_ms.push(since_ms);
            }
            trouble.problem = problem.or(trouble.problem.take());
        } else if self.troubles.len() >= MOST_TROUBLES {
            self.more_troubles += 1;
        } else {
            let last = at.to_owned();
            let trouble = Trouble {
                what,
                who,
                times: 1,
                seconds: 0.0,
                last,
                is_open: true,
                problem,
                since_ms: vec![since_ms],
            };
            self.troubles.push(trouble);
        }
    }

    fn ends(&mut self, what: What, who: &str, seconds: f64) {
        if let Some(trouble) = self.trouble(what, who) {
            trouble.since_ms.pop();
            trouble.is_open = !trouble.since_ms.is_empty();
            trouble.seconds += seconds.max(0.0);
        }
    }

    fn trouble(&mut self, what: What, who: &str) -> Option<&mut Trouble> {
        self.troubles.iter_mut().find(|trouble| trouble.what == what && trouble.who == who)
    }

    /// Nothing more is heard of this run; what was away is away until then.
    fn close(&mut self, unix_ms: u64) {
        self.is_over = true;
        self.seconds = unix_ms.saturating_sub(self.began_ms) as f64 / 1000.0;
        for trouble in self.troubles.iter_mut().filter(|trouble| trouble.is_open) {
            let lasted = trouble.since_ms.iter().map(|since| unix_ms.saturating_sub(*since) as f64 / 1000.0);
            trouble.seconds += lasted.sum::<f64>();
        }
        self.count_rate();
    }

    fn count_rate(&mut self) {
        let finished = self.figures.as_ref().map(|figures| figures.completed + figures.failed);
        self.chunks_per_hour = finished
            .filter(|finished| *finished > 0 && self.seconds > 0.0)
            .map(|finished| finished as f64 * 3600.0 / self.seconds);
    }
}

fn server(url: &str, host: &str) -> String {
    format!("{url} ({host})")
}

fn millis(seconds: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped before")]
    let millis = (seconds.clamp(0.0, 1e9) * 1000.0) as u64;
    millis
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(lines: &[(u64, Happening)]) -> Story {
        let mut story = Story::default();
        for (second, what) in lines {
            story.hear(Logged { at: format!("at {second}"), unix_ms: second * 1000, what: what.clone() });
        }
        story
    }

    fn began() -> Happening {
        let beginning = Beginning { host: "vm".to_owned(), outstanding: 60, ..Beginning::default() };
        Happening::RunStarted(Box::new(beginning))
    }

    fn ended(completed: u64) -> Happening {
        let figures = Figures { completed, job_chunks: 60, job_completed: completed, ..Figures::default() };
        Happening::RunEnded(Box::new(Ending {
            outcome: "completed".to_owned(),
            figures: Some(figures),
            seconds: 1800.0,
            ..Ending::default()
        }))
    }

    fn sign(second: u64, figures: &Figures) -> LastSign {
        LastSign { unix_ms: second * 1000, at: format!("at {second}"), figures: figures.clone() }
    }

    fn lost(host: &str) -> Happening {
        Happening::WorkerLost { host: host.to_owned() }
    }

    fn back(host: &str, seconds: f64) -> Happening {
        Happening::WorkerBack { host: host.to_owned(), seconds }
    }

    #[test]
    fn a_run_is_summed_up() {
        let moved = |redelivered| Happening::TasksMoved { redelivered, republished: 1 };
        let story = told(&[
            (100, began()),
            (110, lost("gpu1")),
            (150, back("gpu1", 40.0)),
            (160, Happening::QueueLost),
            (170, Happening::QueueBack { seconds: 10.0 }),
            (180, lost("gpu1")),
            (200, back("gpu1", 20.0)),
            (210, moved(2)),
            (220, lost("gpu2")),
            (300, moved(5)),
            (1900, ended(60)),
        ])
        .end(None, None);
        let run = &story.runs[0];
        assert_eq!(
            (run.outcome.as_str(), run.seconds, run.chunks_per_hour),
            ("completed", 1800.0, Some(120.0))
        );
        let troubles: Vec<_> =
            run.troubles.iter().map(|t| (t.what, t.who.as_str(), t.times, t.seconds, t.is_open)).collect();
        let expected = [
            (What::Worker, "gpu1", 2, 60.0, false),
            (What::Queue, "", 1, 10.0, false),
            (What::Worker, "gpu2", 1, 1680.0, true),
        ];
        assert_eq!(troubles, expected);
        assert_eq!((run.redelivered, run.republished), (7, 2));
    }

    #[test]
    fn of_two_workers_on_a_host_one_may_be_back() {
        let lines = [(0, began()), (10, lost("gpu1")), (20, lost("gpu1")), (50, back("gpu1", 30.0))];
        let story = told(&[&lines[..], &[(100, ended(1))]].concat()).end(None, None);
        let trouble = &story.runs[0].troubles[0];
        assert_eq!((trouble.times, trouble.is_open, trouble.seconds), (2, true, 120.0));
    }

    #[test]
    fn a_run_without_an_end_was_killed_unless_it_goes_on() {
        let lines = [(100, began()), (200, Happening::QueueLost), (1000, began()), (1100, lost("gpu1"))];
        let figures = Figures { completed: 7, ..Figures::default() };
        let story = told(&lines).end(None, Some(sign(1160, &figures)));
        let outcomes: Vec<_> = story.runs.iter().map(|run| (run.outcome.as_str(), run.seconds)).collect();
        assert_eq!(outcomes, [("killed", 100.0), ("killed", 160.0)]);
        assert_eq!(story.runs[1].figures, Some(figures.clone()));
        // It ended at its last sign of life, which was no event.
        assert_eq!(story.runs[1].ended.as_deref(), Some("at 1160"));
        let story = told(&lines).end(None, Some(sign(1050, &figures)));
        assert_eq!(story.runs[1].ended.as_deref(), Some("at 1100"), "an event came after that");
        let story = told(&lines).end(Some(1_400_000), Some(sign(900, &figures)));
        assert_eq!((story.runs[1].outcome.as_str(), story.runs[1].seconds), ("running", 400.0));
        assert_eq!(story.runs[1].figures, None, "they are of an earlier run");
        assert!(story.runs[1].troubles[0].is_open);
    }

    #[test]
    fn a_log_whose_begin_is_gone_still_tells_the_rest() {
        let story =
            told(&[(50, lost("gpu1")), (90, ended(1)), (95, lost("x")), (100, began())]).end(None, None);
        let outcomes: Vec<_> = story.runs.iter().map(|run| run.outcome.as_str()).collect();
        assert_eq!(outcomes, ["completed", "killed"]);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut lines = vec![(0, began())];
        lines.extend((0..500).map(|host| (1, lost(&format!("gpu{host}")))));
        lines.extend((0..80).map(|run| (10 + run, began())));
        let story = told(&lines).end(None, None);
        assert_eq!((story.runs.len(), story.earlier_runs), (50, 31));
        let story = told(&lines[..501]).end(None, None);
        assert_eq!((story.runs[0].troubles.len(), story.runs[0].more_troubles), (100, 400));
    }
}
