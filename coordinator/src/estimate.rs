//! What a chunk's task takes in tokens and money: at most, for the budget, and probably, for people (PURE).
//!
//! It must know as much about prompts as makes an upper bound, not how they are written.

use qa_shared::model::{GenerationSettings, NanoUsd, Price, Provider};
use qa_shared::tokens::{BUILT_IN_PROMPT_TOKENS, estimate_tokens, most_tokens};

use crate::core::{Amount, TaskBound};

/// What providers put around a prompt at most: markup, the answer's schema, instructions for tools.
const AROUND: u64 = 1000;
/// Of an unusable answer so much is shown to the model again, at most: 4,000 characters of four bytes.
const ECHO: u64 = 16_000;
/// What a follow-up says besides: what was wrong, and what is wanted.
const FOLLOW_UP: u64 = 500;

/// The built-in prompt without a chunk, as it really is.
const LIKELY_PROMPT: u64 = 450;
/// Output tokens that a pair takes, roughly.
const TOKENS_PER_PAIR: u64 = 150;

/// Tokens of both directions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tokens {
    pub(crate) input: u64,
    pub(crate) output: u64,
}

impl Tokens {
    /// The sum.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            input: self.input.saturating_add(other.input),
            output: self.output.saturating_add(other.output),
        }
    }
}

/// What a server must be able to hold at once: prompt, chunk, an earlier answer that is asked about again,
/// and the answer, in tokens.
pub(crate) fn context_tokens(settings: &GenerationSettings, longest_chunk: u32) -> u32 {
    const EARLIER_ANSWER: u32 = 1500;
    let prompt = &settings.prompt;
    let own: u32 = [&prompt.system_message, &prompt.extra_instructions, &prompt.template]
        .into_iter()
        .flatten()
        .map(|text| estimate_tokens(text))
        .sum();
    let output = settings.output_ceiling();
    [BUILT_IN_PROMPT_TOKENS, own, longest_chunk, output.min(EARLIER_ANSWER), output]
        .into_iter()
        .fold(0, u32::saturating_add)
}

/// The contexts of a job's requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Contexts {
    /// What nearly all requests need, in tokens.
    pub(crate) ordinary: u32,
    /// Chunks that need far more.
    pub(crate) apart: Option<Apart>,
}

/// Chunks that are far longer than the job's others, and are done apart from them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Apart {
    /// They have more estimated tokens than this.
    pub(crate) above: u32,
    /// The context of their requests, in tokens.
    pub(crate) num_ctx: u32,
}

/// Contexts for chunks of so many estimated tokens. Ollama holds the context of every request in memory, so a few
/// chunks must not set that of all: at most one in twenty (one chunk in any case) is done apart, if it needs more
/// than half as much again as the others.
pub(crate) fn contexts(
    settings: &GenerationSettings,
    chunk_tokens: impl IntoIterator<Item = u32>,
) -> Contexts {
    /// Ollama has no use for less.
    const LEAST: u32 = 4096;
    /// The step that workers round to.
    const STEP: u32 = 1024;
    const ONE_IN: usize = 20;
    /// Of fewer chunks none is an exception.
    const FEW: usize = 4;
    let mut sizes: Vec<u32> = chunk_tokens.into_iter().collect();
    sizes.sort_unstable();
    let longest = sizes.last().copied().unwrap_or(0);
    let all = context_tokens(settings, longest);
    let uniform = Contexts { ordinary: all, apart: None };
    if sizes.len() < FEW || settings.provider != Provider::Local || settings.ollama.num_ctx.is_some() {
        return uniform;
    }
    let base = sizes[sizes.len() - 1 - (sizes.len() / ONE_IN).max(1)];
    let bound = u64::from(context_tokens(settings, base).max(LEAST)) * 3 / 2;
    let is_ordinary = |tokens: &u32| u64::from(context_tokens(settings, *tokens)) <= bound;
    let above = sizes[..sizes.partition_point(is_ordinary)].last().copied().unwrap_or(0);
    if above == longest {
        return uniform;
    }
    let apart = Apart { above, num_ctx: all.div_ceil(STEP).saturating_mul(STEP) };
    Contexts { ordinary: context_tokens(settings, above), apart: Some(apart) }
}

/// What a task with so many model calls takes at most, whatever happens.
pub(crate) fn at_most(settings: &GenerationSettings, calls: u32, price: Option<Price>) -> TaskBound {
    let (calls, output) = (u64::from(calls.max(1)), u64::from(settings.output_ceiling()));
    let follow_ups = calls - 1;
    // A follow-up shows the beginning of the last answer, and names the questions of all before.
    let echoed = output.min(ECHO).saturating_add(FOLLOW_UP).saturating_mul(follow_ups);
    let questions = output.saturating_mul(follow_ups * calls / 2);
    let input =
        prompt_at_most(settings).saturating_mul(calls).saturating_add(echoed).saturating_add(questions);
    let chunk = most_tokens(1) * copies(settings, "{text}").max(1) * calls;
    TaskBound {
        fixed: amount(Tokens { input, output: output.saturating_mul(calls) }, price),
        per_chunk_token: amount(Tokens { input: chunk, output: 0 }, price),
    }
}

/// The same in tokens of each direction, for a chunk of so many estimated tokens.
pub(crate) fn tokens_at_most(settings: &GenerationSettings, calls: u32, chunk_tokens: u32) -> Tokens {
    let output = u64::from(settings.output_ceiling()).saturating_mul(u64::from(calls.max(1)));
    let both = at_most(settings, calls, None).of(chunk_tokens).tokens;
    Tokens { input: both - output.min(both), output }
}

/// What a task probably takes: one model call with a usable answer.
pub(crate) fn likely(settings: &GenerationSettings, chunk_tokens: u32) -> Tokens {
    let prompt = &settings.prompt;
    let template = prompt.template.as_deref().map_or(LIKELY_PROMPT, likely_text);
    let own = [&prompt.system_message, &prompt.extra_instructions].into_iter().flatten();
    let own: u64 = own.map(|text| likely_text(text)).sum();
    let chunk = likely_of(chunk_tokens) * copies(settings, "{text}").max(1);
    let output =
        (TOKENS_PER_PAIR * u64::from(settings.questions_per_chunk)).min(settings.output_ceiling().into());
    Tokens { input: template + own + chunk, output }
}

/// What tokens cost at most.
pub(crate) fn cost(tokens: Tokens, price: Option<Price>) -> NanoUsd {
    price.map_or(NanoUsd(0), |price| price.at_most(tokens.input, tokens.output))
}

fn amount(tokens: Tokens, price: Option<Price>) -> Amount {
    Amount { tokens: tokens.input.saturating_add(tokens.output), cost: cost(tokens, price) }
}

/// The prompt without its chunk.
fn prompt_at_most(settings: &GenerationSettings) -> u64 {
    let most = |text: &Option<String>| text.as_deref().map_or(0, |text| most_tokens(estimate_tokens(text)));
    let prompt = &settings.prompt;
    let extra = most(&prompt.extra_instructions) * copies(settings, "{extra_instructions}").max(1);
    u64::from(BUILT_IN_PROMPT_TOKENS) + AROUND + most(&prompt.system_message) + most(&prompt.template) + extra
}

/// How often a placeholder stands in the user's template.
fn copies(settings: &GenerationSettings, placeholder: &str) -> u64 {
    settings.prompt.template.as_deref().map_or(0, |template| template.matches(placeholder).count() as u64)
}

fn likely_text(text: &str) -> u64 {
    likely_of(estimate_tokens(text))
}

/// The estimate is careful: real tokenizers need about three quarters of it.
fn likely_of(estimate: u32) -> u64 {
    (u64::from(estimate) * 3).div_ceil(4)
}

#[cfg(test)]
mod tests {
    use qa_shared::model::PromptSettings;

    use super::*;
    use crate::files::fixtures::settings;

    #[test]
    fn a_task_is_bounded_by_its_calls_prompts_and_answers() {
        let one = at_most(&settings(), 1, None);
        assert_eq!(one.of(0).tokens, 900 + 1000 + 2000);
        assert_eq!(one.of(100).tokens - one.of(0).tokens, 300);
        let three = at_most(&settings(), 3, None).of(100).tokens;
        assert_eq!(three, 3 * (1900 + 300) + 2 * 2500 + 3 * 2000 + 3 * 2000);
        assert_eq!(tokens_at_most(&settings(), 3, 100), Tokens { input: three - 6000, output: 6000 });
    }

    #[test]
    fn one_long_chunk_does_not_set_the_context_of_all() {
        let ordinary: Vec<u32> = (0..40).map(|chunk| 250 + chunk).collect();
        let uniform = contexts(&settings(), ordinary.clone());
        assert_eq!(uniform, Contexts { ordinary: 900 + 289 + 1500 + 2000, apart: None });
        let with = contexts(&settings(), ordinary.iter().copied().chain([33_400]));
        let apart = Apart { above: 289, num_ctx: 37_888 };
        assert_eq!(with, Contexts { apart: Some(apart), ..uniform });
        // A little more is no exception, neither are many, and a user's own context holds for all.
        assert_eq!(contexts(&settings(), ordinary.iter().copied().chain([2000])).apart, None);
        assert_eq!(contexts(&settings(), ordinary.iter().copied().chain([33_400; 20])).apart, None);
        assert_eq!(contexts(&settings(), [100, 33_400]).apart, None);
        let mut own = settings();
        own.ollama.num_ctx = Some(8192);
        assert_eq!(contexts(&own, ordinary.iter().copied().chain([33_400])).apart, None);
        assert_eq!(contexts(&settings(), []), Contexts { ordinary: 4400, apart: None });
    }

    #[test]
    fn money_follows_the_tokens() {
        let price = Price { input: 1.0, output: 5.0, cached: None, cache_write: Some(1.25) };
        let bound = at_most(&settings(), 1, Some(price));
        assert_eq!(bound.of(0).cost, NanoUsd(1900 * 1250 + 2000 * 5000));
        assert_eq!(bound.of(10).cost, bound.of(0).cost.plus(NanoUsd(30 * 1250)));
    }

    #[test]
    fn the_users_own_prompt_counts_as_often_as_it_stands_there() {
        let with = |template: &str| {
            let prompt = PromptSettings {
                extra_instructions: Some("extra!".to_owned()),
                template: Some(template.to_owned()),
                ..PromptSettings::default()
            };
            at_most(&GenerationSettings { prompt, ..settings() }, 1, None)
        };
        let (once, twice) = (with("{text}"), with("{text}{text}{extra_instructions}{extra_instructions}"));
        assert_eq!(twice.per_chunk_token.tokens, 2 * once.per_chunk_token.tokens);
        assert!(twice.fixed.tokens >= once.fixed.tokens + 6);
    }

    #[test]
    fn what_is_likely_is_far_below_what_is_possible() {
        let likely = likely(&settings(), 300);
        assert_eq!(likely, Tokens { input: 450 + 225, output: 450 });
        let most = tokens_at_most(&settings(), 1, 300);
        assert!(likely.input < most.input && likely.output < most.output);
    }
}
