//! What a server says a call used, held to what the call could use (PURE).
//!
//! A budget and the figures of a run are made of these numbers. A broken or hostile server must not end a run by
//! telling four billion tokens for one answer. Services are not held to it: their figures are on the bill.

use qa_shared::model::Usage;

use super::ChatRequest;

/// What a chat template and a schema add to a prompt, in tokens.
const ADDED_TOKENS: u64 = 4096;

/// Tokens beyond what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Excess {
    /// Prompt tokens that the server told.
    pub(super) input: u64,
    /// Generated tokens that it told.
    pub(super) output: u64,
}

/// Cuts the tokens of an answer to what was asked for; gives what was told where that was more. No token is shorter
/// than a byte.
pub(super) fn cut(usage: &mut Usage, request: &ChatRequest) -> Option<Excess> {
    let told = Excess { input: usage.input_tokens, output: usage.output_tokens };
    let bytes: u64 = request.messages.iter().map(|message| message.content.len() as u64).sum();
    let schema = request.schema.as_ref().map_or(0, |schema| schema.to_string().len() as u64);
    usage.input_tokens = told.input.min(bytes + schema + ADDED_TOKENS);
    usage.output_tokens = told.output.min(request.max_output.into());
    usage.cached_tokens = usage.cached_tokens.min(usage.input_tokens);
    usage.cache_write_tokens = usage.cache_write_tokens.min(usage.input_tokens);
    usage.reasoning_tokens = usage.reasoning_tokens.min(usage.output_tokens);
    let is_cut = (usage.input_tokens, usage.output_tokens) != (told.input, told.output);
    is_cut.then_some(told)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_was_asked_for_is_left_and_more_is_cut_and_told() {
        let request = ChatRequest::of("m", "why?");
        let honest =
            Usage { input_tokens: 30, output_tokens: 256, reasoning_tokens: 200, ..Usage::default() };
        let mut usage = honest;
        assert_eq!((cut(&mut usage, &request), usage), (None, honest));
        let mut usage = Usage {
            input_tokens: 4_294_967_295,
            cached_tokens: 4_294_967_295,
            output_tokens: 257,
            reasoning_tokens: 4_294_967_295,
            ..Usage::default()
        };
        assert_eq!(cut(&mut usage, &request), Some(Excess { input: 4_294_967_295, output: 257 }));
        assert_eq!((usage.input_tokens, usage.cached_tokens), (4 + ADDED_TOKENS, 4 + ADDED_TOKENS));
        assert_eq!((usage.output_tokens, usage.reasoning_tokens), (256, 256));
    }

    proptest! {
        #[test]
        fn no_figure_goes_beyond_the_request(input in any::<u64>(), output in any::<u64>(), reasoning in any::<u64>()) {
            let mut usage =
                Usage { input_tokens: input, output_tokens: output, reasoning_tokens: reasoning, ..Usage::default() };
            cut(&mut usage, &ChatRequest::of("m", "why?"));
            prop_assert!(usage.input_tokens <= 4 + ADDED_TOKENS && usage.output_tokens <= 256);
            prop_assert!(usage.reasoning_tokens <= usage.output_tokens);
        }
    }
}
