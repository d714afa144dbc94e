//! An error reply about one generation: the model's answer failed the service's own check.
//!
//! PURE. Groq answers 400 to that, with the answer in `failed_generation`; gateways wrap such a reply into
//! theirs. It says nothing about the request: the same again may work. It must not know what the answer is
//! good for.

use serde_json::Value;

/// An answer that the service did not let through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FailedGeneration {
    /// The service's word for it.
    pub(super) code: String,
    /// What the model wrote, as far as the service tells it.
    pub(super) text: String,
}

const FIELD: &str = "failed_generation";
const CODES: &[&str] = &["json_validate_failed", "tool_use_failed", "output_parse_failed"];
/// Words of services without such a code. None of them speaks of the request.
const WORDS: &[&str] = &[
    "failed to generate json",
    "failed to generate valid json",
    "failed to validate json",
    "generated json does not match",
    "failed to call a function",
    "tool call validation failed",
    "model did not return valid json",
    "model did not produce valid json",
    "model output is not valid json",
    "model produced invalid",
    "model generated invalid",
    "failed to parse tool call",
    "failed to parse input at pos",
];
/// Errors are wrapped into errors, but not deeper than this.
const DEEPEST: u32 = 12;

/// Whether an error reply with this status and body is one.
pub(super) fn read(status: u16, body: &[u8]) -> Option<FailedGeneration> {
    // What is said about an account, a model or a limit is about everything.
    if matches!(status, 401..=404 | 429) {
        return None;
    }
    let text = String::from_utf8_lossy(body);
    let lower = text.to_lowercase();
    let code = CODES.iter().find(|code| lower.contains(**code));
    let says_so = code.is_some() || lower.contains(FIELD) || WORDS.iter().any(|words| lower.contains(words));
    says_so.then(|| FailedGeneration {
        code: (*code.unwrap_or(&FIELD)).to_owned(),
        text: written(&Value::String(text.into_owned()), DEEPEST).unwrap_or_default(),
    })
}

/// The model's answer, wherever it stands.
fn written(value: &Value, depth: u32) -> Option<String> {
    let depth = depth.checked_sub(1)?;
    match value {
        Value::Object(members) => match members.get(FIELD) {
            Some(Value::String(text)) => Some(text.clone()),
            Some(found @ (Value::Object(_) | Value::Array(_))) => Some(found.to_string()),
            _ => members.values().find_map(|value| written(value, depth)),
        },
        Value::Array(elements) => elements.iter().find_map(|value| written(value, depth)),
        Value::String(text) if text.contains(FIELD) => inside(text, depth),
        _ => None,
    }
}

/// An error in a text: as JSON with words around it, or as Python prints it.
fn inside(text: &str, depth: u32) -> Option<String> {
    let start = text.find(['{', '['])?;
    let json = serde_json::Deserializer::from_str(&text[start..]).into_iter::<Value>().next();
    match json {
        Some(Ok(value)) => written(&value, depth),
        _ => as_python_prints(text),
    }
}

/// `'failed_generation': '{"pairs": ...'`, up to the quotation mark that ends it.
fn as_python_prints(text: &str) -> Option<String> {
    let (_, rest) = text.split_once(FIELD)?;
    let rest = rest.trim_start_matches(['\'', '"']).trim_start().strip_prefix(':')?.trim_start();
    let quote = rest.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let mut written = String::new();
    let mut chars = rest[1..].chars();
    while let Some(c) = chars.next() {
        match c {
            c if c == quote => return Some(written),
            '\\' => match chars.next()? {
                'n' => written.push('\n'),
                't' => written.push('\t'),
                'r' => written.push('\r'),
                c @ ('\\' | '\'' | '"') => written.push(c),
                other => written.extend(['\\', other]),
            },
            c => written.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const RAW: &str = "{\"pairs\": [{\"question\": \"What's \\\"it\\\"?\",\n \"response\": \"A";

    fn groq() -> Value {
        json!({ "error": {
            "message": "Failed to generate JSON. Please adjust your prompt. See 'failed_generation' for more details.",
            "type": "invalid_request_error", "code": "json_validate_failed", "failed_generation": RAW,
        } })
    }

    fn text_of(body: &Value) -> Option<String> {
        read(400, body.to_string().as_bytes()).map(|failed| failed.text)
    }

    #[test]
    fn the_answer_is_found_however_the_error_is_wrapped() {
        let groq = groq();
        let python = format!(
            "Error code: 400 - {{'error': {{'message': \"Failed to generate JSON.\", 'code': 'json_validate_failed', 'failed_generation': '{}'}}}}",
            RAW.replace('\\', "\\\\").replace('\'', "\\'").replace('\n', "\\n"),
        );
        for body in [
            groq.clone(),
            json!([groq]),
            json!({ "error": { "message": format!("litellm.BadRequestError: GroqException - {groq}. Received Model Group=x"), "code": "400" } }),
            json!({ "error": { "message": "Provider returned error", "code": 400, "metadata": { "raw": groq.to_string(), "provider_name": "Groq" } } }),
            json!({ "detail": groq }),
            json!({ "error": { "message": json!({ "error": { "message": groq.to_string() } }).to_string() } }),
            json!({ "error": { "message": python } }),
        ] {
            assert_eq!(text_of(&body).as_deref(), Some(RAW), "{body}");
        }
        assert_eq!(read(400, groq.to_string().as_bytes()).unwrap().code, "json_validate_failed");
    }

    #[test]
    fn a_failed_tool_call_is_one_too() {
        let call = "<function=qa_pairs>{\"pairs\": []}</function>";
        let body = json!({ "error": { "message": "Failed to call a function.", "code": "tool_use_failed", "failed_generation": call } });
        let failed = read(400, body.to_string().as_bytes()).unwrap();
        assert_eq!((failed.code.as_str(), failed.text.as_str()), ("tool_use_failed", call));
        let object =
            json!({ "error": { "code": "tool_use_failed", "failed_generation": [{ "name": "x" }] } });
        assert_eq!(text_of(&object).as_deref(), Some("[{\"name\":\"x\"}]"));
    }

    #[test]
    fn without_its_text_it_is_one_as_well() {
        for body in [
            json!({ "error": { "message": "Failed to validate JSON.", "code": "json_validate_failed" } }),
            json!({ "error": { "message": "x", "failed_generation": "" } }),
            json!({ "error": { "message": "x", "failed_generation": null } }),
            json!({ "error": { "message": "Generated JSON does not match the expected schema." } }),
            json!({ "error": "The model produced invalid JSON" }),
        ] {
            assert_eq!(text_of(&body).as_deref(), Some(""), "{body}");
        }
    }

    #[test]
    fn errors_about_the_request_are_none() {
        for message in [
            "Invalid schema for response_format 'qa_pairs'",
            "'response_format' of type 'json_schema' is not supported with this model",
            "failed to parse grammar",
            "max_tokens is too large",
        ] {
            assert_eq!(text_of(&json!({ "error": { "message": message } })), None, "{message}");
        }
        assert_eq!(read(429, groq().to_string().as_bytes()), None);
    }

    proptest! {
        #[test]
        fn nothing_panics(noise in "([{}\\[\\]'\":\\\\ a]|failed_generation){0,40}") {
            let _read = read(400, noise.as_bytes());
        }
    }
}
