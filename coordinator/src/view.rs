//! Where a run stands, as figures: for progress on a terminal, `progress.json`, `status` and JSON output.

use std::collections::BTreeMap;
use std::time::Duration;

use qa_shared::clock;
use qa_shared::model::{InstanceId, JobId, NanoUsd, PoolName, ServerPresence, WorkerPresence};
use serde::{Deserialize, Serialize};

use crate::config::BudgetConfig;
use crate::core::Core;
use crate::happening::Figures;
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
    /// Documents in work, the first few.
    pub(crate) active: Vec<DocumentView>,
    /// LLM servers of all workers.
    pub(crate) servers: Vec<ServerView>,
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
}

/// The run as it is now.
pub(crate) fn of(sight: &Sight<'_>) -> View {
    let (totals, tally) = (sight.core.totals(), sight.core.tally());
    let rate = sight.speed.chunks_per_second();
    let state = match (sight.core.is_finished(), sight.core.is_stopping()) {
        (true, _) => "finished",
        (false, true) => "stopping",
        (false, false) => "running",
    };
    let active = sight
        .core
        .documents()
        .iter()
        .filter(|document| !document.is_settled() && document.outstanding() < document.total())
        .take(MOST_DOCUMENTS)
        .map(|document| DocumentView {
            name: document.name().to_string(),
            chunks: document.total(),
            completed: document.completed(),
            failed: document.failed(),
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
        chunks: totals.chunks,
        completed: totals.completed,
        failed: totals.failed,
        published: totals.published,
        pairs: totals.pairs,
        finished_now: tally.completed + tally.failed,
        chunks_per_minute: rate * 60.0,
        tokens_per_second: sight.speed.tokens_per_second(),
        eta_seconds: (rate > 0.0).then(|| totals.outstanding() as f64 / rate),
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
        active: active.collect(),
        servers: servers(sight.workers, sight.pool),
    }
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
                serving: serving && server.reachable,
                problem: problem_of(server, pool),
            })
            .collect()
    };
    workers.values().flat_map(of_worker).collect()
}
