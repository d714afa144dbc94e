//! The life of one chat call, as the test sees it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Shared;
use super::answer::{asked_of, chunk_of};
use super::scheduler::Slot;
use super::script::ChatCall;
use crate::model::TextHash;

/// A chat call from its arrival to its end; dropped before that, the client gave it up.
pub(super) struct Call {
    server: Arc<Shared>,
    pub(super) seen: ChatCall,
    arrived: Instant,
    begun: Instant,
    first_token: Instant,
    slot: Option<Slot>,
    finished: bool,
}

impl Call {
    pub(super) fn arrived(shared: &Arc<Shared>, model: &str, body: &Value) -> Self {
        let chunk = chunk_of(body);
        let number = shared.record.change(|stats| {
            stats.chat_calls += 1;
            stats.in_flight += 1;
            stats.max_in_flight = stats.max_in_flight.max(stats.in_flight);
            *stats.per_chunk.entry(TextHash::of(&chunk).to_string()).or_default() += 1;
            stats.bodies.push(body.clone());
            stats.chat_calls
        });
        let seen =
            ChatCall { number, model: model.to_owned(), chunk, asked: asked_of(body), body: body.clone() };
        let now = Instant::now();
        Self {
            server: Arc::clone(shared),
            seen,
            arrived: now,
            begun: now,
            first_token: now,
            slot: None,
            finished: false,
        }
    }

    /// It has its slot.
    pub(super) fn generate(&mut self, slot: Slot) {
        self.slot = Some(slot);
        self.begun = Instant::now();
        self.first_token = self.begun;
        self.server.record.change(|stats| {
            stats.generating += 1;
            stats.max_generating = stats.max_generating.max(stats.generating);
        });
    }

    /// The prompt is read, the first token is there.
    pub(super) fn answers(&mut self) {
        self.first_token = Instant::now();
    }

    /// What its last line says about its time, if this is its end.
    pub(super) fn durations(&self) -> Durations {
        // No server takes less, and none would be left out.
        let least = |time: Duration| time.max(Duration::from_millis(1));
        let loading = self.slot.as_ref().map_or(Duration::ZERO, |slot| slot.loading);
        Durations {
            total: least(self.arrived.elapsed()),
            load: least(loading),
            prompt: least(self.first_token - self.begun),
            generation: least(self.first_token.elapsed()),
        }
    }

    /// It was answered to its end.
    pub(super) fn finish(mut self) {
        self.finished = true;
    }
}

/// How long a call took; what is left of `total` it waited for its slot.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Durations {
    pub(super) total: Duration,
    pub(super) load: Duration,
    pub(super) prompt: Duration,
    pub(super) generation: Duration,
}

impl Drop for Call {
    fn drop(&mut self) {
        let had_slot = self.slot.take().is_some();
        self.server.record.change(|stats| {
            stats.in_flight -= 1;
            stats.generating -= u64::from(had_slot);
            if self.finished {
                stats.finished += 1;
            } else {
                stats.cancelled += 1;
            }
        });
    }
}
