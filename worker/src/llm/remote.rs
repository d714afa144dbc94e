//! A service, or a server of one's own, that speaks the API of OpenAI, Anthropic or Google.
//!
//! One request, one reply, as a stream where the server has it: dropping the future closes the connection,
//! which ends the generation on servers of one's own. What the service refuses about a model is remembered; its
//! limits are kept. It must not know about tasks, nor decide what an error means for one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use qa_shared::base_url::wants_api_key_header;
use qa_shared::clock;
use qa_shared::model::{Provider, Reasoning, Usage};
use qa_shared::model_table::{ModelTable, ModelTraits, ReasoningControl, Service};
use qa_shared::secret::{Secret, without_credentials};
use reqwest::header::{HeaderMap, HeaderValue};
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::adapt::{RENAMED, adapt};
use super::failed_generation::{self, FailedGeneration};
use super::foreign::is_page;
use super::http::{self, HttpError, Timeouts};
use super::rate_limit::{PerMinute, RateLimit, ToldLimits};
use super::reply::Reply;
use super::retry::{ErrorInfo, kind_of, remedy};
use super::retry_after::{retry_after, retry_after_of_own_server};
use super::system_role::is_refused;
use super::token_counts::{TokenCounts, probe};
use super::truncation::Verdict;
use super::usage::estimate_prompt;
use super::{
    ChatReply, ChatRequest, Finish, LlmError, LlmErrorKind, LlmServer, ModelInfo, claude, gemini, openai,
    repetition, way,
};

/// An answer beyond this is no answer, in bytes; the output ceiling ends normal ones long before.
const MOST_BYTES: usize = 8 * 1024 * 1024;
/// A model is adapted to this often at most, whatever its service says.
const MOST_ADAPTATIONS: u32 = 12;
/// So many refusals in a row take away a form of structured answers that has worked.
const FORM_REFUSALS: u32 = 3;
/// What helps where a server of one's own cuts prompts: its context is set where the model is loaded.
const CUT_REMEDY: &str = "load the model with a larger context there, or use smaller chunks";
/// Whoever must wait longer than this for the account's limits gives the task back.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// The version of Anthropic's API.
const ANTHROPIC_VERSION: &str = "2023-06-01";

/// What makes a connection to a service.
#[derive(Debug, Clone)]
pub struct RemoteSettings {
    /// Whose API is spoken; not [`Service::Ollama`].
    pub service: Service,
    /// The address in the form of [`qa_shared::base_url::normalise_api_url`].
    pub url: Secret,
    /// The account's key; a server of one's own may want none.
    pub key: Option<Secret>,
    /// The account's limits as the user set them.
    pub limits: PerMinute,
}

/// A service, or a server of one's own.
#[derive(Debug)]
pub struct RemoteServer {
    pub(super) service: Service,
    base: Secret,
    pub(super) shown: String,
    key: Option<Secret>,
    pub(super) client: reqwest::Client,
    pub(super) timeouts: Timeouts,
    pub(super) table: Arc<ModelTable>,
    pub(super) known: Mutex<HashMap<String, ModelMemory>>,
    counts: TokenCounts,
    limit: Mutex<RateLimit>,
    /// Whose turn it is to wait for the limits: they are given room in order.
    turn: tokio::sync::Mutex<()>,
    /// Nobody waits for a call to begin any more.
    stopped: CancellationToken,
    started: Instant,
}

/// What this process learned about a model; the service's answers always win.
#[derive(Debug, Clone)]
pub(super) struct ModelMemory {
    pub(super) traits: ModelTraits,
    pub(super) info: Option<ModelInfo>,
    /// It stands in no list, and answered all the same.
    pub(super) is_unlisted: bool,
    adaptations: u32,
    renamed: bool,
    /// Refusals of the form of structured answers since it last worked; nothing where it never did.
    form_refusals: Option<u32>,
}

impl RemoteServer {
    /// A service that was asked nothing yet. `root_ca_pem` is an extra certificate authority.
    pub fn new(
        settings: RemoteSettings,
        table: Arc<ModelTable>,
        timeouts: Timeouts,
        root_ca_pem: Option<&[u8]>,
    ) -> Result<Self, HttpError> {
        let url = settings.url.expose().trim_end_matches('/');
        Ok(Self {
            service: settings.service,
            // A query may hold a key.
            shown: without_credentials(url.split('?').next().unwrap_or(url)),
            client: http::client(url, &timeouts, root_ca_pem)?,
            base: Secret::new(url),
            key: settings.key,
            timeouts,
            table,
            known: Mutex::default(),
            counts: TokenCounts::default(),
            limit: Mutex::new(RateLimit::new(settings.limits)),
            turn: tokio::sync::Mutex::new(()),
            stopped: CancellationToken::new(),
            started: Instant::now(),
        })
    }

    /// Its address without credentials.
    pub fn url(&self) -> &str {
        &self.shown
    }

    /// Whether it belongs to a provider that wants a key, rather than to the user.
    pub fn is_hosted(&self) -> bool {
        self.service != Service::Compatible
    }

    /// The provider whose tasks it takes.
    pub fn provider(&self) -> Provider {
        match self.service {
            Service::OpenAi | Service::Compatible => Provider::OpenAi,
            Service::Claude => Provider::Claude,
            Service::Gemini => Provider::Gemini,
            Service::Ollama => Provider::Local,
        }
    }

    /// Ends waiting for the account's limits: calls that have not begun are not made.
    pub fn begin_no_more(&self) {
        self.stopped.cancel();
    }

    /// Forgets what was learned about the models of a server of one's own.
    pub(super) fn forget(&self) {
        if !self.is_hosted() {
            lock(&self.known).clear();
            self.counts.forget();
        }
    }

    /// Tells accounts apart without giving the key away.
    pub fn account(&self) -> Option<String> {
        self.key.as_ref().map(|key| key.fingerprint(&self.shown))
    }

    /// The account is used by this many workers, this one included.
    pub fn set_share(&self, workers: u32) {
        let mut limit = lock(&self.limit);
        if limit.share() != workers {
            tracing::info!(server = %self.shown, workers, "the account's limits are shared by its workers");
            limit.set_share(workers);
        }
    }

    /// How many workers use the account.
    pub fn share(&self) -> u32 {
        lock(&self.limit).share()
    }

    pub(super) fn memory(&self, model: &str) -> ModelMemory {
        let mut known = lock(&self.known);
        let memory = known.entry(model.to_owned()).or_insert_with(|| ModelMemory {
            traits: self.table.traits(self.service, model),
            info: None,
            is_unlisted: false,
            adaptations: 0,
            renamed: false,
            form_refusals: None,
        });
        memory.clone()
    }

    pub(super) fn remember(&self, model: &str, change: impl FnOnce(&mut ModelMemory)) {
        drop(self.memory(model));
        if let Some(memory) = lock(&self.known).get_mut(model) {
            change(memory);
        }
    }

    /// Sends a request with the account's key; gives the reply whatever its status, without the key: services
    /// repeat the one that they do not like, and nobody knows what a gateway writes into an answer.
    pub(super) async fn exchange(
        &self,
        request: reqwest::RequestBuilder,
        deadline: Instant,
    ) -> Result<Reply, LlmError> {
        let response = http::send(&self.shown, request.headers(self.headers()?), deadline).await?;
        if let Some(error) = way::redirect(&self.shown, self.setting(), &response) {
            return Err(error);
        }
        let mut reply =
            http::read_answer(&self.shown, response, self.timeouts.idle, deadline, MOST_BYTES).await?;
        // In an answer a short key could be a word of it.
        let is_answer = (200..300).contains(&reply.status);
        if let Some(key) = self.key.as_ref().filter(|key| !is_answer || key.is_unmistakable()) {
            reply.body = key.redacted_bytes(reply.body);
        }
        way::refused_by_proxy(&self.shown, &reply).map_or(Ok(reply), Err)
    }

    /// What holds its address.
    fn setting(&self) -> &'static str {
        match self.service {
            Service::OpenAi | Service::Compatible | Service::Ollama => "--openai-base-url (OPENAI_BASE_URL)",
            Service::Claude => "ANTHROPIC_BASE_URL",
            Service::Gemini => "GEMINI_BASE_URL",
        }
    }

    fn headers(&self) -> Result<HeaderMap, LlmError> {
        let mut headers = HeaderMap::new();
        if self.service == Service::Claude {
            headers.insert("anthropic-version", HeaderValue::from_static(ANTHROPIC_VERSION));
        }
        if let Some(key) = &self.key {
            let (name, text) = match self.service {
                Service::Claude => ("x-api-key", key.expose().to_owned()),
                Service::Gemini => ("x-goog-api-key", key.expose().to_owned()),
                Service::Compatible if wants_api_key_header(self.base.expose()) => {
                    ("api-key", key.expose().to_owned())
                }
                Service::OpenAi | Service::Compatible | Service::Ollama => {
                    ("authorization", format!("Bearer {}", key.expose()))
                }
            };
            let mut value = HeaderValue::from_str(&text).map_err(|_| {
                let message = format!("{}: the key holds characters that no key has", self.shown);
                LlmError::new(LlmErrorKind::KeyRefused, message)
            })?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(headers)
    }

    /// The address of a route.
    pub(super) fn route(&self, segments: &[&str]) -> Result<reqwest::Url, LlmError> {
        let wrong =
            || LlmError::new(LlmErrorKind::Rejected, format!("{} is no address to build on", self.shown));
        let mut url = reqwest::Url::parse(self.base.expose()).map_err(|_| wrong())?;
        url.path_segments_mut().map_err(|()| wrong())?.pop_if_empty().extend(segments);
        Ok(url)
    }

    fn chat_url(&self, model: &str) -> Result<reqwest::Url, LlmError> {
        match self.service {
            Service::Claude => self.route(&["v1", "messages"]),
            Service::Gemini => {
                let model = model.strip_prefix("models/").unwrap_or(model);
                self.route(&["v1beta", "models", &format!("{model}:generateContent")])
            }
            Service::OpenAi | Service::Compatible | Service::Ollama => self.route(&["chat", "completions"]),
        }
    }

    fn body(&self, request: &ChatRequest, traits: &ModelTraits) -> Value {
        match self.service {
            Service::Claude => claude::body(request, traits),
            Service::Gemini => gemini::body(request, traits),
            _ => openai::body(request, traits),
        }
    }

    /// The error that a reply stands for.
    pub(super) fn error(&self, reply: &Reply, info: &ErrorInfo, model: &str) -> LlmError {
        let body: Value = serde_json::from_slice(&reply.body)
            .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&reply.body).into_owned()));
        let asked = if self.is_hosted() { retry_after } else { retry_after_of_own_server };
        let wait = asked(&reply.headers, &body, clock::now());
        let kind = kind_of(reply, info, wait);
        let what = match reply.status {
            200 => "failed within its answer".to_owned(),
            status => format!("answered {status}"),
        };
        let request_id = ["x-request-id", "request-id"]
            .iter()
            .find_map(|name| reply.headers.get(name))
            .map(|id| format!(" (request {})", id.chars().take(64).collect::<String>()))
            .unwrap_or_default();
        let remedy = remedy(self.service, kind, reply.status, model);
        // Some services tell a part of the key that they do not like.
        let said = if reply.status == 401 { "unauthorized" } else { info.message.as_str() };
        LlmError::new(kind, format!("{} {what}: {said}{request_id}{remedy}", self.shown))
    }

    /// A service that has the model and does not find it for a chat has it for something else.
    fn chat_error(
        &self,
        reply: &Reply,
        info: &ErrorInfo,
        memory: &ModelMemory,
        request: &ChatRequest,
    ) -> LlmError {
        let error = self.error(reply, info, &request.model);
        if error.kind == LlmErrorKind::ModelNotFound && !self.is_hosted() {
            // Whether it has the model is asked again before the next task.
            self.remember(&request.model, |memory| (memory.info, memory.is_unlisted) = (None, false));
        }
        if error.kind == LlmErrorKind::ModelNotFound && self.is_hosted() && memory.info.is_some() {
            let message = format!("{} (the model is there, but not for chats)", error.message);
            return LlmError::new(LlmErrorKind::Rejected, message);
        }
        error
    }

    /// What a good answer says about the model. A server that reasons although the template's switch is off may
    /// read the one in the request.
    fn learn(&self, request: &ChatRequest, memory: &ModelMemory, answer: &ChatReply) {
        if request.schema.is_some() && answer.finish == Finish::Stop {
            self.remember(&request.model, |memory| memory.form_refusals = Some(0));
        }
        let is_off = request.reasoning.is_none_or(|wish| wish == Reasoning::Off);
        let reasons = answer.thinking.as_deref().is_some_and(|text| !text.trim().is_empty());
        let beside_answer = !answer.content.trim().is_empty();
        if !is_off || !reasons || !beside_answer || memory.traits.reasoning != ReasoningControl::Template {
            return;
        }
        self.remember(&request.model, |now| {
            if now.adaptations == memory.adaptations && now.adaptations < MOST_ADAPTATIONS {
                tracing::info!(server = %self.shown, model = %request.model,
                    "the model reasons although its template's switch is off; the request's own is sent as well");
                now.traits.reasoning = ReasoningControl::Switches;
                now.adaptations += 1;
            }
        });
    }

    /// Whether a form of structured answers that has worked is kept in spite of a refusal: one of them is about
    /// one answer, several in a row are about the form.
    fn form_still_holds(&self, model: &str) -> bool {
        let mut holds = false;
        self.remember(model, |memory| {
            if let Some(refusals) = &mut memory.form_refusals {
                *refusals += 1;
                holds = *refusals < FORM_REFUSALS;
            }
        });
        holds
    }

    fn malformed(&self, what: &str) -> LlmError {
        let message = format!("{} broke its protocol: {what}", self.shown);
        LlmError::new(LlmErrorKind::Malformed, message)
    }

    /// Waits until the account's limits have room for a request of about this many tokens.
    async fn wait_for_room(&self, tokens: u64) -> Result<(), LlmError> {
        let no_room = |wait: Duration| {
            let message = format!(
                "{}: the account's limits have no room for another {} s",
                self.shown,
                wait.as_secs().max(1)
            );
            LlmError::new(LlmErrorKind::Overloaded { retry_after: Some(wait) }, message)
        };
        let turn = tokio::time::timeout(LONGEST_WAIT, self.turn.lock()).await;
        let Ok(_turn) = turn else { return Err(no_room(LONGEST_WAIT)) };
        loop {
            let taken = lock(&self.limit).take(self.started.elapsed(), tokens);
            match taken {
                Ok(()) => return Ok(()),
                Err(wait) if wait > LONGEST_WAIT => return Err(no_room(wait)),
                Err(wait) => tokio::time::sleep(wait).await,
            }
        }
    }

    /// A request of a service was on its way for this long: it may have been worked on, and is paid for then.
    fn charged(&self, error: LlmError, prompt: u32, request: &ChatRequest) -> LlmError {
        let is_paid = matches!(
            error.kind,
            LlmErrorKind::Timeout | LlmErrorKind::IdleTimeout | LlmErrorKind::ServerFault
        );
        if !self.is_hosted() || !is_paid {
            return error;
        }
        error.costing(Usage {
            input_tokens: prompt.into(),
            output_tokens: request.max_output.into(),
            estimated_input_tokens: prompt.into(),
            estimated_output_tokens: request.max_output.into(),
            ..Usage::default()
        })
    }

    fn understand(
        &self,
        reply: &Reply,
        request: &ChatRequest,
        memory: &ModelMemory,
    ) -> Result<ChatReply, LlmError> {
        let is_good = (200..300).contains(&reply.status);
        let body: Option<Value> = if is_good { serde_json::from_slice(&reply.body).ok() } else { None };
        let answer = body.as_ref().and_then(|body| match self.service {
            Service::Claude => claude::reply(body),
            Service::Gemini => gemini::reply(body),
            _ => openai::reply(body),
        });
        if let Some(mut answer) = answer {
            let said = if answer.content.trim().is_empty() { answer.thinking.as_deref() } else { None };
            if answer.finish == Finish::Length && repetition::repeats(said.unwrap_or(&answer.content)) {
                answer.finish = Finish::Repetition;
            }
            return Ok(answer);
        }
        if let Some(failed) = failed_generation::read(reply.status, &reply.body) {
            return Ok(refused_answer(failed));
        }
        let info = ErrorInfo::read(&reply.body);
        Err(if !is_good {
            self.chat_error(reply, &info, memory, request)
        } else if is_error(reply) {
            self.error(reply, &info, &request.model)
        } else {
            self.malformed(&format!("expected a chat answer, found `{}`", info.message))
        })
    }

    /// Changes what is known about the model where the service refused a part of the request; gives the error
    /// back where nothing can be changed.
    fn adapt_to(
        &self,
        error: LlmError,
        reply: &Reply,
        request: &ChatRequest,
        memory: &ModelMemory,
        body: &Value,
    ) -> Result<(), LlmError> {
        let info = ErrorInfo::read(&reply.body);
        let may_adapt = match reply.status {
            // What the server says about itself is no word about a parameter.
            400 | 422 | 501 => kind_of(reply, &info, None) == LlmErrorKind::Rejected,
            // Some servers call a template's refusal a fault of theirs.
            500 => is_refused(&info.message.to_lowercase()),
            // In a stream the status comes before the refusal.
            status => (200..300).contains(&status) && is_error(reply),
        };
        let adapted = (may_adapt && memory.adaptations < MOST_ADAPTATIONS)
            .then(|| adapt(self.service, &memory.traits, request.reasoning, body, &info))
            .flatten()
            .filter(|adapted| adapted.what != RENAMED || !memory.renamed);
        let Some(adapted) = adapted else { return Err(error) };
        if adapted.traits.structured < memory.traits.structured && self.form_still_holds(&request.model) {
            return Err(LlmError { kind: LlmErrorKind::ServerFault, ..error });
        }
        self.remember(&request.model, |now| {
            // Several requests may have met the same refusal at once: one of them is enough.
            if now.adaptations == memory.adaptations {
                tracing::warn!(server = %self.shown, model = %request.model, reason = %error,
                    "the model {}; this is remembered, QA_MODEL_TABLE can say it beforehand", adapted.what);
                now.traits = adapted.traits;
                now.adaptations += 1;
                now.form_refusals = None;
                now.renamed |= adapted.what == RENAMED;
            }
        });
        Ok(())
    }

    /// Refuses answers to prompts that a server of one's own cut; the services refuse such prompts. A suspicious
    /// count is settled by a second call.
    async fn check_counts(
        &self,
        request: &ChatRequest,
        mut reply: ChatReply,
        url: &reqwest::Url,
    ) -> Result<ChatReply, LlmError> {
        let verdict = if self.is_hosted() { Verdict::Whole } else { self.counts.judge(request, &reply) };
        let verdict = if verdict == Verdict::Suspicious {
            let answer = self.ask_once(&probe(request), url).await;
            self.counts.probed(request, &mut reply, answer)
        } else {
            verdict
        };
        self.counts.conclude((&self.shown, CUT_REMEDY), request, reply, &verdict)
    }

    /// One call as the model is known by now, without adapting to what the server refuses.
    async fn ask_once(&self, request: &ChatRequest, url: &reqwest::Url) -> Result<ChatReply, LlmError> {
        let memory = self.memory(&request.model);
        let body = self.body(request, &memory.traits);
        let deadline = Instant::now() + self.timeouts.request;
        let reply = self.exchange(self.client.post(url.clone()).json(&body), deadline).await?;
        self.understand(&reply, request, &memory)
    }
}

impl LlmServer for RemoteServer {
    async fn chat(&self, request: &ChatRequest) -> Result<ChatReply, LlmError> {
        let prompt = estimate_prompt(request);
        let tokens = u64::from(prompt) + u64::from(request.max_output);
        let url = self.chat_url(&request.model)?;
        let mut held = Duration::ZERO;
        loop {
            let asked = Instant::now();
            tokio::select! {
                biased;
                room = self.wait_for_room(tokens) => room?,
                () = self.stopped.cancelled() => {
                    let message = "the worker is being stopped".to_owned();
                    return Err(LlmError::new(LlmErrorKind::NotBegun, message));
                }
            }
            held += asked.elapsed();
            let memory = self.memory(&request.model);
            let body = self.body(request, &memory.traits);
            let deadline = Instant::now() + self.timeouts.request;
            let reply = match self.exchange(self.client.post(url.clone()).json(&body), deadline).await {
                Ok(reply) => reply,
                Err(error) => {
                    lock(&self.limit).settle(tokens, 0);
                    return Err(self.charged(error, prompt, request));
                }
            };
            let answer = self.understand(&reply, request, &memory);
            let used = answer.as_ref().ok();
            lock(&self.limit).settle(tokens, used.map_or(0, |answer| answer.usage.tokens()));
            // The service's word comes last: it knows of the other workers.
            let told = ToldLimits::read(&reply.headers, clock::now());
            lock(&self.limit).learn(&told, self.started.elapsed());
            match answer {
                Ok(answer) => {
                    let answer = self.check_counts(request, answer, &url).await?;
                    self.learn(request, &memory, &answer);
                    return Ok(ChatReply { held, ..answer });
                }
                Err(error) => self.adapt_to(error, &reply, request, &memory, &body)?,
            }
        }
    }
}

/// Whether a reply under a good status is an error: its own JSON, one wrapped into an event, or a page of something
/// else.
fn is_error(reply: &Reply) -> bool {
    let body: Option<Value> = serde_json::from_slice(&reply.body).ok();
    let names_error =
        |body: &Value| body.get("error").is_some() || body["type"] == "error" || openai::names_error(body);
    body.as_ref().is_some_and(names_error)
        || reply.body.starts_with(b"event: error")
        || is_page(reply.headers.get("content-type"), &reply.body)
}

/// An answer that failed the service's own check, to be judged like any other.
fn refused_answer(failed: FailedGeneration) -> ChatReply {
    ChatReply {
        content: failed.text,
        thinking: None,
        finish: Finish::Invalid(failed.code),
        usage: Usage::default(),
        prompt_tokens: None,
        model: None,
        id: None,
        held: Duration::ZERO,
    }
}

/// What a panic left behind are hints and counts: they do no harm.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
