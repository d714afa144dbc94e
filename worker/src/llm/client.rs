//! Any LLM server: one type for those who only want pairs.

use qa_shared::model::Provider;
use qa_shared::model_table::{Service, Structured};

use super::ollama::OllamaServer;
use super::ollama_models::PullProgress;
use super::remote::RemoteServer;
use super::usage_limit;
use super::{ChatReply, ChatRequest, LlmError, LlmErrorKind, LlmServer, ModelInfo, ServerInfo};

/// An LLM server of any kind.
#[derive(Debug)]
pub enum Client {
    /// Ollama by its own API.
    Ollama(OllamaServer),
    /// A provider's service, or a server that speaks OpenAI's API.
    Remote(RemoteServer),
}

impl Client {
    /// Its address without credentials.
    pub fn url(&self) -> &str {
        match self {
            Self::Ollama(server) => server.url(),
            Self::Remote(server) => server.url(),
        }
    }

    /// The provider whose tasks it takes.
    pub fn provider(&self) -> Provider {
        match self {
            Self::Ollama(_) => Provider::Local,
            Self::Remote(server) => server.provider(),
        }
    }

    /// Whose API it speaks.
    pub fn service(&self) -> Service {
        match self {
            Self::Ollama(_) => Service::Ollama,
            Self::Remote(server) => server.service,
        }
    }

    /// Whether it is a provider's service: it has more models than it is sensible to list, and loads none.
    pub fn is_hosted(&self) -> bool {
        matches!(self, Self::Remote(server) if server.is_hosted())
    }

    /// Ends waiting for an account's limits, for a stop.
    pub fn begin_no_more(&self) {
        match self {
            Self::Ollama(_) => {}
            Self::Remote(server) => server.begin_no_more(),
        }
    }

    /// Forgets what was learned about a server of one's own, which may have been replaced.
    pub fn forget(&self) {
        match self {
            Self::Ollama(_) => {}
            Self::Remote(server) => server.forget(),
        }
    }

    /// Tells provider accounts apart; nothing where there is no key.
    pub fn account(&self) -> Option<String> {
        match self {
            Self::Ollama(_) => None,
            Self::Remote(server) => server.account(),
        }
    }

    /// The account is used by this many workers, this one included.
    pub fn set_share(&self, workers: u32) {
        match self {
            Self::Ollama(_) => {}
            Self::Remote(server) => server.set_share(workers),
        }
    }

    /// How many workers share the account; nothing where there is none.
    pub fn share(&self) -> Option<u32> {
        match self {
            Self::Ollama(_) => None,
            Self::Remote(server) => Some(server.share()),
        }
    }

    /// Asks whether it is there, and what it has.
    pub async fn inspect(&self) -> Result<ServerInfo, LlmError> {
        match self {
            Self::Ollama(server) => server.inspect().await,
            Self::Remote(server) => server.inspect().await,
        }
    }

    /// Asks for a model's properties.
    pub async fn show(&self, model: &str) -> Result<ModelInfo, LlmError> {
        match self {
            Self::Ollama(server) => server.show(model).await,
            Self::Remote(server) => server.show(model).await,
        }
    }

    /// How a model's answers are held to their form, as far as it is known by now.
    pub fn structured(&self, model: &str) -> Option<&'static str> {
        match self {
            Self::Ollama(server) => Some(if server.takes_schemas(model) { "schema" } else { "json" }),
            Self::Remote(server) => Some(match server.memory(model).traits.structured {
                Structured::BoundedSchema | Structured::Schema => "schema",
                Structured::Tool => "tool",
                Structured::Json => "json",
                Structured::Prompt => "prompt",
            }),
        }
    }

    /// Has the model loaded where that is known to take long.
    pub async fn warm_up(&self, model: &str, num_ctx: u32) -> Result<(), LlmError> {
        match self {
            Self::Ollama(server) => server.warm_up(model, num_ctx).await,
            Self::Remote(_) => Ok(()),
        }
    }

    /// Has the model downloaded; only Ollama can.
    pub async fn pull(&self, model: &str, progress: impl FnMut(PullProgress) + Send) -> Result<(), LlmError> {
        match self {
            Self::Ollama(server) => server.pull(model, progress).await,
            Self::Remote(server) => {
                let message = format!("{} pulls no models", server.url());
                Err(LlmError::new(LlmErrorKind::Rejected, message))
            }
        }
    }
}

impl LlmServer for Client {
    async fn chat(&self, request: &ChatRequest) -> Result<ChatReply, LlmError> {
        let mut reply = match self {
            Self::Ollama(server) => server.chat(request).await,
            Self::Remote(server) => server.chat(request).await,
        }?;
        if !self.is_hosted()
            && let Some(told) = usage_limit::cut(&mut reply.usage, request)
        {
            tracing::warn!(
                server = self.url(),
                input_tokens = told.input,
                output_tokens = told.output,
                most_output_tokens = request.max_output,
                "the server tells more tokens than were asked for; they do not count"
            );
        }
        Ok(reply)
    }

    fn who(&self) -> (&'static str, &str) {
        let provider = match self.provider() {
            Provider::Local => "ollama",
            Provider::OpenAi => "openai",
            Provider::Claude => "anthropic",
            Provider::Gemini => "gcp.gemini",
        };
        (provider, self.url())
    }
}
