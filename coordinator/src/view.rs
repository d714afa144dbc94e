//! Where a run stands, as figures: for progress on a terminal, `progress.json`, `status` and JSON output.

use std::collections::BTreeMap;
use std::time::Duration;

use qa_shared::clock;
use qa_shared::model::{InstanceId, JobId, NanoUsd, PoolName, ServerPresence, WorkerPresence};
use serde::{Deserialize, Serialize};

use crate::config::BudgetConfig;
use crate::core::{Core, Document, Sample};
use crate::happening::Figures;
use crate::liveness_watch::LivenessWatch;
use crate::speed::Speed;

/// Documents shown one by one at most.
const MOST_DOCUMENTS: usize = 8;

/// A run at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct View {
    /// The job.
    pub(crate) job: String,
    /// The pool that its tasks go to.
    pub(crate) pool: String,
    /// `running`, `stopping`, or how the last run ended.
    pub(crate) state: String,
    /// When this was written, in milliseconds since 1970 UTC.
    pub(crate) updated_at_ms: u64,
    /// How long the run has taken, in seconds.
    pub(crate) elapsed_seconds: f64,
    /// Documents: all.
    pub(crate) documents: u32,
    /// Documents with nothing left to do.
    pub(crate) documents_done: u32,
    /// Documents that cannot be processed.
    pub(crate) documents_broken: u32,
    /// With `--sample`: the sample's own figures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sample: Option<SampleView>,
    /// Chunks: all.
    pub(crate) chunks: u64,
    /// Chunks with pairs.
    pub(crate) completed: u64,
    /// Chunks that failed.
    pub(crate) failed: u64,
    /// Chunks that are queued, running or answered.
    pub(crate) published: u64,
    /// Pairs in all completed chunks.
    pub(crate) pairs: u64,
    /// Chunks that this run finished.
    pub(crate) finished_now: u64,
    /// Chunks per minute over the last minutes.
    pub(crate) chunks_per_minute: f64,
    /// Generated tokens per second over the last minutes.
    pub(crate) tokens_per_second: f64,
    /// Seconds until the end at this rate; absent without a rate.
    pub(crate) eta_seconds: Option<f64>,
    /// Model calls of this run.
    pub(crate) calls: u64,
    /// Prompt tokens of this run.
    pub(crate) input_tokens: u64,
    /// Generated tokens of this run.
    pub(crate) output_tokens: u64,
    /// What all runs of the job have cost in US dollars; absent where nothing costs anything.
    #[serde(default)]
    pub(crate) all_runs_cost_usd: Option<f64>,
    /// What they may cost.
    #[serde(default)]
    pub(crate) max_cost_usd: Option<f64>,
    /// What this run has done.
    #[serde(default)]
    pub(crate) figures: Figures,
    /// Failures of this run by reason.
    pub(crate) failures: BTreeMap<String, u64>,
    /// Results of this run that came twice or were for nothing.
    pub(crate) ignored_results: u64,
    /// Tasks that the queue lost and that were published again.
    pub(crate) republished: u64,
    /// Whether the queue server can be reached.
    pub(crate) connected: bool,
    /// Nothing moves though it could.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stall: Option<StallView>,
    /// Documents in work, the first few.
    pub(crate) active: Vec<DocumentView>,
    /// LLM servers of all workers.
    pub(crate) servers: Vec<ServerView>,
}

/// Tasks are out and slots are free, and nothing is delivered and no result comes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct StallView {
    /// For how long.
    pub(crate) seconds: f64,
    /// What was looked at.
    pub(crate) words: String,
}

/// The chunks that `--sample` chose.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SampleView {
    /// All of them.
    pub(crate) chunks: u64,
    /// Those with pairs.
    pub(crate) completed: u64,
    /// Those that failed.
    pub(crate) failed: u64,
    /// Pairs of this run.
    pub(crate) pairs: u64,
}

/// A document in work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct DocumentView {
    /// Its name.
    pub(crate) name: String,
    /// Its chunks.
    pub(crate) chunks: u32,
    /// Those with pairs.
    pub(crate) completed: u32,
    /// Those that failed.
    pub(crate) failed: u32,
}

/// An LLM server of a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ServerView {
    /// The worker's host.
    pub(crate) host: String,
    /// Its address.
    pub(crate) url: String,
    /// Requests in flight.
    pub(crate) busy: u32,
    /// Requests in flight at most, at the moment.
    pub(crate) slots: u32,
    /// Whether the worker measures how many are best.
    #[serde(default)]
    pub(crate) auto: bool,
    /// Generated tokens per second.
    pub(crate) tokens_per_second: f64,
    /// Tokens of the answers that are being written.
    #[serde(default)]
    pub(crate) writing_tokens: u64,
    /// Whether the worker serves this job's pool now.
    pub(crate) serving: bool,
    /// What is wrong with it.
    pub(crate) problem: Option<String>,
}

/// What a view is made from.
pub(crate) struct Sight<'a> {
    pub(crate) core: &'a Core,
    pub(crate) job: &'a JobId,
    pub(crate) pool: &'a PoolName,
    pub(crate) speed: &'a Speed,
    pub(crate) elapsed: Duration,
    pub(crate) workers: &'a BTreeMap<InstanceId, WorkerPresence>,
    pub(crate) is_connected: bool,
    pub(crate) budget: &'a BudgetConfig,
    pub(crate) liveness: &'a LivenessWatch,
}

/// The run as it is now.
pub(crate) fn of(sight: &Sight<'_>) -> View {
    let (totals, tally) = (sight.core.totals(), sight.core.tally());
    // Rates of the time before a pause would promise an end that nobody works for.
    let (rate, token_rate) = if sight.liveness.is_quiet() {
        (0.0, 0.0)
    } else {
        (sight.speed.chunks_per_second(), sight.speed.tokens_per_second())
    };
    let stall = sight.liveness.stall();
    let sample = sight.core.sample();
    let outstanding = sample.map_or(totals.outstanding(), |sample| sample.outstanding().into());
    let state = match (sight.core.is_finished(), sight.core.is_stopping()) {
        (true, _) => "finished",
        (false, true) => "stopping",
        (false, false) => "running",
    };
    let active = sight.core.documents().iter().filter_map(|document| match sample {
        Some(_) => in_work(document, document.sample()),
        None => in_work(
            document,
            Sample { chunks: document.total(), completed: document.completed(), failed: document.failed() },
        ),
    });
    View {
        job: sight.job.to_string(),
        pool: sight.pool.to_string(),
        state: state.to_owned(),
        updated_at_ms: clock::unix_millis(),
        elapsed_seconds: sight.elapsed.as_secs_f64(),
        documents: totals.documents,
        documents_done: totals.documents_settled,
        documents_broken: totals.documents_broken,
        sample: sample.map(|sample| SampleView {
            chunks: sample.chunks.into(),
            completed: sample.completed.into(),
            failed: sample.failed.into(),
            pairs: tally.pairs,
        }),
        chunks: totals.chunks,
        completed: totals.completed,
        failed: totals.failed,
        published: totals.published,
        pairs: totals.pairs,
        finished_now: tally.completed + tally.failed,
        chunks_per_minute: rate * 60.0,
        tokens_per_second: token_rate,
        eta_seconds: (rate > 0.0).then(|| outstanding as f64 / rate),
        calls: tally.calls,
        input_tokens: tally.usage.input_tokens,
        output_tokens: tally.usage.output_tokens,
        all_runs_cost_usd: sight.budget.real_price().map(|_| sight.core.spent().cost.dollars()),
        max_cost_usd: sight.budget.max_cost.map(NanoUsd::dollars),
        figures: Figures::of(sight.core, run_cost(sight)),
        failures: tally.reasons.iter().map(|(reason, count)| (reason.to_string(), *count)).collect(),
        ignored_results: tally.duplicates + tally.ignored,
        republished: tally.republished,
        connected: sight.is_connected,
        stall: stall.map(|(seconds, words)| StallView { seconds, words: words.to_owned() }),
        active: active.take(MOST_DOCUMENTS).collect(),
        servers: servers(sight.workers, sight.pool),
    }
}

/// A document of which some of the chunks that count are finished, and some are not.
fn in_work(document: &Document, chunks: Sample) -> Option<DocumentView> {
    let is_in_work = !document.is_settled() && (1..chunks.chunks).contains(&chunks.outstanding());
    is_in_work.then(|| DocumentView {
        name: document.name().to_string(),
        chunks: chunks.chunks,
        completed: chunks.completed,
        failed: chunks.failed,
    })
}

/// What this run's tokens cost; nothing where no price is known, or none is asked.
fn run_cost(sight: &Sight<'_>) -> Option<f64> {
    let usage = &sight.core.tally().usage;
    sight.budget.real_price().map(|price| price.of(usage).dollars())
}

/// What keeps a server from a pool, else what is wrong with it.
fn problem_of(server: &ServerPresence, pool: &PoolName) -> Option<String> {
    let unserved = server.unserved.iter().find(|unserved| unserved.pool == *pool);
    unserved.map(|unserved| &unserved.words).or(server.problem.as_ref()).cloned()
}

/// The LLM servers of all workers.
pub(crate) fn servers(workers: &BTreeMap<InstanceId, WorkerPresence>, pool: &PoolName) -> Vec<ServerView> {
    let of_worker = |worker: &WorkerPresence| -> Vec<ServerView> {
        let serving = worker.pools.contains(pool) && !worker.draining;
        worker
            .servers
            .iter()
            .map(|server| ServerView {
                host: worker.host.clone(),
                url: server.url.clone(),
                busy: server.busy,
                slots: server.slots,
                auto: server.auto,
                tokens_per_second: server.tokens_per_second,
                writing_tokens: server.running.iter().map(|task| task.tokens).sum(),
                serving: serving && server.reachable,
                problem: problem_of(server, pool),
            })
            .collect()
    };
    workers.values().flat_map(of_worker).collect()
}

#[cfg(test)]
mod tests {
    use qa_shared::model::{TextHash, Usage};

    use super::*;
    use crate::core::{ChunkPlan, ChunkState, CoreSettings, DocumentPlan};

    fn core() -> Core {
        let chunk = |number| ChunkPlan {
            text_hash: TextHash::of(&format!("text {number}")),
            state: if number < 2 { ChunkState::Completed { got: 3 } } else { ChunkState::Waiting },
            round: 1,
            tokens: 10,
            bytes: 40,
        };
        let document = DocumentPlan {
            name: qa_shared::model::DocumentName::new("handbook"),
            chunks: (0..1000).map(chunk).collect(),
            file_status: None,
            is_complete: false,
            needs_rewrite: false,
            error: None,
        };
        Core::new(vec![document], &CoreSettings::default())
    }

    fn view(core: &Core) -> View {
        let (job, pool) = (JobId::from_random(1), PoolName::new("ollama/m"));
        let mut speed = Speed::new();
        speed.finished(Usage::default());
        let models = std::sync::Arc::new(qa_shared::model_table::ModelTable::with_rows("[]").unwrap());
        let budget = BudgetConfig {
            dry_run: false,
            max_cost: None,
            max_tokens: None,
            calls_per_task: 3,
            price: None,
            models,
        };
        of(&Sight {
            core,
            job: &job,
            pool: &pool,
            speed: &speed,
            elapsed: Duration::ZERO,
            workers: &BTreeMap::new(),
            is_connected: true,
            liveness: &LivenessWatch::new(Duration::from_secs(60)),
            budget: &budget,
        })
    }

    #[test]
    fn a_sample_is_all_that_is_left_to_do() {
        let mut core = core();
        let whole = view(&core);
        assert_eq!((whole.sample.clone(), whole.chunks, whole.completed), (None, 1000, 2));
        core.select_only(&(100..104).map(|chunk| (0, chunk)).collect());
        let sample = view(&core);
        assert_eq!(sample.sample, Some(SampleView { chunks: 4, completed: 0, failed: 0, pairs: 0 }));
        assert_eq!((sample.chunks, sample.completed), (1000, 2), "the job's own figures stay");
        let share = |view: &View| view.eta_seconds.unwrap() / 60.0 * view.chunks_per_minute;
        assert!((share(&whole) - 998.0).abs() < 1e-6 && (share(&sample) - 4.0).abs() < 1e-6);
    }
}
