//! The coordinator's part of the traces: the run with its steps and documents, and the ends of each chunk's
//! trace, `publish` and `apply`.
//!
//! A chunk's trace has a derived id and first span, see [`qa_shared::telemetry::traces`]; run and documents are
//! links, or one trace would hold a job of 100,000 chunks. A round that is published again, because the queue
//! lost it, gets a second span within the first one. A later run that publishes it again sends the first span
//! again: nothing tells it that there was one. Where no spans are sent, nothing here does anything. It must not
//! decide anything.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use opentelemetry::trace::{FutureExt, SpanContext, SpanKind, TraceState};
use opentelemetry::{Context, KeyValue};
use qa_shared::clock;
use qa_shared::model::{JobId, Outcome, Task, TaskResult};
use qa_shared::queue::Traceparent;
use qa_shared::telemetry::names;
use qa_shared::telemetry::traces::{self, NewSpan, Span, Tracer, tracer};

use crate::core::TaskRef;

/// The trace of a run, if one is made.
#[derive(Debug, Clone, Default)]
pub(crate) struct RunTrace(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    tracer: &'static Tracer,
    run: Span,
    chunks: Mutex<Chunks>,
}

#[derive(Debug, Default)]
struct Chunks {
    /// What was published in this run.
    published: HashSet<TaskRef>,
    /// Documents that were worked on: the id of their span, and when they began, until they end.
    documents: HashMap<u32, (u64, Option<SystemTime>)>,
}

impl RunTrace {
    /// Begins the trace of a run, where spans are sent.
    pub(crate) fn begin(model: &str, provider: &'static str) -> Self {
        let Some(tracer) = tracer() else { return Self::default() };
        let attributes =
            vec![KeyValue::new("qa.model", model.to_owned()), KeyValue::new("qa.provider", provider)];
        let run = tracer.begin(NewSpan::new("run", SpanKind::Internal, attributes));
        Self(Some(Arc::new(Inner { tracer, run, chunks: Mutex::default() })))
    }

    /// What the run is about.
    pub(crate) fn set_job(&self, job: &JobId, chunks: u64, outstanding: u64) {
        if let Some(inner) = &self.0 {
            inner.run.set("qa.job", job.as_str().to_owned());
            inner.run.set("qa.chunks", number(chunks));
            inner.run.set("qa.chunks.outstanding", number(outstanding));
        }
    }

    /// Runs it with the run as the current span, which log lines show.
    pub(crate) async fn around<F: Future>(&self, work: F) -> F::Output {
        match &self.0 {
            Some(inner) => work.with_context(inner.run.context().clone()).await,
            None => work.await,
        }
    }

    /// Runs a step of the run in a span of its own.
    pub(crate) async fn step<T, E: std::fmt::Display>(
        &self,
        name: &'static str,
        step: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let Some(inner) = &self.0 else { return step.await };
        let new = NewSpan::new(name, SpanKind::Internal, Vec::new()).within(inner.run.context());
        let span = inner.tracer.begin(new);
        let outcome = step.with_context(span.context().clone()).await;
        if let Err(error) = &outcome {
            span.fail("failed", error.to_string());
        }
        outcome
    }

    /// Ends the trace with what the program says at its end.
    pub(crate) fn end(&self, outcome: Result<u8, String>) {
        let Some(inner) = &self.0 else { return };
        let open: Vec<_> = inner.chunks().documents.keys().copied().collect();
        for document in open {
            self.end_document(document, None, "interrupted");
        }
        match outcome {
            Ok(code) => inner.run.set("process.exit.code", i64::from(code)),
            Err(error) => inner.run.fail("failed", error),
        }
    }

    /// Begins the publication of a task.
    pub(crate) fn publish(&self, order: TaskRef, task: &Task) -> Option<Span> {
        let inner = self.0.as_ref()?;
        let links = inner.links(order.document);
        let is_first = inner.chunks().published.insert(order);
        let mut attributes = names::of_task(&task.key);
        attributes.extend(names::operation("publish", "send"));
        attributes.extend(names::tasks());
        attributes.push(KeyValue::new("qa.document", task.document.as_str().to_owned()));
        attributes.push(KeyValue::new("qa.pool", task.pool.as_str().to_owned()));
        let new = NewSpan::new("publish QA_TASKS", SpanKind::Producer, attributes).linked_to(links);
        Some(inner.tracer.begin(if is_first {
            new.in_trace(task.key.trace_id()).with_id(task.key.root_span_id())
        } else {
            new.within(&inner.tracer.root_of(&task.key))
        }))
    }

    /// Begins the application of a result: it ends when the result is durable, or when nobody wants it.
    /// `sender` is the worker's span; a failure found here has none.
    pub(crate) fn apply(
        &self,
        task: TaskRef,
        result: &TaskResult,
        sender: Option<&Traceparent>,
    ) -> Option<Span> {
        let inner = self.0.as_ref()?;
        let parent = sender.map_or_else(|| inner.tracer.root_of(&result.key), traces::remote);
        let mut attributes = names::of_task(&result.key);
        attributes.extend(names::operation("apply", "process"));
        attributes.extend(names::results());
        let outcome = match &result.outcome {
            Outcome::Completed { pairs } => {
                attributes.push(KeyValue::new("qa.pairs", number(pairs.len() as u64)));
                "completed"
            }
            Outcome::Failed { failure } => {
                attributes.push(KeyValue::new("qa.reason", failure.reason.to_string()));
                "failed"
            }
        };
        attributes.push(KeyValue::new("qa.outcome", outcome));
        let links = inner.links(task.document);
        let new = NewSpan::new("apply QA_RESULTS", SpanKind::Consumer, attributes).linked_to(links);
        Some(inner.tracer.begin(new.within(&parent)))
    }

    /// A document has its final status for this run.
    pub(crate) fn end_document(&self, document: u32, name: Option<&str>, status: &'static str) {
        let Some(inner) = &self.0 else { return };
        // It stays, so that a result that comes twice does not begin it anew.
        let begun =
            inner.chunks().documents.get_mut(&document).and_then(|(id, began)| Some((*id, began.take()?)));
        let Some((id, since)) = begun else { return };
        let mut attributes = vec![KeyValue::new("qa.status", status)];
        attributes.extend(name.map(|name| KeyValue::new("qa.document", name.to_owned())));
        let new = NewSpan::new("document", SpanKind::Internal, attributes);
        drop(inner.tracer.begin(new.within(inner.run.context()).with_id(id).since(since)));
    }
}

impl Inner {
    fn chunks(&self) -> MutexGuard<'_, Chunks> {
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Run and document. The document's span begins with its first link.
    fn links(&self, document: u32) -> Vec<SpanContext> {
        let run = self.run.span_context();
        if document == u32::MAX {
            return vec![run];
        }
        let begun = || (rand::random::<u64>().max(1), Some(SystemTime::from(clock::now())));
        let (id, _) = *self.chunks().documents.entry(document).or_insert_with(begun);
        let document =
            SpanContext::new(run.trace_id(), id.into(), run.trace_flags(), false, TraceState::NONE);
        vec![run, document]
    }
}

/// How a span is told to a worker; nothing where no spans are sent.
pub(crate) fn traceparent(span: Option<&Span>) -> Option<Traceparent> {
    span.and_then(|span| traces::traceparent(span.context()))
}

/// The context in which a span's work runs.
pub(crate) fn context(span: Option<&Span>) -> Context {
    span.map_or_else(Context::current, |span| span.context().clone())
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
