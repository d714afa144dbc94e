//! Which chunks a run is about and when it stops: resume, sample, failure rate.

use std::time::Duration;

use qa_shared::settings::{Mistake, Reader, values};

use crate::cli_generate::RunArgs;
use crate::config_settings::{
    ACCEPT_CHANGES, MAX_FAILURE_RATE, NO_RESUME, NO_SERVER_TIMEOUT, RESTART, RESUME, SAMPLE, SEED,
    SPECULATION, WAIT,
};

/// Which chunks a run is about and when it stops.
#[derive(Debug, Clone, PartialEq)]
pub struct RunSettings {
    /// What happens to output that exists.
    pub start: Start,
    /// Whether changed settings are accepted on resume.
    pub accept_changes: bool,
    /// Whether failed chunks are tried again on resume.
    pub retry_failed: bool,
    /// Whether tasks that seem stuck at the end are given to a second server too.
    pub speculates: bool,
    /// Only some chunks.
    pub sample: Option<Sample>,
    /// The percentage of failed chunks that stops the run, above 0, at most 100; `None`: nothing stops it.
    pub max_failure_percent: Option<f64>,
    /// How long a local run goes on while no LLM server can serve; `None`: as long as it takes.
    pub no_server_timeout: Option<Duration>,
}

/// What happens to output that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// It is an error.
    Fresh,
    /// It is gone on with.
    Resume,
    /// It is replaced; a new job begins.
    Restart,
}

/// A part of the chunks, spread over the documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// How many, at least 1.
    pub chunks: u32,
    /// Decides which.
    pub seed: u64,
}

pub(crate) fn read(reader: &mut Reader<'_>, args: &RunArgs) -> RunSettings {
    let start = read_start(reader, args);
    if args.accept_changes && start != Start::Resume {
        let mistake = Mistake::new(&ACCEPT_CHANGES, "it only counts together with --resume");
        reader.mistake(mistake.remedy("add --resume, or leave it out"));
    }
    let timeout = reader.duration(&NO_SERVER_TIMEOUT, None);
    let waits = reader.yes_or_no(&WAIT, args.wait.then_some(true));
    RunSettings {
        start,
        accept_changes: args.accept_changes,
        retry_failed: !args.no_retry_failed,
        speculates: read_speculation(reader, args),
        sample: read_sample(reader, args),
        max_failure_percent: read_failure_rate(reader, args.max_failure_rate.as_deref()),
        no_server_timeout: (!waits).then_some(timeout),
    }
}

/// Whether a command line resumes.
pub(crate) fn resumes(reader: &mut Reader<'_>, args: &RunArgs) -> bool {
    read_start(reader, args) == Start::Resume
}

/// `GENERATOR_RESUME=true` is in every user's file, so that the flags against it win.
fn read_start(reader: &mut Reader<'_>, args: &RunArgs) -> Start {
    let given = [(args.resume, &RESUME), (args.no_resume, &NO_RESUME), (args.restart, &RESTART)];
    let given: Vec<_> = given.iter().filter(|(given, _)| *given).map(|(_, setting)| *setting).collect();
    if let [first, second, ..] = given[..] {
        let mistake = Mistake::new(first, format!("it contradicts {}", second.name()));
        reader.mistake(mistake.remedy("keep one of them"));
    }
    let flag = if args.restart || args.no_resume { Some(false) } else { args.resume.then_some(true) };
    let resume = reader.yes_or_no(&RESUME, flag);
    // Each flag is shown as it was given.
    if let Some((_, setting)) =
        [(args.restart, &RESTART), (args.no_resume, &NO_RESUME)].iter().find(|(given, _)| *given)
    {
        reader.echo_as(&RESUME, setting.name(), "true");
    }
    match (args.restart, resume) {
        (true, _) => Start::Restart,
        (false, true) => Start::Resume,
        (false, false) => Start::Fresh,
    }
}

/// The flag turns off what the variable turns on: each is shown with the value that it has.
fn read_speculation(reader: &mut Reader<'_>, args: &RunArgs) -> bool {
    let speculates = reader.yes_or_no(&SPECULATION, args.no_speculation.then_some(false));
    if args.no_speculation {
        reader.echo_as(&SPECULATION, SPECULATION.name(), "true");
    } else {
        let variable = SPECULATION.variables()[0].name();
        reader.echo_as(&SPECULATION, variable, if speculates { "true" } else { "false" });
    }
    speculates
}

fn read_sample(reader: &mut Reader<'_>, args: &RunArgs) -> Option<Sample> {
    let expected = "a number of chunks of at least 1";
    let chunks = reader.parsed(&SAMPLE, args.sample.as_deref(), expected, values::within(1..=u32::MAX));
    if args.seed.is_some() && args.sample.is_none() {
        let mistake = Mistake::new(&SEED, "it only counts together with --sample");
        reader.mistake(mistake.remedy("add --sample N, or leave it out"));
    }
    let expected = "a whole number of at least 0";
    if args.sample.is_none() && args.seed.is_none() {
        return None;
    }
    let seed = reader.parsed(&SEED, args.seed.as_deref(), expected, values::within(0..=u64::MAX));
    chunks.map(|chunks| Sample { chunks, seed: seed.unwrap_or_default() })
}

fn read_failure_rate(reader: &mut Reader<'_>, flag: Option<&str>) -> Option<f64> {
    let expected = "a percentage above 0 and up to 100, or off";
    let parse = |text: &str| {
        if text.eq_ignore_ascii_case("off") {
            return Some(None);
        }
        let number = text.strip_suffix('%').unwrap_or(text);
        values::within(0.0..=100.0)(number).filter(|percent| *percent > 0.0).map(Some)
    };
    reader.parsed(&MAX_FAILURE_RATE, flag, expected, parse).flatten()
}
