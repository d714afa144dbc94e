//! How pairs are generated. These settings travel in every task; where a model is served does not.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Provider;

/// Everything that decides what a chunk's pairs look like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GenerationSettings {
    /// The kind of service.
    pub provider: Provider,
    /// The model's name as the user gave it.
    pub model: String,
    /// Pairs asked for per chunk, at least 1.
    pub questions_per_chunk: u32,
    /// Sampling temperature.
    pub temperature: f64,
    /// Output ceiling per model call in tokens (`--max-tokens`).
    pub max_tokens: u32,
    /// How much the model may reason before it answers; absent: as little as it allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<Reasoning>,
    /// The user's own prompt parts.
    #[serde(default)]
    pub prompt: PromptSettings,
    /// Ollama's sampling options; ignored by other providers.
    #[serde(default)]
    pub ollama: OllamaOptions,
}

/// How much a model reasons before it answers. Each provider's own levels are mapped to the nearest one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reasoning {
    /// Not at all, or as little as the model allows.
    Off,
    /// Hardly.
    Minimal,
    /// A little.
    Low,
    /// Some.
    Medium,
    /// A lot.
    High,
}

impl Reasoning {
    /// Every level, from least to most.
    pub const ALL: [Self; 5] = [Self::Off, Self::Minimal, Self::Low, Self::Medium, Self::High];

    /// The word in flags and files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Minimal => "minimal",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

impl fmt::Display for Reasoning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The user's own prompt parts; what is absent is ours.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptSettings {
    /// Replaces the built-in system message (`--qa-system-message`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_message: Option<String>,
    /// Added to the instructions (`--qa-extra-instructions`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra_instructions: Option<String>,
    /// Replaces the built-in user message: the text of `--qa-prompt-template-file`, with the placeholders
    /// `{text}`, `{num_questions}` and `{extra_instructions}`; `{{` and `}}` are literal braces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
}

/// Ollama's sampling options; an absent one means the default that this program documents and always sends.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct OllamaOptions {
    /// `--ollama-top-k`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    /// `--ollama-top-p`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// `--ollama-repeat-penalty`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeat_penalty: Option<f64>,
    /// `--ollama-num-predict`: the output ceiling that wins over `max_tokens`, in tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_predict: Option<u32>,
    /// `--ollama-num-ctx`: the context of every request in tokens, instead of one that fits the job's chunks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_ctx: Option<u32>,
    /// `--ollama-keep-alive`: how long a model stays loaded after a request, as Ollama writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_alive: Option<String>,
    /// `--ollama-stop`: generation ends before any of these texts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
}

impl GenerationSettings {
    /// The output ceiling of one model call in tokens; the user's ceiling is never raised.
    pub fn output_ceiling(&self) -> u32 {
        match self.provider {
            Provider::Local => self.ollama.num_predict.unwrap_or(self.max_tokens),
            Provider::OpenAi | Provider::Claude | Provider::Gemini => self.max_tokens,
        }
    }
}
