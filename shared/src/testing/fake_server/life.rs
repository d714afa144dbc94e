//! A fake server's life: a runtime of its own in the test's process, so that it can vanish like a killed
//! server and come back on the same port.

use std::net::SocketAddr;
use std::sync::Mutex;

use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use super::{PATIENCE, lock};

/// A server on a port of this machine, alive or not; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Life {
    name: &'static str,
    address: SocketAddr,
    runtime: Mutex<Option<Runtime>>,
}

impl Life {
    /// Serves on a random port.
    pub(crate) fn start<F>(name: &'static str, serve: impl FnOnce(TcpListener) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (address, runtime) = launch(name, SocketAddr::from(([127, 0, 0, 1], 0)), serve);
        Self { name, address, runtime: Mutex::new(Some(runtime)) }
    }

    /// Its address as users write it.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends it as `kill -9` does: connections break, the port refuses.
    pub(crate) fn end(&self) {
        let Some(runtime) = lock(&self.runtime).take() else { return };
        // A runtime must not be ended from within another one's thread.
        let ended = std::thread::spawn(move || runtime.shutdown_timeout(PATIENCE)).join();
        assert!(ended.is_ok(), "the fake server's runtime does not end");
    }

    /// Serves again on the same port, where it does not yet.
    pub(crate) fn begin_again<F>(&self, serve: impl FnOnce(TcpListener) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut runtime = lock(&self.runtime);
        if runtime.is_none() {
            *runtime = Some(launch(self.name, self.address, serve).1);
        }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        if let Some(runtime) = lock(&self.runtime).take() {
            runtime.shutdown_background();
        }
    }
}

fn launch<F>(
    name: &'static str,
    address: SocketAddr,
    serve: impl FnOnce(TcpListener) -> F,
) -> (SocketAddr, Runtime)
where
    F: Future<Output = ()> + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name(name)
        .enable_all()
        .build()
        .expect("a test machine can start a thread");
    let listener = std::net::TcpListener::bind(address).expect("the fake server's port is free");
    listener.set_nonblocking(true).expect("a listener can be non-blocking");
    let address = listener.local_addr().expect("a bound listener has an address");
    let guard = runtime.enter();
    let listener = TcpListener::from_std(listener).expect("the runtime takes the listener");
    drop(guard);
    runtime.spawn(serve(listener));
    (address, runtime)
}
