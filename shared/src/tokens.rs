//! How many tokens a text takes, estimated without a tokenizer: careful, so that what fits here fits there.
//!
//! The coordinator sizes a job's context with it, the worker checks prompts. It must not know any model.

/// Room for the built-in prompt without the chunk, the user's own parts and the answer, in tokens: system
/// message, instructions, and what chat templates add.
pub const BUILT_IN_PROMPT_TOKENS: u32 = 900;

/// Tokens that a text takes at most with common tokenizers: three ASCII characters or one other each.
pub fn estimate_tokens(text: &str) -> u32 {
    let (mut ascii, mut other) = (0_u64, 0_u64);
    for c in text.chars() {
        match c {
            '\0'..='\x7f' => ascii += 1,
            // Emoji and rare scripts fall apart into bytes.
            '\u{10000}'.. => other += 3,
            _ => other += 1,
        }
    }
    u32::try_from(ascii.div_ceil(3) + other).unwrap_or(u32::MAX)
}

/// Tokens that a text takes whatever the tokenizer, given its [`estimate_tokens`]: a token stands for at least
/// one byte, and a text has at most three bytes per estimated token.
pub fn most_tokens(estimate: u32) -> u64 {
    u64::from(estimate) * 3
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn estimates_are_careful() {
        assert_eq!(estimate_tokens(""), 0);
        assert_eq!(estimate_tokens("JetStream stores messages."), 9);
        assert_eq!(estimate_tokens("概要です"), 4);
        assert_eq!(estimate_tokens("😀"), 3);
    }

    proptest! {
        #[test]
        fn no_text_has_more_bytes_than_tokens_at_most(text in ".*") {
            prop_assert!(text.len() as u64 <= most_tokens(estimate_tokens(&text)));
        }

        #[test]
        fn estimates_add_up(a in ".*", b in ".*") {
            let both = estimate_tokens(&format!("{a}{b}"));
            prop_assert!(both <= estimate_tokens(&a) + estimate_tokens(&b));
            prop_assert!(both >= estimate_tokens(&a).max(estimate_tokens(&b)));
        }
    }
}
