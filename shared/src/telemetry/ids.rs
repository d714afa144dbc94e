//! Ids of spans: random ones, unless the span that begins next was given its own.
//!
//! The trace of a chunk has an id that every process can derive, so that a task that comes again continues
//! its trace. The SDK takes ids from a generator only; it asks for them on the thread that begins the span.

use std::cell::Cell;

use opentelemetry::trace::{SpanId, TraceId};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator};

thread_local! {
    static GIVEN: Cell<(Option<TraceId>, Option<SpanId>)> = const { Cell::new((None, None)) };
}

/// The generator of all spans of this process.
#[derive(Debug, Default)]
pub(super) struct Ids(RandomIdGenerator);

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        let (trace, span) = GIVEN.take();
        GIVEN.set((None, span));
        trace.unwrap_or_else(|| self.0.new_trace_id())
    }

    fn new_span_id(&self) -> SpanId {
        let (trace, span) = GIVEN.take();
        GIVEN.set((trace, None));
        span.unwrap_or_else(|| self.0.new_span_id())
    }
}

/// Has the span that `begin` begins take these ids where they are given.
pub(super) fn with_ids<T>(trace: Option<TraceId>, span: Option<SpanId>, begin: impl FnOnce() -> T) -> T {
    GIVEN.set((trace, span));
    let result = begin();
    GIVEN.set((None, None));
    result
}
