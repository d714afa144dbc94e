//! What a service says about itself and its models, by the cheapest call that it has.

use qa_shared::model::ServedModel;
use qa_shared::model_table::{ReasoningControl, Service, Structured};
use serde_json::Value;
use tokio::time::Instant;

use super::near_names::near;
use super::remote::{ModelMemory, RemoteServer, lock};
use super::reply::Reply;
use super::retry::ErrorInfo;
use super::{ChatRequest, LlmError, LlmErrorKind, LlmServer, ModelInfo, ServerInfo};

impl RemoteServer {
    /// Asks whether it is there and takes the key. A server of one's own tells its models; of a service's
    /// many models, those are told that were asked about.
    pub async fn inspect(&self) -> Result<ServerInfo, LlmError> {
        let list = self.list().await?;
        let list = list.filter(|_| !self.is_hosted());
        let mut names: Vec<String> =
            list.iter().flat_map(|list| entries(list).map(|(name, _)| name).collect::<Vec<_>>()).collect();
        // Of a list that is not told, or too long, those count that were asked about.
        let is_usable =
            |memory: &ModelMemory| memory.info.is_some() && (list.is_none() || memory.is_unlisted);
        names.extend(
            lock(&self.known).iter().filter(|(_, memory)| is_usable(memory)).map(|(name, _)| name.clone()),
        );
        names.sort();
        names.dedup();
        let served = |name: String| ServedModel { name, digest: None, gpu_percent: None };
        let models: Vec<ServedModel> = names.into_iter().map(served).collect();
        Ok(ServerInfo { version: None, models })
    }

    /// The list of models; nothing where the key is good but not for that, or where there is no such list.
    async fn list(&self) -> Result<Option<Value>, LlmError> {
        let (segments, query): (&[&str], &[(&str, &str)]) = match self.service {
            Service::Claude => (&["v1", "models"], &[("limit", "1000")]),
            Service::Gemini => (&["v1beta", "models"], &[("pageSize", "1000")]),
            _ => (&["models"], &[]),
        };
        let reply = self.ask(segments, query).await?;
        let is_withheld = match reply.status {
            403 => self.service == Service::OpenAi || self.service == Service::Compatible,
            // Gateways that do not know of lists.
            400 | 404 | 405 | 422 | 501 => self.service == Service::Compatible,
            _ => false,
        };
        if is_withheld { Ok(None) } else { self.read(&reply, "").map(Some) }
    }

    /// Asks for a model's properties; [`LlmErrorKind::ModelNotFound`] where the account does not have it.
    pub async fn show(&self, model: &str) -> Result<ModelInfo, LlmError> {
        let memory = self.memory(model);
        if let Some(info) = memory.info {
            return Ok(info);
        }
        let name = model.strip_prefix("models/").unwrap_or(model);
        let entry = match self.service {
            Service::Claude => self.entry(&["v1", "models", name], model).await?,
            Service::Gemini => self.entry(&["v1beta", "models", name], model).await?,
            Service::OpenAi => self.entry(&["models", name], model).await?,
            Service::Compatible | Service::Ollama => self.entry_in_list(model).await?,
        };
        let is_unlisted = entry.is_none();
        let entry = entry.unwrap_or_default();
        let told = ["max_input_tokens", "inputTokenLimit", "max_model_len", "context_length"]
            .iter()
            .find_map(|field| entry[*field].as_u64());
        let mut context = told.and_then(|tokens| u32::try_from(tokens).ok()).or(memory.traits.context);
        if context.is_none() && !self.is_hosted() {
            context = self.llama_cpp_context().await;
        }
        let lacks_schema =
            entry.pointer("/capabilities/structured_outputs/supported") == Some(&Value::Bool(false));
        let methods = entry["supportedGenerationMethods"].as_array();
        let completion =
            methods.is_none_or(|methods| methods.iter().any(|method| method == "generateContent"));
        let thinking = memory.traits.reasoning != ReasoningControl::None;
        let info = ModelInfo { context_length: context, thinking, completion, digest: None };
        self.remember(model, |memory| {
            memory.info = Some(info.clone());
            memory.is_unlisted = is_unlisted;
            if lacks_schema {
                memory.traits.structured = memory.traits.structured.min(Structured::Tool);
            }
        });
        Ok(info)
    }

    /// What a service says about one model; nothing where the key is not good for asking.
    async fn entry(&self, segments: &[&str], model: &str) -> Result<Option<Value>, LlmError> {
        let reply = self.ask(segments, &[]).await?;
        if reply.status == 403 && self.service == Service::OpenAi {
            return Ok(None);
        }
        self.read(&reply, model).map(Some)
    }

    /// A model's entry in the list. A list is a hint: Azure's deployments, OpenRouter's suffixes, Hugging Face's
    /// providers, llama-swap's and LiteLLM's aliases stand in none. They are asked for one token.
    async fn entry_in_list(&self, model: &str) -> Result<Option<Value>, LlmError> {
        let list = self.list().await?.unwrap_or_default();
        let all: Vec<(String, &Value)> = entries(&list).collect();
        if let Some((_, entry)) = all.iter().find(|(name, _)| name == model) {
            return Ok(Some((*entry).clone()));
        }
        let names: Vec<String> = all.iter().map(|(name, _)| name.clone()).collect();
        // llama.cpp's server answers to any name with its only model.
        if let [(_, only)] = all.as_slice()
            && only["owned_by"] == "llamacpp"
        {
            return Err(self.unknown_model(model, &names, None));
        }
        match self.chat(&ChatRequest { max_output: 1, ..ChatRequest::of(model, "Hi") }).await {
            Ok(reply) => {
                let answered_by = reply.model.as_deref();
                tracing::warn!(server = %self.shown, model, answered_by, "the server answers to a model that it does not list");
                Ok(None)
            }
            Err(error) if error.kind == LlmErrorKind::ModelNotFound => {
                Err(self.unknown_model(model, &names, Some(&error)))
            }
            // The request is not what it should be, which says nothing against the model.
            Err(error)
                if matches!(
                    error.kind,
                    LlmErrorKind::Rejected | LlmErrorKind::Refused | LlmErrorKind::PromptTooLong
                ) =>
            {
                tracing::warn!(server = %self.shown, model, %error, "the server does not list the model; it is used all the same");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn unknown_model(&self, model: &str, names: &[String], error: Option<&LlmError>) -> LlmError {
        let has = near(model, names);
        let said = error.map(|error| format!(" ({})", error.message)).unwrap_or_default();
        let message = format!("{} does not have the model `{model}`; {has}{said}", self.shown);
        LlmError::new(LlmErrorKind::ModelNotFound, message)
    }

    /// llama.cpp's server tells the context of a slot beside the API.
    async fn llama_cpp_context(&self) -> Option<u32> {
        let mut url = self.route(&[]).ok()?;
        let path = url.path().trim_end_matches('/').trim_end_matches("/v1").to_owned();
        url.set_path(&format!("{path}/props"));
        let deadline = Instant::now() + self.timeouts.info;
        let reply = self.exchange(self.client.get(url), deadline).await.ok()?;
        let props: Value = serde_json::from_slice(&reply.body).ok()?;
        let context = props.pointer("/default_generation_settings/n_ctx")?.as_u64()?;
        u32::try_from(context).ok().filter(|context| *context > 0)
    }

    async fn ask(&self, segments: &[&str], query: &[(&str, &str)]) -> Result<Reply, LlmError> {
        let mut url = self.route(segments)?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let deadline = Instant::now() + self.timeouts.info;
        self.exchange(self.client.get(url), deadline).await
    }

    fn read(&self, reply: &Reply, model: &str) -> Result<Value, LlmError> {
        if reply.status != 200 {
            return Err(self.info_error(reply, model));
        }
        serde_json::from_slice(&reply.body).map_err(|_| {
            let message = format!("{} broke its protocol: its list of models is no JSON", self.shown);
            LlmError::new(LlmErrorKind::Malformed, message)
        })
    }

    fn info_error(&self, reply: &Reply, model: &str) -> LlmError {
        let info = ErrorInfo::read(&reply.body);
        let error = self.error(reply, &info, model);
        if reply.status == 404 && !model.is_empty() {
            LlmError { kind: LlmErrorKind::ModelNotFound, ..error }
        } else {
            error
        }
    }
}

/// The models of a list, as services and servers of one's own write it.
fn entries(list: &Value) -> impl Iterator<Item = (String, &Value)> {
    let entries = list["data"].as_array().or(list["models"].as_array());
    entries.into_iter().flatten().filter_map(|entry| {
        let name = entry["id"].as_str().or(entry["name"].as_str())?;
        Some((name.strip_prefix("models/").unwrap_or(name).to_owned(), entry))
    })
}
