//! A run's figures for the summary file, for people and for machines.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use qa_shared::model::{JobId, Price};

use crate::core::{ChunkState, Core, Document, FileStatus, Finish, Speculation, StopCause};
use crate::exit::ExitCode;
use crate::files::{
    ChunkFigures, CombineReport, CombinedFigures, PairFigures, QA_ENDING, RunSummary, SampleFigures,
    SpeculationFigures, SpentFigures, UsageFigures, now,
};
use crate::plan::PlanReport;

/// What a summary is made from.
pub(crate) struct Outcome<'a> {
    pub(crate) core: &'a Core,
    pub(crate) job: &'a JobId,
    pub(crate) finish: &'a Finish,
    pub(crate) plan: &'a PlanReport,
    pub(crate) qa_dir: &'a Path,
    pub(crate) elapsed: Duration,
    pub(crate) price: Option<Price>,
}

/// The run in figures.
pub(crate) fn of(outcome: &Outcome<'_>) -> RunSummary {
    let (totals, tally) = (outcome.core.totals(), outcome.core.tally());
    let spent = outcome.core.spent();
    let documents = outcome.core.documents();
    let successful: Vec<String> = documents
        .iter()
        .filter(|document| {
            document.file_status() == Some(FileStatus::Completed) && document.error().is_none()
        })
        .map(|document| format!("{}_qa.json", document.name()))
        .collect();
    let mut failed_documents: BTreeMap<String, String> = BTreeMap::new();
    let missing = &outcome.plan.missing;
    for document in documents.iter().filter(|document| !missing.contains_key(document.name().as_str())) {
        if let Some(error) = document.error() {
            failed_documents.insert(document.name().to_string(), error.to_owned());
        } else if document.file_status() == Some(FileStatus::Failed) {
            failed_documents.insert(document.name().to_string(), "every chunk failed".to_owned());
        }
    }
    let mut failures: BTreeMap<String, usize> = BTreeMap::new();
    for (state, _) in documents.iter().flat_map(Document::chunk_states) {
        if let ChunkState::Failed { reason } = state {
            *failures.entry(reason.to_string()).or_default() += 1;
        }
    }
    let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    RunSummary {
        total_files: documents.len(),
        successful_files: successful.len(),
        failed_files: failed_documents.len(),
        qa_files_created: successful,
        qa_directory: outcome.qa_dir.to_owned(),
        processed_at: now(),
        status: status(outcome.finish).to_owned(),
        job: outcome.job.to_string(),
        failed_documents,
        missing_documents: missing.clone(),
        skipped_files: outcome.plan.skipped.clone(),
        chunks: ChunkFigures {
            total: size(totals.chunks),
            completed: size(totals.completed),
            failed: size(totals.failed),
            outstanding: size(totals.outstanding()),
        },
        total_qa_pairs: totals.pairs,
        pairs: PairFigures { asked: tally.asked, got: tally.pairs },
        failures,
        usage: UsageFigures {
            calls: tally.calls,
            input_tokens: tally.usage.input_tokens,
            cached_tokens: tally.usage.cached_tokens,
            cache_write_tokens: tally.usage.cache_write_tokens,
            output_tokens: tally.usage.output_tokens,
            reasoning_tokens: tally.usage.reasoning_tokens,
            estimated_input_tokens: tally.usage.estimated_input_tokens,
            estimated_output_tokens: tally.usage.estimated_output_tokens,
            tokens_per_pair: tally.tokens_per_pair(),
            cost_usd: outcome.price.map(|price| price.of(&tally.usage).dollars()),
            seconds: outcome.elapsed.as_secs_f64(),
        },
        speculation: SpeculationFigures::of(outcome.core),
        sample: outcome.core.sample().map(|sample| SampleFigures {
            chunks: sample.chunks,
            done: sample.completed + sample.failed,
            failed: sample.failed,
        }),
        all_runs: SpentFigures {
            calls: spent.calls,
            tokens: spent.usage.tokens(),
            cost_usd: outcome.price.map(|_| spent.cost.dollars()),
        },
        slowest_chunks: Vec::new(),
        combined_file: None,
        combined: None,
    }
}

/// What the combined file has, and whether that is what the run has counted.
pub(crate) fn compare(
    documents: &[Document],
    report: &CombineReport,
) -> (CombinedFigures, Result<(), String>) {
    let mut others = report.pairs_of.clone();
    others.retain(|_, pairs| *pairs > 0);
    let mut left_out = BTreeMap::new();
    let mut compared = Ok(());
    for document in documents {
        let file = format!("{}{QA_ENDING}", document.name());
        let (counted, combined) = (document.pairs(), others.remove(&file).unwrap_or(0));
        // A file that could not be written any more has less than was counted: the journal has the rest.
        if combined < counted && (document.error().is_some() || !report.pairs_of.contains_key(&file)) {
            left_out.insert(file, counted - combined);
        } else if combined != counted && compared.is_ok() {
            compared = Err(format!(
                "the combined file has {combined} pairs of `{file}`, and the run has counted {counted}: another \
                 program has changed that file; go on with --resume"
            ));
        }
    }
    let (documents, pairs) = (report.combined.len(), report.pairs);
    (CombinedFigures { documents, pairs, left_out, others }, compared)
}

impl SpeculationFigures {
    /// Those of a run, if it had any.
    pub(crate) fn of(core: &Core) -> Option<Self> {
        let Speculation { started, won, lost } = core.tally().speculation;
        (started > 0).then_some(Self { started, won, lost })
    }
}

/// How the run ended, in one word.
pub(crate) fn status(finish: &Finish) -> &'static str {
    match finish {
        Finish::Complete => "completed",
        Finish::Sampled => "sampled",
        Finish::Stopped(
            StopCause::Signal | StopCause::Budget(_) | StopCause::NoServer(_) | StopCause::StoreFull(_),
        ) => "interrupted",
        Finish::Stopped(StopCause::Cancelled) => "cancelled",
        Finish::Stopped(StopCause::Detached) => "detached",
        Finish::Stopped(StopCause::FailureRate(_)) => "stopped",
    }
}

/// The exit code that tells the truth.
pub(crate) fn exit_code(finish: &Finish, run: &RunSummary) -> ExitCode {
    match finish {
        Finish::Complete
            if run.chunks.failed > 0 || run.failed_files > 0 || !run.missing_documents.is_empty() =>
        {
            ExitCode::Failures
        }
        Finish::Sampled if run.chunks.failed > 0 => ExitCode::Failures,
        Finish::Complete | Finish::Sampled => ExitCode::Success,
        Finish::Stopped(StopCause::FailureRate(_) | StopCause::Budget(_)) => ExitCode::Stopped,
        Finish::Stopped(StopCause::NoServer(_)) => ExitCode::NoServer,
        Finish::Stopped(StopCause::StoreFull(_)) => ExitCode::StoreFull,
        Finish::Stopped(StopCause::Signal | StopCause::Cancelled | StopCause::Detached) => {
            ExitCode::Interrupted
        }
    }
}
