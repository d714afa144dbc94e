//! The small process between a coordinator and its private nats-server.
//!
//! It ends the server when its own standard input ends: the coordinator that held the other end is gone,
//! however it died, or asks for it. It stands in its own process group and ignores signals, so that a Ctrl-C
//! at the terminal reaches the coordinator, which still needs the server to stop in good order.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// How long the server may take to close its files before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// How long the supervisor of an earlier server on the same files may take to end it.
const EARLIER_LIMIT: Duration = Duration::from_secs(20);
/// How long a killed server may take to disappear.
const ORPHAN_LIMIT: Duration = Duration::from_secs(10);
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// Why the server did not run to its ordered end.
#[derive(Debug, thiserror::Error)]
pub enum SuperviseError {
    /// The server's lock file cannot be used.
    #[error("lock file `{path}` cannot be used: {error}")]
    Lock {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Another server runs on the same files.
    #[error("another nats-server still uses this store (lock file `{0}`): end it, then try again")]
    InUse(PathBuf),
    /// The program does not start.
    #[error("nats-server `{program}` does not start: {error}")]
    Start {
        /// The program.
        program: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The server ended by itself.
    #[error("nats-server ended unexpectedly with {0}")]
    Died(ExitStatus),
    /// The operating system refused something that always works.
    #[error("supervising nats-server failed: {0}")]
    System(#[from] io::Error),
}

/// Runs `program` with the configuration file `config` until this process' standard input ends. `lock` is a
/// file that is locked for as long as the server lives, so that two servers never share a store; beside it
/// stands one that is locked for as long as its supervisor lives. A server without supervisor is ended.
///
/// To be called by a process of its own that ends with what this returns.
pub async fn supervise(program: &Path, config: &Path, lock: &Path) -> Result<(), SuperviseError> {
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        let mut signals = signal(kind)?;
        tokio::spawn(async move { while signals.recv().await.is_some() {} });
    }
    let parent_gone = end_of_input()?;
    let _supervising = locked(&lock.with_extension("supervisor.lock"), EARLIER_LIMIT).await?;
    end_orphan(program, lock).await?;
    let lock = locked(lock, ORPHAN_LIMIT).await?;
    let mut pid_file = lock.try_clone()?;
    let mut child = Command::new(program)
        .arg("--config")
        .arg(config)
        // The child keeps the lock through its standard input even if this process is killed.
        .stdin(Stdio::from(lock))
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| SuperviseError::Start { program: program.to_owned(), error })?;
    pid_file.set_len(0)?;
    write!(pid_file, "{}", child.id().unwrap_or_default())?;
    // What stays open here would keep the lock when the server is gone.
    drop(pid_file);
    tokio::select! {
        status = child.wait() => return Err(SuperviseError::Died(status?)),
        // The sender lives as long as its thread; both ends of this mean the same.
        _ = parent_gone => {}
    }
    stop(program, &mut child).await?;
    Ok(())
}

/// Completes when standard input ends. On a thread of its own: a blocked read would hold up the runtime's end.
fn end_of_input() -> io::Result<oneshot::Receiver<()>> {
    let (sender, receiver) = oneshot::channel::<()>();
    std::thread::Builder::new().name("parent".to_owned()).spawn(move || {
        let mut buffer = [0; 64];
        let mut input = io::stdin().lock();
        loop {
            match input.read(&mut buffer) {
                Ok(0) => break,
                Err(error) if error.kind() != io::ErrorKind::Interrupted => break,
                Ok(_) | Err(_) => {}
            }
        }
        drop(sender);
    })?;
    Ok(receiver)
}

async fn locked(path: &Path, limit: Duration) -> Result<File, SuperviseError> {
    let file = opened(path)?;
    let until = Instant::now() + limit;
    while !is_locked_now(path, &file)? {
        if Instant::now() >= until {
            return Err(SuperviseError::InUse(path.to_owned()));
        }
        tokio::time::sleep(LOCK_PAUSE).await;
    }
    Ok(file)
}

fn opened(path: &Path) -> Result<File, SuperviseError> {
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    opened.map_err(|error| SuperviseError::Lock { path: path.to_owned(), error })
}

fn is_locked_now(path: &Path, file: &File) -> Result<bool, SuperviseError> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(SuperviseError::Lock { path: path.to_owned(), error }),
    }
}

/// Kills the server that holds the lock. Its supervisor was killed: this process has the supervisor's lock.
async fn end_orphan(program: &Path, lock: &Path) -> Result<(), SuperviseError> {
    let mut file = opened(lock)?;
    if is_locked_now(lock, &file)? {
        return Ok(());
    }
    let mut pid = String::new();
    file.read_to_string(&mut pid)?;
    // Whoever holds the lock is alive, so that its process id cannot be somebody else's by now.
    if let Ok(pid) = pid.trim().parse::<u32>() {
        signal_server(program, "stop", pid).await?;
    }
    Ok(())
}

/// Ends the server politely, or at once when it does not listen.
async fn stop(program: &Path, child: &mut Child) -> io::Result<()> {
    if let Some(pid) = child.id() {
        let ended = async {
            signal_server(program, "term", pid).await?;
            child.wait().await
        };
        if let Ok(Ok(_)) = tokio::time::timeout(STOP_LIMIT, ended).await {
            return Ok(());
        }
    }
    child.kill().await
}

/// Sends a signal by the server's own way; there is no other one without unsafe code.
async fn signal_server(program: &Path, kind: &str, pid: u32) -> io::Result<()> {
    let status = Command::new(program)
        .arg("--signal")
        .arg(format!("{kind}={pid}"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .status()
        .await?;
    if status.success() { Ok(()) } else { Err(io::Error::other("nats-server does not take the signal")) }
}
