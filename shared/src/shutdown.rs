//! Orderly shutdown as a value that is passed in: the first signal asks to stop, the second insists.

use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Signals that come together count as one: `timeout` and some service managers send to the process and to
/// its group.
const ONE_SIGNAL: Duration = Duration::from_millis(200);

/// The two levels of shutdown; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    stop: CancellationToken,
    now: CancellationToken,
}

impl Shutdown {
    /// A shutdown that nobody has asked for yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Watches SIGINT, SIGTERM and SIGHUP: the first asks to stop, the second to leave at once.
    ///
    /// # Errors
    ///
    /// When the signal handlers cannot be installed.
    pub fn on_signals() -> std::io::Result<Self> {
        let shutdown = Self::new();
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let watched = shutdown.clone();
        tokio::spawn(async move {
            let mut first: Option<Instant> = None;
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hangup.recv() => {}
                }
                match first {
                    None => {
                        first = Some(Instant::now());
                        watched.stop.cancel();
                    }
                    Some(first) if first.elapsed() < ONE_SIGNAL => {}
                    Some(_) => watched.now.cancel(),
                }
            }
        });
        Ok(shutdown)
    }

    /// Asks to stop in good order.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Asks to leave at once.
    pub fn leave_now(&self) {
        self.stop.cancel();
        self.now.cancel();
    }

    /// Whether a stop was asked for.
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Waits until a stop is asked for.
    pub async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    /// Waits until leaving at once is asked for.
    pub async fn leaving_now(&self) {
        self.now.cancelled().await;
    }
}
