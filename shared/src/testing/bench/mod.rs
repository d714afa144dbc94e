//! What every benchmark shares: its options, its report, the baseline that the report is held against.
//!
//! A benchmark is a target of its own with a `main`. `cargo bench` measures at full size. `cargo test` runs the
//! same program with small sizes, in the test profile: then what counts is that it works, and what it counts.
//! It must not know what is measured.

mod bare_queue;
mod baseline;
mod format;
mod instant_ollama;
mod measure;
mod nats_cli;
mod options;
mod processes;
mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub use bare_queue::{BareQueue, BareSpeed};
pub use instant_ollama::InstantOllama;
pub use measure::{Goal, Kind, Limit, Measure};
pub use nats_cli::nats_bench;
pub use options::Mode;
pub use processes::{ProcessUsage, ProcessWatch};
pub use report::Report;

use options::{Command, Options};

/// A benchmark while it runs.
#[derive(Debug)]
pub struct Bench {
    options: Options,
    baselines: PathBuf,
    report: Report,
    section: String,
}

impl Bench {
    /// Reads the command line; there is nothing to do where this gives an exit code.
    ///
    /// `what` says in one sentence what is measured. `baselines` is the directory of checked-in baselines.
    pub fn begin(name: &str, what: &str, baselines: &str) -> Result<Self, ExitCode> {
        let options = match Options::parse(name, std::env::args().skip(1)) {
            Ok(Command::Measure(options)) => options,
            Ok(Command::Tell(text)) => {
                say(&text);
                return Err(ExitCode::SUCCESS);
            }
            Err(mistake) => {
                complain(&mistake);
                return Err(ExitCode::from(2));
            }
        };
        say(&format!("{name}: {what} ({})", options.mode.as_str()));
        let report = Report::new(name, options.mode);
        Ok(Self { options, baselines: PathBuf::from(baselines), report, section: String::new() })
    }

    /// Whether small sizes are wanted, for what is right and what is counted.
    pub fn is_short(&self) -> bool {
        self.options.mode == Mode::Short
    }

    /// Whether sizes are wanted that take many minutes.
    pub fn is_long(&self) -> bool {
        self.options.mode == Mode::Long
    }

    /// What comes now belongs together.
    pub fn section(&mut self, title: &str) {
        title.clone_into(&mut self.section);
        say(&format!("\n{title}"));
    }

    /// Takes a measured value and shows it.
    pub fn add(&mut self, measure: Measure) {
        say(&format!("  {}", measure.line()));
        self.report.measures.push(Measure { section: self.section.clone(), ..measure });
    }

    /// Says something that is no value.
    pub fn note(&self, text: &str) {
        say(&format!("  {text}"));
    }

    /// Writes the report where it is wanted and compares it. It fails for what does not depend on the machine:
    /// counted values beyond their goal or off the baseline.
    pub fn finish(self) -> ExitCode {
        match self.conclude() {
            Ok(mistakes) if mistakes.is_empty() => ExitCode::SUCCESS,
            Ok(mistakes) => {
                complain(&mistakes.join("\n"));
                ExitCode::FAILURE
            }
            Err(mistake) => {
                complain(&mistake);
                ExitCode::from(2)
            }
        }
    }

    fn conclude(self) -> Result<Vec<String>, String> {
        if let Some(path) = &self.options.json {
            baseline::write(&self.report, path)?;
        }
        let mut mistakes = self.report.missed_counts();
        let is_counting = self.report.measures.iter().any(Measure::is_counted);
        let usual = self.baselines.join(format!("{}.json", self.report.benchmark));
        let chosen = self.options.baseline.as_deref();
        if self.is_short() && is_counting && chosen.is_none() && baseline::is_to_be_written() {
            baseline::write(&self.report.counted_only(), &usual)?;
            say(&format!("\nwritten: {}", usual.display()));
        }
        let path = chosen.or_else(|| (self.is_short() && is_counting).then_some(usual.as_path()));
        if let Some(path) = path {
            mistakes.extend(self.compare(path)?);
        }
        Ok(mistakes)
    }

    fn compare(&self, path: &Path) -> Result<Vec<String>, String> {
        let earlier = baseline::read(path)?;
        let comparison = self.report.compare(&earlier)?;
        say(&format!("\nbeside {}", path.display()));
        for line in &comparison.lines {
            say(&format!("  {line}"));
        }
        Ok(comparison.mistakes)
    }
}

#[expect(clippy::print_stdout, reason = "a benchmark is read in a terminal")]
fn say(text: &str) {
    println!("{text}");
}

#[expect(clippy::print_stderr, reason = "a benchmark is read in a terminal")]
fn complain(text: &str) {
    eprintln!("{text}");
}
