//! Which kind of service generates the pairs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::PoolName;

/// A kind of LLM service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// OpenAI's service, or a server that speaks its API.
    #[serde(rename = "openai")]
    OpenAi,
    /// Anthropic's Claude.
    Claude,
    /// Google's Gemini.
    Gemini,
    /// Ollama on machines of the user's own; called `local` in files and flags, as by the Python program.
    Local,
}

impl Provider {
    /// The name in files, flags and environment.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Claude => "claude",
            Self::Gemini => "gemini",
            Self::Local => "local",
        }
    }

    /// The pool that serves a model of this provider when no `--pool` is given.
    pub fn pool(self, model: &str) -> PoolName {
        let family = if self == Self::Local { "ollama" } else { self.as_str() };
        PoolName::new(format!("{family}/{}", normalised_model(self, model)))
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A provider name that nobody knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown provider `{0}`: expected openai, claude, gemini or local (also: anthropic, google, ollama)")]
pub struct UnknownProvider(String);

impl FromStr for Provider {
    type Err = UnknownProvider;

    fn from_str(text: &str) -> Result<Self, UnknownProvider> {
        match text.trim().to_ascii_lowercase().as_str() {
            "openai" => Ok(Self::OpenAi),
            "claude" | "anthropic" => Ok(Self::Claude),
            "gemini" | "google" => Ok(Self::Gemini),
            "local" | "ollama" => Ok(Self::Local),
            _ => Err(UnknownProvider(text.to_owned())),
        }
    }
}

/// A model's name in the form that pools and comparisons use: Ollama's implied `:latest` is written out.
pub fn normalised_model(provider: Provider, model: &str) -> String {
    let model = model.trim();
    // The tag follows the last path part: `host:port/name` has a colon but no tag.
    let has_tag = model.rsplit('/').next().is_some_and(|name| name.contains(':'));
    if provider == Provider::Local && !has_tag { format!("{model}:latest") } else { model.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_accepted_in_any_case_and_with_their_aliases() {
        for (text, provider) in [
            ("OpenAI", Provider::OpenAi),
            ("anthropic", Provider::Claude),
            ("GOOGLE", Provider::Gemini),
            ("Ollama", Provider::Local),
            (" local ", Provider::Local),
        ] {
            assert_eq!(text.parse(), Ok(provider));
        }
        assert!("azure".parse::<Provider>().unwrap_err().to_string().contains("azure"));
    }

    #[test]
    fn an_ollama_model_without_tag_means_latest() {
        assert_eq!(Provider::Local.pool("llama3").as_str(), "ollama/llama3:latest");
        assert_eq!(Provider::Local.pool("reg:5000/llama3").as_str(), "ollama/reg:5000/llama3:latest");
        assert_eq!(Provider::Local.pool("qwen3:14b").as_str(), "ollama/qwen3:14b");
        assert_eq!(Provider::OpenAi.pool("gpt-5-mini").as_str(), "openai/gpt-5-mini");
    }
}
