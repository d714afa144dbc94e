//! After the run: the queue tidied, the combined file, the summary.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use qa_shared::console::{Console, LAST_LINES};
use qa_shared::failpoint::{CrashPoint, crash};
use qa_shared::model::{DocumentName, JobId, JobState};
use qa_shared::queue::{Jobs, Queue, QueueError, ResultsConsumer, Tasks, forget_job};
use qa_shared::shutdown::Shutdown;
use serde_json::Map;
use tracing::Level;

use crate::aftermath::Trail;
use crate::config::GenerateConfig;
use crate::core::{Core, Finish, StopCause, TaskRef};
use crate::driver::key_of;
use crate::exit::ExitCode;
use crate::files::{
    Combine, CombineError, CombineReport, RunSummary, SlowChunk, combine, each_record, existing,
    find_qa_files, interrupt_documents, now, write_summary,
};
use crate::ground::Ground;
use crate::plan::PlanReport;
use crate::report::Resume;
use crate::run_error::RunError;
use crate::slowest::Slowest;
use crate::trace::RunTrace;
use crate::{output, report, summary};

/// How long workers may take at the end to drop tasks that nobody waits for.
const LAST_DROPS: Duration = Duration::from_secs(1);

/// What a run leaves to be concluded.
pub(crate) struct Conclusion<'a> {
    pub(crate) config: &'a GenerateConfig,
    pub(crate) ground: &'a Ground,
    pub(crate) queue: &'a Queue,
    pub(crate) console: &'a Console,
    pub(crate) job: &'a JobId,
    pub(crate) core: &'a Core,
    /// Tasks that living workers are about to drop.
    pub(crate) dropping: Vec<TaskRef>,
    pub(crate) finish: &'a Finish,
    pub(crate) plan: &'a PlanReport,
    pub(crate) logs: Vec<PathBuf>,
    pub(crate) examples: Vec<String>,
    pub(crate) elapsed: Duration,
    pub(crate) trace: &'a RunTrace,
    pub(crate) shutdown: &'a Shutdown,
}

/// Concludes; the exit code tells the truth about the run.
pub(crate) async fn conclude(
    conclusion: &Conclusion<'_>,
    consumer: ResultsConsumer,
    trail: &mut Trail,
) -> Result<ExitCode, RunError> {
    crash(CrashPoint::RunEnded);
    tidy_queue(conclusion, consumer).await;
    crash(CrashPoint::QueueTidied);
    let Conclusion { ground, finish, .. } = conclusion;
    let mut run = summary::of(&summary::Outcome {
        core: conclusion.core,
        job: conclusion.job,
        finish,
        plan: conclusion.plan,
        qa_dir: &ground.qa_dir,
        elapsed: conclusion.elapsed,
        price: conclusion.config.budget.price,
    });
    let combined = if **finish == Finish::Complete {
        conclusion.trace.step("combine", combine_now(conclusion)).await
    } else {
        Ok(None)
    };
    let mut is_as_counted = Ok(());
    if let Ok(Some(report)) = &combined {
        crash(CrashPoint::Combined);
        trail.combined = Some((ground.combined_file.clone(), report.pairs));
        run.combined_file = Some(ground.combined_file.clone());
        let (figures, compared) = summary::compare(conclusion.core.documents(), report);
        is_as_counted = compared;
        run.combined = Some(figures);
    }
    if conclusion.core.totals().documents_broken > 0 {
        // A document that was edited during the run could not be written any more.
        interrupt_documents(&ground.folder).map_err(RunError::files)?;
    }
    run.slowest_chunks = slowest_chunks(conclusion).await;
    write_summary(&ground.qa_dir, &run).map_err(RunError::files)?;
    let (report, is_written) = tell(conclusion, &run).await;
    trail.report = Some(report);
    combined?;
    is_as_counted.map_err(RunError::files)?;
    Ok(match summary::exit_code(finish, &run) {
        // Whoever asked for JSON and did not get it must not take the run for done.
        ExitCode::Success if !is_written => ExitCode::Files,
        code => code,
    })
}

/// Leaves the queue as the end of the run wants it. Whatever fails here is put right by the next start.
async fn tidy_queue(conclusion: &Conclusion<'_>, consumer: ResultsConsumer) {
    let Conclusion { queue, job, .. } = conclusion;
    let jobs = Jobs::new(queue);
    await_drops(conclusion).await;
    let text = |error: QueueError| error.to_string();
    let tidied = async {
        match conclusion.finish {
            // Results of a document that was edited meanwhile may still be of use to a resume.
            Finish::Complete if conclusion.core.totals().documents_broken > 0 => {
                jobs.set_state(job, JobState::Interrupted).await.map_err(|error| error.to_string())?;
            }
            Finish::Complete => {
                forget_job(queue, job).await.map_err(|error| error.to_string())?;
            }
            Finish::Sampled
            | Finish::Stopped(
                StopCause::Signal
                | StopCause::FailureRate(_)
                | StopCause::Budget(_)
                | StopCause::NoServer(_)
                | StopCause::StoreFull(_),
            ) => {
                jobs.set_state(job, JobState::Interrupted).await.map_err(|error| error.to_string())?;
            }
            Finish::Stopped(StopCause::Detached | StopCause::Cancelled) => {}
        }
        consumer.close().await.map_err(text)
    };
    if let Err(error) = tidied.await {
        tracing::debug!(error, "the queue was not tidied up");
    }
}

/// Workers have been told to drop what lost against another round, and need the job's entry for that: what they
/// drop at once leaves no late result in the queue.
async fn await_drops(conclusion: &Conclusion<'_>) {
    let Conclusion { queue, job, core, config, dropping, .. } = conclusion;
    let tasks = Tasks::new(queue);
    let all_dropped = async {
        for task in dropping {
            let key = key_of(core, job, *task);
            while matches!(tasks.is_stored(&config.pool, &key).await, Ok(true)) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    if tokio::time::timeout(LAST_DROPS, all_dropped).await.is_err() {
        tracing::debug!("a worker has not dropped yet what nobody waits for");
    }
}

/// Writes the combined file; gives what is in it, if there was anything to combine.
async fn combine_now(conclusion: &Conclusion<'_>) -> Result<Option<CombineReport>, RunError> {
    let ground = conclusion.ground;
    let qa_dir = ground.qa_dir.clone();
    let (output, overwrite) = (ground.combined_file.clone(), conclusion.config.output.overwrite);
    let plan = conclusion.plan;
    let unfinished = plan.missing.keys().map(DocumentName::new).chain(plan.given_up.iter().cloned());
    let unfinished: BTreeSet<_> = unfinished.collect();
    let combined = tokio::task::spawn_blocking(move || {
        combine(Combine {
            qa_directory: &qa_dir,
            output: &output,
            unfinished: &unfinished,
            overwrite,
            generated_at: &now(),
        })
    });
    match combined.await.map_err(|error| RunError::new(ExitCode::Internal, error))? {
        Ok(report) => {
            if let Some(note) = report.note.as_ref().filter(|_| !conclusion.config.common.logs.quiet) {
                conclusion.console.say(&format!("note: {note}"));
            }
            Ok(Some(report))
        }
        // The summary already says that nothing is completed.
        Err(CombineError::Nothing { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// From the records in all Q&A files, which every run of the job has left there. A file that cannot be read
/// has been told of.
async fn slowest_chunks(conclusion: &Conclusion<'_>) -> Vec<SlowChunk> {
    let qa_dir = conclusion.ground.qa_dir.clone();
    let found = tokio::task::spawn_blocking(move || {
        let mut slowest = Slowest::default();
        for file in find_qa_files(&qa_dir).map(|listing| listing.files).unwrap_or_default() {
            if let Err(error) = each_record(&file.path, |record| slowest.hear(file.name.as_str(), record)) {
                tracing::debug!(%error, "its chunks are not among the slowest");
            }
        }
        slowest
    });
    found.await.unwrap_or_default().into_list(conclusion.config.trace_url.as_ref())
}

/// Shows the summary; gives it as text, and whether the JSON was written if it was asked for.
async fn tell(conclusion: &Conclusion<'_>, run: &RunSummary) -> (String, bool) {
    let Conclusion { config, ground, console, .. } = conclusion;
    let resume = Resume { line: config.again.line(&ground.qa_dir), needs: config.again.not_kept() };
    let text = report::summary(run, conclusion.finish, &resume, &existing(&conclusion.logs));
    if !(config.json && config.common.logs.quiet) {
        for example in &conclusion.examples {
            console.say(&format!("\n{example}"));
        }
        let fields = serde_json::to_value(run).map(|run| Map::from_iter([("summary".to_owned(), run)]));
        console.tell(Level::INFO, "summary", text.trim_end(), fields.unwrap_or_default());
    }
    if !config.json {
        return (text, true);
    }
    console.flush(LAST_LINES);
    let is_written = output::json_of_run(run, conclusion.shutdown).await;
    (text, is_written)
}
