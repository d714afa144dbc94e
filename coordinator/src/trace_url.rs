//! The address at which a trace can be looked at, as a template (PURE).

use std::fmt;

/// What stands for the trace's id.
const PLACE: &str = "{trace_id}";

/// `QA_TRACE_URL`: an http or https address with `{trace_id}` in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceUrl(String);

impl TraceUrl {
    /// What is expected, for the message.
    pub const EXPECTED: &'static str =
        "an http or https address with {trace_id} in it, such as http://jaeger:16686/trace/{trace_id}";

    /// Nothing where the text is no such address.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"))?;
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let is_plain = !text.chars().any(|c| c.is_whitespace() || qa_shared::plain::is_unsafe(c));
        (!host.is_empty() && !host.contains(PLACE) && rest.contains(PLACE) && is_plain)
            .then(|| Self(text.to_owned()))
    }

    /// The address of a trace; nothing for what is no trace id.
    pub fn link(&self, trace_id: &str) -> Option<String> {
        let is_id = trace_id.len() == 32 && trace_id.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_id.then(|| self.0.replace(PLACE, trace_id))
    }
}

impl fmt::Display for TraceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_makes_links_of_ids_only() {
        let url = TraceUrl::parse("https://t.example/x?trace={trace_id}#{trace_id}").unwrap();
        let id = "902fc6167a5362903e920dc6cc66406b";
        assert_eq!(url.link(id).unwrap(), format!("https://t.example/x?trace={id}#{id}"));
        for wrong in ["", "902f", "902fc6167a5362903e920dc6cc66406/", "902fc6167a5362903e920dc6cc66406bb"] {
            assert_eq!(url.link(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_makes_no_links_is_refused() {
        for wrong in [
            "http://jaeger:16686/trace/",
            "jaeger:16686/{trace_id}",
            "ftp://jaeger/{trace_id}",
            "http:///{trace_id}",
            "http://{trace_id}/x",
            "http://jaeger/ {trace_id}",
            "http://jaeger/\u{202e}{trace_id}",
        ] {
            assert_eq!(TraceUrl::parse(wrong), None, "{wrong}");
        }
    }
}
