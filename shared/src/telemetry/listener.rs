//! What others may ask this process over HTTP: `/metrics` in Prometheus' format, `/healthz` whether it lives,
//! `/readyz` whether it can do its work now. It must not know what is measured.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Mutex, PoisonError};

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::{Registry, TextEncoder};

use super::pipeline::TelemetryError;

/// What keeps parts of this process from their work; nothing if all can work.
static OBSTACLES: Mutex<BTreeMap<&'static str, String>> = Mutex::new(BTreeMap::new());

/// Says what keeps this part of the process from its work, for `/readyz`; nothing if it can work. In local mode
/// a coordinator and a worker are parts of one process.
pub fn set_obstacle(part: &'static str, obstacle: Option<String>) {
    let mut obstacles = OBSTACLES.lock().unwrap_or_else(PoisonError::into_inner);
    match obstacle {
        Some(obstacle) => obstacles.insert(part, obstacle),
        None => obstacles.remove(part),
    };
}

/// Answers from now on, within the program's runtime, until the program ends.
pub(super) fn listen(
    part: &'static str,
    address: SocketAddr,
    registry: Registry,
) -> Result<(), TelemetryError> {
    set_obstacle(part, Some("starting".to_owned()));
    let bound = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        tokio::net::TcpListener::from_std(listener)
    });
    let listener = bound.map_err(|error| TelemetryError::listener(format!("{address}: {error}")))?;
    let app = Router::new()
        .route("/metrics", get(move || async move { metrics(&registry) }))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(|| async { readiness() }));
    tokio::spawn(async move {
        // Ends with the runtime only.
        drop(axum::serve(listener, app).await);
    });
    Ok(())
}

fn metrics(registry: &Registry) -> Response {
    match TextEncoder::new().encode_to_string(&registry.gather()) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

fn readiness() -> Response {
    let obstacles = OBSTACLES.lock().unwrap_or_else(PoisonError::into_inner);
    if obstacles.is_empty() {
        return "ready\n".into_response();
    }
    let lines: Vec<_> = obstacles.iter().map(|(part, obstacle)| format!("{part}: {obstacle}\n")).collect();
    (StatusCode::SERVICE_UNAVAILABLE, lines.concat()).into_response()
}
