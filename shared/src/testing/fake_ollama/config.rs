//! What a fake server has and how fast it is.

use std::time::Duration;

/// A fake server's properties.
#[derive(Debug, Clone)]
pub struct FakeConfig {
    /// What `/api/version` says; a few behaviours depend on it.
    pub version: String,
    /// Models on its disk.
    pub models: Vec<FakeModel>,
    /// Names of models on its disk that it does not list.
    pub unlisted: Vec<String>,
    /// Models that it can pull.
    pub pullable: Vec<FakeModel>,
    /// Requests that a loaded model works on at once (`OLLAMA_NUM_PARALLEL`); more wait without bound.
    pub slots: usize,
    /// Requests that may wait for loading (`OLLAMA_MAX_QUEUE`); more get 503.
    pub max_queue: usize,
    /// How long loading takes.
    pub load_time: Duration,
    /// How long each generated token takes.
    pub token_delay: Duration,
    /// Status and text with which it answers everything that needs the model in memory, also loading alone.
    pub cannot_load: Option<(u16, String)>,
    /// Whether a schema in `format` is refused, as by a server that cannot make a grammar of it.
    pub refuse_schema: bool,
    /// What it reports for prompts, and whether it cuts them.
    pub counts: PromptCounts,
}

/// What a server does with prompts that exceed its context, and what it reports for prompts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PromptCounts {
    /// It refuses them where the request forbids to cut, and counts whole prompts.
    #[default]
    Whole,
    /// It cuts them to its context, whatever the request says (Ollama before 0.12.6).
    CutToContext,
    /// It cuts them to half of its context, whatever the request says.
    CutToHalf,
    /// It reports the same for each prompt.
    Constant(usize),
    /// It reports neither prompt nor answer.
    Missing,
}

impl PromptCounts {
    /// What it keeps of a prompt that exceeds the context.
    pub(super) fn cut(self, context: usize) -> Option<usize> {
        match self {
            Self::CutToContext => Some(context),
            Self::CutToHalf => Some(context / 2 + 2),
            Self::Whole | Self::Constant(_) | Self::Missing => None,
        }
    }

    pub(super) fn reported(self, prompt: usize) -> Option<usize> {
        match self {
            Self::Whole | Self::CutToContext | Self::CutToHalf => Some(prompt),
            Self::Constant(count) => Some(count),
            Self::Missing => None,
        }
    }
}

impl Default for FakeConfig {
    /// Version 0.32.15 with `qwen3:8b`, one slot, no delays.
    fn default() -> Self {
        Self {
            version: "0.32.15".to_owned(),
            models: vec![FakeModel::new("qwen3:8b")],
            unlisted: Vec::new(),
            pullable: Vec::new(),
            slots: 1,
            max_queue: 512,
            load_time: Duration::ZERO,
            token_delay: Duration::ZERO,
            cannot_load: None,
            refuse_schema: false,
            counts: PromptCounts::Whole,
        }
    }
}

/// A model on a fake server's disk.
#[derive(Debug, Clone)]
pub struct FakeModel {
    /// Its full name with tag.
    pub name: String,
    /// The digest of its weights.
    pub digest: String,
    /// The largest context, in tokens; a larger `num_ctx` is clamped to it.
    pub context_length: u32,
    /// What `/api/show` says about it.
    pub capabilities: Vec<String>,
    /// Its architecture; `gptoss` ignores `think: false`.
    pub architecture: String,
    /// Tokens that it reasons before it answers, where it does.
    pub thinking_tokens: usize,
    /// The share that lies in GPU memory, in percent.
    pub gpu_percent: u8,
}

impl FakeModel {
    /// A chat model with a context of 40,960 tokens.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            digest: format!("sha256:{}", crate::model::TextHash::of(name)),
            context_length: 40_960,
            capabilities: vec!["completion".to_owned(), "tools".to_owned()],
            architecture: "qwen3".to_owned(),
            thinking_tokens: 0,
            gpu_percent: 100,
        }
    }

    /// A chat model that reasons unless it is told not to.
    pub fn thinking(name: &str) -> Self {
        let mut model = Self::new(name);
        model.capabilities.push("thinking".to_owned());
        model.thinking_tokens = 200;
        model
    }

    /// A reasoning model of the gpt-oss family.
    pub fn gpt_oss(name: &str) -> Self {
        Self { architecture: "gptoss".to_owned(), ..Self::thinking(name) }
    }

    /// A model that generates no text.
    pub fn embedding(name: &str) -> Self {
        Self { capabilities: vec!["embedding".to_owned()], ..Self::new(name) }
    }

    pub(super) fn can(&self, capability: &str) -> bool {
        self.capabilities.iter().any(|one| one == capability)
    }
}

impl FakeConfig {
    /// Finds a model by a name with or without tag.
    pub(super) fn model(&self, name: &str) -> Option<FakeModel> {
        find(&self.models, name)
    }

    pub(super) fn pullable_model(&self, name: &str) -> Option<FakeModel> {
        find(&self.pullable, name)
    }
}

fn find(models: &[FakeModel], name: &str) -> Option<FakeModel> {
    let is_meant =
        |model: &&FakeModel| crate::model::is_same_model(crate::model::Provider::Local, &model.name, name);
    models.iter().find(is_meant).cloned()
}
