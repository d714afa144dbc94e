//! What this process learned about an Ollama server and its models.
//!
//! PURE. Hints that save questions and repeated mistakes; the server's answers always win.

use std::collections::HashMap;

use qa_shared::model::ServedModel;
use serde_json::Value;

use super::ModelInfo;
use super::ollama_version::Version;

/// Contexts are raised by multiples of this many tokens.
const STEP: u32 = 1024;

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
    /// The context that requests ask for at least, since a smaller one was too small for a prompt.
    pub(super) raised_context: Option<u32>,
    /// Whether an answer was held to a schema: a single refusal after that is about one answer.
    pub(super) schema_works: bool,
    /// Whether the model's template knows no system message.
    pub(super) system_refused: bool,
    /// The context that the model was loaded with before its first request.
    pub(super) loaded_context: Option<u32>,
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

/// The context for a model whose server refused a prompt of at least `prompt` tokens as longer than `num_ctx`, with
/// `room` for what else it may need; nothing where no larger one helps.
///
/// An estimate that was too low is off by less than its double. What needs more is an outlier, which is not to set
/// the context, and so the memory, of all other requests.
pub(super) fn raised(num_ctx: u32, prompt: u32, room: u32, longest: Option<u32>) -> Option<u32> {
    let most = longest.unwrap_or(u32::MAX).min(num_ctx.saturating_mul(2));
    let wanted = prompt.saturating_add(room).div_ceil(STEP).saturating_mul(STEP).min(most);
    (wanted > num_ctx && wanted > prompt).then_some(wanted)
}

#[cfg(test)]
mod tests {
    use super::raised;

    #[test]
    fn a_context_is_raised_to_what_a_prompt_needs_within_the_model_and_its_double() {
        assert_eq!(raised(8192, 9000, 2000, Some(40_960)), Some(11_264));
        assert_eq!(raised(8192, 9000, 2000, None), Some(11_264));
        assert_eq!(raised(8192, 9000, 2000, Some(10_000)), Some(10_000));
        assert_eq!(raised(8192, 9000, 9000, Some(40_960)), Some(16_384));
        for (prompt, longest) in [(9000, Some(8192)), (9000, Some(9000)), (16_384, None), (80_000, None)] {
            assert_eq!(raised(8192, prompt, 2000, longest), None, "{prompt} of {longest:?}");
        }
    }
}
