//! One finished chunk as it stands in a Q&A file's `chunks`: how its pairs, or its failure, came about.
//!
//! It holds no pairs and no text; how records are stored is for the journal and the Q&A file.

use std::fmt::Write;

use qa_shared::model::{
    Failure, GenerationSettings, Outcome, Price, PromptSettings, TaskResult, TextHash, Usage,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// The record of a finished chunk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChunkRecord {
    /// The chunk's position in the chunk file's `chunks`, from 0.
    pub chunk: u32,
    /// Of the text that was asked about.
    pub text_hash: TextHash,
    /// Pairs or none.
    pub status: RecordStatus,
    /// The round that gave this; 0 where it was made before this program counted.
    #[serde(default)]
    pub round: u32,
    /// Pairs asked for; 0 if unknown.
    #[serde(default)]
    pub asked: u32,
    /// Pairs that there are.
    #[serde(default)]
    pub got: u32,
    /// The worker process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// The worker's host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The LLM server that answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// The kind of service, as in `qa_generation_info`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The sampling temperature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// How much reasoning was asked for, if anything was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    /// [`prompt_hash`] of the prompt settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_hash: Option<String>,
    /// Model calls made.
    #[serde(default)]
    pub attempts: u32,
    /// Prompt tokens of all attempts.
    #[serde(default)]
    pub input_tokens: u64,
    /// Prompt tokens among them that the provider had cached.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cached_tokens: u64,
    /// Prompt tokens among them that the provider wrote to its cache.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cache_write_tokens: u64,
    /// Generated tokens of all attempts.
    #[serde(default)]
    pub output_tokens: u64,
    /// Generated tokens among them that the model spent on reasoning.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub reasoning_tokens: u64,
    /// Prompt tokens among them that are estimated, because the server does not report them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub estimated_input_tokens: u64,
    /// Generated tokens among them that are estimated.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub estimated_output_tokens: u64,
    /// What they cost in US dollars, by the price of then; absent where nothing costs anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
    /// From begin to end on the worker, in seconds.
    #[serde(default)]
    pub duration_seconds: f64,
    /// The trace of this chunk and round.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// When the result was applied, in local time without zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<String>,
    /// Why there are no pairs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    /// What another version wrote.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Whether a finished chunk has pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordStatus {
    /// It has pairs.
    Completed,
    /// It has none.
    Failed,
}

impl ChunkRecord {
    /// A record that says no more than where it belongs and how it ended.
    pub fn bare(chunk: u32, text_hash: TextHash, status: RecordStatus) -> Self {
        Self {
            chunk,
            text_hash,
            status,
            round: 0,
            asked: 0,
            got: 0,
            worker: None,
            host: None,
            server: None,
            provider: None,
            model: None,
            temperature: None,
            reasoning: None,
            prompt_hash: None,
            attempts: 0,
            input_tokens: 0,
            cached_tokens: 0,
            cache_write_tokens: 0,
            output_tokens: 0,
            reasoning_tokens: 0,
            estimated_input_tokens: 0,
            estimated_output_tokens: 0,
            cost_usd: None,
            duration_seconds: 0.0,
            trace_id: None,
            completed_at: None,
            error: None,
            other: Map::new(),
        }
    }

    /// The record of a result. `text_hash` is the chunk's own (the result's may be missing), `settings` are
    /// those of the task, `completed_at` is the time of applying, see [`super::naive_local`].
    pub fn from_result(
        result: &TaskResult,
        text_hash: TextHash,
        settings: &GenerationSettings,
        completed_at: String,
    ) -> Self {
        let (status, got, error) = match &result.outcome {
            Outcome::Completed { pairs } => (RecordStatus::Completed, count(pairs.len()), None),
            Outcome::Failed { failure } => (RecordStatus::Failed, 0, Some(failure.clone())),
        };
        Self {
            round: result.key.round,
            asked: result.asked,
            got,
            worker: Some(result.worker.as_str().to_owned()),
            host: Some(result.host.clone()),
            server: result.server.clone(),
            provider: Some(result.provider.unwrap_or(settings.provider).as_str().to_owned()),
            model: Some(result.model.clone().unwrap_or_else(|| settings.model.clone())),
            temperature: Some(settings.temperature),
            reasoning: settings.reasoning.map(|level| level.to_string()),
            prompt_hash: Some(prompt_hash(&settings.prompt)),
            attempts: result.attempts,
            input_tokens: result.usage.input_tokens,
            cached_tokens: result.usage.cached_tokens,
            cache_write_tokens: result.usage.cache_write_tokens,
            output_tokens: result.usage.output_tokens,
            reasoning_tokens: result.usage.reasoning_tokens,
            estimated_input_tokens: result.usage.estimated_input_tokens,
            estimated_output_tokens: result.usage.estimated_output_tokens,
            duration_seconds: result.duration_ms as f64 / 1000.0,
            trace_id: Some(result.key.trace_id().to_string()),
            completed_at: Some(completed_at),
            error,
            ..Self::bare(result.key.chunk, text_hash, status)
        }
    }

    /// The same with what its calls cost at this price.
    #[must_use]
    pub fn priced(self, price: Option<Price>) -> Self {
        let cost_usd = price.filter(|price| !price.is_free()).map(|price| price.of(&self.usage()).dollars());
        Self { cost_usd, ..self }
    }

    /// Tokens of all attempts.
    pub fn usage(&self) -> Usage {
        Usage {
            input_tokens: self.input_tokens,
            cached_tokens: self.cached_tokens,
            cache_write_tokens: self.cache_write_tokens,
            output_tokens: self.output_tokens,
            reasoning_tokens: self.reasoning_tokens,
            estimated_input_tokens: self.estimated_input_tokens,
            estimated_output_tokens: self.estimated_output_tokens,
            ..Usage::default()
        }
    }
}

/// What is not there need not be said: records of models without caches and reasoning stay short.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
pub(super) fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A count that is far below its type's limit.
pub(crate) fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// Tells prompt settings apart in records: 12 hexadecimal digits.
pub fn prompt_hash(prompt: &PromptSettings) -> String {
    let parts = [&prompt.system_message, &prompt.extra_instructions, &prompt.template];
    let mut hasher = Sha256::new();
    for part in parts {
        match part {
            Some(text) => hasher.update(format!("{} {text}", text.len())),
            None => hasher.update("-"),
        }
    }
    hasher.finalize()[..6].iter().fold(String::with_capacity(12), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("writing to a string never fails");
        hex
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixtures::{completed_result, settings};
    use super::*;

    #[test]
    fn a_result_becomes_a_record() {
        let result = completed_result("a", 4, 2, "text", 3);
        let record = ChunkRecord::from_result(&result, TextHash::of("text"), &settings(), "now".into());
        assert_eq!((record.chunk, record.round, record.asked, record.got), (4, 2, 3, 3));
        assert_eq!(record.trace_id, Some(result.key.trace_id().to_string()));
        assert_eq!(record.provider.as_deref(), Some("local"));
        assert_eq!(record.prompt_hash.as_ref().unwrap().len(), 12);
    }

    #[test]
    fn cached_and_reasoning_tokens_are_kept_and_stay_away_where_there_are_none() {
        let mut result = completed_result("a", 4, 2, "text", 3);
        let record = |result: &TaskResult| {
            ChunkRecord::from_result(result, TextHash::of("text"), &settings(), "now".into())
        };
        let plain = serde_json::to_string(&record(&result)).unwrap();
        assert!(["cache", "reasoning", "estimated"].iter().all(|word| !plain.contains(word)), "{plain}");
        result.usage.cached_tokens = 300;
        result.usage.cache_write_tokens = 50;
        result.usage.reasoning_tokens = 20;
        (result.usage.estimated_input_tokens, result.usage.estimated_output_tokens) = (500, 120);
        let text = serde_json::to_string(&record(&result)).unwrap();
        let read: ChunkRecord = serde_json::from_str(&text).unwrap();
        assert_eq!(read.usage(), result.usage);
    }

    #[test]
    fn fields_of_another_version_survive() {
        let text = json!({
            "chunk": 1, "text_hash": "0".repeat(32), "status": "failed",
            "error": {"reason": "from_the_future", "message": "m"}, "later": {"a": [1]}
        });
        let record: ChunkRecord = serde_json::from_value(text).unwrap();
        assert_eq!(serde_json::to_value(record).unwrap()["later"], json!({"a": [1]}));
    }

    #[test]
    fn each_prompt_part_changes_the_hash() {
        let one = |system: Option<&str>, extra: Option<&str>| {
            prompt_hash(&PromptSettings {
                system_message: system.map(Into::into),
                extra_instructions: extra.map(Into::into),
                template: None,
            })
        };
        let hashes = [one(None, None), one(Some("a"), None), one(None, Some("a")), one(Some(""), None)];
        for (index, hash) in hashes.iter().enumerate() {
            assert!(!hashes[index + 1..].contains(hash), "{hashes:?}");
        }
    }
}
