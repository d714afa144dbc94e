//! What happened to a fake server, for tests to assert and to wait for.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::model::TextHash;
use crate::testing::fake_server::notes::Notes;

/// What happened so far.
#[derive(Debug, Clone, Default)]
pub struct FakeStats {
    /// Chat calls that arrived, refused ones included, warm-ups not.
    pub chat_calls: u64,
    /// Chat calls that were answered to their end, with an error or without.
    pub finished: u64,
    /// Chat calls that the client gave up.
    pub cancelled: u64,
    /// Chat calls that are waiting or generating.
    pub in_flight: u64,
    /// The most chat calls that were waiting or generating at once.
    pub max_in_flight: u64,
    /// Chat calls that have a slot.
    pub generating: u64,
    /// The most chat calls that had a slot at once.
    pub max_generating: u64,
    /// Loads that were completed, as model name and context in tokens.
    pub loads: Vec<(String, u32)>,
    /// Loads that have begun.
    pub loads_begun: u64,
    /// Loads that ended because their client left.
    pub loads_aborted: u64,
    /// Empty chat calls that only load a model.
    pub warm_ups: u64,
    /// Chat calls that were refused because the queue was full.
    pub busy: u64,
    /// Models that were pulled.
    pub pulled: Vec<String>,
    /// Chat calls by the hash of their chunk.
    pub per_chunk: BTreeMap<String, u64>,
    /// The chat calls' bodies in the order of arrival.
    pub bodies: Vec<Value>,
}

impl FakeStats {
    /// Chat calls about a chunk with this text.
    pub fn calls_for(&self, text: &str) -> u64 {
        self.per_chunk.get(&TextHash::of(text).to_string()).copied().unwrap_or(0)
    }

    /// The body of the last chat call, or null.
    pub fn last_body(&self) -> Value {
        self.bodies.last().cloned().unwrap_or_default()
    }
}

/// The notes behind [`FakeStats`].
pub(super) type Record = Notes<FakeStats>;
