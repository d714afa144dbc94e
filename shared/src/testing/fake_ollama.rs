//! A fake Ollama server: behaves on the wire as real ones do, answers at once and fails on demand.
//!
//! It runs inside the test's process, on a runtime of its own, so that it can vanish like a killed server
//! and come back on the same port. What it answers depends on the prompt only, never on timing. It must not
//! know the client: prompts are read from the wire.

mod answer;
mod call;
mod chat;
mod config;
mod plan;
mod record;
mod routes;
mod scheduler;
mod script;

use std::sync::{Arc, Mutex};

pub use config::{FakeConfig, FakeModel, PromptCounts};
pub use record::FakeStats;
pub use script::{Behaviour, ChatCall};

pub use super::fake_server::answer::{expected_pair, expected_pairs};
use super::fake_server::life::Life;
use super::fake_server::{PATIENCE, lock};
use record::Record;
use script::Script;

/// A running fake server; dropping it ends it.
#[derive(Debug)]
pub struct FakeOllama {
    shared: Arc<Shared>,
    life: Life,
}

/// What outlives a restart of the server: its disk, so to say, and the test's notes.
#[derive(Debug)]
struct Shared {
    config: Mutex<FakeConfig>,
    script: Mutex<Script>,
    record: Record,
}

impl FakeOllama {
    /// Starts a server on a random port of this machine.
    pub fn start(config: FakeConfig) -> Self {
        let shared = Arc::new(Shared {
            config: Mutex::new(config),
            script: Mutex::default(),
            record: Record::default(),
        });
        let life = Life::start("fake-ollama", |listener| routes::serve(listener, Arc::clone(&shared)));
        Self { shared, life }
    }

    /// Its address as users write it.
    pub fn url(&self) -> String {
        self.life.url()
    }

    /// The next chat call that no earlier fault takes behaves like this, once.
    pub fn fault_next(&self, behaviour: Behaviour) {
        lock(&self.shared.script).next.push_back(behaviour);
    }

    /// Every n-th chat call (n from 1) behaves like this.
    pub fn fault_every(&self, n: u64, behaviour: Behaviour) {
        lock(&self.shared.script).every = Some((n.max(1), behaviour));
    }

    /// Decides about all other chat calls, for example by the chunk's text.
    pub fn respond_with(&self, respond: impl Fn(&ChatCall) -> Behaviour + Send + Sync + 'static) {
        lock(&self.shared.script).respond = Some(Arc::new(respond));
    }

    /// Changes the configuration of the running server.
    pub fn reconfigure(&self, change: impl FnOnce(&mut FakeConfig)) {
        change(&mut lock(&self.shared.config));
    }

    /// What happened so far.
    pub fn stats(&self) -> FakeStats {
        self.shared.record.stats()
    }

    /// Waits until the condition holds and returns what happened until then; panics when it never does.
    pub async fn wait_for(&self, condition: impl Fn(&FakeStats) -> bool) -> FakeStats {
        if let Some(stats) = self.shared.record.wait_for(condition, PATIENCE).await {
            return stats;
        }
        let stats = FakeStats { bodies: Vec::new(), ..self.stats() };
        panic!("what the test waits for does not happen within {PATIENCE:?}: {stats:?}")
    }

    /// Ends the server as `kill -9` does: connections break, the port refuses, loaded models are gone.
    pub fn disappear(&self) {
        self.life.end();
    }

    /// Starts the server again on the same port.
    pub fn come_back(&self) {
        self.life.begin_again(|listener| routes::serve(listener, Arc::clone(&self.shared)));
    }
}
