//! How long a service asks to wait, in every form in which services say it.
//!
//! PURE: the time of day is an argument. It must not decide whether a request is made again.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use serde_json::Value;

use super::reply::Headers;

/// Nobody waits longer than this because of a header; a broken clock may ask for years.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// A server of one's own is left alone for no longer than this, whatever it or a proxy before it asks for. The
/// inventory finds it healthy within as much time, and one task tries it then.
const LONGEST_OF_OWN_SERVER: Duration = Duration::from_secs(30);

/// Headers whose exhausted limit says when it is filled again, as (remaining, reset).
const LIMITS: [(&str, &str); 6] = [
    ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    ("anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"),
    ("anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"),
    ("anthropic-ratelimit-input-tokens-remaining", "anthropic-ratelimit-input-tokens-reset"),
    ("anthropic-ratelimit-output-tokens-remaining", "anthropic-ratelimit-output-tokens-reset"),
];

/// The wait that a reply asks for: `retry-after-ms`, `retry-after` (seconds or a date), Gemini's `RetryInfo`,
/// or the reset of a limit that is used up.
pub(crate) fn retry_after(headers: &Headers, body: &Value, now: Timestamp) -> Option<Duration> {
    let wait = headers
        .get("retry-after-ms")
        .and_then(milliseconds)
        .or_else(|| headers.get("retry-after").and_then(|text| seconds_or_date(text, now)))
        .or_else(|| retry_info(body))
        .or_else(|| in_words(body))
        .or_else(|| {
            // Where nothing is said of what remains, the limit is the reason for asking.
            let used_up = LIMITS.iter().filter(|(remaining, _)| headers.number(remaining).unwrap_or(0) == 0);
            used_up.filter_map(|(_, reset)| reset_after(headers.get(reset)?, now)).max()
        })?;
    Some(wait.min(LONGEST))
}

/// The same from a server of one's own, which has no accounts whose limits could last for hours.
pub(crate) fn retry_after_of_own_server(headers: &Headers, body: &Value, now: Timestamp) -> Option<Duration> {
    retry_after(headers, body, now).map(|wait| wait.min(LONGEST_OF_OWN_SERVER))
}

/// When a limit is filled again: a duration (`20ms`, `6m0s`) or a time (RFC 3339).
pub(crate) fn reset_after(text: &str, now: Timestamp) -> Option<Duration> {
    duration_text(text).or_else(|| Some(until(text.parse().ok()?, now)))
}

fn milliseconds(text: &str) -> Option<Duration> {
    seconds(text).map(|wait| wait / 1000)
}

fn seconds_or_date(text: &str, now: Timestamp) -> Option<Duration> {
    seconds(text)
        .or_else(|| duration_text(text))
        .or_else(|| Some(until(rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?, now)))
        .or_else(|| Some(until(text.parse().ok()?, now)))
}

fn seconds(text: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(text.trim().parse().ok()?).ok()
}

/// What lies in the past needs no wait.
fn until(time: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(time.duration_since(now)).unwrap_or_default()
}

/// Gemini's `details` hold `{"@type": "...RetryInfo", "retryDelay": "37s"}`.
fn retry_info(body: &Value) -> Option<Duration> {
    let error = body.get(0).unwrap_or(body).get("error")?;
    let details = error.get("details")?.as_array()?;
    details.iter().find_map(|detail| duration_text(detail.get("retryDelay")?.as_str()?))
}

/// `Rate limit reached, please try again in 1.2s`, in an error's message or as the whole text.
fn in_words(body: &Value) -> Option<Duration> {
    let outer = body.get(0).unwrap_or(body);
    let error = outer.get("error").unwrap_or(outer);
    let text = error.as_str().or_else(|| error.get("message")?.as_str())?.to_ascii_lowercase();
    let rest = ["try again in ", "retry in ", "retry after "]
        .iter()
        .find_map(|words| text.find(words).map(|at| &text[at + words.len()..]))?;
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '.').unwrap_or(rest.len());
    let (word, unit) = (rest[..end].trim_end_matches('.'), rest[end..].trim_start());
    duration_text(word).or_else(|| seconds(word).filter(|_| unit.starts_with("second")))
}

/// A duration as Go and protobuf write it: `20ms`, `1.5s`, `6m0s`, `1h2m3s`.
fn duration_text(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut sum = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        sum += number
            * match &rest[..unit] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
        rest = &rest[unit..];
    }
    Duration::try_from_secs_f64(sum).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn now() -> Timestamp {
        "2026-11-23T10:00:00Z".parse().unwrap()
    }

    fn by(headers: &[(&str, &str)], body: &Value) -> Option<u128> {
        let headers: Headers = headers.iter().copied().collect();
        retry_after(&headers, body, now()).map(|wait| wait.as_millis())
    }

    #[test]
    fn every_form_is_understood() {
        let none = Value::Null;
        for (headers, expected) in [
            (&[("Retry-After", "7")][..], Some(7000)),
            (&[("retry-after", "0.5")], Some(500)),
            (&[("retry-after", "Mon, 23 Nov 2026 10:00:30 GMT")], Some(30_000)),
            (&[("retry-after", "Mon, 23 Nov 2026 09:00:00 GMT")], Some(0)),
            (&[("retry-after", "6m0s")], Some(360_000)),
            (&[("retry-after", "9999999999")], Some(86_400_000)),
            (&[("retry-after", "-1")], None),
            (&[("retry-after", "soon")], None),
            (&[("retry-after-ms", "250"), ("retry-after", "9")], Some(250)),
            (
                &[("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "1m2.5s")],
                Some(62_500),
            ),
            (&[("x-ratelimit-remaining-requests", "5"), ("x-ratelimit-reset-requests", "60s")], None),
            (
                &[
                    ("anthropic-ratelimit-tokens-remaining", "0"),
                    ("anthropic-ratelimit-tokens-reset", "2026-11-23T10:00:12Z"),
                ],
                Some(12_000),
            ),
            (&[], None),
        ] {
            assert_eq!(by(headers, &none), expected, "{headers:?}");
        }
    }

    #[test]
    fn geminis_retry_info_is_in_the_body() {
        let error = json!({"error": {"code": 429, "details": [
            {"@type": "type.googleapis.com/google.rpc.QuotaFailure"},
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "37.5s"},
        ]}});
        assert_eq!(by(&[], &error), Some(37_500));
        assert_eq!(by(&[], &json!([error])), Some(37_500));
        assert_eq!(by(&[], &json!({"error": {"details": [{"retryDelay": 5}]}})), None);
    }

    #[test]
    fn words_tell_it_too() {
        for (text, expected) in [
            ("Rate limit reached, please try again in 1.2s", Some(1200)),
            ("Please try again in 6m0s.", Some(360_000)),
            ("Try again in 20ms. Visit https://x", Some(20)),
            ("Please retry after 7 seconds.", Some(7000)),
            ("Please try again in 3 days", None),
            ("Please try again later", None),
            ("", None),
        ] {
            for body in [json!({"error": {"message": text}}), json!({ "error": text }), json!(text)] {
                assert_eq!(by(&[], &body), expected, "{body}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_bounded_wait_or_none(text in ".{0,30}") {
            let headers: Headers = [("retry-after", &text), ("retry-after-ms", &text)].into_iter().collect();
            let wait = retry_after(&headers, &Value::Null, now());
            prop_assert!(wait.is_none_or(|wait| wait <= LONGEST));
        }
    }
}
