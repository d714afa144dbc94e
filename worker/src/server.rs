//! One LLM server as this worker sees it: what it has, whether it answers, how fast it is.
//!
//! Shared by the server's slots, its assigner and the heartbeat. It must not know about tasks.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use qa_shared::model::{Obstacle, PoolName, ServedModel, ServerPresence, UnservedPool, is_same_model};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::breaker::{Breaker, Gate};
use crate::config::Slots;
use crate::llm::client::Client;
use crate::llm::{ChatReply, ChatRequest, LlmError, LlmErrorKind, LlmServer, ServerInfo};
use crate::running::Running;
use crate::slots::ServerSlots;

/// How far back the speed looks.
const SPEED_WINDOW: Duration = Duration::from_secs(300);
/// Of an obstacle's words so much is told, in characters.
const MOST_WORDS: usize = 600;
/// While one task tries a server that was in trouble, nobody else does; tasks end long before this.
const LONGEST_TRIAL: Duration = Duration::from_secs(24 * 3600);

/// An LLM server.
#[derive(Debug)]
pub struct Server {
    /// How to talk with it.
    pub client: Client,
    /// Its address without credentials.
    pub url: String,
    /// Requests that are kept in flight.
    pub slots: ServerSlots,
    busy: AtomicU32,
    finished: AtomicU64,
    /// Good answers, to tasks and to trials.
    answered: AtomicU64,
    /// How often what it cannot serve has changed.
    obstacle_changes: AtomicU64,
    state: Mutex<State>,
    /// Something changed that the assigner should look at.
    pub changed: Notify,
    /// What it works on.
    pub(crate) running: Running,
    /// Slots that wait for the breaker look at it again.
    gate_changed: Notify,
    doubtful: AtomicBool,
    /// From here the breaker's time counts.
    started: Instant,
}

#[derive(Debug)]
struct State {
    info: Option<ServerInfo>,
    problem: Option<String>,
    /// Why it does not answer.
    obstacle: Option<Obstacle>,
    /// Pools that it cannot serve, until it does.
    unserved: BTreeMap<PoolName, UnservedPool>,
    key_is_refused: bool,
    /// What only the account's owner can mend, and since when.
    account_problem: Option<(Instant, String)>,
    breaker: Breaker,
    generated: VecDeque<(Instant, u64)>,
}

impl Server {
    /// A server that was not asked yet.
    pub fn new(client: Client, slots: Slots) -> Self {
        Self {
            url: client.url().to_owned(),
            slots: ServerSlots::new(slots, client.is_hosted()),
            client,
            busy: AtomicU32::new(0),
            finished: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            obstacle_changes: AtomicU64::new(0),
            state: Mutex::new(State {
                info: None,
                problem: None,
                obstacle: None,
                unserved: BTreeMap::new(),
                key_is_refused: false,
                account_problem: None,
                breaker: Breaker::default(),
                generated: VecDeque::new(),
            }),
            changed: Notify::new(),
            running: Running::default(),
            gate_changed: Notify::new(),
            doubtful: AtomicBool::new(false),
            started: Instant::now(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Requests in flight.
    pub fn busy(&self) -> u32 {
        self.busy.load(Ordering::Relaxed)
    }

    /// Counts a request in flight until the guard is dropped.
    pub fn enter(&self) -> Busy<'_> {
        self.state().breaker.trial_runs(self.started.elapsed(), LONGEST_TRIAL);
        self.busy.fetch_add(1, Ordering::Relaxed);
        Busy(self)
    }

    /// Whether it answered when it was last asked.
    pub fn is_reachable(&self) -> bool {
        self.state().info.is_some()
    }

    /// Whether its service refused the key when it was last asked.
    pub fn key_is_refused(&self) -> bool {
        self.state().key_is_refused
    }

    /// The model that this name means, with the name that the server gives it.
    pub fn model(&self, name: &str) -> Option<ServedModel> {
        let provider = self.client.provider();
        let is_meant = |model: &&ServedModel| is_same_model(provider, &model.name, name);
        self.state().info.as_ref()?.models.iter().find(is_meant).cloned()
    }

    /// Remembers that it has this model, which it does not list.
    pub fn add_model(&self, name: &str) {
        if let Some(info) = &mut self.state().info
            && !info.models.iter().any(|model| model.name == name)
        {
            info.models.push(ServedModel { name: name.to_owned(), digest: None, gpu_percent: None });
        }
    }

    /// Takes what the server said about itself; tells whether it came or went by that.
    pub fn asked(&self, answer: Result<ServerInfo, LlmError>) -> Option<Reachability> {
        let mut state = self.state();
        let was_reachable = state.info.is_some();
        match answer {
            Ok(info) => {
                state.info = Some(info);
                state.problem = None;
                state.obstacle = None;
                state.key_is_refused = false;
                (!was_reachable).then_some(Reachability::Came)
            }
            Err(error) => {
                let is_news = was_reachable || state.problem.is_none();
                state.info = None;
                state.key_is_refused = error.kind == LlmErrorKind::KeyRefused;
                state.problem = Some(error.message.clone());
                state.obstacle = Some(error.kind.obstacle());
                is_news.then_some(Reachability::Went(error.message))
            }
        }
    }

    /// What was known may be wrong: has the assigner ask the server anew.
    pub fn doubt(&self) {
        self.doubtful.store(true, Ordering::Relaxed);
        self.changed.notify_one();
    }

    /// Whether there was doubt since the last call.
    pub fn take_doubt(&self) -> bool {
        self.doubtful.swap(false, Ordering::Relaxed)
    }

    /// It cannot serve a pool: shown in the heartbeat until it serves it.
    pub fn cannot_serve(&self, pool: &PoolName, obstacle: Obstacle, words: &str) {
        let words: String = words.chars().take(MOST_WORDS).collect();
        let told = UnservedPool { pool: pool.clone(), obstacle, words, trying: false };
        let before = self.state().unserved.insert(pool.clone(), told.clone());
        if before.is_none_or(|before| before != told) {
            self.obstacle_changes.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether a pool that it could not serve is being tried again.
    pub fn tries(&self, pool: &PoolName, trying: bool) {
        if let Some(unserved) = self.state().unserved.get_mut(pool) {
            unserved.trying = trying;
            self.obstacle_changes.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// It serves a pool, or would as far as is known.
    pub fn can_serve(&self, pool: &PoolName) {
        if self.state().unserved.remove(pool).is_some() {
            self.obstacle_changes.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Why it cannot serve a pool, if it cannot.
    pub fn obstacle_to(&self, pool: &PoolName) -> Option<Obstacle> {
        self.state().unserved.get(pool).map(|unserved| unserved.obstacle)
    }

    /// Forgets pools that are not wanted any more.
    pub fn keep_wanted(&self, is_wanted: impl Fn(&PoolName) -> bool) {
        self.state().unserved.retain(|pool, _| is_wanted(pool));
    }

    /// How often what it cannot serve has changed.
    pub(crate) fn obstacle_changes(&self) -> u64 {
        self.obstacle_changes.load(Ordering::Relaxed)
    }

    /// Takes no tasks for a while: longer each time, until an answer succeeds. Returns how long; nothing if
    /// it was closed already.
    pub fn close_for_a_while(&self, asked_for: Option<Duration>) -> Option<Duration> {
        self.state().breaker.trip(self.started.elapsed(), asked_for, rand::random())
    }

    /// The account is of no use until its owner does something, or for this long.
    pub fn suspend(&self, problem: String, pause: Duration) -> Option<Duration> {
        self.state().account_problem = Some((Instant::now(), problem));
        self.close_for_a_while(Some(pause))
    }

    /// Nothing if a slot may take a task now; else what completes when it shall ask again. Who may take one while
    /// others have to wait takes it: that tells whether the server is well again.
    pub fn closed(&self) -> Option<impl Future<Output = ()> + '_> {
        let changed = self.gate_changed.notified();
        match self.state().breaker.gate(self.started.elapsed()) {
            Gate::Go => None,
            Gate::Wait { until } => {
                let until = self.started + until;
                Some(async move { drop(tokio::time::timeout_at(until, changed).await) })
            }
        }
    }

    /// It gave an answer to a task that was begun then: it takes tasks again, all at once. What was under way when
    /// the account came to its end says nothing.
    pub fn recovered(&self, begun: Instant) {
        self.answered.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state();
        if state.account_problem.as_ref().is_some_and(|(since, _)| *since >= begun) {
            return;
        }
        state.breaker.succeeded();
        state.account_problem = None;
        self.gate_changed.notify_waiters();
    }

    /// How many good answers it has given.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Takes a finished task's figures.
    pub fn finished(&self, output_tokens: u64) {
        self.finished.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state();
        let now = Instant::now();
        state.generated.push_back((now, output_tokens));
        while state.generated.front().is_some_and(|(when, _)| now.duration_since(*when) > SPEED_WINDOW) {
            state.generated.pop_front();
        }
    }

    /// Whether no task was finished here yet.
    pub(crate) fn has_finished_nothing(&self) -> bool {
        self.finished.load(Ordering::Relaxed) == 0
    }

    /// The heartbeat's part about this server.
    pub fn presence(&self) -> ServerPresence {
        let state = self.state();
        let tokens: u64 = state.generated.iter().skip(1).map(|(_, tokens)| tokens).sum();
        let seconds = match (state.generated.front(), state.generated.back()) {
            (Some((first, _)), Some((last, _))) => last.duration_since(*first).as_secs_f64(),
            (_, _) => 0.0,
        };
        ServerPresence {
            url: self.url.clone(),
            provider: self.client.provider(),
            account: self.client.account(),
            version: state.info.as_ref().and_then(|info| info.version.clone()),
            reachable: state.info.is_some(),
            problem: state.told_problem(),
            obstacle: state.obstacle,
            unserved: state.unserved.values().cloned().collect(),
            models: state.info.as_ref().map(|info| info.models.clone()).unwrap_or_default(),
            slots: self.slots.open(),
            auto: self.slots.is_auto(),
            busy: self.busy(),
            finished: self.finished.load(Ordering::Relaxed),
            tokens_per_second: if seconds > 0.0 { tokens as f64 / seconds } else { 0.0 },
            running: self.running.told(),
        }
    }
}

impl State {
    /// What is wrong, in words. That it lacks one model of many is no problem of a server.
    fn told_problem(&self) -> Option<String> {
        let account = self.account_problem.as_ref().map(|(_, problem)| problem);
        let of_pool = || {
            let others = self.unserved.values().find(|unserved| unserved.obstacle != Obstacle::ModelUnknown);
            others.map(|unserved| &unserved.words)
        };
        account.or(self.problem.as_ref()).or_else(of_pool).cloned()
    }
}

impl LlmServer for Server {
    async fn chat(&self, request: &ChatRequest) -> Result<ChatReply, LlmError> {
        self.slots.chat(&self.client, request).await
    }

    fn who(&self) -> (&'static str, &str) {
        self.client.who()
    }
}

/// A server came or went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reachability {
    /// It answers now.
    Came,
    /// It no longer answers, or never did; the text says why.
    Went(String),
}

/// One request in flight.
#[derive(Debug)]
pub struct Busy<'a>(&'a Server);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
        // A trial that neither succeeded nor failed, such as a cancelled one, says nothing: the next may try.
        self.0.state().breaker.trial_runs(self.0.started.elapsed(), Duration::ZERO);
        self.0.gate_changed.notify_waiters();
        self.0.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use futures_util::FutureExt;

    use super::*;
    use crate::llm::http::Timeouts;
    use crate::llm::ollama::OllamaServer;

    fn server() -> Server {
        let client = OllamaServer::new("http://127.0.0.1:9", Timeouts::default(), None).unwrap();
        Server::new(Client::Ollama(client), Slots::Fixed(3))
    }

    /// The pause after some trouble is over: one slot tries, and another one waits.
    fn trial(server: &Server) -> (Busy<'_>, Pin<Box<impl Future<Output = ()>>>) {
        assert!(server.close_for_a_while(None).is_some());
        assert_eq!(server.state().breaker.gate(LONGEST_TRIAL), Gate::Go);
        let trial = server.enter();
        let mut waits = Box::pin(server.closed().expect("one slot tries, the others wait"));
        assert_eq!(waits.as_mut().now_or_never(), None);
        (trial, waits)
    }

    #[tokio::test]
    async fn who_waits_for_a_trial_goes_on_when_it_succeeds() {
        let server = server();
        let (_trial, waits) = trial(&server);
        server.recovered(Instant::now());
        assert_eq!(waits.now_or_never(), Some(()));
        assert!(server.closed().is_none());
    }

    #[tokio::test]
    async fn after_a_trial_that_tells_nothing_another_slot_tries() {
        let server = server();
        let (trial, waits) = trial(&server);
        drop(trial);
        assert_eq!(waits.now_or_never(), Some(()));
        assert!(server.closed().is_none(), "the next one");
        assert!(server.closed().is_some(), "and no other");
    }

    #[test]
    fn what_it_cannot_serve_stays_told_until_it_serves_it() {
        let server = server();
        let (pool, other) = (PoolName::new("ollama/m:latest"), PoolName::new("ollama/x:latest"));
        server.cannot_serve(&pool, Obstacle::OutOfMemory, &"answered 500: no memory ".repeat(99));
        server.cannot_serve(&other, Obstacle::ModelUnknown, "it has others");
        let changes = server.obstacle_changes();
        // Its list of models is no proof that a model can be loaded.
        server.asked(Ok(ServerInfo { version: None, models: Vec::new() }));
        let told = server.presence();
        assert_eq!(told.unserved.len(), 2);
        assert_eq!(told.unserved[0].words.chars().count(), MOST_WORDS);
        assert!(told.problem.unwrap().starts_with("answered 500"));
        server.tries(&pool, true);
        assert!(server.presence().unserved[0].trying && server.obstacle_changes() > changes);
        server.can_serve(&pool);
        server.keep_wanted(|_| false);
        let told = server.presence();
        assert_eq!((told.unserved, told.problem), (Vec::new(), None));
    }

    #[test]
    fn a_server_that_does_not_answer_says_why() {
        let server = server();
        for (kind, obstacle) in [
            (LlmErrorKind::Unreachable, Obstacle::NothingListens),
            (LlmErrorKind::KeyRefused, Obstacle::CredentialsRefused),
            (LlmErrorKind::ProxyReply, Obstacle::Other),
        ] {
            server.asked(Err(LlmError::new(kind, "no")));
            assert_eq!(server.presence().obstacle, Some(obstacle));
        }
        server.asked(Ok(ServerInfo { version: None, models: Vec::new() }));
        assert_eq!(server.presence().obstacle, None);
    }

    #[test]
    fn an_answer_from_before_the_accounts_end_does_not_open_it_again() {
        let (server, begun) = (server(), Instant::now());
        assert!(server.suspend("nothing is left".to_owned(), LONGEST_TRIAL).is_some());
        server.recovered(begun);
        assert!(server.closed().is_some());
        assert_eq!(server.presence().problem.as_deref(), Some("nothing is left"));
        server.recovered(Instant::now());
        assert!(server.closed().is_none());
        assert_eq!(server.presence().problem, None);
    }
}
