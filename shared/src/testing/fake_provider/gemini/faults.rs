//! Google's words for what it refuses.

use serde_json::{Value, json};

use crate::testing::fake_provider::behaviour::RetryHint;
use crate::testing::fake_provider::fault::Fault;
use crate::testing::fake_provider::fields::{Problem, What};
use crate::testing::fake_provider::wire::Trouble;

const DOMAIN: &str = "type.googleapis.com/google.rpc";
const QUOTA: &str = "You exceeded your current quota, please check your plan and billing details.";

/// A 400 with this message.
pub(super) fn invalid(message: impl Into<String>) -> Fault {
    Fault::new(400, "INVALID_ARGUMENT", message)
}

/// Google's error for what goes wrong with every service.
pub(super) fn of(trouble: Trouble) -> Fault {
    match trouble {
        Trouble::NoSuchPlace { method, path } => {
            Fault::new(404, "NOT_FOUND", format!("Not found: {method} {path}"))
        }
        Trouble::NoSuchModel(name) => Fault::new(
            404,
            "NOT_FOUND",
            format!(
                "models/{name} is not found for API version v1beta, or is not supported for generateContent. Call \
                 ListModels to see the list of available models and their supported methods."
            ),
        ),
        Trouble::NotJson => invalid("Invalid JSON payload received. Unexpected token."),
        Trouble::ContentType(_) => {
            invalid("Invalid JSON payload received: the content type is not application/json.")
        }
        Trouble::TooLarge => invalid("Request payload size exceeds the limit: 20971520 bytes."),
        Trouble::NoKey => Fault::new(
            403,
            "PERMISSION_DENIED",
            "Method doesn't allow unregistered callers (callers without established identity). Please use API Key \
             or other form of API consumer identity to call this API.",
        ),
        Trouble::WrongKey { key, in_full } => {
            let shown = if in_full { format!(" ({key})") } else { String::new() };
            let reason = json!({ "@type": format!("{DOMAIN}.ErrorInfo"), "reason": "API_KEY_INVALID",
                "domain": "googleapis.com" });
            invalid(format!("API key not valid{shown}. Please pass a valid API key."))
                .with("details", json!([reason]))
        }
        Trouble::RateLimited(hint) => {
            let mut details = vec![failure("GenerateRequestsPerMinutePerProjectPerModel")];
            details.extend(delay(&hint).as_deref().map(retry_info));
            Fault::new(429, "RESOURCE_EXHAUSTED", QUOTA).with("details", json!(details))
        }
        Trouble::Quota | Trouble::NoCredit => {
            let failure = failure("GenerateRequestsPerDayPerProjectPerModel-FreeTier");
            // The delay is there too, though waiting so long does not help.
            let details = json!([failure, retry_info("37s")]);
            Fault::new(429, "RESOURCE_EXHAUSTED", QUOTA).with("details", details)
        }
        Trouble::Overloaded => {
            Fault::new(503, "UNAVAILABLE", "The model is overloaded. Please try again later.")
        }
        Trouble::Server(503) => Fault::new(503, "UNAVAILABLE", "The service is currently unavailable."),
        Trouble::Server(504) => {
            Fault::new(504, "DEADLINE_EXCEEDED", "Deadline expired before operation could complete.")
        }
        Trouble::Server(status) => Fault::new(status, "INTERNAL", "An internal error has occurred."),
    }
}

fn failure(quota: &str) -> Value {
    let metric = "generativelanguage.googleapis.com/generate_content_requests";
    json!({ "@type": format!("{DOMAIN}.QuotaFailure"),
        "violations": [{ "quotaMetric": metric, "quotaId": quota }] })
}

fn retry_info(delay: &str) -> Value {
    json!({ "@type": format!("{DOMAIN}.RetryInfo"), "retryDelay": delay })
}

/// There is no header for it.
fn delay(hint: &RetryHint) -> Option<String> {
    match hint {
        RetryHint::Seconds(seconds) | RetryHint::Date(seconds) => Some(format!("{seconds}s")),
        RetryHint::Milliseconds(milliseconds) => {
            Some(format!("{}.{:03}s", milliseconds / 1000, milliseconds % 1000))
        }
        RetryHint::ResetText(text) | RetryHint::RetryInfo(text) => Some(text.clone()),
        RetryHint::None => None,
    }
}

/// Google's error for a member that is not as it should be.
pub(super) fn of_problem(problem: &Problem) -> Fault {
    let (at, name, found) = (snake(&problem.at), &problem.name, &problem.found);
    let path = snake(&problem.path());
    let place = if at.is_empty() { String::new() } else { format!(" at '{at}'") };
    let message = match &problem.what {
        What::Unknown => {
            format!("Invalid JSON payload received. Unknown name \"{name}\"{place}: Cannot find field.")
        }
        What::Missing => format!("* GenerateContentRequest.{path}: {path} is not specified"),
        What::Null => format!("Invalid value at '{path}', null"),
        What::Type(kind) => format!("Invalid value at '{path}' ({kind}), {found}"),
        What::TooLow(least) => format!("Invalid value at '{path}': {found} is lower than {least}"),
        What::TooHigh(most) => format!("Invalid value at '{path}': {found} is higher than {most}"),
        What::NotOneOf(_) if name == "role" => "Please use a valid role: user, model.".to_owned(),
        What::NotOneOf(words) => format!("Invalid value at '{path}' (one of {}), {found}", words.join(", ")),
    };
    let violation = json!({ "field": path, "description": message });
    let details = json!([{ "@type": format!("{DOMAIN}.BadRequest"), "fieldViolations": [violation] }]);
    invalid(message).with("details", details)
}

/// Google's errors say `generation_config` for `generationConfig`.
pub(super) fn snake(path: &str) -> String {
    let mut snake = String::new();
    for c in path.chars() {
        if c.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}
