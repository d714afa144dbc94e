//! Servers that cut, that never cut, and that count something else, with the token counts of real tokenizers.

use std::sync::LazyLock;

use proptest::prelude::*;
use qa_shared::testing::token_counts::{TokenCounts, token_counts};

use super::*;

/// What a server does with prompts, and what it reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Server {
    /// Refuses what exceeds its context, as the prompt forbids to cut.
    Refuses,
    /// Has a larger context than is known here.
    HasMore,
    /// Cuts what exceeds its context to all of it.
    CutsToContext,
    /// Cuts what exceeds its context to its half, and keeps so many tokens at the beginning.
    CutsToHalf(u32),
    /// Has half of the context that it is asked for, and cuts to that.
    HasHalf,
    /// Leaves out the tokens that it had computed before: these many of each prompt, all but the new ones of a probe.
    LeavesOutCached(u32),
    /// Reports a constant.
    Constant(u32),
}

impl Server {
    /// The count that it reports for a prompt; nothing where it refuses it.
    fn count(self, tokens: u32, num_ctx: u32, is_probe: bool) -> Option<u32> {
        let half = num_ctx / 2;
        match self {
            Self::Refuses => (tokens <= num_ctx).then_some(tokens),
            Self::HasMore => Some(tokens),
            Self::CutsToContext => Some(tokens.min(num_ctx)),
            Self::CutsToHalf(keep) => Some(if tokens > num_ctx { half + keep / 2 } else { tokens }),
            Self::HasHalf => Some(tokens.min(half)),
            Self::LeavesOutCached(_) if is_probe => Some(90),
            Self::LeavesOutCached(cached) => Some(tokens.saturating_sub(cached).max(1)),
            Self::Constant(count) => Some(count),
        }
    }

    fn cuts(self, tokens: u32, num_ctx: u32) -> bool {
        match self {
            Self::CutsToContext | Self::CutsToHalf(_) => tokens > num_ctx,
            Self::HasHalf => tokens > num_ctx / 2,
            Self::Refuses | Self::HasMore | Self::LeavesOutCached(_) | Self::Constant(_) => false,
        }
    }
}

/// A prompt of some kinds of text, and its tokens by some tokenizer.
#[derive(Debug, Clone)]
struct Prompt {
    text: String,
    tokens: u32,
}

static TABLE: LazyLock<Vec<TokenCounts>> = LazyLock::new(token_counts);
const SYSTEM: &str = "You write question-answer pairs that train an assistant on the content of documents. ";

fn prompt(kinds: &[(usize, usize)], tokenizer: &str) -> Prompt {
    let (mut text, mut tokens) = (SYSTEM.repeat(8), 16 * 8 + 12);
    for (kind, repeats) in kinds {
        let row = &TABLE[kind % TABLE.len()];
        text.push_str(&row.text.repeat(*repeats));
        tokens += row.counts[tokenizer] * u32::try_from(*repeats).unwrap();
    }
    Prompt { text, tokens }
}

/// What comes of a prompt, with the probe where one is asked for; nothing where the server refuses it.
fn ask(counts: &mut Counts, server: Server, prompt: &Prompt, num_ctx: u32) -> Option<Verdict> {
    let size = PromptSize::of([prompt.text.as_str()]);
    let count = server.count(prompt.tokens, num_ctx, false)?;
    let verdict = counts.judge(&size, count, num_ctx);
    if verdict != Verdict::Suspicious {
        return Some(verdict);
    }
    let longer = prompt.tokens + 100;
    Some(counts.probed(count, server.count(longer, num_ctx, true)))
}

fn named(kind: &str, repeats: usize) -> (usize, usize) {
    (TABLE.iter().position(|row| row.kind == kind).expect("a kind of the table"), repeats)
}

const NUM_CTX: u32 = 4096;

fn of(kind: &str, repeats: usize) -> Prompt {
    prompt(&[named(kind, repeats)], "qwen3")
}

/// The false alarm that this module is about: tables teach nothing about prose.
#[test]
fn prose_after_tables_and_logs_is_whole() {
    for tokenizer in ["qwen3", "llama3", "smollm2"] {
        for server in [Server::Refuses, Server::HasMore] {
            let mut counts = Counts::default();
            let dense = ["decimal table", "hex", "csv integers", "log lines", "uuid list"];
            for kind in dense.iter().cycle().take(25).chain(["english prose"; 25].iter()) {
                let prompt = prompt(&[named(kind, 4)], tokenizer);
                assert_eq!(ask(&mut counts, server, &prompt, NUM_CTX), Some(Verdict::Whole), "{kind}");
            }
        }
    }
}

#[test]
fn a_cut_prompt_is_found_at_once_and_without_a_probe_from_then_on() {
    for server in [Server::CutsToContext, Server::CutsToHalf(4), Server::CutsToHalf(24), Server::HasHalf] {
        let mut counts = Counts::default();
        assert_eq!(ask(&mut counts, server, &of("english prose", 5), NUM_CTX), Some(Verdict::Whole));
        let long = of("english prose", 120);
        assert!(matches!(ask(&mut counts, server, &long, NUM_CTX), Some(Verdict::Cut(_))), "{server:?}");
        let other = of("german prose", 90);
        let count = server.count(other.tokens, NUM_CTX, false).unwrap();
        let verdict = counts.judge(&PromptSize::of([other.text.as_str()]), count, NUM_CTX);
        let Verdict::Cut(why) = verdict else { panic!("{server:?}: {verdict:?}") };
        assert!(why.contains(&count.to_string()) && why.contains("4096"), "{why}");
        assert_eq!(ask(&mut counts, server, &of("english prose", 6), NUM_CTX), Some(Verdict::Whole));
    }
}

#[test]
fn a_whole_prompt_may_have_the_count_of_a_cut_one() {
    for tokens in [2032, 2048, 2050, 4080, 4095, 4096] {
        let whole = Prompt { tokens, ..of("english prose", 120) };
        for server in [Server::Refuses, Server::HasMore] {
            let mut counts = Counts::default();
            for _ in 0..3 {
                assert_eq!(ask(&mut counts, server, &whole, NUM_CTX), Some(Verdict::Whole), "{tokens}");
            }
        }
    }
}

/// Tables of one form have one count, wherever it lies.
#[test]
fn prompts_of_one_size_with_one_count_are_neither_cut_nor_constant() {
    let mut counts = Counts::default();
    for _ in 0..50 {
        let table = Prompt { tokens: 2050, ..of("decimal table", 7) };
        assert_eq!(ask(&mut counts, Server::Refuses, &table, NUM_CTX), Some(Verdict::Whole));
    }
}

#[test]
fn one_suspicion_is_settled_for_prompts_that_fit() {
    let mut counts = Counts::default();
    let half = Prompt { tokens: 2050, ..of("english prose", 30) };
    assert_eq!(counts.judge(&PromptSize::of([half.text.as_str()]), 2050, NUM_CTX), Verdict::Suspicious);
    assert_eq!(counts.probed(2050, Some(2150)), Verdict::Whole);
    assert_eq!(counts.judge(&PromptSize::of([half.text.as_str()]), 2050, NUM_CTX), Verdict::Whole);
}

#[test]
fn counts_that_are_too_small_or_too_large_for_the_text_cannot_be_used() {
    let text = of("english prose", 12);
    for (count, says) in [(1, "at least"), (10, "at least"), (150, "at least"), (1_000_000, "bytes")] {
        let verdict = ask(&mut Counts::default(), Server::Constant(count), &text, NUM_CTX);
        let Some(Verdict::Unusable(why)) = verdict else { panic!("{count}: {verdict:?}") };
        assert!(why.contains(says) && why.contains(&count.to_string()), "{why}");
    }
}

#[test]
fn a_constant_for_prompts_of_many_lengths_cannot_be_used() {
    let mut counts = Counts::default();
    let verdicts: Vec<_> = (10..20)
        .map(|repeats| {
            ask(&mut counts, Server::Constant(700), &of("english prose", repeats), NUM_CTX).unwrap()
        })
        .collect();
    assert_eq!(verdicts[3], Verdict::Whole);
    assert!(matches!(&verdicts[4], Verdict::Unusable(why) if why.contains("700")), "{verdicts:?}");
}

#[test]
fn counts_without_the_cached_tokens_cannot_be_used() {
    // Most of a short prompt is the same for every chunk.
    let verdict = ask(&mut Counts::default(), Server::LeavesOutCached(140), &of("english prose", 1), NUM_CTX);
    assert!(matches!(verdict, Some(Verdict::Unusable(_))), "{verdict:?}");
    // At the half of the context by chance: the probe is mostly cached.
    let long = Prompt { tokens: 2050 + 140, ..of("english prose", 90) };
    let verdict = ask(&mut Counts::default(), Server::LeavesOutCached(140), &long, NUM_CTX);
    assert!(matches!(&verdict, Some(Verdict::Unusable(why)) if why.contains("more text")), "{verdict:?}");
}

/// A dummy near the half of the context: short prompts show that it is none of theirs.
#[test]
fn a_constant_that_exceeds_a_short_prompt_is_no_cut() {
    let mut counts = Counts::default();
    let short = Prompt { text: "Why?".to_owned(), tokens: 10 };
    assert_eq!(ask(&mut counts, Server::Constant(2050), &short, NUM_CTX), Some(Verdict::Whole));
    let long = of("english prose", 120);
    let verdict = ask(&mut counts, Server::Constant(2050), &long, NUM_CTX);
    assert!(!matches!(verdict, Some(Verdict::Cut(_))), "{verdict:?}");
}

/// The probe of a whole prompt that fills the context may be cut itself.
#[test]
fn a_probe_that_is_cut_says_nothing_against_its_prompt() {
    let full = Prompt { tokens: 4090, ..of("english prose", 120) };
    let mut counts = Counts::default();
    assert_eq!(ask(&mut counts, Server::CutsToHalf(4), &full, NUM_CTX), Some(Verdict::Whole));
    let long = of("english prose", 120);
    assert!(matches!(ask(&mut counts, Server::CutsToHalf(4), &long, NUM_CTX), Some(Verdict::Cut(_))));
}

#[test]
fn another_context_begins_with_nothing_known() {
    let mut counts = Counts::default();
    let long = of("english prose", 120);
    assert!(matches!(ask(&mut counts, Server::CutsToHalf(4), &long, NUM_CTX), Some(Verdict::Cut(_))));
    let size = PromptSize::of([long.text.as_str()]);
    assert_eq!(counts.judge(&size, 2050, 8192), Verdict::Whole);
    assert_eq!(counts.judge(&size, 4096, 8192), Verdict::Suspicious);
}

fn any_prompts() -> impl Strategy<Value = Vec<Prompt>> {
    let tokenizer = prop::sample::select(vec!["qwen3", "llama3", "smollm2", "llama2", "gpt4o", "gemma3"]);
    let kinds = prop::collection::vec(((0_usize..64), (1_usize..24)), 1..4);
    (tokenizer, prop::collection::vec(kinds, 1..12))
        .prop_map(|(tokenizer, all)| all.iter().map(|kinds| prompt(kinds, tokenizer)).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn a_server_that_never_cuts_is_never_said_to_have_cut(
        prompts in any_prompts(),
        num_ctx in 512_u32..8192,
        server in prop::sample::select(vec![Server::Refuses, Server::HasMore, Server::LeavesOutCached(140)]),
    ) {
        let mut counts = Counts::default();
        for prompt in &prompts {
            let verdict = ask(&mut counts, server, prompt, num_ctx);
            prop_assert!(!matches!(verdict, Some(Verdict::Cut(_))), "{verdict:?}");
            if server != Server::LeavesOutCached(140) {
                prop_assert!(!matches!(verdict, Some(Verdict::Unusable(_))), "{verdict:?}");
            }
        }
    }

    /// Also by the counts that are dangerous by chance: those that a cut prompt would have.
    #[test]
    fn nor_where_its_counts_are_those_of_cut_prompts(
        prompts in any_prompts(),
        num_ctx in 512_u32..8192,
        near in prop::collection::vec((any::<bool>(), -20_i64..=20), 12),
    ) {
        let mut counts = Counts::default();
        for (prompt, (full, off)) in prompts.iter().zip(near) {
            let limit = i64::from(if full { num_ctx } else { num_ctx / 2 });
            let tokens = u32::try_from(limit + off).unwrap();
            let verdict = ask(&mut counts, Server::HasMore, &Prompt { tokens, ..prompt.clone() }, num_ctx);
            prop_assert!(!matches!(verdict, Some(Verdict::Cut(_))), "{verdict:?}");
        }
    }

    #[test]
    fn a_server_that_cuts_is_caught_within_two_prompts(
        prompts in any_prompts(),
        num_ctx in 512_u32..4096,
        server in prop::sample::select(vec![
            Server::CutsToContext, Server::CutsToHalf(4), Server::CutsToHalf(24), Server::HasHalf,
        ]),
    ) {
        let mut counts = Counts::default();
        let mut survived = 0;
        for prompt in &prompts {
            let verdict = ask(&mut counts, server, prompt, num_ctx);
            let is_cut = matches!(verdict, Some(Verdict::Cut(_)));
            prop_assert!(!matches!(verdict, Some(Verdict::Unusable(_))), "{verdict:?}");
            if server.cuts(prompt.tokens, num_ctx) {
                survived += u32::from(!is_cut);
            } else {
                // Whole, with the count of those that were cut.
                prop_assert!(!is_cut || prompt.tokens + NEAR > num_ctx / 2);
            }
        }
        prop_assert!(survived <= 1, "{survived} cut prompts passed");
    }
}
