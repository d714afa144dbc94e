//! How a good call ends on the wire: the answer, or the fault that the test wants.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use futures_util::{StreamExt, stream};
use serde_json::Value;

use super::behaviour::Behaviour;
use super::call::Call;
use super::events::{EVENT_TOKENS, events};
use super::fault::Fault;
use super::prefixes::Cached;
use super::reply::compose;
use super::request::Asked;
use super::server::{Context, Server, json};
use super::wire::Trouble;
use crate::testing::fake_server::{lock, pause};

/// Bytes of a huge body that are sent at once.
const PORTION: usize = 64 * 1024;

/// Ends a good call as the test's script wants it.
pub(super) async fn answer(
    server: &Arc<Server>,
    context: &Context,
    call: Call,
    asked: &Asked,
    cached: Cached,
) -> Response<Body> {
    let scripted = lock(&server.shared.script).behaviour(call.seen.number, &call.seen);
    let behaviour = scripted.unwrap_or(Behaviour::Answer);
    match &behaviour {
        Behaviour::Hang => std::future::pending().await,
        Behaviour::Slow(time) => pause(*time).await,
        Behaviour::Drop => {
            call.finish();
            match context.connection.break_off().await {}
        }
        _ => {}
    }
    if let Some(response) = instead(&behaviour, &call, context) {
        call.finish();
        return response;
    }
    let reply = compose(asked, &call.seen, &behaviour, cached);
    let generated = u32::try_from(reply.output_tokens()).unwrap_or(u32::MAX);
    let streams = call.seen.body["stream"] == true;
    if !streams {
        pause(context.config.token_delay * generated).await;
    }
    // Others can read what this call wrote as soon as its answer begins.
    lock(&server.prefixes).remember(asked);
    lock(&server.limits).spend_tokens(&context.config, reply.output_tokens(), Instant::now());
    let mut body = context.wire.answer(asked, &reply, call.seen.number);
    for (name, value) in &context.config.instead {
        if value.is_null() {
            body.as_object_mut().and_then(|members| members.remove(name));
        } else {
            body[name] = value.clone();
        }
    }
    if streams {
        return streamed(&body, &behaviour, call, context.config.token_delay);
    }
    match behaviour {
        Behaviour::Drip(pause) => drip(body.to_string(), pause, call),
        Behaviour::DropMidBody => half(&body.to_string(), call),
        _ => {
            call.finish();
            json(200, &body)
        }
    }
}

/// The answer as a stream of events: a client that has read enough and closes the connection cancels the rest.
fn streamed(body: &Value, behaviour: &Behaviour, call: Call, token_delay: Duration) -> Response<Body> {
    let mut response = match behaviour {
        Behaviour::Drip(pause) => drip(events(body, &call.seen.body).concat(), *pause, call),
        Behaviour::DropMidBody => half(&events(body, &call.seen.body).concat(), call),
        _ => {
            let state = (events(body, &call.seen.body).into_iter(), Some(call));
            let between = token_delay * EVENT_TOKENS;
            of_json(Body::from_stream(stream::unfold(state, move |(mut events, mut call)| async move {
                pause(between).await;
                let Some(event) = events.next() else {
                    if let Some(call) = call.take() {
                        call.finish();
                    }
                    return None;
                };
                Some((Ok::<_, Infallible>(Bytes::from(event)), (events, call)))
            })))
        }
    };
    let kind = HeaderValue::from_static("text/event-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// What comes instead of an answer.
fn instead(behaviour: &Behaviour, call: &Call, context: &Context) -> Option<Response<Body>> {
    let trouble = match behaviour {
        Behaviour::Status { status, headers, body } => {
            let json = [(header::CONTENT_TYPE, "application/json")];
            let mut response = with_status(*status, (json, body.clone()).into_response());
            for (name, value) in headers {
                add_header(&mut response, name, value);
            }
            return Some(response);
        }
        Behaviour::RawBody(bytes) => {
            return Some(([(header::CONTENT_TYPE, "application/json")], bytes.clone()).into_response());
        }
        Behaviour::HugeBody(bytes) => return Some(huge(*bytes)),
        Behaviour::ErrorIn200 => {
            let (kind, body) = context.wire.error_in_200(&context.config, &context.request_id);
            return Some(([(header::CONTENT_TYPE, kind)], body).into_response());
        }
        Behaviour::ArrayWrappedError => {
            let fault = context.wire.fault(Trouble::Overloaded);
            let error = context.wire.error(&fault, &context.config, &context.request_id);
            let error = if error.is_array() { error } else { Value::Array(vec![error]) };
            return Some(json(fault.status, &error));
        }
        Behaviour::RateLimited(hint) => Trouble::RateLimited(hint.clone()),
        Behaviour::QuotaExhausted => Trouble::Quota,
        Behaviour::NoCredit => Trouble::NoCredit,
        Behaviour::Overloaded => Trouble::Overloaded,
        Behaviour::ServerError(status) => Trouble::Server(*status),
        Behaviour::KeyRefused => {
            let headers = &call.seen.headers;
            let sent =
                ["authorization", "x-api-key", "x-goog-api-key"].iter().find_map(|name| headers.get(*name));
            let key = sent.map(|key| key.trim_start_matches("Bearer ")).unwrap_or_default().to_owned();
            Trouble::WrongKey { key, in_full: true }
        }
        _ => return None,
    };
    Some(fault(&context.wire.fault(trouble), context))
}

/// An error as the service sends it.
pub(super) fn fault(fault: &Fault, context: &Context) -> Response<Body> {
    let error = context.wire.error(fault, &context.config, &context.request_id);
    let mut response = if fault.as_event {
        let event = format!("event: error\ndata: {error}\n\n");
        ([(header::CONTENT_TYPE, "text/event-stream")], event).into_response()
    } else {
        json(fault.status, &error)
    };
    for (name, value) in &fault.headers {
        add_header(&mut response, name, value);
    }
    response
}

pub(super) fn add_header(response: &mut Response<Body>, name: &str, value: &str) {
    let name = HeaderName::try_from(name).expect("a test's header has a name that can be sent");
    let value = HeaderValue::try_from(value).expect("a test's header has a value that can be sent");
    response.headers_mut().insert(name, value);
}

pub(super) fn with_status(status: u16, mut response: Response<Body>) -> Response<Body> {
    *response.status_mut() = StatusCode::from_u16(status).expect("a test's status is one of HTTP's");
    response
}

fn of_json(body: Body) -> Response<Body> {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// A JSON text of so many bytes, made while it is sent.
fn huge(bytes: usize) -> Response<Body> {
    let inner = bytes.saturating_sub(2);
    let portions =
        (0..inner).step_by(PORTION).map(move |at| Bytes::from(vec![b'a'; PORTION.min(inner - at)]));
    let quote = || std::iter::once(Bytes::from_static(b"\""));
    let all = quote().chain(portions).chain(quote()).map(Ok::<_, Infallible>);
    of_json(Body::from_stream(stream::iter(all)))
}

/// Byte by byte; the call lives as long as the body does.
fn drip(text: String, between: Duration, call: Call) -> Response<Body> {
    let state = (text.into_bytes().into_iter(), Some(call));
    of_json(Body::from_stream(stream::unfold(state, move |(mut bytes, mut call)| async move {
        let Some(byte) = bytes.next() else {
            if let Some(call) = call.take() {
                call.finish();
            }
            return None;
        };
        pause(between).await;
        Some((Ok::<_, Infallible>(Bytes::from(vec![byte])), (bytes, call)))
    })))
}

/// Half of a body, then the connection breaks.
fn half(text: &str, call: Call) -> Response<Body> {
    let length = text.len();
    let half = Bytes::copy_from_slice(&text.as_bytes()[..length / 2]);
    let broken = async move {
        // What was said before goes out first: the HTTP server flushes when it has to wait.
        tokio::task::yield_now().await;
        call.finish();
        Err(io::Error::from(io::ErrorKind::ConnectionReset))
    };
    let parts = stream::once(async { Ok(half) }).chain(stream::once(broken));
    let mut response = of_json(Body::from_stream(parts));
    add_header(&mut response, header::CONTENT_LENGTH.as_str(), &length.to_string());
    response
}
