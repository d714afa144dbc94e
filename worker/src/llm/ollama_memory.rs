//! What this process learned about an Ollama server and its models.
//!
//! PURE. Hints that save questions and repeated mistakes; the server's answers always win.

use std::collections::HashMap;

use qa_shared::model::ServedModel;
use serde_json::Value;

use super::ModelInfo;
use super::ollama_version::Version;
use super::truncation::Calibration;

/// What this process learned about the server; never authoritative.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) version: Option<Version>,
    pub(super) digests: HashMap<String, String>,
    pub(super) models: HashMap<String, ModelMemory>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct ModelMemory {
    /// The model's own properties and the value of `think` that turns reasoning off.
    pub(super) info: Option<(ModelInfo, Option<Value>)>,
    pub(super) schema_refused: bool,
    pub(super) calibration: Calibration,
}

impl Known {
    /// Forgets models whose weights changed or that are gone.
    pub(super) fn keep_current(&mut self, models: &[ServedModel]) {
        let digests: HashMap<String, String> =
            models.iter().filter_map(|model| Some((model.name.clone(), model.digest.clone()?))).collect();
        let before = std::mem::replace(&mut self.digests, digests);
        let digests = &self.digests;
        self.models.retain(|name, _| match (before.get(name), digests.get(name)) {
            (Some(before), Some(now)) => before == now,
            (None, _) => true,
            (Some(_), None) => false,
        });
    }
}
