//! Where spans come from and go to.
//!
//! Spans are begun through OpenTelemetry's own interface and not as spans of `tracing`: a chunk's trace and
//! its first span have derived ids, which that one lets us give, and a span that is off costs one look at a
//! static. A span that is current ([`Span::context`] attached to a future) shows in log lines.

use std::sync::OnceLock;
use std::time::SystemTime;

use opentelemetry::trace::{
    Link, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId,
    TraceState, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler as SdkSampler, SamplingDecision, SdkTracer,
    SdkTracerProvider, ShouldSample,
};

use super::exporters::Exporters;
use super::ids::{Ids, with_ids};
use super::pipeline::TelemetryError;
use crate::model::TaskKey;
use crate::queue::Traceparent;
use crate::settings::{Sampler, TelemetrySettings};

static TRACER: OnceLock<Tracer> = OnceLock::new();

/// What begins spans; none where no spans are sent.
pub fn tracer() -> Option<&'static Tracer> {
    TRACER.get()
}

/// Begins spans.
#[derive(Debug)]
pub struct Tracer {
    inner: SdkTracer,
    sampler: SdkSampler,
    /// Whether prompts and answers become attributes.
    pub content: bool,
}

/// The provider of all spans, if spans are sent.
pub(super) fn provider(
    settings: &TelemetrySettings,
    exporters: &Exporters,
    resource: &Resource,
) -> Result<Option<SdkTracerProvider>, TelemetryError> {
    let Some(collector) = &settings.traces else { return Ok(None) };
    let batch = BatchConfigBuilder::default()
        .with_max_queue_size(settings.batch.queue)
        .with_max_export_batch_size(settings.batch.size)
        .with_scheduled_delay(settings.batch.delay)
        .build();
    let processor = BatchSpanProcessor::builder(exporters.spans(collector)?).with_batch_config(batch).build();
    let provider = SdkTracerProvider::builder()
        .with_resource(resource.clone())
        .with_id_generator(Ids::default())
        .with_sampler(sampler(settings.sampler))
        .with_span_processor(processor)
        .build();
    Ok(Some(provider))
}

/// Lets this process begin spans. A second start in one process keeps the first.
pub(super) fn start(provider: &SdkTracerProvider, settings: &TelemetrySettings) {
    let (inner, sampler) = (provider.tracer("qa-fleet"), sampler(settings.sampler));
    drop(TRACER.set(Tracer { inner, sampler, content: settings.content }));
}

fn sampler(Sampler { parent_based, share }: Sampler) -> SdkSampler {
    let own = if share >= 1.0 {
        SdkSampler::AlwaysOn
    } else if share <= 0.0 {
        SdkSampler::AlwaysOff
    } else {
        SdkSampler::TraceIdRatioBased(share)
    };
    if parent_based { SdkSampler::ParentBased(Box::new(own)) } else { own }
}

/// A span that is to begin.
#[derive(Debug)]
pub struct NewSpan {
    builder: SpanBuilder,
    parent: Context,
    trace: Option<TraceId>,
    span: Option<SpanId>,
}

impl NewSpan {
    /// A span without a parent.
    pub fn new(name: impl Into<String>, kind: SpanKind, attributes: Vec<KeyValue>) -> Self {
        let builder = SpanBuilder::from_name(name.into()).with_kind(kind).with_attributes(attributes);
        Self { builder, parent: Context::new(), trace: None, span: None }
    }

    /// The span that it is part of.
    #[must_use]
    pub fn within(self, parent: &Context) -> Self {
        Self { parent: parent.clone(), ..self }
    }

    /// The trace that it begins; without effect where it has a parent.
    #[must_use]
    pub fn in_trace(self, trace: crate::model::TraceId) -> Self {
        Self { trace: Some(TraceId::from_bytes(trace.to_bytes())), ..self }
    }

    /// Its own id, instead of a random one.
    #[must_use]
    pub fn with_id(self, id: u64) -> Self {
        Self { span: Some(SpanId::from_bytes(id.to_be_bytes())), ..self }
    }

    /// When it began, if not now.
    #[must_use]
    pub fn since(self, start: SystemTime) -> Self {
        Self { builder: self.builder.with_start_time(start), ..self }
    }

    /// Spans of other traces that it has to do with.
    #[must_use]
    pub fn linked_to(self, others: impl IntoIterator<Item = SpanContext>) -> Self {
        let links = others.into_iter().map(|other| Link::new(other, Vec::new(), 0)).collect();
        Self { builder: self.builder.with_links(links), ..self }
    }
}

impl Tracer {
    /// Begins a span.
    pub fn begin(&self, new: NewSpan) -> Span {
        let NewSpan { builder, parent, trace, span } = new;
        let begun = with_ids(trace, span, || self.inner.build_with_context(builder, &parent));
        Span { context: parent.with_span(begun) }
    }

    /// The first span of a chunk's trace, which may be another process', or an earlier one's.
    pub fn root_of(&self, key: &TaskKey) -> Context {
        let trace = TraceId::from_bytes(key.trace_id().to_bytes());
        // The decision depends on the id only, so that everybody comes to the same one.
        let decision = self.sampler.should_sample(None, trace, "", &SpanKind::Producer, &[], &[]).decision;
        let is_sampled = decision == SamplingDecision::RecordAndSample;
        remote(&Traceparent::new(key.trace_id(), key.root_span_id(), is_sampled))
    }
}

/// A span that has begun. It ends when it is dropped, or with its last context.
#[derive(Debug)]
pub struct Span {
    context: Context,
}

impl Span {
    /// What spans within it, its future, and the messages that it sends are given.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// What links to it are made of.
    pub fn span_context(&self) -> SpanContext {
        self.context.span().span_context().clone()
    }

    /// Adds an attribute.
    pub fn set(&self, name: &'static str, value: impl Into<opentelemetry::Value>) {
        self.context.span().set_attribute(KeyValue::new(name, value));
    }

    /// Says that what it stands for failed. `kind` is one of few words.
    pub fn fail(&self, kind: impl Into<String>, message: impl Into<String>) {
        let span = self.context.span();
        span.set_attribute(KeyValue::new("error.type", kind.into()));
        span.set_status(Status::error(message.into()));
    }

    /// Whether anything that is added to it is kept.
    pub fn is_recording(&self) -> bool {
        self.context.span().is_recording()
    }

    /// Ends it now, or at the time that is given.
    pub fn end(self, at: Option<SystemTime>) {
        match at {
            Some(at) => self.context.span().end_with_timestamp(at),
            None => self.context.span().end(),
        }
    }
}

impl Drop for Span {
    /// A second end has no effect.
    fn drop(&mut self) {
        self.context.span().end();
    }
}

/// Adds an attribute to the current span, if there is one.
pub fn set_current(attribute: KeyValue) {
    Context::map_current(|context| context.span().set_attribute(attribute));
}

/// Says that what the current span stands for failed.
pub fn fail_current(kind: &'static str, message: &str) {
    Context::map_current(|context| {
        let span = context.span();
        span.set_attribute(KeyValue::new("error.type", kind));
        span.set_status(Status::error(message.to_owned()));
    });
}

/// The context of a span of another process.
pub fn remote(traceparent: &Traceparent) -> Context {
    let flags = if traceparent.is_sampled() { TraceFlags::SAMPLED } else { TraceFlags::NOT_SAMPLED };
    let (trace, span) = (traceparent.trace_id(), traceparent.span_id());
    let (trace, span) = (TraceId::from_bytes(trace.to_bytes()), SpanId::from_bytes(span.to_be_bytes()));
    Context::new().with_remote_span_context(SpanContext::new(trace, span, flags, true, TraceState::NONE))
}

/// How a span is told to other processes.
pub fn traceparent(context: &Context) -> Option<Traceparent> {
    let span = context.span();
    let span = span.span_context();
    let trace = crate::model::TraceId::from_bytes(span.trace_id().to_bytes());
    let id = u64::from_be_bytes(span.span_id().to_bytes());
    span.is_valid().then(|| Traceparent::new(trace, id, span.is_sampled()))
}
