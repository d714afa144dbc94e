//! The worker's metrics: model calls, tasks, LLM servers. It must not decide anything.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use qa_shared::clock;
use qa_shared::model::Usage;
use qa_shared::queue::Delivery;
use qa_shared::telemetry::instruments::{
    CALL_DURATION, CALL_TOKENS, Label, PROCESS_DURATION, QUEUE_WAIT, REDELIVERIES, RETRIES, SERVER_SLOTS,
    SERVER_SPEED, SERVER_UP,
};
use tokio::time::Instant;

use crate::disposition::CallOutcome;
use crate::llm::{ChatReply, ChatRequest, Finish, LlmError, LlmServer};
use crate::server::Server;
use crate::trace::{self, Attempt, host_and_port};

/// Calls a model, and measures that; see [`trace::chat`].
pub(crate) async fn chat<S: LlmServer>(
    server: &S,
    request: &ChatRequest,
    attempt: Attempt<'_>,
) -> Result<ChatReply, LlmError> {
    let begun = Instant::now();
    let outcome = trace::chat(server, request, attempt).await;
    let (provider, url) = server.who();
    let labels = || {
        let mut labels = vec![
            Label::new("gen_ai.operation.name", "chat"),
            Label::new("gen_ai.provider.name", provider),
            Label::new("gen_ai.request.model", request.model.clone()),
        ];
        labels.extend(of_server(url));
        labels
    };
    CALL_DURATION.record(begun.elapsed().as_secs_f64(), || {
        let mut labels = labels();
        labels.extend(outcome.as_ref().err().map(|error| Label::new("error.type", error.kind.to_string())));
        labels
    });
    let Usage { input_tokens, output_tokens, .. } = match &outcome {
        Ok(reply) => reply.usage,
        Err(error) => error.usage,
    };
    for (kind, tokens) in [("input", input_tokens), ("output", output_tokens)] {
        if tokens > 0 {
            CALL_TOKENS.record(tokens as f64, || {
                let mut labels = labels();
                labels.push(Label::new("gen_ai.token.type", kind));
                labels
            });
        }
    }
    outcome
}

/// A task was delivered.
pub(crate) fn delivered(delivery: &Delivery) {
    if delivery.deliveries > 1 {
        REDELIVERIES.add(1, Vec::new);
    } else if let Some(stored) = delivery.stored_at {
        // Clocks of several machines differ: a wait of less than nothing is none.
        let wait = SystemTime::from(clock::now()).duration_since(stored).unwrap_or_default();
        QUEUE_WAIT.record(wait.as_secs_f64(), Vec::new);
    }
}

/// A task has left its slot.
pub(crate) fn processed(took: Duration, outcome: &'static str) {
    PROCESS_DURATION.record(took.as_secs_f64(), || {
        vec![
            Label::new("messaging.system", "nats"),
            Label::new("messaging.operation.name", "process"),
            Label::new("messaging.destination.name", qa_shared::queue::TASKS),
            Label::new("qa.outcome", outcome),
        ]
    });
}

/// A model is asked again about the same chunk; says why, in few words.
pub(crate) fn asked_again(last: &CallOutcome) -> String {
    let reason = match last {
        CallOutcome::Answered { finish: Finish::Repetition, .. } => "repetition".to_owned(),
        CallOutcome::Answered { .. } => "unusable_answer".to_owned(),
        CallOutcome::Error(error) => error.kind.to_string(),
    };
    RETRIES.add(1, || vec![Label::new("qa.reason", reason.clone())]);
    reason
}

/// Lets whoever reads metrics see how the servers are.
pub(crate) fn observe_servers(servers: &[Arc<Server>]) {
    let all: Arc<[Arc<Server>]> = servers.into();
    let servers = Arc::clone(&all);
    SERVER_SLOTS.observe(move |values| {
        for server in servers.iter() {
            let (busy, open) = (server.busy(), server.slots.open());
            for (state, slots) in [("busy", busy), ("free", open.saturating_sub(busy))] {
                let mut labels = of_server(&server.url);
                labels.push(Label::new("qa.state", state));
                values(slots.into(), labels);
            }
        }
    });
    let servers = Arc::clone(&all);
    SERVER_UP.observe(move |values| {
        for server in servers.iter() {
            values(u8::from(server.is_reachable()).into(), of_server(&server.url));
        }
    });
    SERVER_SPEED.observe(move |values| {
        for server in all.iter() {
            values(server.presence().tokens_per_second, of_server(&server.url));
        }
    });
}

fn of_server(url: &str) -> Vec<Label> {
    let Some((host, port)) = host_and_port(url) else { return Vec::new() };
    vec![Label::new("server.address", host.to_owned()), Label::new("server.port", i64::from(port))]
}
