//! A server that speaks Ollama's native API.
//!
//! Every option that decides about speed, cost or silent loss is sent explicitly, because servers' defaults
//! differ by version, by model and by memory. It must not know about tasks, nor decide what an error means
//! for one.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use qa_shared::clock;
use qa_shared::model::{Provider, Reasoning, normalised_model};
use qa_shared::secret::{Secret, without_credentials};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::foreign::is_page;
use super::http::{self, HttpError, Lines, MAX_INFO_BYTES, MAX_STREAM_BYTES, ReplyLimits, Timeouts};
use super::ollama_errors::{
    Context, classify, classify_reply, is_about_schema, page_instead_of_answer, shortened, told_prompt_tokens,
};
use super::ollama_memory::{Known, raised};
use super::ollama_version::Version;
use super::ollama_wire::{ChatLine, VersionReply, chat_body, given_up, reply, text_of};
use super::repetition::Watch;
use super::retry_after::retry_after_of_own_server;
use super::system_role::{self, is_refused};
use super::token_counts::{TokenCounts, probe};
use super::truncation::Verdict;
use super::usage::estimate_prompt;
use super::{ChatReply, ChatRequest, Finish, LlmError, LlmErrorKind, LlmServer, Role, way};
use crate::written;

/// An answer beyond this is a run-away, in bytes; the output ceiling ends normal ones long before.
const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;
/// How long the end of a finished answer is waited for, so that its connection can be used again.
const END_WAIT: Duration = Duration::from_secs(1);
/// What helps where Ollama cuts prompts although the request forbids it.
const CUT_REMEDY: &str =
    "Ollama 0.12.6 and later refuse such prompts instead; use smaller chunks, or a larger --ollama-num-ctx";

/// What holds its address.
const SETTING: &str = "--ollama-base-url (OLLAMA_BASE_URL)";

/// One Ollama server.
#[derive(Debug)]
pub struct OllamaServer {
    base: Secret,
    /// What a gateway before it wants.
    key: Option<Secret>,
    pub(super) shown: String,
    pub(super) client: reqwest::Client,
    pub(super) timeouts: Timeouts,
    known: Mutex<Known>,
    counts: TokenCounts,
}

impl OllamaServer {
    /// A server at an address in the form of [`qa_shared::base_url::normalise_base_url`]; nothing is asked
    /// yet. `root_ca_pem` is an extra certificate authority.
    pub fn new(base_url: &str, timeouts: Timeouts, root_ca_pem: Option<&[u8]>) -> Result<Self, HttpError> {
        Ok(Self {
            base: Secret::new(base_url.trim_end_matches('/')),
            key: None,
            shown: without_credentials(base_url.trim_end_matches('/')),
            client: http::client(base_url, &timeouts, root_ca_pem)?,
            timeouts,
            known: Mutex::default(),
            counts: TokenCounts::default(),
        })
    }

    /// Shows this key with each request, where the address holds no credentials.
    #[must_use]
    pub fn with_key(mut self, key: Option<Secret>) -> Self {
        let has_credentials = without_credentials(self.base.expose()) != self.base.expose();
        self.key = key.filter(|_| !has_credentials);
        self
    }

    /// Its address without credentials.
    pub fn url(&self) -> &str {
        &self.shown
    }

    pub(super) async fn ask_version(&self) -> Result<Option<String>, LlmError> {
        let reply: VersionReply = self.get("/api/version").await?;
        let version = Version::parse(reply.version.as_deref());
        if self.known().version.replace(version).is_some_and(|before| before != version) {
            self.counts.forget();
        }
        Ok(reply.version)
    }

    async fn known_version(&self) -> Result<Version, LlmError> {
        if let Some(version) = self.known().version {
            return Ok(version);
        }
        let version = self.ask_version().await?;
        Ok(Version::parse(version.as_deref()))
    }

    /// The value of `think` for a model that can reason.
    async fn think(&self, model: &str, wish: Option<Reasoning>) -> Result<Option<Value>, LlmError> {
        let name = normalised_model(Provider::Local, model);
        let remembered = |known: &Known| known.models.get(&name).and_then(|memory| memory.info.clone());
        let known = remembered(&self.known());
        let Some((_, off)) = (if known.is_some() {
            known
        } else {
            self.show(model).await?;
            remembered(&self.known())
        }) else {
            return Ok(None);
        };
        Ok(off.map(|off| match wish {
            None | Some(Reasoning::Off) => off,
            Some(Reasoning::Minimal | Reasoning::Low) => json!("low"),
            Some(Reasoning::Medium) => json!("medium"),
            Some(Reasoning::High) => json!("high"),
        }))
    }

    /// Whether a model's answers can be held to a schema, as far as it is known by now.
    pub(super) fn takes_schemas(&self, model: &str) -> bool {
        let name = normalised_model(Provider::Local, model);
        let known = self.known();
        let refused = known.models.get(&name).is_some_and(|memory| memory.schema_refused);
        !refused && known.version.is_none_or(Version::knows_schemas)
    }

    async fn call(
        &self,
        request: &ChatRequest,
        think: Option<Value>,
        format: Option<&Value>,
        version: Version,
        deadline: Instant,
    ) -> Result<ChatReply, LlmError> {
        let body = chat_body(request, think, format);
        let mut lines =
            self.post_lines("/api/chat", &body, &request.model, self.timeouts.idle, deadline).await?;
        let (mut content, mut thinking) = (String::new(), String::new());
        let (mut watch, mut pieces) = (Watch::default(), 0_u32);
        written::begin();
        while let Some(line) = lines.next().await? {
            let line: ChatLine = self.parse(&line)?;
            if let Some(error) = line.error {
                return Err(self.error_line(&error, &request.model));
            }
            if let Some(message) = &line.message {
                written::piece();
                let said = message.said();
                let thought = message.thinking.as_deref().unwrap_or_default();
                content.push_str(&said);
                thinking.push_str(thought);
                pieces = pieces.saturating_add(u32::from(!said.is_empty() || !thought.is_empty()));
                // Dropping the lines closes the connection, which ends the generation.
                if !line.done && (watch.repeats(&said) || watch.repeats(thought)) {
                    return Ok(given_up(content, thinking, pieces));
                }
            }
            if content.len() + thinking.len() > MAX_ANSWER_BYTES {
                return Err(self.malformed("the answer does not end"));
            }
            if line.done {
                // Whatever comes after the end changes nothing.
                drop(timeout(END_WAIT, lines.next()).await);
                return Ok(reply(&line, content, thinking, version));
            }
        }
        Err(self.malformed("the answer ended without `done`"))
    }

    /// A schema that has worked stays: the refusal was about one answer.
    fn schema_refused(&self, model: &str, error: &LlmError) {
        let name = normalised_model(Provider::Local, model);
        let mut known = self.known();
        let memory = known.models.entry(name).or_default();
        if memory.schema_works {
            tracing::warn!(server = %self.shown, %model, %error,
                "the server refuses a schema that it took before, asking for plain JSON once");
            memory.schema_works = false;
        } else {
            tracing::warn!(server = %self.shown, %model, %error,
                "the server refuses the answer's schema, asking for plain JSON from now on");
            memory.schema_refused = true;
        }
    }

    /// Refuses answers to prompts that the server cut; a suspicious count is settled by a second call.
    async fn check_counts(
        &self,
        request: &ChatRequest,
        mut reply: ChatReply,
        think: Option<Value>,
        version: Version,
    ) -> Result<ChatReply, LlmError> {
        let verdict = if version.counts_whole_prompts() {
            self.counts.judge(request, &reply)
        } else {
            Verdict::Unusable("this version leaves out the tokens that it had computed before".to_owned())
        };
        let verdict = if verdict == Verdict::Suspicious {
            let deadline = Instant::now() + self.timeouts.request;
            let answer = self.call(&probe(request), think, None, version, deadline).await;
            self.counts.probed(request, &mut reply, answer)
        } else {
            verdict
        };
        self.counts.conclude((&self.shown, CUT_REMEDY), request, reply, &verdict)
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, LlmError> {
        self.info(self.client.get(self.path(path)), "").await
    }

    pub(super) async fn info<T: DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
        model: &str,
    ) -> Result<T, LlmError> {
        let deadline = Instant::now() + self.timeouts.info;
        let response = self.send(request, model, deadline).await?;
        let limits = ReplyLimits { bytes: MAX_INFO_BYTES, idle: self.timeouts.info, deadline };
        let mut lines = Lines::new(&self.shown, response, limits);
        let mut body = Vec::new();
        while let Some(line) = lines.next().await? {
            body.extend_from_slice(&line);
            body.push(b'\n');
        }
        if is_page(None, &body) {
            return Err(page_instead_of_answer(&self.shown, &String::from_utf8_lossy(&body)));
        }
        self.parse(&body)
    }

    pub(super) async fn post_lines(
        &self,
        path: &str,
        body: &impl serde::Serialize,
        model: &str,
        idle: Duration,
        deadline: Instant,
    ) -> Result<Lines<'_>, LlmError> {
        let request = self.client.post(self.path(path)).json(body);
        let response = self.send(request, model, deadline).await?;
        Ok(Lines::new(&self.shown, response, ReplyLimits { bytes: MAX_STREAM_BYTES, idle, deadline }))
    }

    async fn send(
        &self,
        request: reqwest::RequestBuilder,
        model: &str,
        deadline: Instant,
    ) -> Result<reqwest::Response, LlmError> {
        let request = match &self.key {
            Some(key) => request.bearer_auth(key.expose()),
            None => request,
        };
        let response = http::send(&self.shown, request, deadline).await?;
        if response.status().is_success() {
            let content_type = response.headers().get("content-type").and_then(|kind| kind.to_str().ok());
            if !is_page(content_type, b"") {
                return Ok(response);
            }
            let body = http::error_body(response, deadline).await;
            return Err(page_instead_of_answer(&self.shown, &body));
        }
        if let Some(error) = way::redirect(&self.shown, SETTING, &response) {
            return Err(error);
        }
        let mut reply = http::read_reply(&self.shown, response, self.timeouts.idle, deadline, 0).await?;
        if let Some(key) = &self.key {
            reply.body = key.redacted_bytes(reply.body);
        }
        if let Some(error) = way::refused_by_proxy(&self.shown, &reply) {
            return Err(error);
        }
        let wait = retry_after_of_own_server(&reply.headers, &Value::Null, clock::now());
        Err(classify_reply(&reply, wait, self.context(model)))
    }

    pub(super) fn parse<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, LlmError> {
        serde_json::from_slice(bytes).map_err(|error| {
            let start = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]);
            self.malformed(&format!("{error} in `{}`", shortened(&start)))
        })
    }

    pub(super) fn malformed(&self, what: &str) -> LlmError {
        LlmError::new(LlmErrorKind::Malformed, format!("{} broke its protocol: {what}", self.shown))
    }

    pub(super) fn error_line(&self, error: &Value, model: &str) -> LlmError {
        classify(200, &text_of(error), None, self.context(model))
    }

    fn context<'a>(&'a self, model: &'a str) -> Context<'a> {
        Context { server: &self.shown, model }
    }

    pub(super) fn path(&self, path: &str) -> String {
        format!("{}{path}", self.base.expose())
    }

    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        // It holds hints only: one that a panic left behind does no harm.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OllamaServer {
    /// Asks for an answer that follows the schema, as far as the server can.
    async fn ask(
        &self,
        request: &ChatRequest,
        think: Option<Value>,
        version: Version,
    ) -> Result<ChatReply, LlmError> {
        let deadline = Instant::now() + self.timeouts.request;
        let plain = json!("json");
        let takes_schemas = self.takes_schemas(&request.model);
        let format = request.schema.as_ref().map(|schema| if takes_schemas { schema } else { &plain });
        let schema_sent = format.is_some_and(Value::is_object);
        match self.call(request, think.clone(), format, version, deadline).await {
            Err(error) if schema_sent && is_about_schema(&error) => {
                self.schema_refused(&request.model, &error);
                self.call(request, think, Some(&plain), version, deadline).await
            }
            Ok(answer) if schema_sent && answer.finish == Finish::Stop => {
                let name = normalised_model(Provider::Local, &request.model);
                self.known().models.entry(name).or_default().schema_works = true;
                Ok(answer)
            }
            answer => answer,
        }
    }

    /// The context that a model is loaded with: it was raised perhaps, and another one would reload the model.
    pub(super) fn context_for(&self, model: &str, num_ctx: u32) -> u32 {
        let name = normalised_model(Provider::Local, model);
        let raised = self.known().models.get(&name).and_then(|memory| memory.raised_context);
        num_ctx.max(raised.unwrap_or(0))
    }

    /// Raises the model's context, once, for a prompt that was refused as too long. An error where that cannot help.
    fn raise_context(&self, request: &ChatRequest, refusal: LlmError) -> Result<u32, LlmError> {
        let name = normalised_model(Provider::Local, &request.model);
        let mut known = self.known();
        let memory = known.models.entry(name).or_default();
        let longest = memory.info.as_ref().and_then(|(info, _)| info.context_length);
        let told = told_prompt_tokens(&refusal.message);
        let least = told.unwrap_or(0).max(request.num_ctx.saturating_add(1));
        let unsure = if told.is_none() { estimate_prompt(request).saturating_sub(least) } else { 0 };
        let room = request.max_output.saturating_add(unsure);
        // A request with a context of its own is not to set that of all others.
        let common = memory.loaded_context.max(memory.raised_context);
        let is_apart = common.is_some_and(|common| request.num_ctx > common);
        let is_fixed = request.sampling.num_ctx.is_some();
        // Other requests may have met the same refusal meanwhile.
        let num_ctx = match memory.raised_context {
            _ if is_apart || is_fixed => None,
            Some(raised) => (raised > request.num_ctx).then_some(raised),
            None => raised(request.num_ctx, least, room, longest),
        };
        let Some(num_ctx) = num_ctx else {
            let hint = match longest {
                Some(longest) if request.num_ctx >= longest => {
                    format!("; the model takes no more than {longest} tokens")
                }
                _ if is_fixed => "; the context is fixed (--ollama-num-ctx)".to_owned(),
                _ => "; the context is not raised this far for one chunk".to_owned(),
            };
            return Err(LlmError { message: refusal.message + &hint, ..refusal });
        };
        if memory.raised_context.replace(num_ctx).is_none() {
            tracing::warn!(server = %self.shown, model = %request.model, before = request.num_ctx, num_ctx,
                "the context is too small for a prompt: raised once, for all requests from now on");
        }
        Ok(num_ctx)
    }
}

impl OllamaServer {
    /// Asks with a context that is large enough, as far as the model has one.
    async fn ask_in_context(&self, request: &ChatRequest) -> Result<ChatReply, LlmError> {
        let version = self.known_version().await?;
        let think = self.think(&request.model, request.reasoning).await?;
        let num_ctx = match request.sampling.num_ctx {
            Some(_) => request.num_ctx,
            None => self.context_for(&request.model, request.num_ctx),
        };
        let mut request = ChatRequest { num_ctx, ..request.clone() };
        let reply = match self.ask(&request, think.clone(), version).await {
            Err(error) if error.kind == LlmErrorKind::PromptTooLong => {
                request.num_ctx = self.raise_context(&request, error)?;
                self.ask(&request, think.clone(), version).await
            }
            answer => answer,
        }?;
        self.check_counts(&request, reply, think, version).await
    }
}

impl LlmServer for OllamaServer {
    async fn chat(&self, request: &ChatRequest) -> Result<ChatReply, LlmError> {
        let name = normalised_model(Provider::Local, &request.model);
        let refuses = |known: &Known| known.models.get(&name).is_some_and(|memory| memory.system_refused);
        if refuses(&self.known()) {
            return self.ask_in_context(&without_system(request)).await;
        }
        match self.ask_in_context(request).await {
            Err(error) if is_refused(&error.message.to_lowercase()) && has_system(request) => {
                tracing::warn!(server = %self.shown, model = %request.model, error = %error,
                    "the model takes no system message: the first question begins with it from now on");
                self.known().models.entry(name).or_default().system_refused = true;
                self.ask_in_context(&without_system(request)).await
            }
            answer => answer,
        }
    }
}

fn has_system(request: &ChatRequest) -> bool {
    request.messages.iter().any(|message| message.role == Role::System)
}

fn without_system(request: &ChatRequest) -> ChatRequest {
    ChatRequest { messages: system_role::without_system(&request.messages), ..request.clone() }
}
