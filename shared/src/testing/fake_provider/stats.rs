//! What happened to a fake service, for tests to assert and to wait for.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::model::TextHash;

/// What happened so far.
#[derive(Debug, Clone, Default)]
pub struct ProviderStats {
    /// Calls for an answer that arrived, refused ones included.
    pub calls: u64,
    /// Calls that were answered to their end, with an error or without.
    pub finished: u64,
    /// Calls that the client gave up.
    pub cancelled: u64,
    /// Calls that are waiting or generating.
    pub in_flight: u64,
    /// The most calls that were waiting or generating at once.
    pub max_in_flight: u64,
    /// Calls by the hash of their chunk.
    pub per_chunk: BTreeMap<String, u64>,
    /// The calls' bodies in the order of arrival.
    pub bodies: Vec<Value>,
    /// The calls' headers in the order of arrival, with names in lower case.
    pub headers: Vec<BTreeMap<String, String>>,
    /// GETs of models, with a good key or not.
    pub key_checks: u64,
    /// The messages of what the service itself refused, scripted faults not: a bad key, a wrong request, a
    /// reached limit.
    pub refusals: Vec<String>,
    /// Calls that a limit per minute refused.
    pub limited: u64,
    /// Method and path of requests to places that the service does not have.
    pub unknown: Vec<String>,
}

impl ProviderStats {
    /// Calls about a chunk with this text.
    pub fn calls_for(&self, text: &str) -> u64 {
        self.per_chunk.get(&TextHash::of(text).to_string()).copied().unwrap_or(0)
    }

    /// The body of the last call, or null.
    pub fn last_body(&self) -> Value {
        self.bodies.last().cloned().unwrap_or_default()
    }
}
