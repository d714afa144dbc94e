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

/// Whether two names mean the same model. Ollama resolves names without regard to case, and implies its own
/// registry, the namespace `library` and the tag `latest`. Pools keep the names that jobs give.
pub fn is_same_model(provider: Provider, one: &str, other: &str) -> bool {
    resolved_model(provider, one) == resolved_model(provider, other)
}

fn resolved_model(provider: Provider, model: &str) -> String {
    let model = normalised_model(provider, model);
    if provider != Provider::Local {
        return model;
    }
    let lower = model.to_lowercase();
    let name = lower.strip_prefix("https://").or_else(|| lower.strip_prefix("http://")).unwrap_or(&lower);
    let name = name.strip_prefix("registry.ollama.ai/").unwrap_or(name);
    name.strip_prefix("library/").unwrap_or(name).to_owned()
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
    fn ollamas_names_are_compared_as_ollama_resolves_them() {
        let same = |one, other| is_same_model(Provider::Local, one, other);
        for (one, other) in [
            ("Qwen3:14B", "qwen3:14b"),
            ("llama3", "llama3:latest"),
            ("registry.ollama.ai/library/llama3", "llama3:latest"),
            ("https://registry.ollama.ai/library/Llama3:latest", "llama3"),
            ("library/llama3:8b", "llama3:8b"),
            ("registry.ollama.ai/me/mine", "me/mine:latest"),
            ("hf.co/bartowski/Llama-3.2-3B-GGUF:Q4_K_M", "HF.co/bartowski/llama-3.2-3b-gguf:q4_k_m"),
            (" qwen3:14b ", "qwen3:14b"),
        ] {
            assert!(same(one, other), "{one} {other}");
        }
        for (one, other) in [
            ("qwen3:14b", "qwen3:8b"),
            ("llama3", "me/llama3"),
            ("hf.co/library/llama3", "llama3"),
            ("reg:5000/llama3", "llama3"),
        ] {
            assert!(!same(one, other), "{one} {other}");
        }
        assert!(!is_same_model(Provider::OpenAi, "Qwen/Qwen3", "qwen/qwen3"), "others keep case apart");
        assert!(is_same_model(Provider::OpenAi, "deepseek/r1:free", "deepseek/r1:free"));
        // What jobs have queued stays where it is.
        assert_eq!(Provider::Local.pool("Qwen3:14B").as_str(), "ollama/Qwen3:14B");
    }

    #[test]
    fn an_ollama_model_without_tag_means_latest() {
        assert_eq!(Provider::Local.pool("llama3").as_str(), "ollama/llama3:latest");
        assert_eq!(Provider::Local.pool("reg:5000/llama3").as_str(), "ollama/reg:5000/llama3:latest");
        assert_eq!(Provider::Local.pool("qwen3:14b").as_str(), "ollama/qwen3:14b");
        assert_eq!(Provider::OpenAi.pool("gpt-5-mini").as_str(), "openai/gpt-5-mini");
    }
}
