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
    /// process that was started with SIGHUP or SIGINT ignored goes on ignoring it: `nohup` does that with the one, a
    /// shell without job control with the other in what it runs in the background. SIGQUIT is left as it is.
    ///
    /// # Errors
    ///
    /// When the signal handlers cannot be installed.
    pub fn on_signals() -> std::io::Result<Self> {
        let shutdown = Self::new();
        let ignored = ignored_signals();
        let mut interrupt = heeded(SignalKind::interrupt(), ignored)?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = heeded(SignalKind::hangup(), ignored)?;
        let watched = shutdown.clone();
        tokio::spawn(async move {
            let mut first: Option<Instant> = None;
            loop {
                tokio::select! {
                    () = received(interrupt.as_mut()) => {}
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

/// Watches a signal unless it is in this set.
fn heeded(kind: SignalKind, ignored: u64) -> std::io::Result<Option<Signal>> {
    if is_in(kind, ignored) { Ok(None) } else { signal(kind).map(Some) }
}

/// The signals that this process was started with as ignored, one bit each. To be asked before a handler changes one.
/// Where there is no `/proc`, none counts as ignored.
fn ignored_signals() -> u64 {
    std::fs::read_to_string("/proc/self/status").map_or(0, |status| ignored_in(&status))
}

/// The set of ignored signals of a `/proc/PID/status`.
fn ignored_in(status: &str) -> u64 {
    let set = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(0)
}

/// Signals are counted from 1, bits from 0.
fn is_in(kind: SignalKind, set: u64) -> bool {
    let bit = u32::try_from(kind.as_raw_value() - 1).ok();
    bit.and_then(|bit| set.checked_shr(bit)).is_some_and(|set| set & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_the_process_status() {
        let status = |set: &str| {
            ignored_in(&format!("SigBlk:\t0000000000000003\nSigIgn:\t{set}\nSigCgt:\t0000000000000003\n"))
        };
        let (hangup, interrupt) = (SignalKind::hangup(), SignalKind::interrupt());
        // As `nohup` leaves it, and Rust's own ignored SIGPIPE.
        let nohup = status("0000000000001001");
        assert!(is_in(hangup, nohup) && !is_in(interrupt, nohup) && is_in(SignalKind::pipe(), nohup));
        // As a shell without job control leaves it for `program &`.
        let background = status("0000000000000006");
        assert!(
            !is_in(hangup, background)
                && is_in(interrupt, background)
                && is_in(SignalKind::quit(), background)
        );
        assert_eq!(ignored_in("Name:\tqa-worker\n"), 0);
    }
}
