//! What a run of the harness came to, for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use crate::act::Outcome;
use crate::schedule::{Place, Schedule};

/// Figures of all schedules.
#[derive(Default)]
pub(crate) struct Report {
    good: u64,
    fleets: u64,
    failed: Vec<u64>,
    injected: BTreeMap<String, usize>,
    missed: usize,
    no_disk: Option<String>,
    repeated: (u64, u64),
    worst: Duration,
    worst_seed: u64,
    silence: Duration,
    silence_seed: u64,
}

impl Report {
    pub(crate) fn add(&mut self, schedule: &Schedule, outcome: Result<Outcome, ()>) {
        self.fleets += u64::from(schedule.place == Place::Fleet);
        let Ok(outcome) = outcome else {
            self.failed.push(schedule.seed);
            return;
        };
        self.good += 1;
        for (kind, count) in outcome.injected {
            *self.injected.entry(kind).or_default() += count;
        }
        self.missed += outcome.missed;
        self.no_disk = self.no_disk.take().or(outcome.no_disk);
        self.repeated.0 += outcome.repeated.0;
        self.repeated.1 += outcome.repeated.1;
        if outcome.recovery > self.worst {
            (self.worst, self.worst_seed) = (outcome.recovery, schedule.seed);
        }
        if outcome.silence > self.silence {
            (self.silence, self.silence_seed) = (outcome.silence, schedule.seed);
        }
    }

    /// The commands that repeat what failed; empty if nothing did.
    pub(crate) fn failed(&self) -> String {
        let again = self.failed.iter().map(|seed| {
            format!(
                "QA_CHAOS_SEED={seed} QA_CHAOS_SCHEDULES=1 cargo test -p qa-coordinator --test chaos whatever"
            )
        });
        again.collect::<Vec<_>>().join("\n")
    }

    /// Also where the output of tests that succeed is not shown.
    pub(crate) fn show(&self, elapsed: Duration) {
        let mut text = String::from("\n");
        let run = self.good + self.failed.len() as u64;
        let seconds = |duration: Duration| duration.as_secs_f64();
        let lines = [
            format!("chaos: {run} schedules, {} of them fleets; {} without a defect", self.fleets, self.good),
            format!(
                "time: {:.0} s; worst recovery {:.1} s (seed {})",
                seconds(elapsed),
                seconds(self.worst),
                self.worst_seed
            ),
            format!(
                "worst time without progress and without a warning: {:.1} s (seed {})",
                seconds(self.silence),
                self.silence_seed
            ),
            format!("model calls repeated: {}, at most {} may be", self.repeated.0, self.repeated.1),
            format!(
                "faults: {} injected, {} hit nothing, such as a process that was down",
                self.injected.values().sum::<usize>(),
                self.missed
            ),
        ];
        let kinds = self.injected.iter().map(|(kind, count)| format!("  {count:4}  {kind}"));
        let no_disk = self
            .no_disk
            .iter()
            .map(|reason| format!("full disk: not tried, since no tmpfs can be mounted here: {reason}"));
        for line in lines.into_iter().chain(no_disk).chain(kinds) {
            writeln!(text, "{line}").unwrap();
        }
        std::io::stdout().lock().write_all(text.as_bytes()).unwrap();
    }
}
