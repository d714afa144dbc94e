//! As little of an HTTP client as the tests need.

use std::collections::BTreeMap;
use std::io;

use qa_shared::testing::fake_provider::{FAKE_KEY, FakeProvider};
use serde_json::Value;
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
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: fake\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
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

/// GETs a path with the key.
pub(crate) async fn get(fake: &FakeProvider, path: &str) -> Answer {
    send(fake, "GET", path, &good_headers(), b"").await.answer().await.unwrap()
}
