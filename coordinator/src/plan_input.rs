//! Makes a plan, or only looks, on a thread that may block: what both take from configuration and directories
//! is gathered here once.

use std::path::Path;

use crate::config::GenerateConfig;
use crate::config_job::{declared, kept_settings};
use crate::exit::ExitCode;
use crate::files::{JobFolder, SEGMENT_BYTES};
use crate::plan::{PlanError, PlanInput};
use crate::run_error::RunError;

/// The directories of a plan.
pub(crate) struct Places<'a> {
    pub(crate) chunks_dir: &'a Path,
    pub(crate) qa_dir: &'a Path,
    pub(crate) combined_file: &'a Path,
    pub(crate) folder: &'a JobFolder,
}

/// Whether the plan is carried out, or nothing may be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Run,
    Look,
}

/// Does `work` with the input.
pub(crate) async fn with_input<T: Send + 'static>(
    config: &GenerateConfig,
    places: &Places<'_>,
    purpose: Purpose,
    work: impl FnOnce(&PlanInput<'_>) -> Result<T, PlanError> + Send + 'static,
) -> Result<T, RunError> {
    let (chunks_dir, qa_dir, folder) =
        (places.chunks_dir.to_owned(), places.qa_dir.to_owned(), places.folder.clone());
    let (settings, pool) = (config.settings.clone(), config.pool.clone());
    let (run, budget) = (config.run.clone(), config.budget.clone());
    let kept = kept_settings(config, places.chunks_dir, places.qa_dir, places.combined_file);
    let declared = declared(config);
    let worked = tokio::task::spawn_blocking(move || {
        work(&PlanInput {
            chunks_dir: &chunks_dir,
            qa_dir: &qa_dir,
            folder: &folder,
            settings: &settings,
            pool: &pool,
            run: &run,
            budget: &budget,
            kept: &kept,
            declared: &declared,
            only_looks: purpose == Purpose::Look,
            segment_bytes: SEGMENT_BYTES,
        })
    });
    Ok(worked.await.map_err(|error| RunError::new(ExitCode::Internal, error))??)
}
