//! The guard of liveness with its clock and its words: what was looked at when nothing moves.

use std::time::{Duration, Instant};

use qa_shared::model::PoolName;

use crate::core::{Liveness, Sign, Tell};
use crate::format::{counted, duration};
use crate::reconcile::Seen;

/// Watches whether a run moves.
#[derive(Debug)]
pub(crate) struct LivenessWatch {
    liveness: Liveness,
    begun: Instant,
    /// What was told last, while it lasts.
    told: Option<String>,
}

/// What is looked at beside the signs of life.
pub(crate) struct Surroundings<'a> {
    pub(crate) pool: &'a PoolName,
    /// Workers that are present.
    pub(crate) workers: usize,
    /// Slots that serve the pool.
    pub(crate) slots: u32,
    /// What the last look at the queue saw, or why it could not be had.
    pub(crate) seen: Option<&'a Result<Seen, String>>,
}

impl LivenessWatch {
    /// The guard waits for three looks at the queue: what they can mend is mended by then, or about to be.
    pub(crate) fn new(ack_wait: Duration) -> Self {
        Self { liveness: Liveness::new(ack_wait * 3 / 2), begun: Instant::now(), told: None }
    }

    /// Takes the run as it is now; warns when nothing moves, and says when it does again.
    pub(crate) fn look(&mut self, sign: &Sign, around: &Surroundings<'_>) {
        match self.liveness.look(self.begun.elapsed(), sign) {
            Some(Tell::Stalled(quiet)) => {
                let text = words(quiet, sign, around);
                tracing::warn!("{text}");
                self.told = Some(text);
            }
            Some(Tell::Moves(after)) => {
                self.told = None;
                tracing::info!("the run moves again after {}", duration(after.as_secs_f64()));
            }
            None => {}
        }
    }

    /// What was told of a stall that lasts, with its seconds.
    pub(crate) fn stall(&self) -> Option<(f64, &str)> {
        Some((self.liveness.stalled()?.as_secs_f64(), self.told.as_deref()?))
    }

    /// Whether figures of the time before mean nothing now.
    pub(crate) fn is_quiet(&self) -> bool {
        self.liveness.quiet().is_some()
    }
}

fn words(quiet: Duration, sign: &Sign, around: &Surroundings<'_>) -> String {
    let seen = match around.seen {
        Some(Ok(seen)) => seen.words(around.pool),
        Some(Err(error)) => format!("the queue could not be looked through: {error}"),
        None => "the queue was not looked through yet".to_owned(),
    };
    format!(
        "the run is stalled: {} out, no worker works on one, and no result has come for {}; {seen}; {} present with \
         {} for this pool: look at their logs and at who else uses the queue",
        counted(sign.out, "task"),
        duration(quiet.as_secs_f64()),
        counted(around.workers as u64, "worker"),
        counted(around.slots.into(), "slot"),
    )
}
