//! Orderly shutdown as a value that is passed in: the first signal asks to stop, the second insists.

use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
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

    /// Watches SIGINT, SIGTERM and SIGHUP: the first asks to stop, a second SIGINT or SIGTERM to leave at once. A
    /// process that was started with SIGHUP ignored, as `nohup` does, goes on ignoring it.
    ///
    /// # Errors
    ///
    /// When the signal handlers cannot be installed.
    pub fn on_signals() -> std::io::Result<Self> {
        let shutdown = Self::new();
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = if ignores_hangup() { None } else { Some(signal(SignalKind::hangup())?) };
        let watched = shutdown.clone();
        tokio::spawn(async move {
            let mut first: Option<Instant> = None;
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    () = received(hangup.as_mut()) => {
                        // The shell and the system both tell of a closed terminal: that is nobody who insists.
                        first.get_or_insert_with(Instant::now);
                        watched.stop.cancel();
                        continue;
                    }
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

async fn received(signal: Option<&mut Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Whether this process was started with SIGHUP ignored. Where there is no `/proc`, it counts as not ignored.
fn ignores_hangup() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| has_hangup(&status))
}

/// Whether SIGHUP, signal 1, is in the set of ignored signals of a `/proc/PID/status`.
fn has_hangup(status: &str) -> bool {
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).is_some_and(|set| set & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ignored_hangup_is_read_from_the_process_status() {
        let status =
            |set: &str| format!("SigBlk:\t0000000000000001\nSigIgn:\t{set}\nSigCgt:\t0000000000000001\n");
        assert!(has_hangup(&status("0000000000001001")));
        assert!(!has_hangup(&status("0000000000001000")));
        assert!(!has_hangup("Name:\tqa-worker\n"));
    }
}
