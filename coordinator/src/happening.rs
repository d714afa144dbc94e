//! What can happen to a run, as it stands in the event log (PURE).
//!
//! Lines outlive versions: fields that are missing have a default, and an event that this version does not know
//! is [`Happening::Unknown`]. When something happened is for the log to say.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::core::{Core, StopCause};
use crate::files::SpeculationFigures;

/// One event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Happening {
    /// A run has its plan and begins.
    RunStarted(Box<Beginning>),
    /// It has ended.
    RunEnded(Box<Ending>),
    /// How far a run has come; now and then, for the case that it cannot say how it ends.
    Figures(Figures),
    /// A worker is there for the first time.
    WorkerPresent {
        /// Its host.
        host: String,
        /// Its slots.
        slots: u32,
    },
    /// A worker went in good order.
    WorkerLeft {
        /// Its host.
        host: String,
    },
    /// A worker gives no sign of life any more.
    WorkerLost {
        /// Its host.
        host: String,
    },
    /// There is a worker again on a host that had lost one.
    WorkerBack {
        /// The host.
        host: String,
        /// For how long it was away.
        seconds: f64,
    },
    /// An LLM server does not answer its worker any more.
    ServerLost {
        /// The worker's host.
        host: String,
        /// The server's address.
        url: String,
        /// What the worker says about it.
        #[serde(default)]
        problem: Option<String>,
    },
    /// It answers again.
    ServerBack {
        /// The worker's host.
        host: String,
        /// The server's address.
        url: String,
        /// For how long it did not.
        seconds: f64,
    },
    /// Tasks went to another worker, or were published again because the queue had lost them; since the last
    /// event of this kind.
    TasksMoved {
        /// Results of tasks that were delivered more than once.
        redelivered: u64,
        /// Tasks published again.
        republished: u64,
    },
    /// A chunk seemed stuck at its server and is tried by another one too.
    SecondRound {
        /// The document.
        document: String,
        /// The chunk's position there.
        chunk: u32,
        /// The round that begins.
        round: u32,
        /// The address of the server that has the other one, where that is known.
        #[serde(default)]
        server: Option<String>,
    },
    /// Tasks are out and no result has come for long.
    StallBegan {
        /// For how long.
        seconds: f64,
    },
    /// A result came after all, or nothing is out any more.
    StallEnded {
        /// For how long none had come.
        seconds: f64,
    },
    /// The queue server cannot be reached any more.
    QueueLost,
    /// It can again.
    QueueBack {
        /// For how long it could not.
        seconds: f64,
    },
    /// A file of the job cannot be written for want of room; the run ends.
    DiskFull {
        /// The system's words.
        problem: String,
    },
    /// The run stops before its end.
    Stopping {
        /// Who or what stops it: see [`stopped_by`].
        by: String,
        /// The figures that led to it.
        #[serde(default)]
        why: Option<String>,
    },
    /// `cancel` stopped the job while nobody ran it.
    Cancelled,
    /// The combined file was written.
    Combined {
        /// Where.
        file: String,
        /// Its pairs.
        pairs: u64,
    },
    /// Something of another version.
    #[serde(other)]
    Unknown,
}

/// What is known when a run begins.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Beginning {
    /// The coordinator's host.
    pub host: String,
    /// Its process id.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// Who generates.
    pub provider: String,
    /// The model.
    pub model: String,
    /// Where chunk files are read.
    pub chunks_dir: String,
    /// All chunks.
    pub chunks: u64,
    /// Those that are to do.
    pub outstanding: u64,
    /// Those of them that failed in an earlier run and are tried again.
    pub retried: u64,
    /// The command that goes on after it.
    pub resume: String,
}

/// What is known when a run has ended.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ending {
    /// How, such as `completed` or `interrupted`.
    pub outcome: String,
    /// The exit code.
    pub exit_code: u8,
    /// The error that ended it.
    pub error: Option<String>,
    /// How long it took.
    pub seconds: f64,
    /// How far it came; absent where it never really began.
    pub figures: Option<Figures>,
}

/// What a run has done, and where the job stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Figures {
    /// Chunks that this run gave pairs.
    pub completed: u64,
    /// Chunks that failed in this run.
    pub failed: u64,
    /// Pairs that this run got.
    pub pairs: u64,
    /// Its model calls.
    pub calls: u64,
    /// Its prompt tokens.
    pub input_tokens: u64,
    /// Its generated tokens.
    pub output_tokens: u64,
    /// Those of both that are estimated, because a server does not report them; absent where there are none.
    #[serde(default, skip_serializing_if = "is_none")]
    pub estimated_tokens: u64,
    /// Both together per pair, calls without a usable answer included; absent without a pair.
    pub tokens_per_pair: Option<f64>,
    /// What they cost in US dollars; absent where nothing costs anything.
    pub cost_usd: Option<f64>,
    /// Its failed results by reason.
    pub failures: BTreeMap<String, u64>,
    /// Its second rounds beside chunks that seemed stuck; absent where there were none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speculation: Option<SpeculationFigures>,
    /// The job's chunks.
    pub job_chunks: u64,
    /// Those with pairs.
    pub job_completed: u64,
    /// Those that failed.
    pub job_failed: u64,
    /// The job's pairs.
    pub job_pairs: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_none(tokens: &u64) -> bool {
    *tokens == 0
}

impl Figures {
    /// The figures of a run so far; `cost_usd` is what its tokens cost.
    pub fn of(core: &Core, cost_usd: Option<f64>) -> Self {
        let (totals, tally) = (core.totals(), core.tally());
        Self {
            completed: tally.completed,
            failed: tally.failed,
            pairs: tally.pairs,
            calls: tally.calls,
            input_tokens: tally.usage.input_tokens,
            output_tokens: tally.usage.output_tokens,
            estimated_tokens: tally.usage.estimated_tokens(),
            tokens_per_pair: tally.tokens_per_pair(),
            cost_usd,
            failures: tally.reasons.iter().map(|(reason, count)| (reason.to_string(), *count)).collect(),
            speculation: SpeculationFigures::of(core),
            job_chunks: totals.chunks,
            job_completed: totals.completed,
            job_failed: totals.failed,
            job_pairs: totals.pairs,
        }
    }

    /// Chunks of the job that are neither completed nor failed.
    pub fn outstanding(&self) -> u64 {
        self.job_chunks.saturating_sub(self.job_completed).saturating_sub(self.job_failed)
    }
}

/// Who or what stops a run, in a word, and the figures that led to it.
pub fn stopped_by(cause: &StopCause) -> Happening {
    let (by, why) = match cause {
        StopCause::Signal => ("signal", None),
        StopCause::Cancelled => ("cancel", None),
        StopCause::FailureRate(figures) => ("failure_rate", Some(figures.clone())),
        StopCause::Budget(figures) => ("budget", Some(figures.clone())),
        StopCause::Detached => ("detach", None),
        StopCause::StoreFull(reason) => ("store_full", Some(reason.clone())),
        StopCause::NoServer(causes) => ("no_server", Some(causes.clone())),
    };
    Happening::Stopping { by: by.to_owned(), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_of_another_version_is_no_error_and_missing_fields_have_a_default() {
        let unknown: Happening = serde_json::from_str(r#"{"event": "from_the_future", "x": [1]}"#).unwrap();
        assert_eq!(unknown, Happening::Unknown);
        let begun: Happening = serde_json::from_str(r#"{"event": "run_started", "pid": 4}"#).unwrap();
        let expected = Beginning { pid: 4, ..Beginning::default() };
        assert_eq!(begun, Happening::RunStarted(Box::new(expected)));
    }

    #[test]
    fn every_cause_of_a_stop_is_told() {
        let told = |cause| serde_json::to_value(stopped_by(&cause)).unwrap();
        assert_eq!(told(StopCause::Signal)["by"], "signal");
        assert_eq!(told(StopCause::NoServer("no memory".to_owned()))["by"], "no_server");
        assert_eq!(told(StopCause::Budget("$1 of $1".to_owned()))["why"], "$1 of $1");
    }
}
