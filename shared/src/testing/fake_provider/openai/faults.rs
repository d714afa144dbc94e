//! OpenAI's words for what it refuses.

use crate::testing::fake_provider::fault::Fault;
use crate::testing::fake_provider::fields::{Problem, What};
use crate::testing::fake_provider::wire::Trouble;

pub(crate) const INVALID: &str = "invalid_request_error";
/// Letters of a refused key that OpenAI repeats.
const SHOWN: usize = 4;

/// OpenAI's error for what goes wrong with every service.
pub(crate) fn of(trouble: Trouble) -> Fault {
    match trouble {
        Trouble::NoSuchPlace { method, path } => {
            Fault::new(404, INVALID, format!("Invalid URL ({method} {path})"))
        }
        Trouble::NoSuchModel(name) => {
            let message = format!("The model `{name}` does not exist or you do not have access to it.");
            Fault::new(404, INVALID, message).code("model_not_found")
        }
        Trouble::NotJson => Fault::new(
            400,
            INVALID,
            "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your \
             HTTP library correctly. The OpenAI API expects a JSON payload.)",
        ),
        Trouble::ContentType(kind) => {
            let kind = kind.unwrap_or_default();
            let message = format!(
                "Unsupported content type: '{kind}'. This API method only accepts 'application/json' requests"
            );
            Fault::new(400, INVALID, message).code("unsupported_content_type")
        }
        Trouble::TooLarge => Fault::new(413, INVALID, "Request body is too large."),
        Trouble::NoKey => Fault::new(
            401,
            INVALID,
            "You didn't provide an API key. You need to provide your API key in an Authorization header using \
             Bearer auth (i.e. Authorization: Bearer YOUR_KEY).",
        ),
        Trouble::WrongKey { key, in_full } => {
            let shown = if in_full { key } else { masked(&key) };
            let message = format!(
                "Incorrect API key provided: {shown}. You can find your API key at \
                 https://platform.openai.com/account/api-keys."
            );
            Fault::new(401, INVALID, message).code("invalid_api_key")
        }
        Trouble::RateLimited(hint) => Fault::new(429, "requests", "Rate limit reached.")
            .code("rate_limit_exceeded")
            .retry(&hint, "x-ratelimit-reset-requests"),
        Trouble::Quota | Trouble::NoCredit => Fault::new(
            429,
            "insufficient_quota",
            "You exceeded your current quota, please check your plan and billing details.",
        )
        .code("insufficient_quota"),
        Trouble::Overloaded => {
            Fault::new(503, "server_error", "The server is currently overloaded. Please try again later.")
                .code("server_is_overloaded")
        }
        Trouble::Server(status) => Fault::new(
            status,
            "server_error",
            "The server had an error while processing your request. Sorry about that!",
        ),
    }
}

/// The first and the last letters of a key.
fn masked(key: &str) -> String {
    let letters: Vec<char> = key.chars().collect();
    if letters.len() <= 2 * SHOWN {
        return "*".repeat(letters.len());
    }
    let part = |letters: &[char]| letters.iter().collect::<String>();
    let hidden = "*".repeat(letters.len() - 2 * SHOWN);
    format!("{}{hidden}{}", part(&letters[..SHOWN]), part(&letters[letters.len() - SHOWN..]))
}

/// OpenAI's error for a member that is not as it should be.
pub(crate) fn of_problem(problem: &Problem) -> Fault {
    let path = problem.path();
    let (message, code) = match &problem.what {
        What::Unknown => (format!("Unknown parameter: '{path}'."), "unknown_parameter"),
        What::Missing => (format!("Missing required parameter: '{path}'."), "missing_required_parameter"),
        What::Null => {
            (format!("Invalid type for '{path}': expected a value, but got null instead."), "invalid_type")
        }
        What::Type(kind) => {
            let message =
                format!("Invalid type for '{path}': expected {kind}, but got {} instead.", problem.found);
            (message, "invalid_type")
        }
        What::TooLow(least) => {
            let message =
                format!("Invalid '{path}': expected a value >= {least}, but got {} instead.", problem.found);
            (message, "integer_below_min_value")
        }
        What::TooHigh(most) => {
            let message =
                format!("Invalid '{path}': expected a value <= {most}, but got {} instead.", problem.found);
            (message, "decimal_above_max_value")
        }
        What::NotOneOf(words) => {
            let message =
                format!("Invalid value: {}. Supported values are: {}.", problem.found, quoted(words));
            (message, "invalid_value")
        }
    };
    Fault::new(400, INVALID, message).code(code).param(path)
}

/// A parameter that the model does not take.
pub(crate) fn unsupported(name: &str) -> Fault {
    let instead = if name == "max_tokens" { " Use 'max_completion_tokens' instead." } else { "" };
    let message = format!("Unsupported parameter: '{name}' is not supported with this model.{instead}");
    Fault::new(400, INVALID, message).code("unsupported_parameter").param(name)
}

/// A parameter that the model takes with other values only.
pub(crate) fn unsupported_value(name: &str, value: &str, supported: &str) -> Fault {
    let message =
        format!("Unsupported value: '{name}' does not support {value} with this model. {supported}");
    Fault::new(400, INVALID, message).code("unsupported_value").param(name)
}

pub(crate) fn quoted(words: &[impl AsRef<str>]) -> String {
    words.iter().map(|word| format!("'{}'", word.as_ref())).collect::<Vec<_>>().join(", ")
}
