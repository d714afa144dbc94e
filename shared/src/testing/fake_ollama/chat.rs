//! The fake server's chat: refusals, the queue, and an answer token by token.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, State};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::Shared;
use super::answer::prompt_tokens;
use super::call::Call;
use super::config::{FakeConfig, FakeModel};
use super::plan::Plan;
use super::routes::{Server, error, ndjson, not_found, page};
use super::scheduler::{Busy, Runner};
use super::script::Behaviour;
use crate::testing::fake_server::socket::Connection;
use crate::testing::fake_server::{lock, pause};

const BUSY: &str = "server busy, please try again.  maximum pending requests exceeded";

pub(super) async fn chat(
    State(server): State<Arc<Server>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    body: Bytes,
) -> Response {
    let Ok(body) = serde_json::from_slice::<Value>(&body) else {
        return error(400, "invalid character looking for beginning of value");
    };
    let name = body["model"].as_str().unwrap_or_default().to_owned();
    let config = lock(&server.shared.config).clone();
    let warm_up = body["messages"].as_array().is_none_or(Vec::is_empty);
    let call = (!warm_up).then(|| Call::arrived(&server.shared, &name, &body));
    let refusal = match config.model(&name) {
        None => Err(not_found(&name)),
        Some(model) => match refused(&body, &model, &config) {
            Some(response) => Err(response),
            None => Ok(model),
        },
    };
    let model = match refusal {
        Ok(model) => model,
        Err(response) => {
            if let Some(call) = call {
                call.finish();
            }
            return response;
        }
    };
    let runner = Runner {
        num_ctx: context_of(&body, &model),
        model: model.name.clone(),
        shift: body["shift"].as_bool().unwrap_or(true),
    };
    let Some(call) = call else { return load(&server, &runner).await };
    let behaviour = lock(&server.shared.script).behaviour(call.seen.number, &call.seen);
    let behaviour = behaviour.unwrap_or(Behaviour::Answer);
    answer(&server, &connection, call, behaviour, &model, &runner, &config).await
}

/// An empty conversation only loads the model.
async fn load(server: &Server, runner: &Runner) -> Response {
    server.shared.record.change(|stats| stats.warm_ups += 1);
    match server.scheduler.slot(runner, &server.shared).await {
        Ok(_slot) => {
            let message = json!({ "role": "assistant", "content": "" });
            axum::Json(
                json!({ "model": runner.model, "message": message, "done": true, "done_reason": "load" }),
            )
            .into_response()
        }
        Err(Busy) => busy(&server.shared),
    }
}

async fn answer(
    server: &Arc<Server>,
    connection: &Connection,
    mut call: Call,
    behaviour: Behaviour,
    model: &FakeModel,
    runner: &Runner,
    config: &FakeConfig,
) -> Response {
    match &behaviour {
        Behaviour::Status(status, text) => {
            call.finish();
            return error(*status, text);
        }
        Behaviour::Page(status, html) => {
            call.finish();
            return page(*status, html);
        }
        Behaviour::BusyFor(seconds) => {
            call.finish();
            let mut response = error(503, BUSY);
            response.headers_mut().insert("retry-after", (*seconds).into());
            return response;
        }
        Behaviour::Drop => {
            call.finish();
            match connection.break_off().await {}
        }
        _ => {}
    }
    let Ok(slot) = server.scheduler.slot(runner, &server.shared).await else {
        call.finish();
        return busy(&server.shared);
    };
    call.generate(slot);
    let mut prompt = prompt_tokens(&call.seen.body);
    let context = usize::try_from(runner.num_ctx).unwrap_or(usize::MAX);
    if prompt > context {
        match config.counts.cut(context) {
            Some(kept) => prompt = kept,
            None if call.seen.body["truncate"] == json!(false) => {
                call.finish();
                return error(400, &too_long(prompt, context));
            }
            None => prompt = context / 2 + 2,
        }
    }
    let plan = Plan::new(&call.seen, &behaviour, model, prompt, context, config.counts);
    match behaviour {
        Behaviour::Hang => std::future::pending().await,
        Behaviour::Slow(before_first_token) => pause(before_first_token).await,
        _ => {}
    }
    let single = call.seen.body["stream"] == json!(false)
        || matches!(behaviour, Behaviour::Single | Behaviour::NotDone);
    if single {
        call.answers();
        pause(config.token_delay * plan.tokens()).await;
        let durations = call.durations();
        call.finish();
        return axum::Json(plan.whole(durations)).into_response();
    }
    // The status line goes out with the first token.
    pause(config.token_delay).await;
    call.answers();
    ndjson(plan.stream(call, config.token_delay))
}

/// A refusal that depends on the request alone.
fn refused(body: &Value, model: &FakeModel, config: &FakeConfig) -> Option<Response> {
    if let Some((status, text)) = &config.cannot_load {
        return Some(error(*status, text));
    }
    if !model.can("completion") {
        return Some(error(400, &format!("\"{}\" does not support chat", model.name)));
    }
    let think = &body["think"];
    if !model.can("thinking") && (think == &json!(true) || think.is_string()) {
        return Some(error(400, &format!("\"{}\" does not support thinking", model.name)));
    }
    let options = &body["options"];
    for name in ["temperature", "top_p", "top_k", "min_p", "repeat_penalty", "num_ctx", "num_predict"] {
        if options.get(name).is_some_and(|value| !value.is_number()) {
            return Some(error(500, &format!("option \"{name}\" must be of type float32")));
        }
    }
    if options.get("stop").is_some_and(|stop| !stop.is_array()) {
        return Some(error(500, "option \"stop\" must be of type array"));
    }
    match &body["format"] {
        Value::Object(_) if config.version.starts_with("0.4.") => Some(error(
            400,
            "json: cannot unmarshal object into Go struct field ChatRequest.format of type string",
        )),
        Value::Object(_) if config.refuse_schema => {
            Some(error(400, "Failed to initialize samplers: failed to parse grammar"))
        }
        Value::Null | Value::Object(_) => None,
        Value::String(text) if text == "json" || text.is_empty() => None,
        other => Some(error(
            500,
            &format!("invalid format: {other}; expected \"json\" or a valid JSON Schema object"),
        )),
    }
}

fn context_of(body: &Value, model: &FakeModel) -> u32 {
    let asked = body["options"]["num_ctx"].as_u64().and_then(|tokens| u32::try_from(tokens).ok());
    asked.unwrap_or(4096).min(model.context_length)
}

fn too_long(prompt: usize, context: usize) -> String {
    json!({ "error": {
        "code": 400,
        "message": format!(
            "request ({prompt} tokens) exceeds the available context size ({context} tokens), try increasing it"
        ),
        "type": "exceed_context_size_error", "n_prompt_tokens": prompt, "n_ctx": context,
    } })
    .to_string()
}

fn busy(shared: &Shared) -> Response {
    shared.record.change(|stats| stats.busy += 1);
    error(503, BUSY)
}
