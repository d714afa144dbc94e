//! The first and the last words of a run: what its event log says about begin and end, whatever the end is, and
//! the user's own command.

use std::path::{Path, PathBuf};
use std::time::Duration;

use qa_shared::console::Console;
use qa_shared::model::JobId;
use qa_shared::shutdown::Shutdown;

use crate::config::GenerateConfig;
use crate::exit::ExitCode;
use crate::files::{EventLog, JobFolder};
use crate::format::line;
use crate::ground::Ground;
use crate::happening::{Beginning, Ending, Figures, Happening};
use crate::on_finish::{self, Outcome};
use crate::plan::Plan;
use crate::run_error::RunError;

/// What a run leaves behind, filled as far as it came.
#[derive(Debug)]
pub(crate) struct Trail {
    pub(crate) job: JobId,
    pub(crate) figures: Figures,
    /// The combined file and its pairs.
    pub(crate) combined: Option<(PathBuf, u64)>,
    /// The summary as people read it.
    pub(crate) report: Option<String>,
    /// Whether anything was done that others see: then what the run has made stays.
    pub(crate) has_begun: bool,
}

impl Trail {
    /// Of a run that has its plan and nothing more.
    pub(crate) fn new(planned: &Plan) -> Self {
        let figures = Figures::of(&planned.core, None);
        Self { job: planned.job.job.clone(), figures, combined: None, report: None, has_begun: false }
    }
}

/// A run that is over.
pub(crate) struct Aftermath<'a> {
    pub(crate) config: &'a GenerateConfig,
    pub(crate) ground: &'a Ground,
    pub(crate) elapsed: Duration,
    pub(crate) trail: &'a Trail,
    pub(crate) outcome: &'a Result<ExitCode, RunError>,
}

/// What is known of a run once it has its plan.
pub(crate) fn beginning(config: &GenerateConfig, ground: &Ground, host: &str, planned: &Plan) -> Beginning {
    let totals = planned.core.totals();
    Beginning {
        host: host.to_owned(),
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        provider: config.settings.provider.to_string(),
        model: config.settings.model.clone(),
        chunks_dir: absolute(&ground.chunks_dir),
        chunks: totals.chunks,
        outstanding: totals.outstanding(),
        retried: planned.report.retried as u64,
        resume: config.again.line(&ground.qa_dir),
    }
}

/// Appends to the event log. One that cannot be written must not stop the run.
pub(crate) fn note(folder: &JobFolder, happening: &Happening) {
    if let Err(error) = EventLog::new(folder.path()).append(happening) {
        tracing::debug!(%error, "the event log could not be written");
    }
}

/// Says in the event log how the run has ended.
pub(crate) fn close(aftermath: &Aftermath<'_>) {
    let Aftermath { ground, elapsed, trail, outcome, .. } = aftermath;
    if let Some((file, pairs)) = &trail.combined {
        let file = file.display().to_string();
        note(&ground.folder, &Happening::Combined { file, pairs: *pairs });
    }
    let (code, error) = match outcome {
        Ok(code) => (*code, None),
        Err(error) => (error.code, Some(line(&error.message, 500))),
    };
    let ending = Ending {
        outcome: code.outcome().to_owned(),
        exit_code: code.code(),
        error,
        seconds: elapsed.as_secs_f64(),
        figures: Some(trail.figures.clone()),
    };
    note(&ground.folder, &Happening::RunEnded(Box::new(ending)));
}

/// Runs the command of `--on-finish`, if there is one. Whoever insists by a second signal does not wait for it.
pub(crate) async fn run_command(aftermath: &Aftermath<'_>, console: &Console, shutdown: &Shutdown) {
    let Aftermath { config, ground, elapsed, trail, outcome } = aftermath;
    let Some(command) = &config.on_finish else { return };
    let (code, error) = match outcome {
        Ok(code) => (*code, None),
        Err(error) => (error.code, Some(format!("error: {}", error.message))),
    };
    if code == ExitCode::SecondSignal {
        return;
    }
    let report: Vec<_> = trail.report.iter().cloned().chain(error).collect();
    let combined = trail.combined.as_ref().map(|(file, _)| absolute(file));
    let outcome = Outcome {
        code,
        job: trail.job.to_string(),
        qa_dir: absolute(&ground.qa_dir),
        output_file: combined.unwrap_or_default(),
        figures: trail.figures.clone(),
        elapsed: *elapsed,
        report: report.join("\n"),
    };
    on_finish::run(command, &outcome, on_finish::LIMIT, console, shutdown).await;
}

fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}
