//! A fake service's models: what each takes, refuses and counts.

/// A model of a fake service.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "traits of models vary independently")]
pub struct FakeLlm {
    /// Its name, without Gemini's `models/`.
    pub name: String,
    /// Parameters that it refuses, by the names in the service's errors: `temperature`, `max_tokens`,
    /// `response_format`, `output_config.format`, `thinkingBudget`, `tool_choice`; `prefill` for a
    /// conversation that ends with the assistant and `effort_without_thinking` for the highest efforts while
    /// thinking is disabled (Claude), `system` for a system message (Gemma), `no_stream` for a call that is not
    /// streamed and `no_enable_thinking` for one without that switch in the request (DashScope).
    pub rejects: Vec<String>,
    /// Parameters that it takes with their default only (OpenAI's reasoning models: `temperature` 1).
    pub only_default: Vec<String>,
    /// Whether `only_default` and the sampling parameters in `rejects` are free while it does not reason.
    pub free_without_reasoning: bool,
    /// The words for the depth of reasoning that it takes (`reasoning_effort`, `effort`, `thinkingLevel`).
    pub efforts: Vec<String>,
    /// The least and the most tokens of reasoning that may be set (`budget_tokens`, `thinkingBudget`).
    pub budget: Option<(u64, u64)>,
    /// Whether a budget of 0 switches reasoning off (Gemini).
    pub budget_off: bool,
    /// Whether it takes `{"type": "adaptive"}` (Claude).
    pub adaptive: bool,
    /// Whether it takes `{"type": "disabled"}` (Claude).
    pub can_disable: bool,
    /// Tokens of reasoning before an answer when the request asks for it.
    pub reasons: usize,
    /// Tokens of reasoning before an answer when the request says nothing of it. They count as output and
    /// against the ceiling.
    pub reasons_by_default: usize,
    /// Whether it takes a JSON schema for its answer.
    pub supports_schema: bool,
    /// Whether it can be held to some JSON object.
    pub supports_json_object: bool,
    /// Its context, in tokens.
    pub context: u32,
    /// The largest output ceiling, in tokens.
    pub max_output: u32,
    /// Prompts whose common beginning has this many tokens are cached; none: never.
    pub cache_from: Option<u32>,
}

impl FakeLlm {
    /// A model that takes everything and does not reason.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            rejects: Vec::new(),
            only_default: Vec::new(),
            free_without_reasoning: false,
            efforts: Vec::new(),
            budget: None,
            budget_off: false,
            adaptive: false,
            can_disable: false,
            reasons: 0,
            reasons_by_default: 0,
            supports_schema: true,
            supports_json_object: true,
            context: 32_768,
            max_output: 32_768,
            cache_from: None,
        }
    }

    /// Refuses these parameters too.
    #[must_use]
    pub fn rejecting(mut self, names: &[&str]) -> Self {
        self.rejects.extend(names.iter().map(|&name| name.to_owned()));
        self
    }

    /// A model of OpenAI that does not reason.
    pub fn gpt4_like(name: &str) -> Self {
        Self { context: 1_047_576, max_output: 32_768, cache_from: Some(1024), ..Self::new(name) }
    }

    /// A model of OpenAI older than schemas; it can be held to a JSON object.
    pub fn gpt35_like(name: &str) -> Self {
        Self {
            supports_schema: false,
            context: 16_385,
            max_output: 4096,
            cache_from: None,
            ..Self::gpt4_like(name)
        }
    }

    /// GPT-5: no `max_tokens`, no sampling, reasons unless the effort is `minimal`.
    pub fn gpt5_like(name: &str) -> Self {
        Self {
            only_default: words(&["temperature", "top_p"]),
            efforts: words(&["minimal", "low", "medium", "high"]),
            reasons: 256,
            reasons_by_default: 256,
            context: 400_000,
            max_output: 128_000,
            ..Self::gpt4_like(name)
        }
        .rejecting(&["max_tokens", "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs"])
        .rejecting(&["logit_bias"])
    }

    /// GPT-5.1: as GPT-5, but it does not reason by default, and then takes sampling.
    pub fn gpt51_like(name: &str) -> Self {
        Self {
            efforts: words(&["none", "low", "medium", "high"]),
            reasons_by_default: 0,
            free_without_reasoning: true,
            ..Self::gpt5_like(name)
        }
    }

    /// GPT-6 and the o-series: always reasons, takes no sampling at all.
    pub fn gpt6_like(name: &str) -> Self {
        Self { efforts: words(&["low", "medium", "high"]), only_default: Vec::new(), ..Self::gpt5_like(name) }
            .rejecting(&["temperature", "top_p"])
    }

    /// A model on a server of one's own that reasons unless `enable_thinking` is false.
    pub fn local_thinking(name: &str) -> Self {
        Self { reasons: 200, reasons_by_default: 200, ..Self::new(name) }
    }

    /// Claude Haiku 4.5 and Sonnet 4.5: sampling is free, reasoning has a budget and is off by default.
    pub fn claude_haiku(name: &str) -> Self {
        Self {
            budget: Some((1024, u64::MAX)),
            can_disable: true,
            reasons: 400,
            context: 200_000,
            max_output: 64_000,
            cache_from: Some(4096),
            ..Self::new(name)
        }
    }

    /// Claude Sonnet 4.6 and Opus 4.6: a budget or adaptive reasoning, and the efforts; no prefill.
    pub fn claude_46(name: &str) -> Self {
        Self {
            adaptive: true,
            efforts: words(&["low", "medium", "high", "max"]),
            cache_from: Some(2048),
            ..Self::claude_haiku(name)
        }
        .rejecting(&["prefill"])
    }

    /// Claude Opus 4.7 and 4.8: adaptive reasoning, off by default; no sampling, no budget, no prefill.
    pub fn claude_adaptive(name: &str) -> Self {
        Self {
            budget: None,
            efforts: words(&["low", "medium", "high", "xhigh", "max"]),
            cache_from: Some(4096),
            max_output: 128_000,
            ..Self::claude_46(name)
        }
        .rejecting(&["temperature", "top_p", "top_k"])
    }

    /// Claude Sonnet 5: as [`FakeLlm::claude_adaptive`], reasoning by default.
    pub fn claude_sonnet_5(name: &str) -> Self {
        Self { reasons_by_default: 400, ..Self::claude_adaptive(name) }
    }

    /// Claude Opus 5: as [`FakeLlm::claude_sonnet_5`], but not switched off at the highest efforts.
    pub fn claude_opus_5(name: &str) -> Self {
        Self { cache_from: Some(512), ..Self::claude_sonnet_5(name) }.rejecting(&["effort_without_thinking"])
    }

    /// Claude Opus 5.5: reasoning cannot be switched off, and no tool can be forced.
    pub fn claude_opus_55(name: &str) -> Self {
        Self { can_disable: false, ..Self::claude_sonnet_5(name) }.rejecting(&["tool_choice"])
    }

    /// A Claude older than 4.5: no schema for answers, only tools.
    pub fn claude_old(name: &str) -> Self {
        Self { supports_schema: false, ..Self::claude_haiku(name) }
    }

    /// Gemini 2.5 Flash: a budget, 0 switches reasoning off, on by default.
    pub fn gemini_25_flash(name: &str) -> Self {
        Self {
            budget: Some((1, 24_576)),
            budget_off: true,
            reasons: 300,
            reasons_by_default: 300,
            context: 1_048_576,
            max_output: 65_536,
            cache_from: Some(2048),
            ..Self::new(name)
        }
    }

    /// Gemini 2.5 Pro: a budget from 128, reasoning cannot be switched off.
    pub fn gemini_25_pro(name: &str) -> Self {
        Self { budget: Some((128, 32_768)), budget_off: false, ..Self::gemini_25_flash(name) }
    }

    /// Gemini 3 Flash: a level of reasoning from `minimal`, and no budget beside it.
    pub fn gemini_3(name: &str) -> Self {
        Self {
            efforts: words(&["minimal", "low", "medium", "high"]),
            cache_from: Some(4096),
            ..Self::gemini_25_flash(name)
        }
    }

    /// Gemini 3 Pro: as [`FakeLlm::gemini_3`], from `low`.
    pub fn gemini_3_pro(name: &str) -> Self {
        Self { efforts: words(&["low", "medium", "high"]), budget_off: false, ..Self::gemini_3(name) }
    }

    /// Gemma on Gemini's API: no reasoning, no schema, no JSON mode, no system instruction.
    pub fn gemma(name: &str) -> Self {
        Self {
            supports_schema: false,
            supports_json_object: false,
            context: 131_072,
            max_output: 8192,
            ..Self::new(name)
        }
        .rejecting(&["system"])
    }

    /// Whether it reasons at all.
    pub(super) fn can_reason(&self) -> bool {
        self.reasons > 0 || self.reasons_by_default > 0
    }

    pub(super) fn rejects(&self, name: &str) -> bool {
        self.rejects.iter().any(|one| one == name)
    }

    /// Tokens of reasoning at an effort of this name.
    pub(super) fn reasons_at(&self, effort: &str) -> usize {
        match effort.to_ascii_lowercase().as_str() {
            "none" | "minimal" => 0,
            "low" => self.reasons / 4,
            "high" => self.reasons * 2,
            "xhigh" | "max" => self.reasons * 4,
            _ => self.reasons,
        }
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}
