//! What a log line says beyond its event: the trace that it belongs to, and repetitions that were left out.

use std::fmt::{self, Write};

use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::repeats::{Verdict, judge};
use crate::console::LogFormat;

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
    use std::sync::{Arc, Mutex};

    use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::{Layer, fmt};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn lines_of(format: LogFormat, say: impl FnOnce()) -> Vec<String> {
        let lines = Lines::default();
        let written = lines.clone();
        let layer = fmt::layer().with_writer(move || written.clone());
        let layer = match format {
            LogFormat::Human => {
                let inner = fmt::format().with_ansi(false).without_time().with_target(false);
                layer.event_format(LogLine { inner, format }).boxed()
            }
            LogFormat::Json => {
                let inner = fmt::format().json().flatten_event(true);
                layer
                    .fmt_fields(fmt::format::JsonFields::new())
                    .event_format(LogLine { inner, format })
                    .boxed()
            }
        };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), say);
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn of_a_repeating_warning_the_first_few_are_shown_and_nothing_of_the_rest() {
        let said = lines_of(LogFormat::Human, || {
            for number in 0..25 {
                tracing::warn!(number, "again and again");
                tracing::info!(number, "as often as it is said");
            }
        });
        let count = |text: &str| said.iter().filter(|line| line.contains(text)).count();
        assert_eq!((count("again and again"), count("as often"), said.len()), (10, 25, 35));
    }

    #[test]
    fn a_line_within_a_span_names_it() {
        let (trace, span) = (TraceId::from(0xab), SpanId::from(0xcd));
        let context = SpanContext::new(trace, span, TraceFlags::SAMPLED, false, TraceState::NONE);
        let context = Context::new().with_remote_span_context(context);
        let say = || {
            tracing::info!("outside");
            let _current = context.clone().attach();
            tracing::info!("inside");
        };
        let expected = format!(" INFO inside trace_id={trace} span_id={span}");
        assert_eq!(lines_of(LogFormat::Human, say), [" INFO outside".to_owned(), expected]);
        let json = lines_of(LogFormat::Json, say);
        let inside: serde_json::Value = serde_json::from_str(&json[1]).unwrap();
        assert_eq!(inside["message"], "inside");
        assert_eq!(
            (&inside["trace_id"], &inside["span_id"]),
            (&trace.to_string().into(), &span.to_string().into())
        );
        assert!(!json[0].contains("trace_id"));
    }

    #[test]
    fn additions_stand_at_the_end_of_either_form() {
        let additions = [("left_out", "3".to_owned()), ("trace_id", "ab".to_owned())];
        assert_eq!(with("INFO x\n", LogFormat::Human, &additions), "INFO x left_out=3 trace_id=ab\n");
        let json = with("{\"message\":\"x}\"}\n", LogFormat::Json, &additions);
        assert_eq!(json, "{\"message\":\"x}\",\"left_out\":\"3\",\"trace_id\":\"ab\"}\n");
        assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok());
    }
}
