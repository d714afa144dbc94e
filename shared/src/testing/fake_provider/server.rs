//! A fake service's requests, from the wire to what is done with them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, Response, header};
use axum::response::IntoResponse;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::Shared;
use super::behaviour::{ProviderCall, RetryHint};
use super::call::Call;
use super::config::{FakeProviderConfig, FakeService};
use super::deliver;
use super::fault::Fault;
use super::limits::{Exceeded, Limits};
use super::prefixes::{Cached, Prefixes};
use super::request::{Asked, asked_of, chunk_of, turns};
use super::wire::{self, Headers, Incoming, Route, Trouble, Wire};
use crate::testing::fake_server::lock;
use crate::testing::fake_server::socket::{BreakableListener, Connection};

/// A larger request is refused, as Claude's documentation has it.
const MOST_BYTES: usize = 32 * 1024 * 1024;
/// Tokens by which OpenAI's cache counts.
const CACHE_STEP: usize = 128;

/// One life of the service.
pub(super) struct Server {
    pub(super) shared: Arc<Shared>,
    pub(super) limits: Mutex<Limits>,
    pub(super) prefixes: Mutex<Prefixes>,
    slots: Option<Semaphore>,
    requests: AtomicU64,
}

/// What is known about every request.
pub(super) struct Context {
    pub(super) config: FakeProviderConfig,
    pub(super) wire: &'static dyn Wire,
    pub(super) request_id: String,
    pub(super) connection: Connection,
}

pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let slots = lock(&shared.config).slots.map(Semaphore::new);
    let server = Arc::new(Server {
        shared,
        limits: Mutex::default(),
        prefixes: Mutex::default(),
        slots,
        requests: AtomicU64::new(0),
    });
    let routes =
        Router::new().fallback(handle).with_state(server).into_make_service_with_connect_info::<Connection>();
    if let Err(error) = axum::serve(BreakableListener(listener), routes).await {
        tracing::error!(%error, "fake service ended");
    }
}

async fn handle(
    State(server): State<Arc<Server>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    request: Request,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let config = lock(&server.shared.config).clone();
    let request_id = format!("req_{:024x}", server.requests.fetch_add(1, Ordering::Relaxed) + 1);
    let context = Context { wire: wire::of(config.service), config, request_id, connection };
    let headers = named(&parts.headers);
    let path = parts.uri.path().to_owned();
    let answer = match context.wire.route(&parts.method, &path) {
        Route::Generate(model) => generate(&server, &context, headers, whole(body).await, model).await,
        Route::Nowhere => {
            server.shared.notes.change(|stats| stats.unknown.push(format!("{} {path}", parts.method)));
            Err(context.wire.fault(Trouble::NoSuchPlace { method: parts.method, path }))
        }
        Route::Other(place) => context.wire.other(place, &context.config).map(|body| json(200, &body)),
        place => {
            server.shared.notes.change(|stats| stats.key_checks += 1);
            look_up(&context, &headers, &place)
        }
    };
    let mut response = match answer {
        Ok(response) => response,
        Err(fault) => {
            server.shared.notes.change(|stats| stats.refusals.push(fault.message.clone()));
            deliver::fault(&fault, &context)
        }
    };
    let levels = lock(&server.limits).levels(&context.config, Instant::now());
    for (name, value) in context.wire.headers(&levels, &context.request_id) {
        // A scripted header is stronger.
        if !response.headers().contains_key(&name) {
            deliver::add_header(&mut response, &name, &value);
        }
    }
    response
}

/// The body; none where it is too large. It is read to its end so that the client comes to read the answer.
async fn whole(body: Body) -> Option<Bytes> {
    to_bytes(body, usize::MAX).await.ok().filter(|bytes| bytes.len() <= MOST_BYTES)
}

fn look_up(context: &Context, headers: &Headers, place: &Route) -> Result<Response<Body>, Fault> {
    still_loading(context)?;
    context.wire.admit(context.config.key.as_deref(), headers)?;
    let Route::Model(name) = place else { return Ok(json(200, &context.wire.models(&context.config))) };
    let model = context.config.model(name);
    let model = model.ok_or_else(|| context.wire.fault(Trouble::NoSuchModel(name.clone())))?;
    Ok(json(200, &context.wire.model(model)))
}

async fn generate(
    server: &Arc<Server>,
    context: &Context,
    headers: Headers,
    bytes: Option<Bytes>,
    path_model: Option<String>,
) -> Result<Response<Body>, Fault> {
    let body: Option<Value> = bytes.as_ref().and_then(|bytes| serde_json::from_slice(bytes).ok());
    let body = body.unwrap_or_default();
    let turns = turns(&body);
    let seen = ProviderCall {
        number: 0,
        model: path_model.as_deref().or(body["model"].as_str()).unwrap_or_default().to_owned(),
        chunk: chunk_of(&turns),
        asked: asked_of(&body, &turns),
        body,
        headers,
    };
    let call = Call::arrived(&server.shared, seen);
    let incoming = Incoming {
        headers: &call.seen.headers,
        body: &call.seen.body,
        path_model: path_model.as_deref(),
        config: &context.config,
    };
    match accept(server, context, &incoming, bytes.is_none()) {
        Ok((asked, cached)) => {
            let _slot = match &server.slots {
                Some(slots) => slots.acquire().await.ok(),
                None => None,
            };
            Ok(deliver::answer(server, context, call, &asked, cached).await)
        }
        Err(fault) => {
            call.finish();
            Err(fault)
        }
    }
}

/// Everything that is looked at before a model sees the call.
fn accept(
    server: &Server,
    context: &Context,
    incoming: &Incoming<'_>,
    is_too_large: bool,
) -> Result<(Asked, Cached), Fault> {
    let (config, wire) = (&context.config, context.wire);
    still_loading(context)?;
    wire.admit(config.key.as_deref(), incoming.headers)?;
    let limited = |exceeded| {
        server.shared.notes.change(|stats| stats.limited += 1);
        limited(wire, exceeded)
    };
    lock(&server.limits).take_request(config, Instant::now()).map_err(limited)?;
    if is_too_large {
        return Err(wire.fault(Trouble::TooLarge));
    }
    let content_type = incoming.headers.get(header::CONTENT_TYPE.as_str());
    let is_json = content_type.is_some_and(|kind| kind.starts_with("application/json"));
    if !is_json && config.service != FakeService::LlamaCpp {
        return Err(wire.fault(Trouble::ContentType(content_type.cloned())));
    }
    if !incoming.body.is_object() {
        return Err(wire.fault(Trouble::NotJson));
    }
    let asked = wire.read(incoming)?;
    let cached = match config.service {
        FakeService::Claude => lock(&server.prefixes).marked(&asked),
        FakeService::OpenAi => lock(&server.prefixes).shared(&asked, CACHE_STEP),
        _ => lock(&server.prefixes).shared(&asked, 1),
    };
    // What Claude has in its cache does not count for its limits.
    let free = if config.service == FakeService::Claude { cached.read } else { 0 };
    let tokens = asked.prompt_tokens.saturating_sub(free);
    lock(&server.limits).take_tokens(config, tokens, Instant::now()).map_err(limited)?;
    Ok((asked, cached))
}

fn limited(wire: &dyn Wire, exceeded: Exceeded) -> Fault {
    let seconds = exceeded.wait.saturating_add(Duration::from_millis(999)).as_secs();
    let mut fault = wire.fault(Trouble::RateLimited(RetryHint::Seconds(seconds)));
    fault.message = format!("{} (limit of {} per minute: {})", fault.message, exceeded.of, exceeded.limit);
    fault
}

fn still_loading(context: &Context) -> Result<(), Fault> {
    let is_loading = context.config.loading && context.config.service == FakeService::LlamaCpp;
    if is_loading { Err(context.wire.fault(Trouble::Overloaded)) } else { Ok(()) }
}

fn named(headers: &HeaderMap) -> Headers {
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value.as_bytes()))).collect()
}

pub(super) fn json(status: u16, body: &Value) -> Response<Body> {
    deliver::with_status(
        status,
        ([(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response(),
    )
}
