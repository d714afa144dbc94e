//! Programs on a terminal of their own: what a person sees, another size in mid-run, a terminal that is closed.
//!
//! The terminal wraps its rows anew when its size changes, as those of most people do.

use std::io::Read as _;
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use pty_process::blocking::Pty;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::command_line::Line;
use super::processes::{PATIENCE, signal};

/// A terminal with a program on it; the program is killed when this is dropped.
pub(crate) struct Terminal {
    name: String,
    child: Child,
    pty: Option<Arc<AsyncFd<Pty>>>,
    reader: Option<JoinHandle<()>>,
    screen: Screen,
}

#[derive(Clone)]
struct Screen(Arc<Mutex<Shown>>, watch::Sender<()>);

struct Shown {
    terminal: avt::Terminal,
    bytes: Vec<u8>,
    fed: usize,
}

impl Terminal {
    /// Starts a program on a terminal of this size that can move its cursor and show colours.
    pub(crate) fn start(line: Line, columns: u16, rows: u16) -> Self {
        let (name, mut command) = line.into_parts();
        if !command.get_envs().any(|(variable, _)| variable == "TERM") {
            command.env("TERM", "xterm-256color");
        }
        let (pty, program_end) = pty_process::blocking::open().unwrap();
        pty.resize(pty_process::Size::new(rows, columns)).unwrap();
        let child = pty_process::blocking::Command::from(command).spawn(program_end).unwrap();
        fcntl_setfl(&pty, fcntl_getfl(&pty).unwrap() | OFlags::NONBLOCK).unwrap();
        #[expect(
            deprecated,
            reason = "its successor is unsafe; this one stays what it is until it is dropped"
        )]
        let pty = Arc::new(AsyncFd::new(pty).unwrap());
        let terminal = avt::Terminal::with_scrollback(usize::from(columns), usize::from(rows), None).unwrap();
        let shown = Shown { terminal, bytes: Vec::new(), fed: 0 };
        let screen = Screen(Arc::new(Mutex::new(shown)), watch::Sender::new(()));
        let reader = tokio::spawn(read(Arc::clone(&pty), screen.clone()));
        Self { name, child, pty: Some(pty), reader: Some(reader), screen }
    }

    /// Makes it as wide and as high as this.
    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        self.screen.shown().terminal.resize(usize::from(columns), usize::from(rows));
        let pty = self.pty.as_ref().expect("the terminal is open");
        pty.get_ref().resize(pty_process::Size::new(rows, columns)).unwrap();
    }

    /// Closes it, as closing its window does.
    pub(crate) async fn close(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.abort();
            drop(reader.await);
        }
        self.pty = None;
    }

    /// Sends a signal to its program by the signal's name.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Waits until what it shows is like this; gives it.
    pub(crate) async fn shows(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let mut changed = self.screen.1.subscribe();
        let shown = async {
            loop {
                let text = self.text();
                if is_so(&text) || changed.changed().await.is_err() {
                    return text;
                }
            }
        };
        let shown = tokio::time::timeout(PATIENCE, shown).await;
        shown.unwrap_or_else(|_| panic!("{} does not show {what}:\n{}", self.name, self.text()))
    }

    /// Waits for the end of its program with this exit code, which no signal may have ended.
    pub(crate) async fn ends_with(&mut self, code: i32) {
        let until = tokio::time::Instant::now() + PATIENCE;
        let status: ExitStatus = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(tokio::time::Instant::now() < until, "{} does not end:\n{}", self.name, self.text());
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert_eq!(status.code(), Some(code), "{} ended with {status}:\n{}", self.name, self.text());
        if let Some(reader) = self.reader.take() {
            // The program's end of the terminal is closed: what is left ends.
            drop(tokio::time::timeout(PATIENCE, reader).await);
        }
    }

    /// All rows from the first on; a line that the terminal has wrapped is one.
    pub(crate) fn text(&self) -> String {
        let shown = self.screen.shown();
        let mut text = String::new();
        for line in shown.terminal.screen().all_lines() {
            if line.is_wrapped() {
                text.push_str(&line.text());
            } else {
                text.push_str(line.text().trim_end());
                text.push('\n');
            }
        }
        text
    }

    /// Lines that the terminal has wrapped.
    pub(crate) fn wrapped(&self) -> Vec<String> {
        let shown = self.screen.shown();
        let lines = shown.terminal.screen().all_lines();
        lines.filter(|line| line.is_wrapped()).map(avt::Line::text).collect()
    }

    /// What its program has written, as it was written.
    pub(crate) fn bytes(&self) -> String {
        String::from_utf8_lossy(&self.screen.shown().bytes).into_owned()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Screen {
    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.0.lock().unwrap()
    }
}

impl Shown {
    /// A character may come in two parts.
    fn feed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        let whole = match std::str::from_utf8(&self.bytes[self.fed..]) {
            Ok(text) => text.len(),
            Err(error) => error.valid_up_to(),
        };
        let text = String::from_utf8_lossy(&self.bytes[self.fed..self.fed + whole]).into_owned();
        self.terminal.feed(text.as_str());
        self.fed += whole;
    }
}

async fn read(pty: Arc<AsyncFd<Pty>>, screen: Screen) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let Ok(mut ready) = pty.readable().await else { return };
        match ready.try_io(|pty| pty.get_ref().read(&mut buffer)) {
            Ok(Ok(count @ 1..)) => {
                screen.shown().feed(&buffer[..count]);
                screen.1.send_replace(());
            }
            // The program has closed its end.
            Ok(_) => return,
            Err(_would_block) => {}
        }
    }
}
