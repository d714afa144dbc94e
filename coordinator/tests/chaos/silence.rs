//! How long a job stood still while its coordinator did not say why.

use std::fs;
use std::time::{Duration, Instant};

use crate::stage::Stage;

/// How often it is looked.
pub(crate) const TICK: Duration = Duration::from_millis(500);

/// Whatever shows that the job moves or that people know why it does not.
#[derive(Debug, Default, PartialEq, Eq)]
struct Signs {
    calls_finished: u64,
    completed: Option<u64>,
    warnings: usize,
    coordinator: Option<u32>,
}

/// The longest silence so far.
#[derive(Debug)]
pub(crate) struct Silence {
    last: Signs,
    since: Instant,
    pub(crate) worst: Duration,
}

impl Silence {
    pub(crate) fn new() -> Self {
        Self { last: Signs::default(), since: Instant::now(), worst: Duration::ZERO }
    }

    /// Something was harmed or healed: what follows from it takes time anew.
    pub(crate) fn begins_again(&mut self) {
        self.since = Instant::now();
    }

    pub(crate) fn look(&mut self, stage: &Stage) {
        let now = Signs {
            calls_finished: stage.llms.iter().map(|llm| llm.fake.stats().finished).sum(),
            completed: completed(stage),
            warnings: stage.coordinator.as_ref().map_or(0, |running| warnings(&running.said())),
            coordinator: stage.coordinator.as_ref().map(crate::processes::Running::pid),
        };
        if now != self.last || now.coordinator.is_none() {
            self.last = now;
            self.since = Instant::now();
        }
        self.worst = self.worst.max(self.since.elapsed());
    }
}

fn completed(stage: &Stage) -> Option<u64> {
    let text = fs::read_to_string(stage.site.job_folder().join("progress.json")).ok()?;
    serde_json::from_str::<serde_json::Value>(&text).ok()?["completed"].as_u64()
}

fn warnings(said: &str) -> usize {
    said.lines().filter(|line| line.contains(" WARN ") || line.contains("ERROR ")).count()
}
