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
mod socket;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Runtime;

pub use answer::{expected_pair, expected_pairs};
pub use config::{FakeConfig, FakeModel};
pub use record::FakeStats;
pub use script::{Behaviour, ChatCall};

use record::Record;
use script::Script;

/// How long [`FakeOllama::wait_for`] waits before it calls the test hung.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running fake server; dropping it ends it.
#[derive(Debug)]
pub struct FakeOllama {
    address: SocketAddr,
    shared: Arc<Shared>,
    runtime: Mutex<Option<Runtime>>,
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
        let (address, runtime) = launch(SocketAddr::from(([127, 0, 0, 1], 0)), &shared);
        Self { address, shared, runtime: Mutex::new(Some(runtime)) }
    }

    /// Its address as users write it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
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
        self.shared.record.wait_for(condition, PATIENCE).await
    }

    /// Ends the server as `kill -9` does: connections break, the port refuses, loaded models are gone.
    pub fn disappear(&self) {
        let Some(runtime) = lock(&self.runtime).take() else { return };
        // A runtime must not be ended from within another one's thread.
        let ended = std::thread::spawn(move || runtime.shutdown_timeout(PATIENCE)).join();
        assert!(ended.is_ok(), "the fake server's runtime does not end");
    }

    /// Starts the server again on the same port.
    pub fn come_back(&self) {
        let mut runtime = lock(&self.runtime);
        if runtime.is_none() {
            *runtime = Some(launch(self.address, &self.shared).1);
        }
    }
}

impl Drop for FakeOllama {
    fn drop(&mut self) {
        if let Some(runtime) = lock(&self.runtime).take() {
            runtime.shutdown_background();
        }
    }
}

fn launch(address: SocketAddr, shared: &Arc<Shared>) -> (SocketAddr, Runtime) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("fake-ollama")
        .enable_all()
        .build()
        .expect("a test machine can start a thread");
    let listener = std::net::TcpListener::bind(address).expect("the fake server's port is free");
    listener.set_nonblocking(true).expect("a listener can be non-blocking");
    let address = listener.local_addr().expect("a bound listener has an address");
    let guard = runtime.enter();
    let listener = tokio::net::TcpListener::from_std(listener).expect("the runtime takes the listener");
    drop(guard);
    runtime.spawn(routes::serve(listener, Arc::clone(shared)));
    (address, runtime)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
