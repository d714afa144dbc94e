//! `generate --dry-run`: what there is to do, what it may cost and how long it may take. It changes nothing,
//! neither files nor queue, and calls no model.

use std::collections::BTreeMap;

use qa_shared::connecting::connect_options;
use qa_shared::model::{
    InstanceId, NanoUsd, PoolName, Provider, ServerPresence, WorkerPresence, is_same_model,
};
use qa_shared::queue::{Presence, Queue, QueueError};
use qa_shared::settings::variables::Program;
use serde::Serialize;

use crate::config::{FleetPlace, GenerateConfig, Place};
use crate::core::{Core, Document};
use crate::estimate::{self, Tokens};
use crate::files::JobFolder;
use crate::format::counted;
use crate::ground;
use crate::plan::{PlanReport, look};
use crate::plan_input::{Places, Purpose, with_input};
use crate::run_error::RunError;
use crate::view::View;

/// What a run would do.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Forecast {
    pub(crate) chunks_dir: String,
    pub(crate) qa_dir: String,
    pub(crate) model: String,
    pub(crate) documents: DocumentForecast,
    pub(crate) chunks: ChunkForecast,
    /// Model calls: one for each chunk at least.
    pub(crate) calls: Range<u64>,
    pub(crate) input_tokens: Range<u64>,
    pub(crate) output_tokens: Range<u64>,
    /// In US dollars; absent where no price is known.
    pub(crate) cost_usd: Option<Range<f64>>,
    pub(crate) budget: Option<BudgetForecast>,
    pub(crate) time: TimeForecast,
    /// Names and statuses of chunk files that the chunker has not finished.
    pub(crate) skipped: BTreeMap<String, String>,
    /// Names and reasons of documents that cannot be processed.
    pub(crate) broken: BTreeMap<String, String>,
    pub(crate) notes: Vec<String>,
}

/// Documents, by how far they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct DocumentForecast {
    /// All that are worked on.
    pub(crate) total: usize,
    pub(crate) new: usize,
    pub(crate) partly_done: usize,
    pub(crate) done: usize,
    pub(crate) skipped: usize,
    pub(crate) broken: usize,
}

/// Chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct ChunkForecast {
    pub(crate) total: u64,
    pub(crate) to_do: u64,
}

/// What is probable, and what is possible.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Range<T> {
    pub(crate) estimate: T,
    pub(crate) at_most: T,
}

/// What limits the job, and what its earlier runs have used of that.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct BudgetForecast {
    pub(crate) max_cost_usd: Option<f64>,
    pub(crate) max_tokens: Option<u64>,
    pub(crate) spent_usd: f64,
    pub(crate) spent_tokens: u64,
    /// Whether the estimate fits into what is left, with room for the worst case of the last chunk.
    pub(crate) is_enough: bool,
}

/// How long it may take.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct TimeForecast {
    /// Absent where nobody has measured how fast it goes.
    pub(crate) seconds: Option<f64>,
    pub(crate) tokens_per_second: Option<f64>,
    /// Whose rate this is, or why there is none.
    pub(crate) basis: String,
}

/// Looks, and says what it found.
pub(crate) async fn dry_run(config: &GenerateConfig) -> Result<Forecast, RunError> {
    let ground = ground::look(config)?;
    let folder = JobFolder::of(&ground.qa_dir);
    let places = Places {
        chunks_dir: &ground.chunks_dir,
        qa_dir: &ground.qa_dir,
        combined_file: &ground.combined_file,
        folder: &folder,
    };
    let (core, report) = with_input(config, &places, Purpose::Look, look).await?;
    let mut forecast = files_forecast(config, &core, report);
    forecast.chunks_dir = ground.chunks_dir.display().to_string();
    forecast.qa_dir = ground.qa_dir.display().to_string();
    forecast.notes.splice(0..0, ground.notes);
    if folder.is_running() {
        let note = "a coordinator is working in the directory now: these figures are of this moment";
        forecast.notes.push(note.to_owned());
    }
    forecast.time = match &config.place {
        Place::Fleet(place) => fleet_time(&serving(config, place).await?, forecast.output_tokens.estimate),
        Place::Local(place) => {
            let last: Option<View> = folder.load_progress().ok().flatten();
            let time = local_time(last.as_ref(), forecast.output_tokens.estimate);
            let limits = place.serving.servers.first().map(|server| server.limits);
            let tokens = forecast.input_tokens.estimate + forecast.output_tokens.estimate;
            let needs = [
                (forecast.calls.estimate, limits.and_then(|limits| limits.requests)),
                (tokens, limits.and_then(|limits| limits.tokens)),
            ];
            within_limits(time, needs)
        }
    };
    let traits = config.budget.models.traits(config.settings.provider.into(), &config.settings.model);
    if traits.reasons(config.settings.reasoning) {
        let note =
            "the model reasons: what that takes is not in the estimates, only in what is at most possible";
        forecast.notes.push(note.to_owned());
    }
    Ok(forecast)
}

fn files_forecast(config: &GenerateConfig, core: &Core, report: PlanReport) -> Forecast {
    let (settings, budget) = (&config.settings, &config.budget);
    let mut documents = DocumentForecast { skipped: report.skipped.len(), ..DocumentForecast::default() };
    for document in core.documents() {
        *(match stage(document) {
            Stage::Broken => &mut documents.broken,
            Stage::Done => &mut documents.done,
            Stage::New => &mut documents.new,
            Stage::PartlyDone => &mut documents.partly_done,
        }) += 1;
        documents.total += 1;
    }
    let (mut chunks, mut longest, mut likely, mut most) = (0, 0, Tokens::default(), Tokens::default());
    for tokens in core.wanted_tokens() {
        chunks += 1;
        longest = longest.max(tokens);
        likely = likely.plus(estimate::likely(settings, tokens));
        most = most.plus(estimate::tokens_at_most(settings, budget.calls_per_task, tokens));
    }
    let cost = |tokens| estimate::cost(tokens, budget.price);
    Forecast {
        chunks_dir: String::new(),
        qa_dir: String::new(),
        model: format!("{} {}", settings.provider, settings.model),
        documents,
        chunks: ChunkForecast { total: core.totals().chunks, to_do: chunks },
        calls: Range { estimate: chunks, at_most: chunks * u64::from(budget.calls_per_task) },
        input_tokens: Range { estimate: likely.input, at_most: most.input },
        output_tokens: Range { estimate: likely.output, at_most: most.output },
        cost_usd: budget
            .price
            .map(|_| Range { estimate: cost(likely).dollars(), at_most: cost(most).dollars() }),
        budget: budget.is_limited().then(|| budget_forecast(config, core, likely, longest)),
        time: TimeForecast { seconds: None, tokens_per_second: None, basis: String::new() },
        skipped: report.skipped,
        broken: report.broken,
        notes: report.notes,
    }
}

/// The last chunk goes out only if its worst case fits beside what all others have used.
fn budget_forecast(config: &GenerateConfig, core: &Core, likely: Tokens, longest: u32) -> BudgetForecast {
    let (budget, spent) = (&config.budget, core.spent());
    let last = estimate::tokens_at_most(&config.settings, budget.calls_per_task, longest);
    let needed = likely.plus(last);
    let cost = spent.cost.plus(estimate::cost(needed, budget.price));
    let tokens = spent.usage.tokens().saturating_add(needed.input).saturating_add(needed.output);
    BudgetForecast {
        max_cost_usd: budget.max_cost.map(NanoUsd::dollars),
        max_tokens: budget.max_tokens,
        spent_usd: spent.cost.dollars(),
        spent_tokens: spent.usage.tokens(),
        is_enough: budget.max_cost.is_none_or(|limit| cost <= limit)
            && budget.max_tokens.is_none_or(|limit| tokens <= limit),
    }
}

enum Stage {
    New,
    PartlyDone,
    Done,
    Broken,
}

fn stage(document: &Document) -> Stage {
    if document.error().is_some() {
        Stage::Broken
    } else if document.outstanding() == 0 {
        Stage::Done
    } else if document.completed() + document.failed() == 0 {
        Stage::New
    } else {
        Stage::PartlyDone
    }
}

/// The LLM servers that would work for the job.
async fn serving(config: &GenerateConfig, place: &FleetPlace) -> Result<Vec<ServerPresence>, RunError> {
    let options = connect_options(&place.nats, Program::Coordinator, "qa-coordinator generate --dry-run");
    let queue = Queue::connect(&options, config.common.timing.clone()).await.map_err(RunError::queue)?;
    let workers = match Presence::new(&queue).workers().await {
        Ok(workers) => workers,
        // Nobody has ever used this server for the purpose.
        Err(QueueError::Missing { .. }) => BTreeMap::new(),
        Err(error) => return Err(RunError::queue(error)),
    };
    queue.close().await;
    Ok(servers_for(&workers, &config.pool, config.settings.provider, &config.settings.model))
}

/// Workers join a pool only once a job wants it: those count that would.
fn servers_for(
    workers: &BTreeMap<InstanceId, WorkerPresence>,
    pool: &PoolName,
    provider: Provider,
    model: &str,
) -> Vec<ServerPresence> {
    let would_join = |worker: &&WorkerPresence| {
        !worker.draining && (worker.named_pools.is_empty() || worker.named_pools.contains(pool))
    };
    let has_model = |server: &&ServerPresence| {
        let is_there = server.reachable && server.provider == provider;
        // An account's models are too many to be told.
        is_there
            && (server.account.is_some()
                || server.models.iter().any(|served| is_same_model(provider, &served.name, model)))
    };
    let workers = workers.values().filter(would_join);
    workers.flat_map(|worker| worker.servers.iter().filter(has_model)).cloned().collect()
}

fn fleet_time(servers: &[ServerPresence], output: u64) -> TimeForecast {
    let slots: u32 = servers.iter().map(|server| server.slots).sum();
    let measured = servers.iter().filter(|server| server.tokens_per_second > 0.0).count();
    let rate: f64 = servers.iter().map(|server| server.tokens_per_second).sum();
    let all = counted(servers.len() as u64, "LLM server");
    let crowd = format!("{all} with {}", counted(slots.into(), "slot"));
    let basis = match (servers.len(), measured) {
        (0, _) => "no worker is present that has the model".to_owned(),
        (_, 0) => format!("no worker has measured a rate yet ({crowd})"),
        (all, measured) if measured < all => format!("{crowd}, of which {measured} have measured a rate"),
        _ => crowd,
    };
    time(rate, output, basis)
}

fn local_time(last: Option<&View>, output: u64) -> TimeForecast {
    let rate = last
        .filter(|last| last.elapsed_seconds > 0.0)
        .map_or(0.0, |last| last.output_tokens as f64 / last.elapsed_seconds);
    let basis = match last {
        Some(_) if rate > 0.0 => "the last run's rate",
        Some(_) => "the last run generated nothing",
        None => "nothing has run here yet",
    };
    time(rate, output, basis.to_owned())
}

/// An account's limits per minute may take longer than the model.
fn within_limits(time: TimeForecast, needs: [(u64, Option<u64>); 2]) -> TimeForecast {
    let minutes =
        |(amount, limit): (u64, Option<u64>)| limit.map(|limit| amount as f64 / limit.max(1) as f64);
    let seconds = needs.into_iter().filter_map(minutes).fold(0.0, f64::max) * 60.0;
    if seconds > time.seconds.unwrap_or(0.0) {
        TimeForecast { seconds: Some(seconds), basis: "the account's limits per minute".to_owned(), ..time }
    } else {
        time
    }
}

fn time(rate: f64, output: u64, basis: String) -> TimeForecast {
    let rate = (rate > 0.0).then_some(rate);
    TimeForecast { seconds: rate.map(|rate| output as f64 / rate), tokens_per_second: rate, basis }
}

#[cfg(test)]
mod tests {
    use qa_shared::model::ServedModel;
    use qa_shared::testing::samples;

    use super::*;

    fn server(model: &str, rate: f64) -> ServerPresence {
        ServerPresence {
            models: vec![ServedModel { name: model.into(), digest: None, gpu_percent: None }],
            slots: 4,
            tokens_per_second: rate,
            ..samples::server_presence("http://gpu1:11434")
        }
    }

    fn worker(number: u32, servers: Vec<ServerPresence>, named: &[&str]) -> (InstanceId, WorkerPresence) {
        let instance = InstanceId::new("gpu", number, 1);
        let worker = WorkerPresence {
            pid: number,
            named_pools: named.iter().copied().map(PoolName::new).collect(),
            ..samples::worker_presence(instance.clone(), "gpu", servers)
        };
        (instance, worker)
    }

    #[test]
    fn only_servers_that_would_work_for_the_job_count() {
        let workers = BTreeMap::from([
            worker(1, vec![server("a:latest", 10.0), server("b:latest", 99.0)], &[]),
            worker(2, vec![server("a:latest", 20.0)], &["other"]),
            worker(3, vec![server("a:latest", 40.0)], &["night"]),
        ]);
        let found = servers_for(&workers, &PoolName::new("night"), Provider::Local, "a");
        let rates: Vec<_> = found.iter().map(|server| server.tokens_per_second).collect();
        assert_eq!(rates, [10.0, 40.0]);
        let time = fleet_time(&found, 500);
        assert_eq!((time.seconds, time.basis.as_str()), (Some(10.0), "2 LLM servers with 8 slots"));
    }

    #[test]
    fn without_a_rate_there_is_no_time() {
        assert_eq!(fleet_time(&[], 500).basis, "no worker is present that has the model");
        let idle = fleet_time(&[server("a", 0.0)], 500);
        assert_eq!((idle.seconds, idle.tokens_per_second), (None, None));
        assert!(idle.basis.starts_with("no worker has measured a rate yet"), "{}", idle.basis);
        assert_eq!(local_time(None, 500).seconds, None);
    }
}
