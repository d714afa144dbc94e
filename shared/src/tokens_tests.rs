//! Estimates against the counts of real tokenizers, and their bounds for any text.

use proptest::prelude::*;
use qa_shared::testing::token_counts::{TokenCounts, token_counts};

use super::*;

fn most(row: &TokenCounts) -> u32 {
    row.counts.values().copied().max().unwrap_or_default()
}

fn of_kind(kind: &str) -> TokenCounts {
    token_counts().into_iter().find(|row| row.kind == kind).expect("a kind of the table")
}

#[test]
fn estimates_are_careful() {
    assert_eq!(estimate_tokens(""), 0);
    assert_eq!(estimate_tokens("JetStream stores messages."), 10);
    assert_eq!(estimate_tokens("2026"), 4);
    assert_eq!(estimate_tokens("概要です"), 9);
    assert_eq!(estimate_tokens("😀"), 3);
    assert_eq!(estimate_conversation(["abc", "概"]), 16 + 2 * 8 + 1 + 3);
}

#[test]
fn no_real_tokenizer_takes_materially_more_than_the_estimate() {
    for row in token_counts() {
        let (most, estimate) = (most(&row), estimate_tokens(&row.text));
        assert!(most * 100 <= estimate * 108 + 200, "{}: {most} tokens, estimated {estimate}", row.kind);
    }
}

#[test]
fn no_real_tokenizer_takes_fewer_than_the_fewest() {
    for row in token_counts() {
        let least = row.counts.values().copied().min().unwrap_or_default();
        assert!(fewest_tokens(&row.text) <= least, "{}: {least} tokens", row.kind);
    }
}

/// Digits, tables and scripts without merges, which three characters per token estimated far too low.
#[test]
fn dense_kinds_are_estimated_by_their_class() {
    for kind in
        ["digits", "csv integers", "burmese", "amharic", "khmer", "georgian", "chinese simplified", "thai"]
    {
        let row = of_kind(kind);
        let characters = u32::try_from(row.text.chars().count()).unwrap();
        assert!(estimate_tokens(&row.text) > characters * 9 / 10, "{kind}");
        assert!(most(&row) <= estimate_tokens(&row.text) * 105 / 100 + 1, "{kind}");
    }
}

/// A larger estimate means a larger context for every request.
#[test]
fn prose_stays_near_three_characters_per_token() {
    for (kind, percent) in [("english prose", 105), ("random english words", 100), ("german prose", 116)] {
        let text = of_kind(kind).text;
        let third = u32::try_from(text.chars().count()).unwrap().div_ceil(3);
        assert!(estimate_tokens(&text) <= third * percent / 100 + 1, "{kind}: {}", estimate_tokens(&text));
    }
}

#[test]
fn rules_leaders_and_padding_merge() {
    let rule = "-".repeat(300);
    assert!(estimate_tokens(&rule) <= 101 && fewest_tokens(&rule) == 0);
    assert_eq!(estimate_tokens(&" ".repeat(300)), 100);
}

proptest! {
    #[test]
    fn no_text_has_more_bytes_than_tokens_at_most(text in ".*") {
        prop_assert!(text.len() as u64 <= most_tokens(estimate_tokens(&text)));
    }

    #[test]
    fn the_fewest_are_no_more_than_the_estimate(text in ".*") {
        prop_assert!(fewest_tokens(&text) <= estimate_tokens(&text));
    }

    /// What comes before a text changes no more than its first word and the space before it.
    #[test]
    fn estimates_add_up(a in ".*", b in ".*") {
        let both = estimate_tokens(&format!("{a}{b}"));
        prop_assert!(both <= estimate_tokens(&a) + estimate_tokens(&b) + 14);
        prop_assert!(both >= estimate_tokens(&a));
    }
}
