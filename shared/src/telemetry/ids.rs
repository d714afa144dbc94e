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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_ids_are_those_of_one_span() {
        let (trace, span) = (TraceId::from(7), SpanId::from(8));
        let begin = || {
            let ids = Ids::default();
            // The order in which the SDK asks is its own business.
            [(ids.new_span_id(), ids.new_trace_id()), (ids.new_span_id(), ids.new_trace_id())]
        };
        let [first, second] = with_ids(Some(trace), Some(span), begin);
        assert_eq!(first, (span, trace));
        assert!(second.0 != span && second.1 != trace);
        let [third, _] = with_ids(Some(trace), None, begin);
        assert!(third.0 != span && third.1 == trace);
        // A span within another one asks for no trace: what was given is not left to a later span.
        with_ids(Some(trace), Some(span), || Ids::default().new_span_id());
        assert_ne!(Ids::default().new_trace_id(), trace);
    }
}
