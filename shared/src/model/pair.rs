//! One question with its answer.

use serde::{Deserialize, Serialize};

/// A question-answer pair as the model gave it, validated and trimmed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// The question; stands on its own.
    pub question: String,
    /// The answer; grounded in the chunk.
    pub answer: String,
}
