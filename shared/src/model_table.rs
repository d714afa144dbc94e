//! What differs from model to model: which parameters it takes, how its reasoning is controlled, what its
//! tokens cost. One table of rows, ours in `model_table/models.json`, the user's own before them.
//!
//! PURE. A model has, for each property, the value of the first row that matches its name and sets the
//! property. The built-in rows were compiled from the vendors' documentation in November 2026; they age, so
//! a server's refusal of a parameter is adapted to as well. It must not know how a request is made.

use serde::Deserialize;

use crate::model::{Price, Provider, Reasoning};

const BUILT_IN: &str = include_str!("model_table/models.json");

/// Whose API is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    /// OpenAI's own.
    OpenAi,
    /// A server that speaks OpenAI's API: vLLM, llama.cpp, LM Studio, a gateway.
    Compatible,
    /// Anthropic's.
    #[serde(alias = "anthropic")]
    Claude,
    /// Google's.
    #[serde(alias = "google")]
    Gemini,
    /// Ollama's.
    #[serde(alias = "local")]
    Ollama,
}

impl From<Provider> for Service {
    /// The service that a provider name stands for as long as no server of one's own is named.
    fn from(provider: Provider) -> Self {
        match provider {
            Provider::OpenAi => Self::OpenAi,
            Provider::Claude => Self::Claude,
            Provider::Gemini => Self::Gemini,
            Provider::Local => Self::Ollama,
        }
    }
}

/// When the sampling temperature may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Temperature {
    /// In every request.
    Always,
    /// While the model does not reason.
    WithoutReasoning,
    /// Never: the model refuses it, or does worse with it.
    Never,
}

/// The best way to a structured answer that the model offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Structured {
    /// The prompt alone asks for JSON.
    Prompt,
    /// Any JSON object.
    Json,
    /// A tool that the model must call, whose input has the schema.
    Tool,
    /// A JSON schema.
    Schema,
    /// A JSON schema with bounds for lengths and counts, as far as the service knows any.
    BoundedSchema,
}

/// How the amount of reasoning is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReasoningControl {
    /// Not at all.
    None,
    /// As one of some named levels (`reasoning_effort`, `thinkingLevel`).
    Effort,
    /// As a number of tokens (`budget_tokens`, `thinkingBudget`).
    Budget,
    /// The model decides, within a named effort (Claude's `adaptive`).
    Adaptive,
    /// By a switch of the chat template (`enable_thinking` in `chat_template_kwargs`).
    Template,
    /// By a switch of the request itself (`enable_thinking`).
    Switch,
    /// By both switches: the server reads one of them.
    Switches,
}

/// How answers travel (OpenAI's API). As a stream, one that repeats itself can be given up early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Streaming {
    /// In one piece.
    Never,
    /// As a stream, which tells no tokens unless the server does so unasked.
    Plain,
    /// As a stream that tells its tokens at its end.
    WithUsage,
}

/// How reasoning is switched off where [`ReasoningControl`] alone does not say it (Claude).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReasoningOff {
    /// By leaving the parameter out.
    Omit,
    /// By `{"type": "disabled"}`.
    Disabled,
    /// It cannot be.
    Impossible,
}

/// The parameter that holds the output ceiling (OpenAI's API).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputLimit {
    /// `max_tokens`
    MaxTokens,
    /// `max_completion_tokens`
    MaxCompletionTokens,
}

/// What is known about a model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelTraits {
    /// When the temperature is sent.
    pub temperature: Temperature,
    /// The best way to a structured answer.
    pub structured: Structured,
    /// How the amount of reasoning is said.
    pub reasoning: ReasoningControl,
    /// The levels that the model takes, from least to most.
    pub levels: Vec<Reasoning>,
    /// How reasoning is switched off.
    pub off: ReasoningOff,
    /// The smallest budget of reasoning tokens.
    pub least_budget: u32,
    /// The parameter of the output ceiling.
    pub output_limit: OutputLimit,
    /// Whether it takes a system message; otherwise the user's first message begins with it.
    pub system_role: bool,
    /// How its answers travel.
    pub stream: Streaming,
    /// Whether `frequency_penalty` is sent after an answer that repeated itself.
    pub frequency_penalty: bool,
    /// A prefix of at least this many tokens can be cached on demand.
    pub cache_from: Option<u32>,
    /// Context in tokens.
    pub context: Option<u32>,
    /// What its tokens cost; absent where nobody said.
    pub price: Option<Price>,
}

impl ModelTraits {
    /// The level that the model has for a wish: the least one that is not below it, else the highest. Without
    /// a wish, the least.
    pub fn level(&self, wish: Option<Reasoning>) -> Option<Reasoning> {
        let wish = wish.unwrap_or(Reasoning::Off);
        self.levels.iter().copied().find(|level| *level >= wish).or(self.levels.last().copied())
    }

    /// Whether the model reasons when `wish` is asked for: its reasoning counts as output then.
    pub fn reasons(&self, wish: Option<Reasoning>) -> bool {
        let wants = wish.unwrap_or(Reasoning::Off) > Reasoning::Off;
        match self.reasoning {
            ReasoningControl::None => false,
            ReasoningControl::Effort => self.level(wish) > Some(Reasoning::Off),
            ReasoningControl::Budget => wants || self.least_budget > 0,
            ReasoningControl::Adaptive => wants || self.off == ReasoningOff::Impossible,
            ReasoningControl::Template | ReasoningControl::Switch | ReasoningControl::Switches => wants,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    service: Service,
    /// A name; `*` stands for any text.
    model: String,
    temperature: Option<Temperature>,
    structured: Option<Structured>,
    reasoning: Option<ReasoningControl>,
    levels: Option<Vec<Reasoning>>,
    off: Option<ReasoningOff>,
    least_budget: Option<u32>,
    output_limit: Option<OutputLimit>,
    system_role: Option<bool>,
    stream: Option<Streaming>,
    frequency_penalty: Option<bool>,
    cache_from: Option<u32>,
    context: Option<u32>,
    price: Option<Price>,
}

/// A user's table that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// It is no JSON array of rows.
    #[error("expected a JSON list of rows: {0}")]
    Syntax(String),
    /// A row holds something impossible.
    #[error("row {row} (model `{model}`): {problem}")]
    Row {
        /// Which, from 1.
        row: usize,
        /// Its model.
        model: String,
        /// What is wrong.
        problem: &'static str,
    },
}

/// The rows, the user's first.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelTable {
    rows: Vec<Row>,
}

impl Default for ModelTable {
    fn default() -> Self {
        Self { rows: parse(BUILT_IN).expect("a test reads the built-in table") }
    }
}

impl ModelTable {
    /// The built-in table behind a user's rows: a JSON array of objects of the same form.
    pub fn with_rows(text: &str) -> Result<Self, TableError> {
        let mut rows = parse(text)?;
        rows.extend(Self::default().rows);
        Ok(Self { rows })
    }

    /// What is known about a model.
    pub fn traits(&self, service: Service, model: &str) -> ModelTraits {
        let matching: Vec<&Row> =
            self.rows.iter().filter(|row| row.service == service && matches(&row.model, model)).collect();
        ModelTraits {
            temperature: first(&matching, |row| row.temperature).unwrap_or(Temperature::Always),
            structured: first(&matching, |row| row.structured).unwrap_or(Structured::Schema),
            reasoning: first(&matching, |row| row.reasoning).unwrap_or(ReasoningControl::None),
            levels: first(&matching, |row| row.levels.clone()).unwrap_or_default(),
            off: first(&matching, |row| row.off).unwrap_or(ReasoningOff::Omit),
            least_budget: first(&matching, |row| row.least_budget).unwrap_or(0),
            output_limit: first(&matching, |row| row.output_limit).unwrap_or(OutputLimit::MaxTokens),
            system_role: first(&matching, |row| row.system_role).unwrap_or(true),
            stream: first(&matching, |row| row.stream).unwrap_or(Streaming::Never),
            frequency_penalty: first(&matching, |row| row.frequency_penalty).unwrap_or(true),
            cache_from: first(&matching, |row| row.cache_from),
            context: first(&matching, |row| row.context),
            price: first(&matching, |row| row.price),
        }
    }

    /// What a model's tokens cost, where a row says so. Only who talks to it knows whether provider openai is
    /// OpenAI's own service: a row for a compatible server counts as well.
    pub fn price(&self, provider: Provider, model: &str) -> Option<Price> {
        let price = |service| self.traits(service, model).price;
        let compatible = || price(Service::Compatible).filter(|_| provider == Provider::OpenAi);
        price(provider.into()).or_else(compatible)
    }
}

fn parse(text: &str) -> Result<Vec<Row>, TableError> {
    let mut rows: Vec<Row> =
        serde_json::from_str(text).map_err(|error| TableError::Syntax(error.to_string()))?;
    for (index, row) in rows.iter_mut().enumerate() {
        let problem = if row.model.trim().is_empty() {
            Some("its model is empty; write a name, or * for every model")
        } else if row.price.is_some_and(|price| !price.is_valid()) {
            Some("a price is negative or too large; expected US dollars per million tokens")
        } else if row.levels.as_ref().is_some_and(Vec::is_empty) {
            Some("levels is empty; expected some of off, minimal, low, medium, high")
        } else {
            None
        };
        if let Some(problem) = problem {
            return Err(TableError::Row { row: index + 1, model: row.model.clone(), problem });
        }
        if let Some(levels) = &mut row.levels {
            levels.sort();
        }
    }
    Ok(rows)
}

/// The property of the first row that sets it.
fn first<'a, T>(rows: &[&'a Row], property: impl Fn(&'a Row) -> Option<T>) -> Option<T> {
    rows.iter().find_map(|row| property(row))
}

/// Whether a name fits a pattern, in any case; `*` stands for any text.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.to_ascii_lowercase(), name.trim().to_ascii_lowercase());
    let mut parts = pattern.split('*');
    let Some(rest) = name.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut rest = rest;
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::NanoUsd;

    #[test]
    fn patterns_match_names() {
        for (pattern, name, expected) in [
            ("gpt-4.1", "gpt-4.1", true),
            ("gpt-4.1", "gpt-4.1-mini", false),
            ("gpt-4.1*", "GPT-4.1-mini", true),
            ("*qwen3*", "Qwen/Qwen3-8B", true),
            ("*qwen3*", "llama", false),
            ("gemini-3*-pro*", "gemini-3.1-pro-preview", true),
            ("gemini-3*-pro*", "gemini-3-flash", false),
            ("a*a", "a", false),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn the_built_in_table_knows_every_service_and_unknown_models() {
        let table = ModelTable::default();
        for service in
            [Service::OpenAi, Service::Compatible, Service::Claude, Service::Gemini, Service::Ollama]
        {
            let traits = table.traits(service, "a-model-from-the-future");
            assert!(traits.structured >= Structured::Schema);
            assert_eq!(traits.reasoning, ReasoningControl::None, "nothing is sent that may be refused");
        }
        assert_eq!(table.traits(Service::Claude, "claude-unknown").temperature, Temperature::Never);
        assert_eq!(table.traits(Service::OpenAi, "unknown").output_limit, OutputLimit::MaxCompletionTokens);
        assert_eq!(table.traits(Service::Compatible, "unknown").output_limit, OutputLimit::MaxTokens);
    }

    #[test]
    fn special_rows_come_before_general_ones() {
        let table = ModelTable::default();
        let mini = table.traits(Service::OpenAi, "gpt-5.4-mini");
        assert_eq!(mini.temperature, Temperature::WithoutReasoning);
        assert_eq!(mini.price.unwrap().at_most(1000, 0), NanoUsd(750_000));
        assert_eq!(table.traits(Service::OpenAi, "gpt-5.6").temperature, Temperature::Never);
        assert_eq!(table.traits(Service::OpenAi, "gpt-5-nano").levels[0], Reasoning::Minimal);
        assert_eq!(table.traits(Service::Claude, "claude-opus-4-20250514").structured, Structured::Tool);
        assert_eq!(table.traits(Service::Claude, "claude-opus-4-8").structured, Structured::Schema);
        assert_eq!(table.traits(Service::Gemini, "gemini-2.5-pro").least_budget, 128);
        assert_eq!(table.price(Provider::Local, "qwen3:8b"), Some(Price::FREE));
        assert_eq!(table.price(Provider::OpenAi, "nobody-knows"), None);
    }

    #[test]
    fn a_users_rows_override_single_properties() {
        let rows = r#"[{"service": "claude", "model": "claude-haiku-4-5*", "price": {"input": 0.5, "output": 2.5}}]"#;
        let table = ModelTable::with_rows(rows).unwrap();
        let traits = table.traits(Service::Claude, "claude-haiku-4-5-20251001");
        assert_eq!(traits.price.unwrap().at_most(1000, 0), NanoUsd(500_000));
        assert_eq!((traits.temperature, traits.cache_from), (Temperature::Always, Some(4096)));
    }

    #[test]
    fn mistakes_in_a_users_table_are_named() {
        for (text, part) in [
            ("{}", "expected a sequence"),
            (r#"[{"service": "azure", "model": "x"}]"#, "unknown variant `azure`"),
            (r#"[{"service": "openai"}]"#, "missing field `model`"),
            (r#"[{"service": "openai", "model": "x", "prise": 1}]"#, "unknown field `prise`"),
            (r#"[{"service": "openai", "model": " "}]"#, "row 1 (model ` `): its model is empty"),
            (
                r#"[{"service": "openai", "model": "x", "price": {"input": -1, "output": 1}}]"#,
                "a price is negative",
            ),
            (r#"[{"service": "openai", "model": "x", "levels": []}]"#, "levels is empty"),
        ] {
            let error = ModelTable::with_rows(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_wish_finds_the_nearest_level() {
        let table = ModelTable::default();
        let gpt5 = table.traits(Service::OpenAi, "gpt-5");
        assert_eq!(gpt5.level(None), Some(Reasoning::Minimal));
        assert_eq!(gpt5.level(Some(Reasoning::Medium)), Some(Reasoning::Medium));
        assert!(gpt5.reasons(None));
        let haiku = table.traits(Service::Claude, "claude-haiku-4-5");
        assert!(!haiku.reasons(None) && haiku.reasons(Some(Reasoning::Low)));
        assert_eq!(haiku.level(Some(Reasoning::Low)), None, "a budget has no levels");
    }
}
