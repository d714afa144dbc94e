//! What a fake server writes down, for tests to assert and to wait for.

use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::watch;

use super::lock;

/// Notes that outlive the server's lives.
#[derive(Debug, Default)]
pub(crate) struct Notes<S> {
    stats: Mutex<S>,
    changed: watch::Sender<()>,
}

impl<S: Clone> Notes<S> {
    pub(crate) fn stats(&self) -> S {
        lock(&self.stats).clone()
    }

    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut S) -> T) -> T {
        let value = change(&mut lock(&self.stats));
        self.changed.send_replace(());
        value
    }

    /// The notes as soon as the condition holds; none when it does not within `patience`.
    pub(crate) async fn wait_for(&self, condition: impl Fn(&S) -> bool, patience: Duration) -> Option<S> {
        let mut changed = self.changed.subscribe();
        let waiting = async {
            loop {
                // Checked under the lock, without a copy of all bodies.
                if condition(&lock(&self.stats)) {
                    return self.stats();
                }
                if changed.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::time::timeout(patience, waiting).await.ok()
    }
}
