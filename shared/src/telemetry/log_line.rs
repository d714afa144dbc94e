//! What a log line says beyond its event: the trace that it belongs to, and repetitions that were left out.

use std::fmt::{self, Write};

use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::logs::LogFormat;
use super::repeats::{Verdict, judge};

/// Formats lines as `inner` does, and adds to them.
pub(super) struct LogLine<F> {
    pub(super) inner: F,
    pub(super) format: LogFormat,
}

impl<S, N, F> FormatEvent<S, N> for LogLine<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let left_out = match verdict(event) {
            Verdict::Show { left_out } => left_out,
            Verdict::LeaveOut => return Ok(()),
        };
        let ids = Context::map_current(|context| {
            let span = context.span();
            let span = span.span_context();
            span.is_valid().then(|| (span.trace_id().to_string(), span.span_id().to_string()))
        });
        if ids.is_none() && left_out == 0 {
            return self.inner.format_event(context, writer, event);
        }
        let mut line = String::new();
        self.inner.format_event(context, Writer::new(&mut line), event)?;
        let mut additions = Vec::new();
        if left_out > 0 {
            additions.push(("left_out", left_out.to_string()));
        }
        if let Some((trace, span)) = ids {
            additions.extend([("trace_id", trace), ("span_id", span)]);
        }
        writer.write_str(&with(&line, self.format, &additions))
    }
}

/// Adds fields to the end of a line. Their values need no escapes.
fn with(line: &str, format: LogFormat, additions: &[(&str, String)]) -> String {
    let mut line = line.trim_end().to_owned();
    match format {
        LogFormat::Human => {
            for (name, value) in additions {
                write!(line, " {name}={value}").expect("a String takes every text");
            }
        }
        LogFormat::Json => {
            let end = if line.ends_with('}') { line.pop() } else { None };
            for (name, value) in additions {
                write!(line, ",\"{name}\":\"{value}\"").expect("a String takes every text");
            }
            line.extend(end);
        }
    }
    line.push('\n');
    line
}

fn verdict(event: &Event<'_>) -> Verdict {
    if *event.metadata().level() > Level::WARN {
        return Verdict::Show { left_out: 0 };
    }
    let mut message = Message(String::new());
    event.record(&mut message);
    judge(&event.metadata().callsite(), &message.0)
}

/// The message of an event.
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            write!(self.0, "{value:?}").expect("a String takes every text");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn additions_stand_at_the_end_of_either_form() {
        let additions = [("left_out", "3".to_owned()), ("trace_id", "ab".to_owned())];
        assert_eq!(with("INFO x\n", LogFormat::Human, &additions), "INFO x left_out=3 trace_id=ab\n");
        let json = with("{\"message\":\"x}\"}\n", LogFormat::Json, &additions);
        assert_eq!(json, "{\"message\":\"x}\",\"left_out\":\"3\",\"trace_id\":\"ab\"}\n");
        assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok());
    }
}
