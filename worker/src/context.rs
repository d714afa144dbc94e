//! How much context to ask a server for (PURE).
//!
//! Ollama reloads a model whenever a request asks for another `num_ctx`, so it is one constant per server
//! and model: what the active jobs need, rounded up, never shrunk while any of them runs.

/// The step that contexts are rounded up to, in tokens.
const STEP: u32 = 1024;

/// The smallest context that is ever asked for, in tokens: what Ollama gives by default.
const LEAST: u32 = 4096;

/// The context for a model on a server, in tokens.
///
/// `needs` are the active jobs' needs; `current` is what was chosen before, if the model is in use;
/// `longest` is what the model can do, where it is known.
pub fn choose(needs: impl IntoIterator<Item = u32>, current: Option<u32>, longest: Option<u32>) -> u32 {
    let need = needs.into_iter().max().unwrap_or(0);
    let rounded = need.div_ceil(STEP).saturating_mul(STEP).max(LEAST).max(current.unwrap_or(0));
    longest.map_or(rounded, |longest| rounded.min(longest))
}

/// The context of a request for which one was asked, in tokens; `longest` is what the model can do.
pub fn of_request(wanted: u32, longest: Option<u32>) -> u32 {
    longest.map_or(wanted, |longest| wanted.min(longest))
}

#[cfg(test)]
mod tests {
    use super::{choose, of_request};

    #[test]
    fn the_largest_need_is_rounded_up() {
        assert_eq!(choose([5000, 300], None, None), 5120);
        assert_eq!(choose([], None, None), 4096);
    }

    #[test]
    fn a_wanted_one_is_taken_as_it_is_within_the_model() {
        assert_eq!((of_request(2000, None), of_request(9000, Some(8192))), (2000, 8192));
    }

    #[test]
    fn it_does_not_shrink_and_stays_within_the_model() {
        assert_eq!(choose([100], Some(8192), None), 8192);
        assert_eq!(choose([60_000], None, Some(2048)), 2048);
        assert_eq!(choose([u32::MAX], None, Some(40_960)), 40_960);
    }
}
