//! Texts of many kinds and scripts with the numbers of tokens that real tokenizers give them.
//!
//! Counted once with the tokenizers of the models themselves; `smollm2` is the demo model's.

use std::collections::BTreeMap;

use serde::Deserialize;

const TABLE: &str = include_str!("token_counts.json");

/// A text and what it takes.
#[derive(Debug, Clone, Deserialize)]
pub struct TokenCounts {
    /// What kind of text it is.
    pub kind: String,
    /// The text.
    pub text: String,
    /// Tokens by tokenizer.
    pub counts: BTreeMap<String, u32>,
}

/// The whole table.
///
/// # Panics
///
/// Never: the table is part of the program.
pub fn token_counts() -> Vec<TokenCounts> {
    serde_json::from_str(TABLE).expect("the table is valid JSON")
}
