//! Anthropic's words for what it refuses.

use serde_json::json;

use crate::testing::fake_provider::fault::Fault;
use crate::testing::fake_provider::fields::{Problem, What};
use crate::testing::fake_provider::wire::Trouble;

/// A 400 with this message.
pub(super) fn invalid(message: impl Into<String>) -> Fault {
    Fault::new(400, "invalid_request_error", message)
}

/// Anthropic's error for what goes wrong with every service.
pub(super) fn of(trouble: Trouble) -> Fault {
    match trouble {
        Trouble::NoSuchPlace { .. } => Fault::new(404, "not_found_error", "Not Found"),
        Trouble::NoSuchModel(name) => Fault::new(404, "not_found_error", format!("model: {name}")),
        Trouble::NotJson => invalid("The request body is not valid JSON"),
        Trouble::ContentType(kind) => {
            let kind = kind.unwrap_or_default();
            invalid(format!("content-type: expected application/json, got '{kind}'"))
        }
        Trouble::TooLarge => {
            Fault::new(413, "request_too_large", "Request exceeds the maximum allowed number of bytes.")
        }
        Trouble::NoKey => Fault::new(401, "authentication_error", "x-api-key header is required"),
        Trouble::WrongKey { key, in_full } => {
            let shown = if in_full { format!(": {key}") } else { String::new() };
            Fault::new(401, "authentication_error", format!("invalid x-api-key{shown}"))
        }
        Trouble::RateLimited(hint) => Fault::new(
            429,
            "rate_limit_error",
            "This request would exceed the rate limit of your organization.",
        )
        .retry(&hint, "anthropic-ratelimit-requests-reset"),
        Trouble::Quota => {
            Fault::new(429, "rate_limit_error", "You have reached your specified API usage limits.")
                .with("details", json!({ "error_code": "enforced_spend_limit_reached" }))
        }
        Trouble::NoCredit => Fault::new(
            402,
            "billing_error",
            "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade \
             or purchase credits.",
        ),
        Trouble::Overloaded => Fault::new(529, "overloaded_error", "Overloaded"),
        Trouble::Server(504) => Fault::new(504, "timeout_error", "Request timed out"),
        Trouble::Server(status) => Fault::new(status, "api_error", "Internal server error"),
    }
}

/// Anthropic's error for a member that is not as it should be.
pub(super) fn of_problem(problem: &Problem) -> Fault {
    let path = problem.path();
    let found = &problem.found;
    invalid(match &problem.what {
        What::NotOneOf(_) if problem.name == "role" && found == "\"system\"" => "messages: Unexpected role \
             \"system\". The Messages API accepts a top-level `system` parameter, not \"system\" as an input \
             message role."
            .to_owned(),
        What::Unknown => format!("{path}: Extra inputs are not permitted"),
        What::Missing => format!("{path}: Field required"),
        What::Null => format!("{path}: Input should not be null"),
        What::Type(kind) => format!("{path}: Input should be a valid {kind}"),
        What::TooLow(least) => format!("{path}: Input should be greater than or equal to {least}"),
        What::TooHigh(most) => format!("{path}: Input should be less than or equal to {most}"),
        What::NotOneOf(words) => {
            let words: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
            format!("{path}: Input should be {}", words.join(" or "))
        }
    })
}
