//! An Ollama server's models: which it has, what they can, loading and downloading them.

use std::time::Duration;

use qa_shared::model::{OllamaOptions, Provider, ServedModel, normalised_model};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::ollama::OllamaServer;
use super::ollama_errors::shortened;
use super::ollama_wire::{ChatBody, ChatLine, ModelsReply, PullLine, ShowReply, chat_body, text_of};
use super::{ChatRequest, LlmError, LlmErrorKind, ModelInfo, ServerInfo};

/// A model in a server's memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedModel {
    /// Its normalised name.
    pub name: String,
    /// The context that it was loaded with, in tokens, where the server tells.
    pub context_length: Option<u32>,
    /// The share that lies in GPU memory, in percent, where the server tells.
    pub gpu_percent: Option<u8>,
}

/// A step of a download.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullProgress {
    /// What the server does, such as `pulling manifest`.
    pub status: String,
    /// The part that is downloaded, where one is.
    pub digest: Option<String>,
    /// Its size in bytes.
    pub total: Option<u64>,
    /// How much of it is there, in bytes.
    pub completed: Option<u64>,
}

impl OllamaServer {
    /// Asks for its version, its models and what is loaded. What was learned about a model whose weights
    /// changed is forgotten.
    pub async fn inspect(&self) -> Result<ServerInfo, LlmError> {
        let version = self.ask_version().await?;
        let tags: ModelsReply = self.get("/api/tags").await?;
        // Older servers do not know it, and nothing depends on it.
        let loaded = self.loaded().await.unwrap_or_default();
        let mut models: Vec<ServedModel> = Vec::new();
        for line in tags.models.unwrap_or_default() {
            let digest = line.digest.clone();
            let Some(name) = line.normalised_name() else { continue };
            let gpu_percent =
                loaded.iter().find(|model| model.name == name).and_then(|model| model.gpu_percent);
            models.push(ServedModel { name, digest, gpu_percent });
        }
        models.sort_by(|a, b| a.name.cmp(&b.name));
        models.dedup_by(|a, b| a.name == b.name);
        self.known().keep_current(&models);
        Ok(ServerInfo { version, models })
    }

    /// Asks which models are in memory.
    pub async fn loaded(&self) -> Result<Vec<LoadedModel>, LlmError> {
        let reply: ModelsReply = self.get("/api/ps").await?;
        let models = reply.models.unwrap_or_default().into_iter().filter_map(|line| {
            let gpu_percent = line.gpu_percent();
            let context_length = line.context_length;
            Some(LoadedModel { name: line.normalised_name()?, context_length, gpu_percent })
        });
        Ok(models.collect())
    }

    /// Asks for a model's properties.
    pub async fn show(&self, model: &str) -> Result<ModelInfo, LlmError> {
        let request = self.client.post(self.path("/api/show")).json(&json!({ "model": model }));
        let reply: ShowReply = self.info(request, model).await?;
        let name = normalised_model(Provider::Local, model);
        let has = |capability: &str| {
            reply.capabilities.as_ref().map(|all| all.iter().any(|one| one.eq_ignore_ascii_case(capability)))
        };
        let details = reply.model_info.unwrap_or_default();
        let architecture = details.get("general.architecture").and_then(Value::as_str).unwrap_or_default();
        let context_length = details
            .get(&format!("{architecture}.context_length"))
            .and_then(Value::as_u64)
            .and_then(|tokens| u32::try_from(tokens).ok());
        let thinking = has("thinking").unwrap_or(false);
        let family = reply.details.and_then(|details| details.family).unwrap_or_default();
        let leveled = architecture == "gptoss" || family == "gptoss" || name.contains("gpt-oss");
        // Models of the gpt-oss family ignore true and false.
        let think = thinking.then(|| if leveled { json!("low") } else { json!(false) });
        let mut known = self.known();
        let digest = known.digests.get(&name).cloned();
        // Servers before 0.6.4 tell no capabilities.
        let info =
            ModelInfo { context_length, thinking, completion: has("completion").unwrap_or(true), digest };
        known.models.entry(name).or_default().info = Some((info.clone(), think));
        Ok(info)
    }

    /// Loads a model with the options that its calls will have, so that no call has to wait for it.
    /// Dropping the future stops the loading.
    pub async fn warm_up(&self, model: &str, num_ctx: u32) -> Result<(), LlmError> {
        let name = normalised_model(Provider::Local, model);
        self.known().models.entry(name).or_default().loaded_context = Some(num_ctx);
        let request = ChatRequest {
            model: model.to_owned(),
            messages: Vec::new(),
            schema: None,
            temperature: 0.0,
            max_output: 1,
            reasoning: None,
            num_ctx: self.context_for(model, num_ctx),
            sampling: OllamaOptions::default(),
            seed: None,
            repetitions: 0,
        };
        let body = ChatBody { stream: false, ..chat_body(&request, None, None) };
        let deadline = Instant::now() + self.timeouts.load;
        let mut lines = self.post_lines("/api/chat", &body, model, self.timeouts.load, deadline).await?;
        while let Some(line) = lines.next().await? {
            let line: ChatLine = self.parse(&line)?;
            if let Some(error) = line.error {
                return Err(self.error_line(&error, model));
            }
        }
        Ok(())
    }

    /// Has the server download a model; `progress` hears of every step. Dropping the future stops the
    /// download, and another one goes on where it stopped.
    pub async fn pull(
        &self,
        model: &str,
        mut progress: impl FnMut(PullProgress) + Send,
    ) -> Result<(), LlmError> {
        let body = json!({ "model": model, "stream": true });
        // A download takes as long as it takes; only a standstill ends it.
        let deadline = Instant::now() + Duration::from_secs(7 * 24 * 3600);
        let idle = self.timeouts.load;
        let mut lines = self.post_lines("/api/pull", &body, "", idle, deadline).await?;
        while let Some(line) = lines.next().await? {
            let line: PullLine = self.parse(&line)?;
            if let Some(error) = line.error {
                let text = shortened(&text_of(&error));
                return Err(LlmError::new(
                    LlmErrorKind::Rejected,
                    format!("{} cannot pull {model}: {text}", self.shown),
                ));
            }
            let status = line.status.unwrap_or_default();
            let success = status == "success";
            progress(PullProgress {
                status,
                digest: line.digest,
                total: line.total,
                completed: line.completed,
            });
            if success {
                return Ok(());
            }
        }
        Err(self.malformed("the download ended without success"))
    }
}
