//! What tokens cost. Whole billionths of a dollar, so that sums are exact.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Usage;

/// An amount in billionths of a US dollar.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NanoUsd(pub u64);

impl NanoUsd {
    const PER_DOLLAR: f64 = 1e9;

    /// From dollars; `None` for what is no amount (negative, not a number, above a billion dollars).
    pub fn from_dollars(dollars: f64) -> Option<Self> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "within the range that the condition allows"
        )]
        (0.0..=1e9).contains(&dollars).then(|| Self((dollars * Self::PER_DOLLAR).round() as u64))
    }

    /// In dollars.
    pub fn dollars(self) -> f64 {
        self.0 as f64 / Self::PER_DOLLAR
    }

    /// What is left after `other`, at least nothing.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// So many times the amount, at most the largest one.
    #[must_use]
    pub fn times(self, times: u64) -> Self {
        Self(self.0.saturating_mul(times))
    }

    /// The sum, at most the largest amount.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl fmt::Display for NanoUsd {
    /// Dollars with cents; amounts below ten cents with four more digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dollars = self.dollars();
        if self.0 == 0 || dollars >= 0.1 { write!(f, "${dollars:.2}") } else { write!(f, "${dollars:.6}") }
    }
}

/// What a model's tokens cost: US dollars per million tokens, as providers publish them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Prompt tokens that were not cached.
    pub input: f64,
    /// Generated tokens, reasoning included.
    pub output: f64,
    /// Prompt tokens read from the provider's cache; like `input` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached: Option<f64>,
    /// Prompt tokens written to the provider's cache; like `input` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<f64>,
}

impl Price {
    /// Nothing costs anything: models on one's own machines.
    pub const FREE: Self = Self { input: 0.0, output: 0.0, cached: None, cache_write: None };

    /// Whether nothing costs anything.
    pub fn is_free(&self) -> bool {
        self.at_most(1, 1) == NanoUsd(0)
    }

    /// Whether every figure is an amount.
    pub fn is_valid(&self) -> bool {
        let figures = [Some(self.input), Some(self.output), self.cached, self.cache_write];
        figures.into_iter().flatten().all(|figure| (0.0..=1e6).contains(&figure))
    }

    /// What these tokens cost.
    pub fn of(&self, usage: &Usage) -> NanoUsd {
        let cached = usage.cached_tokens.min(usage.input_tokens);
        let written = usage.cache_write_tokens.min(usage.input_tokens - cached);
        let plain = usage.input_tokens - cached - written;
        let parts = [
            (plain, self.input),
            (cached, self.cached.unwrap_or(self.input)),
            (written, self.cache_write.unwrap_or(self.input)),
            (usage.output_tokens, self.output),
        ];
        parts.into_iter().fold(NanoUsd(0), |sum, (tokens, price)| sum.plus(amount(tokens, price)))
    }

    /// What a prompt and an answer of these tokens cost at most, however much of the prompt is cached.
    pub fn at_most(&self, input: u64, output: u64) -> NanoUsd {
        let dearest = self.input.max(self.cached.unwrap_or(0.0)).max(self.cache_write.unwrap_or(0.0));
        amount(input, dearest).plus(amount(output, self.output))
    }
}

/// A dollar per million tokens is 1,000 billionths per token.
fn amount(tokens: u64, dollars_per_million: f64) -> NanoUsd {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "prices are checked, and a cast saturates"
    )]
    let per_token = (dollars_per_million * 1000.0).round() as u64;
    NanoUsd(tokens.saturating_mul(per_token))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PRICE: Price = Price { input: 3.0, output: 15.0, cached: Some(0.3), cache_write: Some(3.75) };

    fn usage(input: u64, cached: u64, written: u64, output: u64) -> Usage {
        Usage {
            input_tokens: input,
            cached_tokens: cached,
            cache_write_tokens: written,
            output_tokens: output,
            ..Usage::default()
        }
    }

    #[test]
    fn each_kind_of_token_has_its_price() {
        assert_eq!(PRICE.of(&usage(1_000_000, 0, 0, 0)).to_string(), "$3.00");
        assert_eq!(PRICE.of(&usage(1_000_000, 600_000, 400_000, 0)), NanoUsd(1_680_000_000));
        assert_eq!(PRICE.of(&usage(0, 0, 0, 1_000_000)).to_string(), "$15.00");
        assert_eq!(Price::FREE.of(&usage(9, 9, 9, 9)), NanoUsd(0));
    }

    #[test]
    fn small_amounts_show() {
        assert_eq!(NanoUsd(1_234_000).to_string(), "$0.001234");
        assert_eq!(NanoUsd(0).to_string(), "$0.00");
        assert_eq!(NanoUsd::from_dollars(-1.0), None);
        assert_eq!(NanoUsd::from_dollars(f64::NAN), None);
        assert_eq!(NanoUsd::from_dollars(2.5), Some(NanoUsd(2_500_000_000)));
    }

    proptest! {
        #[test]
        fn nothing_costs_more_than_at_most(
            input in 0_u64..1_000_000, cached in 0_u64..1_000_000, written in 0_u64..1_000_000,
            output in 0_u64..100_000,
        ) {
            let cost = PRICE.of(&usage(input, cached, written, output));
            prop_assert!(cost <= PRICE.at_most(input, output));
        }

        #[test]
        fn costs_add_up(a in 0_u64..1_000_000, b in 0_u64..1_000_000) {
            let both = PRICE.of(&usage(a + b, 0, 0, a + b));
            prop_assert_eq!(both, PRICE.of(&usage(a, 0, 0, a)).plus(PRICE.of(&usage(b, 0, 0, b))));
        }
    }
}
