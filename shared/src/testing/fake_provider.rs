//! Fakes of the services that sell or serve models over HTTP: OpenAI, llama.cpp, vLLM, LM Studio, Claude,
//! Gemini. They speak as the real ones do on the wire, refuse what the real ones refuse, and fail on demand.
//!
//! A fake lives in the test's process, answers at once, and what it says depends on the prompt only. Its
//! rules about requests are its own: it must not know the client, nor the table of models that the client
//! works by, so that mistakes there show.

mod behaviour;
mod call;
mod claude;
mod compatible;
mod config;
mod deliver;
mod events;
mod fault;
mod fields;
mod gemini;
mod instance;
mod limits;
mod llm;
mod openai;
mod prefixes;
mod reply;
mod request;
mod schema;
mod server;
mod stats;
mod wire;

use std::sync::{Arc, Mutex};

pub use behaviour::{Behaviour, ProviderCall, RetryHint};
pub use config::{FAKE_KEY, FakeProviderConfig, FakeService};
pub use llm::FakeLlm;
pub use stats::ProviderStats;

pub use super::fake_server::answer::{expected_pair, expected_pairs};
use super::fake_server::life::Life;
use super::fake_server::notes::Notes;
use super::fake_server::script::Script;
use super::fake_server::{PATIENCE, lock};

/// A running fake service; dropping it ends it.
#[derive(Debug)]
pub struct FakeProvider {
    shared: Arc<Shared>,
    life: Life,
}

/// What outlives a restart of the server.
#[derive(Debug)]
struct Shared {
    config: Mutex<FakeProviderConfig>,
    script: Mutex<Script<ProviderCall, Behaviour>>,
    notes: Notes<ProviderStats>,
}

impl FakeProvider {
    /// Starts a service on a random port of this machine.
    pub fn start(config: FakeProviderConfig) -> Self {
        let shared = Arc::new(Shared {
            config: Mutex::new(config),
            script: Mutex::default(),
            notes: Notes::default(),
        });
        let life = Life::start("fake-provider", |listener| server::serve(listener, Arc::clone(&shared)));
        Self { shared, life }
    }

    /// Its address, without a path.
    pub fn url(&self) -> String {
        self.life.url()
    }

    /// The next good call that no earlier fault takes behaves like this, once. Calls that the service refuses
    /// for what is in them take no fault.
    pub fn fault_next(&self, behaviour: Behaviour) {
        lock(&self.shared.script).next.push_back(behaviour);
    }

    /// Every n-th call (n from 1) behaves like this, if it is good.
    pub fn fault_every(&self, n: u64, behaviour: Behaviour) {
        lock(&self.shared.script).every = Some((n.max(1), behaviour));
    }

    /// Decides about all other good calls, for example by the chunk's text.
    pub fn respond_with(&self, respond: impl Fn(&ProviderCall) -> Behaviour + Send + Sync + 'static) {
        lock(&self.shared.script).respond = Some(Arc::new(respond));
    }

    /// Changes the configuration of the running service.
    pub fn reconfigure(&self, change: impl FnOnce(&mut FakeProviderConfig)) {
        change(&mut lock(&self.shared.config));
    }

    /// What happened so far.
    pub fn stats(&self) -> ProviderStats {
        self.shared.notes.stats()
    }

    /// Waits until the condition holds and returns what happened until then; panics when it never does.
    pub async fn wait_for(&self, condition: impl Fn(&ProviderStats) -> bool) -> ProviderStats {
        if let Some(stats) = self.shared.notes.wait_for(condition, PATIENCE).await {
            return stats;
        }
        let stats = ProviderStats { bodies: Vec::new(), ..self.stats() };
        panic!("what the test waits for does not happen within {PATIENCE:?}: {stats:?}")
    }

    /// Ends the server as `kill -9` does: connections break, the port refuses.
    pub fn disappear(&self) {
        self.life.end();
    }

    /// Starts the server again on the same port; what it had cached is gone, and its limits are full again.
    pub fn come_back(&self) {
        self.life.begin_again(|listener| server::serve(listener, Arc::clone(&self.shared)));
    }
}
