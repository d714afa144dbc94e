//! The private nats-server of local mode: found, supervised, ended with its parent.

#![expect(clippy::unwrap_used, reason = "part of the tests")]

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use qa_shared::model::{JobId, PoolName};
use qa_shared::nats_server::{
    Listen, PrivateServer, ServerConfig, ServerFailure, StartError, find_nats_server, supervise,
};
use qa_shared::queue::{ConnectOptions, Queue, Tasks, Timing, stores_messages};
use qa_shared::secret::Secret;
use qa_shared::testing::samples;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::sync::mpsc;

const PATIENCE: Duration = Duration::from_secs(30);

#[expect(clippy::disallowed_methods, reason = "a test has no settings object")]
async fn nats_server() -> PathBuf {
    let setting = std::env::var_os("QA_NATS_SERVER").map(PathBuf::from);
    let found = find_nats_server(setting.as_deref(), std::env::var_os("PATH").as_deref()).await;
    found.expect("this test needs a real nats-server, deploy/test.sh gets one").path
}

/// This test program again, as the process that [`supervisor_process`] is.
fn supervisor(program: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    // A backtrace would push the message out of the last words.
    command.env("RUST_BACKTRACE", "0");
    command.args(["supervisor_process", "--exact", "--ignored", "--nocapture"]).arg(program);
    command
}

/// Not a test: what the other tests run as a process of its own.
#[tokio::test]
#[ignore = "runs as a child of the other tests"]
async fn supervisor_process() {
    let arguments: Vec<PathBuf> = std::env::args_os().map(PathBuf::from).collect();
    let [.., program, config, lock] = &arguments[..] else { panic!("three files are needed") };
    if let Err(error) = supervise(program, config, lock).await {
        panic!("{error}");
    }
}

fn config(directory: &Path) -> ServerConfig {
    ServerConfig { token: Some(Secret::new("t0ken")), ..ServerConfig::private(directory) }
}

async fn connect(server: &PrivateServer) -> Queue {
    let token = Some(Secret::new("t0ken"));
    let options = ConnectOptions { url: server.url(), token, ..ConnectOptions::default() };
    let timing = Timing { request: Duration::from_secs(1), ..Timing::default() };
    Queue::connect(&options, timing).await.expect("the private server takes connections")
}

async fn nobody_listens(port: u16) {
    let gone = async {
        while TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("the server ends");
}

#[tokio::test]
async fn a_private_server_serves_stops_and_starts_again_on_its_files() {
    let directory = qa_shared::testing::temporary_folder();
    let directory = directory.path().join("with space");
    let program = nats_server().await;
    for _ in 0..2 {
        let server =
            PrivateServer::start(&directory, config(&directory), supervisor(&program)).await.unwrap();
        let queue = connect(&server).await;
        assert_eq!(queue.max_payload(), 8 * 1024 * 1024);
        qa_shared::queue::ensure(&queue, None).await.unwrap();
        let port = server.port();
        server.stop().await.unwrap();
        nobody_listens(port).await;
    }
    let log = std::fs::read_to_string(directory.join("nats-server.log")).unwrap();
    assert!(log.contains("Server Exiting"), "it was not ended in good order: {log}");
}

#[tokio::test]
async fn a_server_ends_when_its_holder_is_gone_and_the_next_one_waits_for_that() {
    let directory = qa_shared::testing::temporary_folder();
    let program = nats_server().await;
    let path = directory.path();
    let first = PrivateServer::start(path, config(path), supervisor(&program)).await.unwrap();
    let port = first.port();
    // Closes the leash as the death of this process would.
    drop(first);
    let second = PrivateServer::start(path, config(path), supervisor(&program)).await.unwrap();
    nobody_listens(port).await;
    connect(&second).await;
    second.stop().await.unwrap();
}

#[tokio::test]
async fn a_server_whose_supervisor_was_killed_is_ended_by_the_next_one() {
    let directory = qa_shared::testing::temporary_folder();
    let program = nats_server().await;
    let path = directory.path();
    let mut orphaned = PrivateServer::start(path, config(path), supervisor(&program)).await.unwrap();
    let port = orphaned.port();
    let pid = orphaned.supervisor_pid().unwrap().to_string();
    assert!(Command::new("kill").args(["-9", &pid]).status().await.unwrap().success());
    orphaned.fails(async || true).await;
    let next = PrivateServer::start(path, config(path), supervisor(&program)).await.unwrap();
    nobody_listens(port).await;
    connect(&next).await;
    next.stop().await.unwrap();
}

/// Kills the server itself, not its supervisor.
async fn kill_server(program: &Path, path: &Path) {
    let ports = std::fs::read_dir(path.join("ports")).unwrap().next().unwrap().unwrap().file_name();
    let ports = ports.to_str().unwrap().trim_end_matches(".ports").to_owned();
    let (_, pid) = ports.rsplit_once('_').unwrap();
    let kill = format!("stop={pid}");
    let status =
        Command::new(program).args(["--signal", &kill]).stderr(Stdio::null()).status().await.unwrap();
    assert!(status.success());
}

#[tokio::test]
async fn the_death_of_the_server_is_reported() {
    let directory = qa_shared::testing::temporary_folder();
    let program = nats_server().await;
    let path = directory.path();
    let mut server = PrivateServer::start(path, config(path), supervisor(&program)).await.unwrap();
    kill_server(&program, path).await;
    let failure = tokio::time::timeout(PATIENCE, server.fails(async || true)).await.unwrap();
    let ServerFailure::Died(words) = failure else { panic!("{failure:?}") };
    assert!(words.contains("nats-server ended unexpectedly"), "{words}");
}

#[tokio::test]
async fn a_server_that_cannot_listen_says_why() {
    let directory = qa_shared::testing::temporary_folder();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = config(directory.path());
    config.listen = Listen { port: Some(taken.local_addr().unwrap().port()), ..Listen::LOOPBACK };
    let program = nats_server().await;
    let error = PrivateServer::start(directory.path(), config, supervisor(&program)).await.unwrap_err();
    assert!(matches!(error, StartError::Ended { .. }), "{error}");
    assert!(error.to_string().contains("address already in use"), "{error}");
}

/// What a server that writes no file beyond 256 KiB is started by: a disk that is full, for any user.
fn with_small_files(directory: &Path, program: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let script = directory.join("small-files");
    // `ulimit -f` counts in 512 bytes.
    let text = format!("#!/bin/sh\nulimit -f 512\nexec '{}' \"$@\"\n", program.display());
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    script
}

#[tokio::test]
async fn a_stream_that_was_given_up_after_a_failed_write_is_found_by_asking_the_server() {
    let directory = qa_shared::testing::temporary_folder();
    let path = directory.path();
    let program = with_small_files(path, &nats_server().await);
    let mut server = PrivateServer::start(path, config(path), supervisor(&program)).await.unwrap();
    let queue = connect(&server).await;
    qa_shared::queue::ensure(&queue, None).await.unwrap();
    assert!(stores_messages(&queue).await);
    let (tasks, pool) = (Tasks::new(&queue), PoolName::new("p"));
    let text = "x".repeat(64 * 1024);
    let task = |chunk| samples::task(&pool, samples::key(&JobId::from_random(1), chunk), &text);
    let mut chunk = 0;
    while tasks.publish(&task(chunk), None).await.is_ok() {
        chunk += 1;
        assert!(chunk < 100, "every task is stored");
    }
    assert!(!stores_messages(&queue).await);
    let failure = server.fails(async || stores_messages(&queue).await);
    let failure = tokio::time::timeout(PATIENCE, failure).await.unwrap();
    let ServerFailure::CannotWrite(line) = failure else { panic!("{failure:?}") };
    assert!(line.contains("QA_TASKS"), "{line}");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn what_a_stranger_sends_ends_nothing_and_neither_does_a_line_that_the_server_disproves() {
    let directory = qa_shared::testing::temporary_folder();
    let program = nats_server().await;
    let path = directory.path();
    let mut server = PrivateServer::start(path, config(path), supervisor(&program)).await.unwrap();
    let mut stranger = TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
    stranger.write_all(b"Cno space left on device\r\nCritical write error\r\n").await.unwrap();
    // The server closes the connection when it has logged the line.
    stranger.read_to_end(&mut Vec::new()).await.unwrap();
    let log = path.join("nats-server.log");
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(text.contains("no space left on device"), "{text}");
    let sign = "[1] 2026/11/23 05:33:38.632257 [ERR] Filestore [QA_TASKS] Critical write error: x\n";
    let mut log = std::fs::File::options().append(true).open(log).unwrap();
    std::io::Write::write_all(&mut log, sign.as_bytes()).unwrap();
    let (asked, mut questions) = mpsc::unbounded_channel();
    let fails = server.fails(async || asked.send(()).is_ok());
    let after_the_question = async {
        questions.recv().await.unwrap();
        kill_server(&program, path).await;
    };
    let both = futures_util::future::join(fails, after_the_question);
    let (failure, ()) = tokio::time::timeout(PATIENCE, both).await.unwrap();
    assert!(matches!(failure, ServerFailure::Died(_)), "{failure:?}");
    // The stranger's line alone caused no question.
    assert!(questions.try_recv().is_err());
}

/// What a server sends on a connection until it closes it.
async fn farewell(port: u16) -> String {
    let mut words = Vec::new();
    let mut connection = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let read = connection.read_to_end(&mut words);
    tokio::time::timeout(PATIENCE, read).await.expect("the connection is closed").unwrap();
    String::from_utf8(words).unwrap()
}

#[tokio::test]
async fn a_connection_that_shows_no_token_is_closed() {
    let directory = qa_shared::testing::temporary_folder();
    let path = directory.path();
    let program = nats_server().await;
    let server = PrivateServer::start(path, config(path), supervisor(&program)).await.unwrap();
    assert!(farewell(server.port()).await.contains("Authentication Timeout"));
    server.stop().await.unwrap();
}
