//! An Ollama server that costs as little as possible: it answers at once, the same pairs to every prompt, and
//! notes nothing. For what the rest of a fleet can do; [`crate::testing::fake_ollama`] is for everything else.
//!
//! One thread, blocking reads of small requests on few connections: each connection has a task of its own on a
//! runtime of one thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::model::Pair;
use crate::testing::fake_server::answer::as_json;
use crate::testing::fake_server::life::Life;

const VERSION: &str = "0.32.15";
const MODEL: &str = "qwen3:8b";
const CONTEXT: u32 = 40_960;

/// A running server; dropping it ends it.
#[derive(Debug)]
pub struct InstantOllama {
    life: Life,
    calls: Arc<AtomicU64>,
}

impl InstantOllama {
    /// Serves on a random port; every answer to a prompt has these pairs.
    pub fn start(pairs: &[Pair]) -> Self {
        let answers = Arc::new(Answers::new(pairs));
        let calls = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&calls);
        let life = Life::start("instant-ollama", |listener| serve(listener, answers, counter));
        Self { life, calls }
    }

    /// Its address as users write it.
    pub fn url(&self) -> String {
        self.life.url()
    }

    /// Prompts that were answered.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }
}

/// Whole HTTP replies.
struct Answers {
    chat: Vec<u8>,
    load: Vec<u8>,
    version: Vec<u8>,
    models: Vec<u8>,
    loaded: Vec<u8>,
    show: Vec<u8>,
    unknown: Vec<u8>,
}

impl Answers {
    fn new(pairs: &[Pair]) -> Self {
        let reply = |status: &str, body: String| {
            let head = "Content-Type: application/json\r\nContent-Length";
            format!("HTTP/1.1 {status}\r\n{head}: {}\r\n\r\n{body}", body.len()).into_bytes()
        };
        let ok = |body: serde_json::Value| reply("200 OK", body.to_string());
        let chat = |content: String| {
            json!({
                "model": MODEL, "message": { "role": "assistant", "content": content }, "done": true,
                "done_reason": "stop", "total_duration": 1000, "load_duration": 1, "eval_count": 120,
                "prompt_eval_duration": 1, "eval_duration": 1000,
            })
        };
        let digest = format!("sha256:{}", crate::model::TextHash::of(MODEL));
        let family = json!({ "family": "qwen3", "format": "gguf" });
        let model =
            json!({ "name": MODEL, "model": MODEL, "size": 1000, "digest": digest, "details": family });
        let mut loaded = model.clone();
        loaded["size_vram"] = json!(1000);
        loaded["context_length"] = json!(CONTEXT);
        Self {
            chat: ok(chat(as_json(pairs))),
            load: ok(chat(String::new())),
            version: ok(json!({ "version": VERSION })),
            models: ok(json!({ "models": [model] })),
            loaded: ok(json!({ "models": [loaded] })),
            show: ok(json!({
                "details": family, "capabilities": ["completion"],
                "model_info": { "general.architecture": "qwen3", "qwen3.context_length": CONTEXT },
            })),
            unknown: reply("404 Not Found", json!({ "error": "unknown path" }).to_string()),
        }
    }

    fn to(&self, request: &Request<'_>) -> &[u8] {
        match request.path {
            "/api/chat" if request.is_prompt() => &self.chat,
            "/api/chat" => &self.load,
            "/api/version" => &self.version,
            "/api/tags" => &self.models,
            "/api/ps" => &self.loaded,
            "/api/show" => &self.show,
            _ => &self.unknown,
        }
    }
}

/// A whole request.
struct Request<'a> {
    path: &'a str,
    body: &'a [u8],
    /// Bytes that it takes.
    len: usize,
}

impl<'a> Request<'a> {
    /// None as long as it is not whole.
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let head_len = bytes.windows(4).position(|end| end == b"\r\n\r\n")? + 4;
        let head = std::str::from_utf8(&bytes[..head_len]).unwrap_or_default();
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
        });
        let len = head_len + length.unwrap_or(0);
        let path = head.split(' ').nth(1).unwrap_or_default();
        Some(Self { path, body: bytes.get(head_len..len)?, len })
    }

    /// An empty conversation only loads the model.
    fn is_prompt(&self) -> bool {
        const NOTHING: &[u8] = b"\"messages\":[]";
        !self.body.windows(NOTHING.len()).any(|part| part == NOTHING)
    }
}

async fn serve(listener: TcpListener, answers: Arc<Answers>, calls: Arc<AtomicU64>) {
    while let Ok((connection, _)) = listener.accept().await {
        tokio::spawn(talk(connection, Arc::clone(&answers), Arc::clone(&calls)));
    }
}

/// Until the client leaves.
async fn talk(mut connection: TcpStream, answers: Arc<Answers>, calls: Arc<AtomicU64>) {
    drop(connection.set_nodelay(true));
    let mut bytes = Vec::with_capacity(64 * 1024);
    while let Ok(1..) = connection.read_buf(&mut bytes).await {
        while let Some(request) = Request::read(&bytes) {
            calls.fetch_add(u64::from(request.path == "/api/chat" && request.is_prompt()), Ordering::Relaxed);
            if connection.write_all(answers.to(&request)).await.is_err() {
                return;
            }
            let len = request.len;
            bytes.drain(..len);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs() -> Vec<Pair> {
        vec![Pair { question: "Why?".to_owned(), answer: "Because.".to_owned() }]
    }

    #[test]
    fn a_request_is_taken_once_it_is_whole() {
        let text = b"POST /api/chat HTTP/1.1\r\ncontent-length: 15\r\n\r\n{\"messages\":[]}GET";
        for len in 0..text.len() - 3 {
            assert!(Request::read(&text[..len]).is_none(), "{len}");
        }
        let request = Request::read(text).unwrap();
        assert_eq!((request.path, request.len), ("/api/chat", text.len() - 3));
        assert!(!request.is_prompt());
    }

    #[test]
    fn each_path_has_its_answer() {
        let answers = Answers::new(&pairs());
        let to = |path| {
            let answer = answers.to(&Request { path, body: b"{\"messages\":[{}]}", len: 0 });
            String::from_utf8(answer.to_vec()).unwrap()
        };
        assert!(to("/api/chat").contains("Because."));
        assert!(to("/api/version").ends_with("{\"version\":\"0.32.15\"}"));
        assert!(to("/api/tags").contains(MODEL));
        assert!(to("/").starts_with("HTTP/1.1 404"));
    }
}
