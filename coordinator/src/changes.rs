//! What differs between the settings of a job and those of today's command (PURE).

use qa_shared::model::{GenerationSettings, PoolName};

use crate::files::KeptSettings;

/// One setting that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What it is called.
    pub setting: &'static str,
    /// The job's value.
    pub before: String,
    /// Today's value.
    pub now: String,
}

/// Lists what differs, in a fixed order.
pub fn changes(
    (before, pool_before): (&GenerationSettings, &PoolName),
    (now, pool_now): (&GenerationSettings, &PoolName),
) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut compare = |setting, before: String, now: String| {
        if before != now {
            changes.push(Change { setting, before, now });
        }
    };
    compare("provider", before.provider.to_string(), now.provider.to_string());
    compare("model", before.model.clone(), now.model.clone());
    compare("pool", pool_before.to_string(), pool_now.to_string());
    let questions = |settings: &GenerationSettings| settings.questions_per_chunk.to_string();
    compare("questions-per-chunk", questions(before), questions(now));
    compare("temperature", before.temperature.to_string(), now.temperature.to_string());
    compare("max-tokens", before.max_tokens.to_string(), now.max_tokens.to_string());
    let reasoning = |settings: &GenerationSettings| {
        settings.reasoning.map_or("default".to_owned(), |level| level.to_string())
    };
    compare("reasoning", reasoning(before), reasoning(now));
    let text = |text: &Option<String>| text.as_deref().map_or("ours".to_owned(), shortened);
    compare("qa-system-message", text(&before.prompt.system_message), text(&now.prompt.system_message));
    let extra = |text: &Option<String>| text.as_deref().map_or("none".to_owned(), shortened);
    let (old, new) = (&before.prompt.extra_instructions, &now.prompt.extra_instructions);
    compare("qa-extra-instructions", extra(old), extra(new));
    compare("qa-prompt-template-file", text(&before.prompt.template), text(&now.prompt.template));
    let option = |value: Option<String>| value.unwrap_or_else(|| "default".to_owned());
    let (old, new) = (&before.ollama, &now.ollama);
    compare(
        "ollama-top-k",
        option(old.top_k.map(|v| v.to_string())),
        option(new.top_k.map(|v| v.to_string())),
    );
    compare(
        "ollama-top-p",
        option(old.top_p.map(|v| v.to_string())),
        option(new.top_p.map(|v| v.to_string())),
    );
    compare(
        "ollama-repeat-penalty",
        option(old.repeat_penalty.map(|v| v.to_string())),
        option(new.repeat_penalty.map(|v| v.to_string())),
    );
    compare(
        "ollama-num-predict",
        option(old.num_predict.map(|v| v.to_string())),
        option(new.num_predict.map(|v| v.to_string())),
    );
    compare(
        "ollama-num-ctx",
        option(old.num_ctx.map(|v| v.to_string())),
        option(new.num_ctx.map(|v| v.to_string())),
    );
    compare("ollama-keep-alive", option(old.keep_alive.clone()), option(new.keep_alive.clone()));
    compare("ollama-stop", format!("{:?}", old.stop), format!("{:?}", new.stop));
    changes
}

/// The setting that names the chunk files.
pub(crate) const CHUNKS_DIR: &str = "chunks-dir";

/// Lists what differs in what a job keeps besides.
pub fn kept_changes(before: &KeptSettings, now: &KeptSettings) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut compare = |setting, before: Option<String>, now: Option<String>| {
        if before != now {
            let shown = |value: Option<String>| value.unwrap_or_else(|| "none".to_owned());
            changes.push(Change { setting, before: shown(before), now: shown(now) });
        }
    };
    let text = |value: Option<f64>| value.map(|value| value.to_string());
    compare(CHUNKS_DIR, before.chunks_dir.clone(), now.chunks_dir.clone());
    compare("output-file", before.output_file.clone(), now.output_file.clone());
    compare("QA_LOG_DIR", before.log_dir.clone(), now.log_dir.clone());
    compare("model-table", before.model_table.clone(), now.model_table.clone());
    compare("max-cost", text(before.max_cost), text(now.max_cost));
    let tokens = |kept: &KeptSettings| kept.max_tokens_total.map(|tokens| tokens.to_string());
    compare("max-tokens-total", tokens(before), tokens(now));
    compare("max-failure-rate", text(before.max_failure_rate), text(now.max_failure_rate));
    let off = |kept: &KeptSettings| Some((!kept.speculation).to_string());
    compare("no-speculation", off(before), off(now));
    changes
}

/// Long texts that differ only in the middle must still look different: their length is shown too.
fn shortened(text: &str) -> String {
    let count = text.chars().count();
    if count <= 40 {
        return format!("{text:?}");
    }
    let start: String = text.chars().take(32).collect();
    format!("{start:?}... ({count} characters, {})", &qa_shared::model::TextHash::of(text).to_string()[..8])
}

#[cfg(test)]
mod tests {
    use qa_shared::model::{OllamaOptions, PromptSettings, Provider};

    use super::*;

    fn settings() -> GenerationSettings {
        GenerationSettings {
            provider: Provider::Local,
            model: "a".into(),
            questions_per_chunk: 3,
            temperature: 0.7,
            max_tokens: 2000,
            reasoning: None,
            prompt: PromptSettings::default(),
            ollama: OllamaOptions::default(),
        }
    }

    #[test]
    fn equal_settings_differ_in_nothing() {
        let pool = PoolName::new("p");
        assert_eq!(changes((&settings(), &pool), (&settings(), &pool)), []);
    }

    #[test]
    fn every_difference_is_named_with_both_values() {
        let mut now = settings();
        now.model = "b".into();
        now.prompt.template = Some(format!("{}x", "long ".repeat(20)));
        now.ollama.top_k = Some(7);
        (now.ollama.num_ctx, now.ollama.keep_alive) = (Some(8192), Some("1h".into()));
        let pool = PoolName::new("p");
        let found = changes((&settings(), &pool), (&now, &pool));
        let names: Vec<_> = found.iter().map(|change| change.setting).collect();
        assert_eq!(
            names,
            ["model", "qa-prompt-template-file", "ollama-top-k", "ollama-num-ctx", "ollama-keep-alive"]
        );
        assert_eq!((found[3].before.as_str(), found[3].now.as_str()), ("default", "8192"));
        assert_eq!((found[2].before.as_str(), found[2].now.as_str()), ("default", "7"));
    }

    #[test]
    fn long_texts_that_differ_at_the_end_look_different() {
        let (one, other) = (format!("{}1", "x".repeat(99)), format!("{}2", "x".repeat(99)));
        assert_ne!(shortened(&one), shortened(&other));
    }
}
