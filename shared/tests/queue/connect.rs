//! One clear error for each reason why there is no connection.

use qa_shared::queue::{ConnectError, ConnectOptions, Queue};
use qa_shared::secret::Secret;
use qa_shared::testing::{TestNats, TestNatsOptions};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use crate::fixtures::{short, soon};

async fn error(options: ConnectOptions) -> ConnectError {
    soon("an answer", Queue::connect(&options, short())).await.unwrap_err()
}

fn to(url: impl Into<String>) -> ConnectOptions {
    ConnectOptions { url: url.into(), name: "test".to_owned(), ..ConnectOptions::default() }
}

#[tokio::test]
async fn nobody_at_the_address_is_named_with_host_and_port() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let error = error(to(format!("nats://me:hidden@{address}"))).await;
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains(&address) && !text.contains("hidden"), "{text}");
}

#[tokio::test]
async fn a_host_without_address_and_one_that_never_answers_are_unreachable() {
    assert!(matches!(error(to("nats://no-such-host.invalid:4222")).await, ConnectError::Unreachable { .. }));
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    assert!(matches!(error(to(address.to_string())).await, ConnectError::Unreachable { .. }));
}

#[tokio::test]
async fn a_wrong_token_is_refused_and_the_right_one_is_taken_from_either_place() {
    let options = TestNatsOptions { token: Some("right".to_owned()), ..TestNatsOptions::default() };
    let nats = TestNats::start_with(options).await;
    for token in [None, Some(Secret::new("wrong"))] {
        let error = error(ConnectOptions { token, ..to(nats.url()) }).await;
        assert!(matches!(error, ConnectError::Authentication { .. }), "{error}");
        assert!(!error.to_string().contains("wrong"), "{error}");
    }
    let token = Some(Secret::new("right"));
    Queue::connect(&ConnectOptions { token, ..to(nats.url()) }, short()).await.unwrap();
    let in_url = nats.url().replace("nats://", "nats://right@");
    let queue = Queue::connect(&to(in_url), short()).await.unwrap();
    assert!(!queue.servers().contains("right"));
    assert!(queue.server_version().starts_with("2."), "{}", queue.server_version());
}

#[tokio::test]
async fn a_server_without_jetstream_is_told_how_to_get_it() {
    let nats = TestNats::start_with(TestNatsOptions { jetstream: false, ..Default::default() }).await;
    let error = error(to(nats.url())).await;
    assert!(matches!(error, ConnectError::NoJetStream { .. }), "{error}");
    assert!(error.to_string().contains("--jetstream"), "{error}");
}

#[tokio::test]
async fn an_old_server_is_named_with_both_versions() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (connection, _) = listener.accept().await.unwrap();
        let (read, mut write) = connection.into_split();
        let info = r#"{"server_id":"x","server_name":"x","version":"2.9.25","go":"go1","host":"127.0.0.1","port":1,"headers":true,"max_payload":1048576,"proto":1,"client_id":1,"jetstream":true}"#;
        write.write_all(format!("INFO {info}\r\n").as_bytes()).await.unwrap();
        let mut lines = BufReader::new(read).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if line.starts_with("PING") {
                write.write_all(b"PONG\r\n").await.unwrap();
            }
        }
    });
    let error = error(to(address.to_string())).await;
    assert!(matches!(error, ConnectError::OldServer { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("2.9.25") && text.contains("2.12.0"), "{text}");
    server.abort();
}

#[tokio::test]
async fn unusable_addresses_and_files_are_named() {
    assert!(matches!(error(to("")).await, ConnectError::Address { .. }));
    let missing = std::path::PathBuf::from("missing.creds");
    let options = ConnectOptions { credentials_file: Some(missing.clone()), ..to("127.0.0.1:1") };
    assert!(error(options).await.to_string().contains("missing.creds"));
    let options = ConnectOptions { tls_ca: Some(missing.clone()), ..to("127.0.0.1:1") };
    assert!(error(options).await.to_string().contains("CA certificates file `missing.creds`"));
    let options = ConnectOptions { tls_cert: Some(missing), ..to("127.0.0.1:1") };
    assert!(matches!(error(options).await, ConnectError::HalfCertificate));
}
