//! A private nats-server under its supervisor, as the coordinator holds it.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use serde::Deserialize;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::Instant;

use super::config::ServerConfig;
use super::write_failure::LogWatch;

/// How long a server may take until it listens; recovering a large store takes seconds.
const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(20);
/// How much of the log an error shows, in lines.
const LOG_LINES: usize = 5;

/// Why a private server does not run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A file or directory of the server cannot be made.
    #[error("`{path}` of the private nats-server cannot be written: {error}")]
    Files {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The supervising process does not start.
    #[error("the process that supervises nats-server does not start: {0}")]
    Supervisor(io::Error),
    /// The server ended before it listened.
    #[error("the private nats-server ended at once ({status}): {log}")]
    Ended {
        /// How the supervisor ended.
        status: ExitStatus,
        /// The last lines of its words and of the server's log.
        log: String,
    },
    /// The server runs but does not listen.
    #[error("the private nats-server does not listen after {} s: {log}", START_LIMIT.as_secs())]
    NotListening {
        /// The last lines of the server's log.
        log: String,
    },
}

/// Why a private server is of no use any more.
#[derive(Debug, PartialEq, Eq)]
pub enum ServerFailure {
    /// It has ended by itself: how, and its last words.
    Died(String),
    /// A write of its failed, after which it stores nothing any more, and what it says of that.
    CannotWrite(String),
}

/// A nats-server that lives as long as this value, and not longer than this process.
#[derive(Debug)]
pub struct PrivateServer {
    supervisor: Child,
    /// The supervisor ends the server when this is closed.
    leash: Option<ChildStdin>,
    port: u16,
    config: ServerConfig,
    words: PathBuf,
    log_watch: Option<LogWatch>,
}

impl PrivateServer {
    /// Writes `config` to `directory` and runs `supervisor`, a command of a process that calls
    /// [`super::supervise()`] with the server's program, the configuration file and a lock file. Both files'
    /// paths are appended to its arguments. Returns when the server listens.
    pub async fn start(
        directory: &Path,
        config: ServerConfig,
        mut supervisor: Command,
    ) -> Result<Self, StartError> {
        let files = |path: &Path, error| StartError::Files { path: path.to_owned(), error };
        // A left-over file would show the port of an earlier server.
        if let Err(error) = std::fs::remove_dir_all(&config.ports)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(files(&config.ports, error));
        }
        std::fs::create_dir_all(directory).map_err(|error| files(directory, error))?;
        std::fs::create_dir_all(&config.ports).map_err(|error| files(&config.ports, error))?;
        let file = directory.join("nats-server.conf");
        config.write(&file).map_err(|error| files(&file, error))?;
        let log_watch = config.log.clone().map(LogWatch::new);
        let words = directory.join("supervisor.log");
        let errors = std::fs::File::create(&words).map_err(|error| files(&words, error))?;
        let mut supervisor = supervisor
            .arg(&file)
            .arg(directory.join("nats-server.lock"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(errors)
            // Signals of the terminal are for the coordinator, which needs the server to stop in good order.
            .process_group(0)
            .spawn()
            .map_err(StartError::Supervisor)?;
        let leash = supervisor.stdin.take();
        let mut server = Self { supervisor, leash, port: 0, config, words, log_watch };
        server.port = server.listening_port().await?;
        Ok(server)
    }

    async fn listening_port(&mut self) -> Result<u16, StartError> {
        let ports = self.config.ports.clone();
        tokio::select! {
            port = wait_until_listening(&ports, START_LIMIT) => {
                port.ok_or_else(|| StartError::NotListening { log: self.last_words() })
            }
            status = self.supervisor.wait() => {
                let status = status.map_err(StartError::Supervisor)?;
                Err(StartError::Ended { status, log: self.last_words() })
            }
        }
    }

    /// The address for clients on this machine, without the token.
    pub fn url(&self) -> String {
        let address = self.config.listen.address;
        let address = match address {
            std::net::IpAddr::V4(v4) if v4.is_unspecified() => std::net::Ipv4Addr::LOCALHOST.into(),
            std::net::IpAddr::V6(v6) if v6.is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
            specific => specific,
        };
        format!("nats://{}", std::net::SocketAddr::new(address, self.port))
    }

    /// The port on which it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process id of the supervisor, while it lives.
    pub fn supervisor_pid(&self) -> Option<u32> {
        self.supervisor.id()
    }

    /// Waits until the server ends by itself, or cannot store anything any more. A line in its log is only a sign
    /// of the latter: `stores` asks the server.
    pub async fn fails(&mut self, stores: impl AsyncFn() -> bool) -> ServerFailure {
        let Self { supervisor, log_watch, .. } = self;
        let write_failure = async {
            let Some(log) = log_watch else { return std::future::pending().await };
            loop {
                let line = log.sign_of_write_failure().await;
                if !stores().await {
                    return line;
                }
                tracing::debug!(
                    line,
                    "the private nats-server logs a failed write, and still stores messages"
                );
            }
        };
        let status = tokio::select! {
            status = supervisor.wait() => status,
            line = write_failure => return ServerFailure::CannotWrite(line),
        };
        let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        ServerFailure::Died(format!("{status}: {}", self.last_words()))
    }

    /// Ends the server in good order: it closes its files.
    pub async fn stop(mut self) -> io::Result<()> {
        drop(self.leash.take());
        match tokio::time::timeout(STOP_LIMIT, self.supervisor.wait()).await {
            Ok(ended) => ended.map(drop),
            Err(_) => Err(io::Error::other("nats-server did not end in time")),
        }
    }

    fn last_words(&self) -> String {
        let files = [Some(&self.words), self.config.log.as_ref()];
        let lines =
            files.into_iter().flatten().filter_map(|path| std::fs::read(path).ok()).flat_map(|text| {
                let text = String::from_utf8_lossy(&text).into_owned();
                let lines: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
                lines[lines.len().saturating_sub(LOG_LINES)..].to_vec()
            });
        lines.collect::<Vec<_>>().join(" | ")
    }
}

/// Waits until a server has written its port to a file in `ports` and greets there; `None` after `limit`.
pub async fn wait_until_listening(ports: &Path, limit: Duration) -> Option<u16> {
    let until = Instant::now() + limit;
    while Instant::now() < until {
        if let Some(port) = written_port(ports)
            && greets(port.0.as_str(), port.1).await
        {
            return Some(port.1);
        }
        tokio::time::sleep(POLL).await;
    }
    None
}

#[derive(Deserialize)]
struct PortsFile {
    nats: Vec<String>,
}

/// The first address in the ports file; nothing while there is none or half of one.
fn written_port(ports: &Path) -> Option<(String, u16)> {
    let mut files = std::fs::read_dir(ports).ok()?.filter_map(Result::ok);
    let file = files.find(|file| file.path().extension().is_some_and(|ending| ending == "ports"))?;
    let written: PortsFile = serde_json::from_slice(&std::fs::read(file.path()).ok()?).ok()?;
    // `nats://`, or `tls://` where it wants that; its greeting is plain either way.
    let (_, address) = written.nats.first()?.split_once("://")?;
    let (host, port) = address.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Some((host.to_owned(), port.parse().ok()?))
}

async fn greets(host: &str, port: u16) -> bool {
    let greeting = async {
        let mut connection = TcpStream::connect((host, port)).await?;
        let mut greeting = [0; 5];
        connection.read_exact(&mut greeting).await?;
        io::Result::Ok(&greeting == b"INFO ")
    };
    matches!(tokio::time::timeout(Duration::from_secs(5), greeting).await, Ok(Ok(true)))
}
