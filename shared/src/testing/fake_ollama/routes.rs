//! The fake server's routes except for chat.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::scheduler::Scheduler;
use super::{Shared, chat};
use crate::testing::fake_server::lock;
use crate::testing::fake_server::socket::{BreakableListener, Connection};

/// One life of the server.
pub(super) struct Server {
    pub(super) shared: Arc<Shared>,
    pub(super) scheduler: Scheduler,
}

pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let server = Arc::new(Server { shared, scheduler: Scheduler::default() });
    let routes = Router::new()
        .route("/", get(async || "Ollama is running"))
        .route("/api/version", get(version))
        .route("/api/tags", get(tags))
        .route("/api/ps", get(loaded))
        .route("/api/show", post(show))
        .route("/api/pull", post(pull))
        .route("/api/chat", post(chat::chat))
        .with_state(server)
        .into_make_service_with_connect_info::<Connection>();
    if let Err(error) = axum::serve(BreakableListener(listener), routes).await {
        tracing::error!(%error, "fake server ended");
    }
}

pub(super) fn error(status: u16, text: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, Json(json!({ "error": text }))).into_response()
}

/// A page for people.
pub(super) fn page(status: u16, html: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    (status, [("content-type", "text/html; charset=utf-8")], html.to_owned()).into_response()
}

pub(super) fn not_found(model: &str) -> Response {
    error(404, &format!("model '{model}' not found"))
}

/// Lines as real servers send them.
pub(super) fn ndjson(body: Body) -> Response {
    ([("content-type", "application/x-ndjson")], body).into_response()
}

async fn version(State(server): State<Arc<Server>>) -> Json<Value> {
    Json(json!({ "version": lock(&server.shared.config).version }))
}

async fn tags(State(server): State<Arc<Server>>) -> Json<Value> {
    let config = lock(&server.shared.config);
    let models: Vec<Value> = config
        .models
        .iter()
        .filter(|model| !config.unlisted.contains(&model.name))
        .map(|model| {
            json!({
                "name": model.name, "model": model.name, "size": 5_200_000_000_u64, "digest": model.digest,
                "details": { "family": model.architecture }, "capabilities": model.capabilities,
            })
        })
        .collect();
    Json(json!({ "models": models }))
}

async fn loaded(State(server): State<Arc<Server>>) -> Json<Value> {
    let config = lock(&server.shared.config);
    let models = server.scheduler.loaded().and_then(|runner| {
        let model = config.model(&runner.model)?;
        Some(json!({
            "name": model.name, "model": model.name, "digest": model.digest, "size": 1000,
            "size_vram": u32::from(model.gpu_percent) * 10, "context_length": runner.num_ctx,
        }))
    });
    Json(json!({ "models": models.into_iter().collect::<Vec<_>>() }))
}

async fn show(State(server): State<Arc<Server>>, body: Bytes) -> Response {
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let name = body["model"].as_str().unwrap_or_default();
    let Some(model) = lock(&server.shared.config).model(name) else { return not_found(name) };
    let context_key = format!("{}.context_length", model.architecture);
    Json(json!({
        "details": { "family": model.architecture, "format": "gguf" },
        "model_info": { "general.architecture": model.architecture, context_key: model.context_length },
        "capabilities": model.capabilities,
    }))
    .into_response()
}

async fn pull(State(server): State<Arc<Server>>, body: Bytes) -> Response {
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let name = body["model"].as_str().unwrap_or_default();
    let pulled = lock(&server.shared.config).pullable_model(name);
    let Some(model) = pulled else {
        let lines =
            "{\"status\":\"pulling manifest\"}\n{\"error\":\"pull model manifest: file does not exist\"}\n";
        return ndjson(Body::from(lines));
    };
    let mut lines = vec![json!({ "status": "pulling manifest" })];
    for completed in [0, 500, 1000] {
        let status = "pulling 4c27e0f5b5ad";
        lines
            .push(json!({ "status": status, "digest": model.digest, "total": 1000, "completed": completed }));
    }
    for status in ["verifying sha256 digest", "writing manifest", "success"] {
        lines.push(json!({ "status": status }));
    }
    server.shared.record.change(|stats| stats.pulled.push(model.name.clone()));
    lock(&server.shared.config).models.push(model);
    let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
    ndjson(Body::from(lines.join("\n")))
}
