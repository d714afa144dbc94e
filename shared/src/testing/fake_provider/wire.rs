//! What every faked API has to say for itself; the rest of the fake does not know whose API it speaks.

use std::collections::BTreeMap;

use axum::http::Method;
use serde_json::Value;

use super::behaviour::RetryHint;
use super::config::{FakeProviderConfig, FakeService};
use super::fault::Fault;
use super::limits::Levels;
use super::llm::FakeLlm;
use super::reply::Reply;
use super::request::Asked;
use super::{claude, compatible, gemini, openai};

/// Headers with names in lower case.
pub(super) type Headers = BTreeMap<String, String>;

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    /// To the model, which Gemini names in the path.
    Generate(Option<String>),
    Models,
    Model(String),
    /// A place of one service alone, such as llama.cpp's `/props`.
    Other(&'static str),
    Nowhere,
}

/// What goes wrong with every service, each in its own words.
#[derive(Debug, Clone)]
pub(super) enum Trouble {
    NoSuchPlace {
        method: Method,
        path: String,
    },
    NoSuchModel(String),
    NotJson,
    /// The content type is this one.
    ContentType(Option<String>),
    TooLarge,
    NoKey,
    /// The key is this one, and the answer repeats it in full or in part.
    WrongKey {
        key: String,
        in_full: bool,
    },
    RateLimited(RetryHint),
    Quota,
    NoCredit,
    Overloaded,
    Server(u16),
}

/// A call for an answer before it is understood.
pub(super) struct Incoming<'a> {
    pub(super) headers: &'a Headers,
    pub(super) body: &'a Value,
    pub(super) path_model: Option<&'a str>,
    pub(super) config: &'a FakeProviderConfig,
}

/// One API.
pub(super) trait Wire: Sync {
    fn route(&self, method: &Method, path: &str) -> Route;

    /// Whether the headers let the request in.
    fn admit(&self, key: Option<&str>, headers: &Headers) -> Result<(), Fault>;

    /// Understands a call for an answer, or refuses it.
    fn read(&self, incoming: &Incoming<'_>) -> Result<Asked, Fault>;

    /// The body of an answer.
    fn answer(&self, asked: &Asked, reply: &Reply, number: u64) -> Value;

    fn fault(&self, trouble: Trouble) -> Fault;

    /// The body of an error.
    fn error(&self, fault: &Fault, config: &FakeProviderConfig, request_id: &str) -> Value;

    fn models(&self, config: &FakeProviderConfig) -> Value;

    fn model(&self, model: &FakeLlm) -> Value;

    /// What stands at a place of this service alone.
    fn other(&self, place: &str, _config: &FakeProviderConfig) -> Result<Value, Fault> {
        Err(self.fault(Trouble::NoSuchPlace { method: Method::GET, path: place.to_owned() }))
    }

    /// The headers of all answers.
    fn headers(&self, _levels: &Levels, _request_id: &str) -> Vec<(String, String)> {
        Vec::new()
    }

    /// A body for an error within status 200, with its content type.
    fn error_in_200(&self, config: &FakeProviderConfig, request_id: &str) -> (&'static str, String) {
        let error = self.error(&self.fault(Trouble::Server(500)), config, request_id);
        ("application/json", error.to_string())
    }
}

pub(super) fn of(service: FakeService) -> &'static dyn Wire {
    match service {
        FakeService::OpenAi => &openai::OpenAi,
        FakeService::LlamaCpp => &compatible::Compatible::LlamaCpp,
        FakeService::Vllm => &compatible::Compatible::Vllm,
        FakeService::LmStudio => &compatible::Compatible::LmStudio,
        FakeService::Claude => &claude::Claude,
        FakeService::Gemini => &gemini::Gemini,
    }
}
