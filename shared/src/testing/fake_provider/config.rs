//! What a fake service is like.

use std::time::Duration;

use serde_json::{Map, Value};

use super::llm::FakeLlm;

/// The key that hosted fakes want unless told otherwise.
pub const FAKE_KEY: &str = "sk-test-0123456789abcdefghijklmnopqrstuvwxyz";

/// Whose API is faked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FakeService {
    /// OpenAI's chat completions.
    OpenAi,
    /// llama.cpp's server.
    LlamaCpp,
    /// vLLM's server.
    Vllm,
    /// LM Studio's server.
    LmStudio,
    /// Anthropic's messages.
    Claude,
    /// Google's generateContent.
    Gemini,
}

/// A fake service's properties.
#[derive(Debug, Clone)]
pub struct FakeProviderConfig {
    /// Whose API it speaks.
    pub service: FakeService,
    /// The key that calls must carry; none: no key is wanted, and any is ignored.
    pub key: Option<String>,
    /// Its models.
    pub models: Vec<FakeLlm>,
    /// Names of its models that it does not list; only of servers of one's own.
    pub unlisted: Vec<String>,
    /// Calls per minute; more get 429. All of a minute's calls may come at once.
    pub requests_per_minute: Option<u64>,
    /// Tokens per minute: those of the prompt are taken on arrival, those of the answer when it is there.
    pub tokens_per_minute: Option<u64>,
    /// How long each generated token takes.
    pub token_delay: Duration,
    /// Calls that are worked on at once; more wait without bound. None: all of them. Read at the start.
    pub slots: Option<usize>,
    /// llama.cpp still loads its model: everything gets 503.
    pub loading: bool,
    /// vLLM's older errors, without `error` around them.
    pub flat_errors: bool,
    /// Gemini's errors come in an array of one.
    pub wrapped_errors: bool,
    /// Members of an answer that stand in place of its own; null leaves one out.
    pub instead: Map<String, Value>,
}

impl FakeProviderConfig {
    /// OpenAI with `gpt-4.1-mini` and `gpt-5-mini`.
    pub fn open_ai() -> Self {
        Self::hosted(
            FakeService::OpenAi,
            vec![FakeLlm::gpt4_like("gpt-4.1-mini"), FakeLlm::gpt5_like("gpt-5-mini")],
        )
    }

    /// llama.cpp with one model, four slots and no key.
    pub fn llama_cpp() -> Self {
        let model = FakeLlm { cache_from: Some(1), ..FakeLlm::new("qwen2.5-7b-instruct") };
        Self { slots: Some(4), ..Self::local(FakeService::LlamaCpp, model) }
    }

    /// vLLM with one model and no key.
    pub fn vllm() -> Self {
        Self::local(FakeService::Vllm, FakeLlm::new("Qwen/Qwen2.5-7B-Instruct"))
    }

    /// LM Studio with one model and no key.
    pub fn lm_studio() -> Self {
        let model = FakeLlm { supports_json_object: false, ..FakeLlm::new("qwen2.5-7b-instruct") };
        Self::local(FakeService::LmStudio, model)
    }

    /// Claude with `claude-haiku-4-5` and `claude-sonnet-5`.
    pub fn claude() -> Self {
        Self::hosted(
            FakeService::Claude,
            vec![FakeLlm::claude_haiku("claude-haiku-4-5"), FakeLlm::claude_sonnet_5("claude-sonnet-5")],
        )
    }

    /// Gemini with `gemini-2.5-flash`, `gemini-2.5-pro` and `gemini-3-flash`.
    pub fn gemini() -> Self {
        Self::hosted(
            FakeService::Gemini,
            vec![
                FakeLlm::gemini_25_flash("gemini-2.5-flash"),
                FakeLlm::gemini_25_pro("gemini-2.5-pro"),
                FakeLlm::gemini_3("gemini-3-flash"),
            ],
        )
    }

    fn hosted(service: FakeService, models: Vec<FakeLlm>) -> Self {
        Self {
            service,
            key: Some(FAKE_KEY.to_owned()),
            models,
            unlisted: Vec::new(),
            requests_per_minute: None,
            tokens_per_minute: None,
            token_delay: Duration::ZERO,
            slots: None,
            loading: false,
            flat_errors: false,
            wrapped_errors: false,
            instead: Map::new(),
        }
    }

    fn local(service: FakeService, model: FakeLlm) -> Self {
        Self { key: None, ..Self::hosted(service, vec![model]) }
    }

    pub(super) fn model(&self, name: &str) -> Option<&FakeLlm> {
        self.models.iter().find(|model| model.name == name)
    }
}
