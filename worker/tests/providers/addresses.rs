//! What stands between a worker and its servers: Azure's classic form, gateways that want a key, proxies of the
//! environment, redirects, and one server under two names.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};

use qa_shared::model::OllamaOptions;
use qa_shared::model_table::{ModelTable, Service};
use qa_shared::secret::Secret;
use qa_shared::testing::fake_ollama::{FakeConfig, FakeOllama};
use qa_worker::llm::http::Timeouts;
use qa_worker::llm::ollama::OllamaServer;
use qa_worker::llm::rate_limit::PerMinute;
use qa_worker::llm::remote::{RemoteServer, RemoteSettings};
use qa_worker::llm::{ChatRequest, LlmErrorKind, LlmServer, Message, Role};
use serde_json::json;

/// Never to be shown.
const KEY: &str = "gateway-key-0123456789";

/// An HTTP server that notes the heads of requests and answers all of them alike.
struct Gateway {
    url: String,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Gateway {
    fn start(answer: impl Fn(&str) -> (u16, String, String) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let noted = Arc::clone(&heads);
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let mut connection = connection.unwrap();
                let head = read_request(&mut connection);
                let (status, headers, body) = answer(&head);
                noted.lock().unwrap().push(head);
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 {status} X\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n"
                );
                // Whoever has gone needs no answer.
                drop(connection.write_all(format!("{head}{body}").as_bytes()));
            }
        });
        Self { url, heads }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

/// Reads a whole request; its head in lower case but for the first line.
fn read_request(connection: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let (first, fields) = head.split_once("\r\n").unwrap();
            let lower = fields.to_ascii_lowercase();
            let length = lower.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            if bytes.len() >= end + 4 + length.unwrap_or(0) {
                let names = fields.lines().map(|line| {
                    let (name, value) = line.split_once(':').unwrap();
                    format!("{}:{value}\n", name.to_ascii_lowercase())
                });
                return format!("{first}\n{}", names.collect::<String>());
            }
        }
        match connection.read(&mut buffer) {
            Ok(count @ 1..) => bytes.extend_from_slice(&buffer[..count]),
            Ok(0) | Err(_) => return String::new(),
        }
    }
}

fn remote(url: String) -> RemoteServer {
    let key = Some(Secret::new(KEY));
    let settings = RemoteSettings {
        service: Service::Compatible,
        url: Secret::new(url),
        key,
        limits: PerMinute::default(),
    };
    RemoteServer::new(settings, Arc::new(ModelTable::default()), Timeouts::default(), None).unwrap()
}

fn ollama(url: &str) -> OllamaServer {
    OllamaServer::new(url, Timeouts::default(), None).unwrap().with_key(Some(Secret::new(KEY)))
}

fn request() -> ChatRequest {
    ChatRequest {
        model: "gpt-4o".to_owned(),
        messages: vec![Message::new(Role::User, "A")],
        schema: None,
        temperature: 0.3,
        max_output: 500,
        reasoning: None,
        num_ctx: 8192,
        sampling: OllamaOptions::default(),
        seed: None,
        repetitions: 0,
    }
}

#[tokio::test]
async fn azures_classic_form_is_asked_by_deployment_with_its_version_and_its_header() {
    let azure = Gateway::start(|head| {
        if head.starts_with("GET ") {
            return (
                404,
                String::new(),
                json!({"error":{"code":"404","message":"Resource not found"}}).to_string(),
            );
        }
        let choice =
            json!({"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"hello"}});
        let usage = json!({"prompt_tokens":9,"completion_tokens":1});
        (200, String::new(), json!({"id":"1","model":"gpt-4o","choices":[choice],"usage":usage}).to_string())
    });
    let server = remote(format!("{}/openai/deployments/D?api-version=2024-10-21", azure.url));
    server.inspect().await.unwrap();
    server.show("gpt-4o").await.unwrap();
    assert_eq!(server.chat(&request()).await.unwrap().content, "hello");
    let heads = azure.heads();
    let chat = heads.last().unwrap();
    assert!(
        chat.starts_with("POST /openai/deployments/D/chat/completions?api-version=2024-10-21 "),
        "{chat}"
    );
    for head in &heads {
        assert!(head.contains(&format!("api-key: {KEY}\n")) && !head.contains("authorization:"), "{head}");
    }
    assert!(!server.url().contains('?'), "{}", server.url());
}

#[tokio::test]
async fn an_ollama_behind_a_gateway_gets_its_key_or_the_credentials_of_its_address() {
    let version = |_: &str| (200, String::new(), r#"{"version":"0.17.4","models":[]}"#.to_owned());
    let gateway = Gateway::start(version);
    ollama(&gateway.url).inspect().await.unwrap();
    let heads = gateway.heads();
    assert!(
        heads.len() > 1 && heads.iter().all(|head| head.contains(&format!("authorization: Bearer {KEY}\n")))
    );

    let gateway = Gateway::start(version);
    let with_user = gateway.url.replace("http://", "http://me:p%40ss@");
    let server = ollama(&with_user);
    server.inspect().await.unwrap();
    assert!(!server.url().contains("p%40ss"));
    for head in gateway.heads() {
        // me:p@ss
        assert!(head.contains("authorization: Basic bWU6cEBzcw==\n"), "{head}");
        assert_eq!(head.matches("authorization:").count(), 1, "{head}");
    }
}

#[tokio::test]
async fn a_gateway_that_refuses_says_how_to_give_credentials_and_never_shows_the_key() {
    let gateway = Gateway::start(|_| (401, String::new(), format!("no such key: {KEY}")));
    let error = ollama(&gateway.url).inspect().await.unwrap_err();
    assert!(error.message.contains("OLLAMA_API_KEY") && error.message.contains("USER:PASSWORD@"), "{error}");
    assert!(!error.message.contains(KEY), "{error}");
}

#[tokio::test]
async fn a_redirect_shows_its_target_and_what_to_set() {
    let gateway = Gateway::start(|head| {
        let path = head.split(' ').nth(1).unwrap();
        (308, format!("Location: https://llm.example{path}\r\n"), String::new())
    });
    let of_ollama = ollama(&gateway.url).inspect().await.unwrap_err();
    let of_remote = remote(format!("{}/v1", gateway.url)).chat(&request()).await.unwrap_err();
    for (error, remedy) in [
        (of_ollama, "set --ollama-base-url (OLLAMA_BASE_URL) to https://llm.example"),
        (of_remote, "set --openai-base-url (OPENAI_BASE_URL) to https://llm.example/v1"),
    ] {
        assert!(error.message.contains("answered 308: it redirects to https://llm.example/"), "{error}");
        assert!(error.message.ends_with(remedy), "{error}");
        // It is no chunk's fault.
        assert_eq!(error.kind, LlmErrorKind::ProxyReply);
    }
}

fn check(environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qa-worker"));
    let output = command.arg("check").env_clear().envs(environment.iter().copied()).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn an_error_behind_a_proxy_names_the_proxy_and_the_variable_that_goes_around_it() {
    let refusing =
        Gateway::start(|_| (503, String::new(), "<html>no route to gpu.invalid</html>".to_owned()));
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for proxy in [refusing.url.clone(), format!("http://{gone}")] {
        let with_password = proxy.replace("http://", "http://me:hidden@");
        for (server, variable) in [("OLLAMA_BASE_URL", "HTTP_PROXY"), ("OPENAI_BASE_URL", "ALL_PROXY")] {
            let (code, text) = check(&[(server, "http://gpu.invalid:8000"), (variable, &with_password)]);
            assert_ne!(code, Some(0), "{text}");
            let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(text.contains(&format!("go through the proxy {proxy} (HTTP_PROXY")), "{text}");
            assert!(text.contains("add gpu.invalid to NO_PROXY") && !text.contains("hidden"), "{text}");
        }
    }
}

#[test]
fn a_server_on_this_machine_is_never_asked_through_a_proxy() {
    let proxy = Gateway::start(|_| (503, String::new(), "no".to_owned()));
    let server = FakeOllama::start(FakeConfig::default());
    for url in [server.url(), server.url().replace("127.0.0.1", "localhost")] {
        let environment =
            [("OLLAMA_BASE_URL", url.as_str()), ("HTTP_PROXY", &proxy.url), ("ALL_PROXY", &proxy.url)];
        let (code, text) = check(&environment);
        assert_eq!(code, Some(0), "{text}");
    }
    assert_eq!(proxy.heads(), Vec::<String>::new());
}

#[test]
fn one_server_under_two_names_is_noticed_and_counted_once() {
    let server = FakeOllama::start(FakeConfig::default());
    let port = server.url().rsplit(':').next().unwrap().to_owned();
    let names = format!("localhost:{port},http://127.0.0.1:{port}/v1,http://127.0.0.1:{port}/");
    let (code, text) = check(&[("OLLAMA_BASE_URL", &names)]);
    assert_eq!(code, Some(0), "{text}");
    let plain = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(plain.matches("it counts once").count(), 2, "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("ok")).count(), 1, "{text}");
}
