//! Decides what a server works for: asks it what it has, looks which pools are wanted, loads the model,
//! and tells the server's slots. One assigner per server.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use qa_shared::model::{JobEntry, JobId, Obstacle, PoolName};
use qa_shared::model_table::Service;
use qa_shared::queue::{Queue, TaskSource, Tasks};
use qa_shared::shutdown::Shutdown;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::context;
use crate::llm::client::Client;
use crate::llm::ollama_models::PullProgress;
use crate::llm::{LlmError, LlmErrorKind, ModelInfo, near};
use crate::pools::{self, Candidate, Choice, Restrictions, WantedPool};
use crate::server::{Reachability, Server};

/// How often a reachable server is asked what it has.
const INVENTORY: Duration = Duration::from_secs(60);
/// How often an unreachable one is.
const RETRY: Duration = Duration::from_secs(5);
/// How long a pool waits while a service, which loads nothing, works for another one.
const SERVICE_PATIENCE: Duration = Duration::from_secs(15);
/// How often pools are compared when there is a choice.
const COMPARE: Duration = Duration::from_secs(2);

/// What a server's slots work for.
#[derive(Debug, Clone)]
pub struct Assignment {
    /// The pool.
    pub pool: PoolName,
    /// The model's name on this server.
    pub model: String,
    /// The context that every request asks for, in tokens.
    pub num_ctx: u32,
    /// Whether the model reasons before it answers.
    pub info: ModelInfo,
    /// Where tasks come from.
    pub source: TaskSource,
    /// Whether other pools are wanted too, so that slots should not wait long for a task.
    pub has_rivals: bool,
}

/// What an assigner needs.
pub struct Assigner {
    /// The server.
    pub server: Arc<Server>,
    /// The queue.
    pub queue: Queue,
    /// The jobs.
    pub jobs: watch::Receiver<Arc<BTreeMap<JobId, JobEntry>>>,
    /// What may be served.
    pub restrictions: Restrictions,
    /// Whether missing models are pulled.
    pub pull: bool,
    /// Where the slots look.
    pub assignment: watch::Sender<Option<Assignment>>,
    /// Ends it.
    pub shutdown: Shutdown,
}

#[derive(Default)]
struct Memory {
    contexts: BTreeMap<String, u32>,
    infos: BTreeMap<String, ModelInfo>,
    waiting_since: BTreeMap<PoolName, Instant>,
    unable: BTreeSet<String>,
    /// Pools whose model could not be loaded, and until when they are left out.
    failed_until: BTreeMap<PoolName, Instant>,
    /// Models that could not be pulled, or that a service does not have, and until when that is not tried again.
    missing_until: BTreeMap<String, Instant>,
    last_inventory: Option<Instant>,
}

impl Assigner {
    /// Runs until a stop is asked for.
    pub async fn run(mut self) {
        let mut memory = Memory::default();
        loop {
            self.look_at_server(&mut memory).await;
            let pause = self.assign(&mut memory).await;
            tokio::select! {
                () = self.shutdown.stopping() => break,
                () = self.server.changed.notified() => {}
                changed = self.jobs.changed() => if changed.is_err() { break },
                () = tokio::time::sleep(pause) => {}
            }
        }
        self.assignment.send_replace(None);
    }

    async fn look_at_server(&self, memory: &mut Memory) {
        // A key does not become right by being shown again and again. A proxy before a server of one's own may
        // refuse everybody for a moment.
        let is_refused = self.server.key_is_refused() && self.server.client.is_hosted();
        let is_settled = self.server.is_reachable() || is_refused;
        let every = if is_settled { INVENTORY } else { RETRY };
        let has_doubt = self.server.take_doubt();
        if !has_doubt && memory.last_inventory.is_some_and(|last| last.elapsed() < every) {
            return;
        }
        let answer = self.server.client.inspect().await;
        memory.last_inventory = Some(Instant::now());
        match self.server.asked(answer) {
            Some(Reachability::Came) => {
                // Perhaps it is another one now, or was started with other settings.
                self.server.client.forget();
                self.server.slots.forget();
                memory.infos.clear();
                let presence = self.server.presence();
                tracing::info!(
                    server = %self.server.url,
                    version = presence.version.as_deref(),
                    models = (!presence.models.is_empty()).then_some(presence.models.len()),
                    "LLM server is reachable"
                );
            }
            Some(Reachability::Went(problem)) if self.server.key_is_refused() => {
                tracing::warn!(server = %self.server.url, problem, "the provider refuses the key");
            }
            Some(Reachability::Went(problem)) => {
                tracing::warn!(server = %self.server.url, problem, "LLM server is not reachable, trying again");
            }
            None => {}
        }
    }

    /// Chooses and acts; returns how long to wait before looking again.
    async fn assign(&self, memory: &mut Memory) -> Duration {
        if !self.server.is_reachable() {
            self.assignment.send_replace(None);
            return RETRY;
        }
        let wanted = pools::wanted(&self.jobs.borrow().clone(), &self.restrictions);
        self.server.keep_wanted(|pool| wanted.iter().any(|wanted| wanted.pool == *pool));
        let able = self.able(&wanted, memory).await;
        let current = self.assignment.borrow().as_ref().map(|assignment| assignment.pool.clone());
        let Some(candidates) = self.candidates(&able, current.as_ref(), memory).await else { return COMPARE };
        // A service loads nothing: there is nothing to drain, and changing costs nothing.
        let (busy, patience) = if self.server.client.is_hosted() {
            (0, SERVICE_PATIENCE)
        } else {
            (self.server.busy(), pools::PATIENCE)
        };
        match pools::choose(current.as_ref(), busy, &candidates, patience) {
            Choice::Stay => {
                let pool = able.iter().find(|(pool, _)| Some(&pool.pool) == current.as_ref());
                if let Some((pool, served)) = pool {
                    self.keep_up(pool, served, able.len() > 1, memory).await;
                }
            }
            Choice::Drain | Choice::Rest => {
                self.assignment.send_replace(None);
            }
            Choice::Work(name) => {
                if let Some((pool, served)) = able.iter().find(|(pool, _)| pool.pool == name) {
                    self.begin(pool, served, able.len() > 1, memory).await;
                }
            }
        }
        if able.len() > 1 || (!able.is_empty() && self.assignment.borrow().is_none()) {
            COMPARE
        } else {
            RETRY
        }
    }

    /// The wanted pools that this server can serve, with the model's name here.
    async fn able(&self, wanted: &[WantedPool], memory: &mut Memory) -> Vec<(WantedPool, String)> {
        let mut able = Vec::new();
        let provider = self.server.client.provider();
        for pool in wanted.iter().filter(|pool| pool.provider == provider) {
            let Some(served) = self.restrictions.served_name(pool) else { continue };
            let may_ask = memory.missing_until.get(&served).is_none_or(|until| *until <= Instant::now());
            let is_listed = self.server.model(&served).is_some();
            // A list is a hint: what stands in none is asked about.
            let asked =
                if is_listed || !may_ask { None } else { Some(self.has_unlisted(&served, memory).await) };
            let pulls =
                self.pull && matches!(asked, Some(Err(_))) && matches!(self.server.client, Client::Ollama(_));
            let has_model = is_listed
                || matches!(asked, Some(Ok(())))
                || (pulls && self.pull_model(&served, memory).await);
            if has_model {
                memory.unable.remove(&served);
                if self.server.obstacle_to(&pool.pool) == Some(Obstacle::ModelUnknown) {
                    self.server.can_serve(&pool.pool);
                }
                // Under the name that the server gives it, which other requests use too.
                let named = self.server.model(&served).map_or(served, |model| model.name);
                able.push((pool.clone(), named));
            } else if let Some(Err(error)) = asked {
                self.lacks(pool, &served, &error, memory);
            }
        }
        able
    }

    /// Says that the server does not have a model, or why that is not known, and what helps.
    fn lacks(&self, pool: &WantedPool, served: &str, error: &LlmError, memory: &mut Memory) {
        if error.kind != LlmErrorKind::ModelNotFound {
            self.server.cannot_serve(&pool.pool, error.kind.obstacle(), &error.message);
            tracing::debug!(server = %self.server.url, model = served, %error, "the model could not be asked about");
            return;
        }
        let help = match self.server.client.service() {
            Service::Ollama => {
                format!("run `ollama pull {served}` there, use --pull, or choose another one with --model")
            }
            Service::Compatible => {
                format!("start it with that model, or serve another as {served} with --models {served}=NAME")
            }
            _ => "check the name, and what the account may use".to_owned(),
        };
        let words = if matches!(self.server.client, Client::Ollama(_)) {
            let models = self.server.presence().models;
            let names: Vec<String> = models.into_iter().map(|model| model.name).collect();
            format!(
                "{} does not have the model `{served}`; {}; {help}",
                self.server.url,
                near(served, &names)
            )
        } else {
            format!("{}; {help}", error.message)
        };
        self.server.cannot_serve(&pool.pool, Obstacle::ModelUnknown, &words);
        if memory.unable.insert(served.to_owned()) {
            tracing::warn!(
                server = %self.server.url,
                model = %served,
                "a job wants a model that this server does not have: {help}"
            );
        }
    }

    /// Asks a server about a model that it does not list.
    async fn has_unlisted(&self, model: &str, memory: &mut Memory) -> Result<(), LlmError> {
        match self.server.client.show(model).await {
            Ok(_) => {
                self.server.add_model(model);
                Ok(())
            }
            Err(error) => {
                let pause = if error.kind == LlmErrorKind::ModelNotFound { INVENTORY } else { RETRY };
                memory.missing_until.insert(model.to_owned(), Instant::now() + pause);
                Err(error)
            }
        }
    }

    async fn pull_model(&self, model: &str, memory: &mut Memory) -> bool {
        tracing::info!(server = %self.server.url, model, "pulling the model");
        let mut last_told = Instant::now();
        let progress = |progress: PullProgress| {
            if last_told.elapsed() >= Duration::from_secs(5) {
                last_told = Instant::now();
                let percent = match (progress.completed, progress.total) {
                    (Some(completed), Some(total)) if total > 0 => completed * 100 / total,
                    (_, _) => 0,
                };
                tracing::info!(model, percent, "{}", progress.status);
            }
        };
        let pulled = tokio::select! {
            pulled = self.server.client.pull(model, progress) => pulled,
            () = self.shutdown.stopping() => return false,
        };
        match pulled {
            Ok(()) => {
                memory.last_inventory = None;
                self.look_at_server(memory).await;
                self.server.model(model).is_some()
            }
            Err(error) => {
                tracing::warn!(server = %self.server.url, model, %error, "the model could not be pulled");
                memory.missing_until.insert(model.to_owned(), Instant::now() + INVENTORY);
                false
            }
        }
    }

    async fn candidates(
        &self,
        able: &[(WantedPool, String)],
        current: Option<&PoolName>,
        memory: &mut Memory,
    ) -> Option<Vec<Candidate>> {
        let tasks = Tasks::new(&self.queue);
        memory.failed_until.retain(|_, until| *until > Instant::now());
        let mut candidates = Vec::new();
        for (pool, _) in able.iter().filter(|(pool, _)| !memory.failed_until.contains_key(&pool.pool)) {
            // Without a choice there is nothing to compare, and the server need not be asked.
            let (pending, is_served) = if able.len() == 1 {
                (0, false)
            } else {
                match tasks.pool_depth(&pool.pool).await {
                    Ok(Some(depth)) => (depth.pending, depth.in_flight + depth.waiting_slots > 0),
                    Ok(None) => continue,
                    Err(error) => {
                        tracing::debug!(%error, "pool could not be looked at");
                        return None;
                    }
                }
            };
            // A pool that another server works for does not wait: else two servers would swap for ever.
            let waited = if pending == 0 || is_served || Some(&pool.pool) == current {
                memory.waiting_since.remove(&pool.pool);
                Duration::ZERO
            } else {
                memory.waiting_since.entry(pool.pool.clone()).or_insert_with(Instant::now).elapsed()
            };
            candidates.push(Candidate { pool: pool.pool.clone(), pending, waited });
        }
        Some(candidates)
    }

    /// Goes on with the pool; when a new job needs more context the model is loaded anew, once it is idle.
    async fn keep_up(&self, pool: &WantedPool, served: &str, has_rivals: bool, memory: &mut Memory) {
        let Some(current) = self.assignment.borrow().clone() else { return };
        let num_ctx = self.context(pool, Some(current.num_ctx), &current.info);
        if num_ctx == current.num_ctx && has_rivals == current.has_rivals {
            return;
        }
        if num_ctx == current.num_ctx {
            self.assignment.send_replace(Some(Assignment { has_rivals, ..current }));
        } else if self.server.busy() > 0 {
            self.assignment.send_replace(None);
        } else {
            self.begin(pool, served, has_rivals, memory).await;
        }
    }

    async fn begin(&self, pool: &WantedPool, served: &str, has_rivals: bool, memory: &mut Memory) {
        let source = match TaskSource::for_pool(&self.queue, &pool.pool).await {
            Ok(Some(source)) => source,
            // The coordinator makes the consumer before it publishes: wait for it.
            Ok(None) => return,
            Err(error) => {
                tracing::debug!(%error, "pool's consumer could not be looked up");
                return;
            }
        };
        // Nobody takes a task for what was loaded before while this is being loaded.
        self.assignment.send_replace(None);
        self.server.tries(&pool.pool, true);
        match self.load(pool, served, memory).await {
            Ok((num_ctx, info)) => {
                // Only Ollama has loaded the model by now: of others an answer is the proof.
                if matches!(self.server.client, Client::Ollama(_)) {
                    self.server.can_serve(&pool.pool);
                }
                self.server.tries(&pool.pool, false);
                self.server.slots.forget();
                let context = (num_ctx < u32::MAX).then_some(num_ctx);
                tracing::info!(server = %self.server.url, pool = %pool.pool, model = served, context, slots = %self.server.slots, "working for pool");
                let assignment = Assignment {
                    pool: pool.pool.clone(),
                    model: served.to_owned(),
                    num_ctx,
                    info,
                    source,
                    has_rivals,
                };
                self.assignment.send_replace(Some(assignment));
            }
            Err(error) => {
                tracing::warn!(server = %self.server.url, model = served, %error, "the model cannot be used yet");
                self.server.cannot_serve(&pool.pool, error.kind.obstacle(), &error.message);
                memory.last_inventory = None;
                let wait = self.server.close_for_a_while(None).unwrap_or(RETRY);
                memory.failed_until.insert(pool.pool.clone(), Instant::now() + wait);
            }
        }
    }

    /// Loads the model before the first task is taken, so that no task waits for it.
    async fn load(
        &self,
        pool: &WantedPool,
        served: &str,
        memory: &mut Memory,
    ) -> Result<(u32, ModelInfo), LlmError> {
        let info = match memory.infos.get(served) {
            Some(info) => info.clone(),
            None => self.server.client.show(served).await?,
        };
        if !info.completion {
            let message = format!("model {served} does not generate text (no `completion` capability)");
            return Err(LlmError::new(LlmErrorKind::Rejected, message));
        }
        memory.infos.insert(served.to_owned(), info.clone());
        let before = memory.contexts.get(served).copied();
        let num_ctx = self.context(pool, before, &info);
        tokio::select! {
            warm = self.server.client.warm_up(served, num_ctx) => warm?,
            () = self.shutdown.stopping() => {}
        }
        memory.contexts.insert(served.to_owned(), num_ctx);
        Ok((num_ctx, info))
    }

    /// The context that requests ask for: Ollama's is chosen here, others have the one they have.
    fn context(&self, pool: &WantedPool, before: Option<u32>, info: &ModelInfo) -> u32 {
        match self.server.client {
            Client::Ollama(_) => match pool.num_ctx {
                Some(fixed) => context::of_request(fixed, info.context_length),
                None => context::choose([pool.context_tokens], before, info.context_length),
            },
            Client::Remote(_) => info.context_length.unwrap_or(u32::MAX),
        }
    }
}
