//! The worker's part of a chunk's trace: the wait in the queue, `process`, and each model call.
//!
//! A task that comes again has a second `process` in the same trace; its wait is that of its first delivery
//! only. Where no spans are sent, nothing here does anything. It must not decide anything.

use std::time::{Duration, SystemTime};

use opentelemetry::trace::{FutureExt, SpanKind};
use opentelemetry::{Array, Context, KeyValue, StringValue, Value};
use qa_shared::clock;
use qa_shared::model::{InstanceId, Outcome, PoolName, TaskKey, TaskResult, Usage};
use qa_shared::queue::{Delivery, Traceparent};
use qa_shared::telemetry::names;
use qa_shared::telemetry::traces::{self, NewSpan, Span, Tracer, tracer};
use serde_json::json;

use crate::llm::{ChatReply, ChatRequest, Finish, LlmError, LlmErrorKind, LlmServer, Role};

/// Of prompts and answers this much is kept, in bytes.
const CONTENT: usize = 4096;

/// Begins the work on a delivery, where spans are sent.
pub(crate) fn process(
    key: &TaskKey,
    delivery: &Delivery,
    pool: &PoolName,
    worker: &InstanceId,
) -> Option<Span> {
    let tracer = tracer()?;
    let mut attributes = names::of_task(key);
    attributes.extend(names::operation("process", "process"));
    attributes.extend(names::tasks());
    attributes.extend([
        KeyValue::new("messaging.consumer.group.name", delivery.consumer.clone()),
        KeyValue::new("messaging.message.body.size", number(delivery.payload.len() as u64)),
        KeyValue::new("qa.delivery", number(delivery.deliveries)),
        KeyValue::new("qa.pool", pool.as_str().to_owned()),
        KeyValue::new("qa.worker", worker.as_str().to_owned()),
    ]);
    let new = NewSpan::new("process QA_TASKS", SpanKind::Consumer, attributes);
    let Some(sender) = &delivery.context else {
        // The coordinator sends no spans.
        return Some(tracer.begin(new.in_trace(key.trace_id())));
    };
    let parent = traces::remote(sender);
    if delivery.deliveries == 1 {
        queue_wait(tracer, key, delivery, &parent);
    }
    Some(tracer.begin(new.within(&parent)))
}

/// Clocks of several machines differ: a wait of less than nothing is none.
fn queue_wait(tracer: &Tracer, key: &TaskKey, delivery: &Delivery, parent: &Context) {
    let now = SystemTime::from(clock::now());
    let since = delivery.stored_at.filter(|stored| *stored < now).unwrap_or(now);
    let mut attributes = names::of_task(key);
    attributes.extend(names::tasks());
    let new = NewSpan::new("queue wait", SpanKind::Internal, attributes);
    tracer.begin(new.within(parent).since(since)).end(Some(now));
}

/// Says what became of a task.
pub(crate) fn ended(outcome: &'static str, result: Option<&TaskResult>) {
    let attribute = |name: &'static str, value: Value| traces::set_current(KeyValue::new(name, value));
    attribute("qa.outcome", outcome.into());
    let Some(result) = result else { return };
    attribute("qa.attempts", i64::from(result.attempts).into());
    match &result.outcome {
        Outcome::Completed { pairs } => attribute("qa.pairs", number(pairs.len() as u64).into()),
        Outcome::Failed { failure } => traces::fail_current(failure.reason.as_str(), &failure.message),
    }
}

/// How the current span is told to the coordinator; as the task's sender was told where no spans are sent.
pub(crate) fn traceparent(sender: Option<&Traceparent>) -> Option<Traceparent> {
    traces::traceparent(&Context::current()).or_else(|| sender.cloned())
}

/// Runs it with the span as the current one.
pub(crate) async fn within<F: Future>(span: Option<&Span>, work: F) -> F::Output {
    match span {
        Some(span) => work.with_context(span.context().clone()).await,
        None => work.await,
    }
}

/// Which of a task's model calls it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attempt<'a> {
    /// From 1.
    pub(crate) number: u32,
    /// Why the model is asked again, if it is.
    pub(crate) because: Option<&'a str>,
}

/// Calls a model.
pub(crate) async fn chat<S: LlmServer>(
    server: &S,
    request: &ChatRequest,
    attempt: Attempt<'_>,
) -> Result<ChatReply, LlmError> {
    let Some(tracer) = tracer() else { return server.chat(request).await };
    let (provider, url) = server.who();
    let new = NewSpan::new(
        format!("chat {}", request.model),
        SpanKind::Client,
        request_attributes(provider, url, request, attempt),
    );
    let span = tracer.begin(new.within(&Context::current()));
    if tracer.content && span.is_recording() {
        let messages = request.messages.iter().map(|message| {
            let role = match message.role {
                Role::System => "system",
                Role::User => "user",
                Role::Assistant => "assistant",
            };
            (role, message.content.as_str())
        });
        span.set("gen_ai.input.messages", content(messages));
    }
    let call = Call { tracer, span, begun: clock::now().into(), is_over: false };
    let outcome = server.chat(request).with_context(call.span.context().clone()).await;
    call.end(&outcome);
    outcome
}

/// A model call under way. One that is dropped was given up: a deadline, a stop, a cancelled job.
struct Call {
    tracer: &'static Tracer,
    span: Span,
    begun: SystemTime,
    is_over: bool,
}

impl Call {
    fn end(mut self, outcome: &Result<ChatReply, LlmError>) {
        self.is_over = true;
        if !self.span.is_recording() {
            return;
        }
        let usage = match outcome {
            Ok(reply) => {
                self.answered(reply);
                reply.usage
            }
            Err(error) => {
                self.span.fail(error.kind.to_string(), error.message.clone());
                if let LlmErrorKind::Overloaded { retry_after: Some(wait) } = error.kind {
                    self.span
                        .set("qa.retry_after_ms", number(wait.as_millis().try_into().unwrap_or(u64::MAX)));
                }
                error.usage
            }
        };
        for (name, tokens) in [
            ("gen_ai.usage.input_tokens", usage.input_tokens),
            ("gen_ai.usage.output_tokens", usage.output_tokens),
            ("gen_ai.usage.reasoning.output_tokens", usage.reasoning_tokens),
            ("gen_ai.usage.cache_read.input_tokens", usage.cached_tokens),
        ] {
            if tokens > 0 {
                self.span.set(name, number(tokens));
            }
        }
        self.phases(&usage);
    }

    fn answered(&self, reply: &ChatReply) {
        let finish = match &reply.finish {
            Finish::Stop => "stop",
            Finish::Length => "length",
            Finish::Repetition => "repetition",
            Finish::Refused(_) => "content_filter",
            Finish::Invalid(other) | Finish::Other(other) => other.as_str(),
        };
        let reasons = vec![StringValue::from(finish.to_owned())];
        self.span.set("gen_ai.response.finish_reasons", Value::Array(Array::String(reasons)));
        let told = [("gen_ai.response.model", &reply.model), ("gen_ai.response.id", &reply.id)];
        for (name, value) in told {
            if let Some(value) = value {
                self.span.set(name, value.clone());
            }
        }
        if self.tracer.content {
            self.span.set("gen_ai.output.messages", content([("assistant", reply.content.as_str())]));
        }
    }

    /// What the server says that it spent its time on; the phases follow each other and end with the answer.
    fn phases(&self, usage: &Usage) {
        let mut end = SystemTime::from(clock::now());
        let phases = [
            ("generate", usage.generation_ms),
            ("read prompt", usage.prompt_ms),
            ("load model", usage.load_ms),
        ];
        for (name, milliseconds) in phases {
            if milliseconds == 0 {
                continue;
            }
            let start = end.checked_sub(Duration::from_millis(milliseconds)).unwrap_or(end).max(self.begun);
            if start >= end {
                // The server counts more time than the call took.
                break;
            }
            let attributes = vec![KeyValue::new("qa.server.duration_ms", number(milliseconds))];
            let new = NewSpan::new(name, SpanKind::Internal, attributes);
            self.tracer.begin(new.within(self.span.context()).since(start)).end(Some(end));
            end = start;
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.is_over {
            self.span.fail("cancelled", "given up before there was an answer");
        }
    }
}

fn request_attributes(
    provider: &'static str,
    url: &str,
    request: &ChatRequest,
    attempt: Attempt<'_>,
) -> Vec<KeyValue> {
    let mut attributes = vec![
        KeyValue::new("gen_ai.operation.name", "chat"),
        KeyValue::new("gen_ai.provider.name", provider),
        KeyValue::new("gen_ai.request.model", request.model.clone()),
        KeyValue::new("gen_ai.request.temperature", request.temperature),
        KeyValue::new("gen_ai.request.max_tokens", i64::from(request.max_output)),
        KeyValue::new("qa.call", i64::from(attempt.number)),
    ];
    attributes.extend(attempt.because.map(|because| KeyValue::new("qa.asked_again", because.to_owned())));
    let sampling = &request.sampling;
    attributes.extend(sampling.top_p.map(|top_p| KeyValue::new("gen_ai.request.top_p", top_p)));
    attributes.extend(sampling.top_k.map(|top_k| KeyValue::new("gen_ai.request.top_k", i64::from(top_k))));
    attributes.extend(request.seed.map(|seed| KeyValue::new("gen_ai.request.seed", seed)));
    if let Some((host, port)) = host_and_port(url) {
        attributes.push(KeyValue::new("server.address", host.to_owned()));
        attributes.push(KeyValue::new("server.port", i64::from(port)));
    }
    attributes
}

pub(crate) fn host_and_port(url: &str) -> Option<(&str, u16)> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = &rest[..rest.find('/').unwrap_or(rest.len())];
    let usual = if scheme == "https" { 443 } else { 80 };
    Some(match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
        _ => (authority, usual),
    })
}

/// Messages as the conventions write them, together not much longer than is kept of them.
fn content<'a>(messages: impl IntoIterator<Item = (&'static str, &'a str)>) -> String {
    let mut room = CONTENT;
    let messages = messages.into_iter().map(|(role, text)| {
        let mut end = text.len().min(room);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        room -= end;
        let kept = &text[..end];
        let text = if end < text.len() { format!("{kept}…") } else { kept.to_owned() };
        json!({ "role": role, "parts": [{ "type": "text", "content": text }] })
    });
    serde_json::Value::Array(messages.collect()).to_string()
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_a_port() {
        for (url, expected) in [
            ("http://gpu1:11434", Some(("gpu1", 11434))),
            ("https://api.openai.com/v1", Some(("api.openai.com", 443))),
            ("http://[::1]:8000/v1", Some(("[::1]", 8000))),
            ("http://[::1]", Some(("[::1]", 80))),
            ("", None),
        ] {
            assert_eq!(host_and_port(url), expected, "{url}");
        }
    }

    #[test]
    fn of_long_prompts_the_beginning_is_kept() {
        let long = "ä".repeat(CONTENT);
        let text = content([("system", "Rules"), ("user", &long), ("user", "more")]);
        assert!(text.len() < CONTENT + 300, "{}", text.len());
        let messages: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            messages[0],
            json!({ "role": "system", "parts": [{ "type": "text", "content": "Rules" }] })
        );
        assert!(messages[1]["parts"][0]["content"].as_str().unwrap().ends_with("ä…"));
        assert_eq!(messages[2]["parts"][0]["content"].as_str().unwrap().chars().count(), 2);
    }
}
