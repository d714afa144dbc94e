//! As little of an HTTP client as the tests need.

use std::collections::BTreeMap;
use std::io;

use qa_shared::testing::fake_provider::{FAKE_KEY, FakeProvider, expected_pairs};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An answer that came to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// A request that has been sent.
pub(crate) struct Sent(TcpStream);

impl Sent {
    /// The whole answer; an error where the connection ends before it.
    pub(crate) async fn answer(mut self) -> io::Result<Answer> {
        let mut bytes = Vec::new();
        self.0.read_to_end(&mut bytes).await?;
        let end =
            bytes.windows(4).position(|four| four == b"\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: BTreeMap<String, String> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let body = bytes.split_off(end + 4);
        let body = if headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked") {
            unchunked(&body).ok_or(io::ErrorKind::UnexpectedEof)?
        } else {
            let length: usize = headers["content-length"].parse().unwrap();
            if body.len() < length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            body
        };
        Ok(Answer { status, headers, body })
    }
}

fn unchunked(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = bytes.windows(2).position(|two| two == b"\r\n")?;
        let length = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).ok()?, 16).ok()?;
        if length == 0 {
            return Some(body);
        }
        body.extend_from_slice(bytes.get(end + 2..end + 2 + length)?);
        bytes = bytes.get(end + 4 + length..)?;
    }
}

/// Sends a request with these headers.
pub(crate) async fn send(
    fake: &FakeProvider,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Sent {
    let url = fake.url();
    let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).await.unwrap();
    let headers: String =
        headers.iter().map(|(name, value)| name.to_string() + ": " + value + "\r\n").collect();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: fake\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    Sent(stream)
}

/// The headers with which each service lets a call in.
pub(crate) fn good_headers() -> Vec<(&'static str, &'static str)> {
    // Each service looks at its own only.
    vec![
        ("content-type", "application/json"),
        ("authorization", BEARER),
        ("x-api-key", FAKE_KEY),
        ("anthropic-version", "2023-06-01"),
        ("x-goog-api-key", FAKE_KEY),
    ]
}

pub(crate) const BEARER: &str = "Bearer sk-test-0123456789abcdefghijklmnopqrstuvwxyz";

/// Sends a good POST with this body and waits for its answer.
pub(crate) async fn post(fake: &FakeProvider, path: &str, body: &Value) -> Answer {
    send(fake, "POST", path, &good_headers(), body.to_string().as_bytes()).await.answer().await.unwrap()
}

/// Sends a good POST without one of its headers.
pub(crate) async fn post_without(fake: &FakeProvider, path: &str, header: &str, body: &Value) -> Answer {
    let mut headers = good_headers();
    headers.retain(|(name, _)| *name != header);
    send(fake, "POST", path, &headers, body.to_string().as_bytes()).await.answer().await.unwrap()
}

/// Sends a good POST with another value of one header.
pub(crate) async fn post_with(fake: &FakeProvider, path: &str, header: (&str, &str), body: &Value) -> Answer {
    let mut headers: Vec<(&str, &str)> = good_headers();
    headers.retain(|(name, _)| *name != header.0);
    headers.push(header);
    send(fake, "POST", path, &headers, body.to_string().as_bytes()).await.answer().await.unwrap()
}

/// A body with another value at some places; `Value::Null` leaves the member out, and a text `null` makes
/// it null.
pub(crate) fn changed(mut body: Value, changes: &[(&str, Value)]) -> Value {
    for (place, value) in changes {
        let (parent, name) = place.rsplit_once('/').unwrap();
        let parent = body.pointer_mut(parent).unwrap();
        if value.is_null() {
            parent.as_object_mut().unwrap().remove(name);
        } else {
            parent[name] = if *value == "null" { Value::Null } else { value.clone() };
        }
    }
    body
}

/// What is set, where, the status and a part of the body with which it is refused.
pub(crate) type Refusal<'a> = (&'a [(&'a str, Value)], u16, &'a str);

/// Each change of a good body is refused as the table says, and written down.
pub(crate) async fn assert_refused(fake: &FakeProvider, path: &str, good: &Value, table: &[Refusal<'_>]) {
    let answer = post(fake, path, good).await;
    assert_eq!(answer.status, 200, "the body to change is not good: {}", answer.text());
    for (changes, status, part) in table {
        let before = fake.stats().refusals.len();
        let answer = post(fake, path, &changed(good.clone(), changes)).await;
        let text = answer.text();
        assert_eq!(answer.status, *status, "{changes:?}: {text}");
        assert!(text.contains(part), "{changes:?}: {part} is not in {text}");
        assert_eq!(fake.stats().refusals.len(), before + 1, "{changes:?}");
    }
}

/// Each change of a good body is as good.
pub(crate) async fn assert_accepted(
    fake: &FakeProvider,
    path: &str,
    good: &Value,
    changes: &[&[(&str, Value)]],
) {
    for changes in changes {
        let answer = post(fake, path, &changed(good.clone(), changes)).await;
        assert_eq!(answer.status, 200, "{changes:?}: {}", answer.text());
    }
}

/// The schema that all services take.
pub(crate) fn portable_schema() -> Value {
    json!({ "type": "object", "additionalProperties": false, "required": ["pairs"], "properties": {
        "pairs": { "type": "array", "items": {
            "type": "object", "additionalProperties": false,
            "required": ["evidence", "question", "response", "type"],
            "properties": {
                "evidence": { "type": "string" }, "question": { "type": "string" },
                "response": { "type": "string" },
                "type": { "type": "string", "enum": ["factual", "conceptual"] },
            },
        } },
    } })
}

/// A chunk and the user's message about it.
pub(crate) const CHUNK: &str = "The sky is blue because of scattering.";
pub(crate) const USER: &str =
    "Write 2 question-answer pairs as JSON. <chunk>\nThe sky is blue because of scattering.\n</chunk>";

/// Asserts that a text holds the pairs that are expected of the chunk, in the portable schema's form.
pub(crate) fn assert_pairs(text: &str, count: u32) {
    let value: Value = serde_json::from_str(text).unwrap();
    let pairs = value["pairs"].as_array().unwrap();
    let expected = expected_pairs(CHUNK, count);
    assert_eq!(pairs.len(), expected.len(), "{text}");
    for (pair, expected) in pairs.iter().zip(expected) {
        assert_eq!(
            (&pair["question"], &pair["response"]),
            (&expected.question.into(), &expected.answer.into())
        );
    }
}

/// GETs a path with the key.
pub(crate) async fn get(fake: &FakeProvider, path: &str) -> Answer {
    send(fake, "GET", path, &good_headers(), b"").await.answer().await.unwrap()
}
