//! An error before it has its service's form.

use serde_json::{Map, Value};

use super::behaviour::RetryHint;

/// An error before it has its service's form.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    pub(super) status: u16,
    /// The `type` of OpenAI's and Claude's errors, the `status` of Gemini's.
    pub(super) kind: &'static str,
    pub(super) message: String,
    /// OpenAI's `code`.
    pub(super) code: Option<&'static str>,
    /// OpenAI's `param`.
    pub(super) param: Option<String>,
    /// Further members of the error.
    pub(super) more: Box<Map<String, Value>>,
    pub(super) headers: Vec<(String, String)>,
    /// The body is an event of a stream under status 200.
    pub(super) as_event: bool,
}

impl Fault {
    pub(super) fn new(status: u16, kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            message: message.into(),
            code: None,
            param: None,
            more: Box::default(),
            headers: Vec::new(),
            as_event: false,
        }
    }

    pub(super) fn code(self, code: &'static str) -> Self {
        Self { code: Some(code), ..self }
    }

    pub(super) fn param(self, param: impl Into<String>) -> Self {
        Self { param: Some(param.into()), ..self }
    }

    /// A further member of the error.
    pub(super) fn with(mut self, name: &str, value: Value) -> Self {
        self.more.insert(name.to_owned(), value);
        self
    }

    pub(super) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Says when to come back, as far as headers say it.
    pub(super) fn retry(self, hint: &RetryHint, reset_header: &str) -> Self {
        match hint {
            RetryHint::Seconds(seconds) => self.header("retry-after", seconds.to_string()),
            RetryHint::Date(seconds) => self.header("retry-after", http_date_in(*seconds)),
            RetryHint::Milliseconds(milliseconds) => self.header("retry-after-ms", milliseconds.to_string()),
            RetryHint::ResetText(text) => self.header(reset_header, text),
            RetryHint::RetryInfo(delay) => {
                let message = format!("{} Please try again in {delay}.", self.message);
                Self { message, ..self }
            }
            RetryHint::None => self,
        }
    }
}

fn http_date_in(seconds: u64) -> String {
    let then = crate::clock::now() + std::time::Duration::from_secs(seconds);
    jiff::fmt::rfc2822::DateTimePrinter::new()
        .timestamp_to_rfc9110_string(&then)
        .expect("a time of today can be written")
}
