//! W3C trace context in message headers.

use std::fmt;

use async_nats::HeaderMap;

use crate::model::TraceId;

/// Header names are case-sensitive in NATS; every other program writes this one in lower case.
const HEADER: &str = "traceparent";

/// A W3C `traceparent`: the trace, the sender's span, and whether it is sampled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traceparent(String);

impl Traceparent {
    /// The context of a span; `span_id` must not be 0.
    pub fn new(trace: TraceId, span_id: u64, is_sampled: bool) -> Self {
        Self(format!("00-{trace}-{span_id:016x}-{:02x}", u8::from(is_sampled)))
    }

    /// The trace.
    pub fn trace_id(&self) -> TraceId {
        let trace = self.0.get(3..35).and_then(|hex| u128::from_str_radix(hex, 16).ok());
        TraceId::from_bytes(trace.unwrap_or_default().to_be_bytes())
    }

    /// The sender's span.
    pub fn span_id(&self) -> u64 {
        self.0.get(36..52).and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or_default()
    }

    /// Whether the trace is sent to a collector, as whoever began it has decided.
    pub fn is_sampled(&self) -> bool {
        let flags = self.0.get(53..55).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        flags.unwrap_or_default() & 1 == 1
    }

    /// Reads the header's form; anything invalid is `None`, since tracing must never stop the work.
    pub fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split('-').collect();
        let [version, trace, span, flags] = parts[..] else { return None };
        let is_hex = |part: &str, length| {
            part.len() == length && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        let valid = is_hex(version, 2)
            && version != "ff"
            && is_hex(trace, 32)
            && trace.bytes().any(|b| b != b'0')
            && is_hex(span, 16)
            && span.bytes().any(|b| b != b'0')
            && is_hex(flags, 2);
        valid.then(|| Self(text.to_owned()))
    }

    /// The header's form, as OpenTelemetry's propagators read it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The headers of a message with this context, or none.
    pub(super) fn headers(context: Option<&Self>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(context) = context {
            headers.insert(HEADER, context.0.as_str());
        }
        headers
    }

    pub(super) fn from_headers(headers: Option<&HeaderMap>) -> Option<Self> {
        Self::parse(headers?.get(HEADER)?.as_str())
    }
}

impl fmt::Display for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DocumentName, JobId, TaskKey};

    #[test]
    fn a_context_survives_the_headers() {
        let document = DocumentName::new("a").token();
        let key = TaskKey { job: JobId::from_random(1), document, chunk: 0, round: 1 };
        let context = Traceparent::new(key.trace_id(), 0xabc, true);
        let headers = Traceparent::headers(Some(&context));
        assert_eq!(Traceparent::from_headers(Some(&headers)), Some(context.clone()));
        assert!(context.as_str().ends_with("-0000000000000abc-01"), "{context}");
    }

    #[test]
    fn a_context_tells_its_parts() {
        let trace = "0af7651916cd43dd8448eb211c80319c";
        for (flags, is_sampled) in [("00", false), ("01", true), ("03", true), ("fe", false)] {
            let context = Traceparent::parse(&format!("00-{trace}-00f067aa0ba902b7-{flags}")).unwrap();
            assert_eq!(context.trace_id().to_string(), trace);
            assert_eq!((context.span_id(), context.is_sampled()), (0x00f0_67aa_0ba9_02b7, is_sampled));
        }
    }

    #[test]
    fn an_invalid_context_is_none() {
        let zeros = format!("00-{}-{}-01", "0".repeat(32), "1".repeat(16));
        let upper = format!("00-{}-{}-01", "A".repeat(32), "1".repeat(16));
        for text in ["", "00-1-2-3", "a-b-c-d-e", &zeros, &upper] {
            assert_eq!(Traceparent::parse(text), None, "{text}");
        }
        assert_eq!(Traceparent::from_headers(None), None);
    }
}
