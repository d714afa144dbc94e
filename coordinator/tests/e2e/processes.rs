//! Running programs as a test holds them: their output, signals to them, their end.
//!
//! Nothing is waited for without a bound, and a test that fails shows what every program of it has said.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::signal::unix::SignalKind;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long anything may take. Generous: test machines are slow and busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A program that runs; killed when dropped.
pub(crate) struct Running {
    name: String,
    child: Child,
    pid: u32,
    stdout: Captured,
    stderr: Captured,
    ended: bool,
}

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The exit code; -1 for a program that a signal ended.
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

#[derive(Clone)]
struct Text(Arc<Mutex<String>>, watch::Sender<()>);

struct Captured {
    text: Text,
    reader: Option<JoinHandle<()>>,
}

impl Captured {
    fn of(mut pipe: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let text = Text(Arc::default(), watch::Sender::new(()));
        let written = text.clone();
        let reader = tokio::spawn(async move {
            let (mut buffer, mut bytes) = (vec![0; 16 * 1024], Vec::new());
            while let Ok(count @ 1..) = pipe.read(&mut buffer).await {
                bytes.extend_from_slice(&buffer[..count]);
                *written.0.lock().unwrap() = String::from_utf8_lossy(&bytes).into_owned();
                written.1.send_replace(());
            }
        });
        Self { text, reader: Some(reader) }
    }

    fn get(&self) -> String {
        self.text.0.lock().unwrap().clone()
    }
}

impl Running {
    pub(crate) fn start(name: &str, mut command: Command) -> Self {
        heed_signals();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self {
            name: name.to_owned(),
            pid: child.id().unwrap(),
            stdout: Captured::of(child.stdout.take().unwrap()),
            stderr: Captured::of(child.stderr.take().unwrap()),
            child,
            ended: false,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// What it has said on standard error.
    pub(crate) fn said(&self) -> String {
        self.stderr.get()
    }

    /// Sends a signal by its name, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        assert!(!self.ended, "{} has ended, it takes no signal", self.name);
        signal(self.pid, name);
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) async fn kill(self) -> Ended {
        let name = self.name.clone();
        let ended = self.ended_at_once().await;
        assert_eq!(ended.code, -1, "{name} ended by itself before it was killed:\n{}", ended.stderr);
        ended
    }

    /// SIGKILL if it still runs; how it ended.
    pub(crate) async fn ended_at_once(mut self) -> Ended {
        if self.is_running() {
            self.signal("KILL");
        }
        self.wait().await
    }

    /// Waits for its end at most this long; gives it back when it goes on.
    pub(crate) async fn ends_within(mut self, limit: Duration) -> Result<Ended, Self> {
        match tokio::time::timeout(limit, self.child.wait()).await {
            Ok(_) => Ok(self.wait().await),
            Err(_) => Err(self),
        }
    }

    /// Waits until it was killed at its crash point.
    pub(crate) async fn dies(mut self, place: &str) {
        let ended = self.wait().await;
        assert_eq!(ended.code, -1, "{} was never at {place}:\n{}", self.name, ended.stderr);
    }

    /// Waits until standard error holds this text.
    pub(crate) async fn says(&mut self, part: &str) {
        let mut changed = self.stderr.text.1.subscribe();
        let said = async {
            while !self.stderr.get().contains(part) {
                if changed.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        let said = tokio::select! {
            () = said => true,
            _ = self.child.wait() => self.ended_with(part).await,
            () = tokio::time::sleep(PATIENCE) => false,
        };
        assert!(said, "{} does not say `{part}`", self.name);
    }

    async fn ended_with(&mut self, part: &str) -> bool {
        self.read_to_end().await;
        self.said().contains(part)
    }

    /// Waits for its end with this exit code.
    pub(crate) async fn ends_with(self, code: i32) -> Ended {
        let name = self.name.clone();
        let Ok(ended) = self.ends_within(PATIENCE).await else {
            panic!("{name} does not end within {PATIENCE:?}");
        };
        let Ended { stdout, stderr, .. } = &ended;
        assert_eq!(ended.code, code, "{name} ended with another exit code:\n{stderr}\n{stdout}");
        ended
    }

    /// Whether it runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    async fn wait(&mut self) -> Ended {
        let Ok(status) = tokio::time::timeout(PATIENCE, self.child.wait()).await else {
            panic!("{} does not end within {PATIENCE:?}", self.name);
        };
        self.ended = true;
        self.read_to_end().await;
        let code = |status: ExitStatus| status.code().unwrap_or(-1);
        Ended { code: code(status.unwrap()), stdout: self.stdout.get(), stderr: self.stderr.get() }
    }

    /// A pipe that stays open means that somebody else holds it, such as an orphan.
    async fn read_to_end(&mut self) {
        for captured in [&mut self.stdout, &mut self.stderr] {
            if let Some(reader) = captured.reader.take() {
                let read = tokio::time::timeout(PATIENCE, reader).await;
                assert!(read.is_ok(), "{} has ended, but its output is held open", self.name);
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            show(&format!("{} on standard error:\n{}", self.name, self.stderr.get()));
            show(&format!("{} on standard output:\n{}", self.name, self.stdout.get()));
        }
    }
}

#[expect(clippy::print_stderr, reason = "what a failed test shows")]
fn show(text: &str) {
    eprintln!("---- {text}");
}

/// Programs are started with the signals of a terminal at their defaults, also where these tests run in the background of
/// a shell, which ignores some: a signal with a handler is one with its default in what is started.
fn heed_signals() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        let ignored = ignored.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or_default();
        for kind in [SignalKind::hangup(), SignalKind::interrupt()] {
            if ignored >> (kind.as_raw_value() - 1) & 1 == 1 {
                drop(tokio::signal::unix::signal(kind).unwrap());
            }
        }
    });
}

/// Sends a signal to a process, by the shell's own `kill`.
pub(crate) fn signal(pid: u32, name: &str) {
    let mut shell = std::process::Command::new("/bin/sh");
    let sent = shell.args(["-c", "kill -s \"$1\" \"$2\"", "sh", name, &pid.to_string()]).status().unwrap();
    assert!(sent.success(), "SIG{name} could not be sent to {pid}");
}

/// Processes whose command line names this directory or something in it.
pub(crate) fn processes_in(directory: &Path) -> Vec<String> {
    let needle = directory.to_str().unwrap();
    let mut found = Vec::new();
    // Where there is no /proc nothing is found, and nothing is proved.
    for entry in std::fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok) {
        let Ok(line) = std::fs::read(entry.path().join("cmdline")) else { continue };
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(needle) {
            found.push(format!("{}: {line}", entry.file_name().to_string_lossy()));
        }
    }
    found
}

/// The environments of processes whose command line holds this word and names this directory.
pub(crate) fn environments_of(word: &str, directory: &Path) -> Vec<String> {
    let pids = processes_in(directory)
        .into_iter()
        .filter(|line| line.contains(word))
        .filter_map(|line| line.split_once(": ").map(|(pid, _)| pid.to_owned()));
    pids.filter_map(|pid| std::fs::read(format!("/proc/{pid}/environ")).ok())
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .collect()
}

/// Waits until no process' command line names this directory.
pub(crate) async fn no_process_is_left_in(directory: &Path) {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let left = processes_in(directory);
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < until, "left behind: {left:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until something holds that nobody announces, such as a file's appearance.
pub(crate) async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "does not happen within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
