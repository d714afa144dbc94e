//! The words of servers of one's own for what they refuse.

use super::Compatible;
use crate::testing::fake_provider::fault::Fault;
use crate::testing::fake_provider::fields::{Problem, What};
use crate::testing::fake_provider::wire::Trouble;

impl Compatible {
    /// The `type` of an error with a status.
    fn kind(self, status: u16) -> &'static str {
        match (self, status) {
            (Self::Vllm, 401) => "AuthenticationError",
            (Self::Vllm, 404) => "NotFoundError",
            (Self::Vllm, 400..=499) => "BadRequestError",
            (Self::Vllm, _) => "InternalServerError",
            (_, 401) => "authentication_error",
            (_, 404) => "not_found_error",
            (_, 503) => "unavailable_error",
            (_, 501) => "not_supported_error",
            (_, 500..) => "server_error",
            _ => "invalid_request_error",
        }
    }

    /// An error of this server.
    pub(super) fn refused(self, status: u16, message: impl Into<String>) -> Fault {
        Fault::new(status, self.kind(status), message)
    }
}

/// A server's error for what goes wrong with every one.
pub(super) fn of(server: Compatible, trouble: Trouble) -> Fault {
    let refused = |status: u16, message: &str| server.refused(status, message);
    match trouble {
        Trouble::NoSuchPlace { method, path } => match server {
            Compatible::LmStudio => {
                server.refused(404, format!("Unexpected endpoint or method. ({method} {path})"))
            }
            Compatible::LlamaCpp => refused(404, "File Not Found"),
            Compatible::Vllm => refused(404, "Not Found"),
        },
        Trouble::NoSuchModel(name) => {
            let fault = server.refused(404, format!("The model `{name}` does not exist."));
            if server == Compatible::LmStudio { fault.code("model_not_found") } else { fault.param("model") }
        }
        Trouble::NotJson => refused(400, "the request is no JSON object"),
        Trouble::ContentType(kind) => {
            let kind = kind.unwrap_or_default();
            server.refused(
                if server == Compatible::Vllm { 415 } else { 400 },
                format!("Unsupported Media Type: Only 'application/json' is allowed, not '{kind}'"),
            )
        }
        Trouble::TooLarge => refused(413, "Payload Too Large"),
        Trouble::NoKey => refused(401, "Invalid API Key"),
        Trouble::WrongKey { key, in_full } => {
            let shown = if in_full { format!(": {key}") } else { String::new() };
            server.refused(401, format!("Invalid API Key{shown}"))
        }
        Trouble::RateLimited(hint) => {
            refused(429, "Too many requests.").retry(&hint, "x-ratelimit-reset-requests")
        }
        Trouble::Quota | Trouble::NoCredit => {
            refused(429, "The quota of this key is used up.").code("insufficient_quota")
        }
        Trouble::Overloaded if server == Compatible::LlamaCpp => refused(503, "Loading model"),
        Trouble::Overloaded => refused(503, "The server is overloaded."),
        Trouble::Server(status) => refused(status, "Internal server error"),
    }
}

/// A server's error for a member that is not as it should be.
pub(super) fn of_problem(server: Compatible, problem: &Problem) -> Fault {
    let (path, found) = (problem.path(), &problem.found);
    let message = match &problem.what {
        What::Unknown => format!("unknown member '{path}'"),
        What::Missing => format!("'{path}' is required"),
        What::Null => format!("'{path}' must not be null"),
        What::Type(kind) => format!("'{path}' must be of type {kind}, but is {found}"),
        What::TooLow(least) => format!("'{path}' must be at least {least}, got {found}."),
        What::TooHigh(most) => format!("'{path}' must be at most {most}, got {found}."),
        What::NotOneOf(words) => format!("'{path}' must be one of {}, got {found}", words.join(", ")),
    };
    server.refused(400, message).param(path)
}
