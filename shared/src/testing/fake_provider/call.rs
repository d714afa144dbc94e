//! The life of one call, as the test sees it.

use std::sync::Arc;

use super::Shared;
use super::behaviour::ProviderCall;
use crate::model::TextHash;

/// A call from its arrival to its end; dropped before that, the client gave it up.
pub(super) struct Call {
    service: Arc<Shared>,
    pub(super) seen: ProviderCall,
    finished: bool,
}

impl Call {
    /// Takes it in; its number is the next one.
    pub(super) fn arrived(shared: &Arc<Shared>, mut seen: ProviderCall) -> Self {
        seen.number = shared.notes.change(|stats| {
            stats.calls += 1;
            stats.in_flight += 1;
            stats.max_in_flight = stats.max_in_flight.max(stats.in_flight);
            *stats.per_chunk.entry(TextHash::of(&seen.chunk).to_string()).or_default() += 1;
            stats.bodies.push(seen.body.clone());
            stats.headers.push(seen.headers.clone());
            stats.calls
        });
        Self { service: Arc::clone(shared), seen, finished: false }
    }

    /// It was answered to its end.
    pub(super) fn finish(mut self) {
        self.finished = true;
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.service.notes.change(|stats| {
            stats.in_flight -= 1;
            if self.finished {
                stats.finished += 1;
            } else {
                stats.cancelled += 1;
            }
        });
    }
}
