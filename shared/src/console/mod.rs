//! Standard error as both programs use it: log lines, the program's own lines, and a live area that is drawn
//! again and again.
//!
//! A thread writes. A terminal that is closed, a pipe whose reader is gone and a disk that is full lose lines and
//! nothing else: no error of a stream reaches the work. A reader that has stopped reading holds up that thread
//! only; beyond 1 MiB of waiting text, lines are counted and left out. [`Console::flush`] waits at the end of the
//! program.
//!
//! With `--log-format json` every line is one JSON object. It must not know what a line or a row is about.

mod fold;
mod look;
mod painter;
mod record;
mod writer;

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::termios::tcgetwinsize;
use serde_json::{Map, Value};
use tokio::signal::unix::{SignalKind, signal};
use tracing::Level;
use tracing_subscriber::fmt::MakeWriter;

pub use fold::{cut, fold, width};
pub use look::{Colours, LogFormat, Look};

use crate::plain;
use writer::Streams;

/// Bytes of lines that wait for a reader; later lines are counted and left out.
const MOST_WAITING: usize = 1024 * 1024;
/// How long the end of a program waits for a reader that reads nothing.
pub const LAST_LINES: Duration = Duration::from_secs(3);

/// How large a terminal is, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Characters in a row.
    pub columns: usize,
    /// Rows.
    pub rows: usize,
}

/// Where the live area is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Live {
    /// Nowhere.
    No,
    /// On standard error, if that is a terminal that can move its cursor.
    Stderr,
    /// On standard output, likewise.
    Stdout,
}

/// Gives the rows of the live area for a terminal of this size.
type Rows = Arc<dyn Fn(Size) -> Vec<String> + Send + Sync>;

/// Standard error and the live area; cheap to clone.
#[derive(Clone)]
pub struct Console(Arc<Inner>);

struct Inner {
    look: Look,
    is_terminal: bool,
    has_live: bool,
    state: Mutex<State>,
    /// Something is to be written.
    news: Condvar,
    /// Something was written.
    progress: Condvar,
}

/// What is to be written.
#[derive(Default)]
struct State {
    lines: Vec<Line>,
    waiting_bytes: usize,
    left_out: u64,
    live: Option<Rows>,
    is_live_stale: bool,
    is_writing: bool,
    writes: u64,
}

/// A line, or several, without their last line end.
struct Line {
    text: String,
    /// Whether a narrow terminal gets it in several rows.
    folds: bool,
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console").field("look", &self.0.look).finish_non_exhaustive()
    }
}

impl Console {
    /// Starts the thread that writes to the standard streams of this process.
    pub fn start(look: Look, live: Live) -> Self {
        let is_terminal = io::stderr().is_terminal();
        let is_live_terminal = match live {
            Live::No => false,
            Live::Stderr => is_terminal,
            Live::Stdout => io::stdout().is_terminal(),
        };
        let has_live = is_live_terminal && look.draws();
        let streams = Streams {
            log: Box::new(io::stderr()),
            log_size: Box::new(|| terminal_size(&io::stderr())),
            live: match (has_live, live) {
                (true, Live::Stdout) => Some(Box::new(io::stdout())),
                (_, _) => None,
            },
            live_size: match live {
                Live::Stdout => Box::new(|| terminal_size(&io::stdout())),
                Live::No | Live::Stderr => Box::new(|| terminal_size(&io::stderr())),
            },
        };
        Self::start_with(look, is_terminal, has_live, streams)
    }

    fn start_with(look: Look, is_terminal: bool, has_live: bool, streams: Streams) -> Self {
        let inner = Arc::new(Inner {
            look,
            is_terminal,
            has_live,
            state: Mutex::default(),
            news: Condvar::new(),
            progress: Condvar::new(),
        });
        let writing = Arc::clone(&inner);
        let thread = std::thread::Builder::new().name("console".to_owned());
        // Without a thread nothing is shown, and the work goes on.
        drop(thread.spawn(move || writer::run(&writing, streams)));
        Self(inner)
    }

    /// Draws the live area again whenever the terminal gets another size; within the program's runtime.
    pub fn follow_size(&self) {
        if !self.0.has_live {
            return;
        }
        let Ok(mut changes) = signal(SignalKind::window_change()) else { return };
        let console = self.clone();
        tokio::spawn(async move {
            while changes.recv().await.is_some() {
                console.0.change(|state| state.is_live_stale = true);
            }
        });
    }

    /// Whether every line is a JSON object.
    pub fn is_json(&self) -> bool {
        self.0.look.format == LogFormat::Json
    }

    /// Whether there is a live area.
    pub fn has_live(&self) -> bool {
        self.0.has_live
    }

    /// Whether log lines have colours.
    pub fn has_colours(&self) -> bool {
        self.0.look.colours.are_on(self.0.is_terminal) && !self.is_json()
    }

    /// How wide standard error is, if it is a terminal.
    pub fn columns(&self) -> Option<usize> {
        self.0.is_terminal.then(|| terminal_size(&io::stderr())).flatten().map(|size| size.columns)
    }

    /// Shows lines for people.
    pub fn say(&self, text: &str) {
        self.tell(Level::INFO, "text", text, Map::new());
    }

    /// Shows lines for people; as JSON one object with these fields beside the text.
    pub fn tell(&self, level: Level, event: &str, text: &str, fields: Map<String, Value>) {
        if self.is_json() {
            self.push(record::record(level, event, text.trim(), fields), false);
        } else {
            self.push(plain::text(text), true);
        }
    }

    /// Shows why the program ends.
    pub fn error(&self, message: &str, exit_code: u8) {
        if self.is_json() {
            let fields = Map::from_iter([("exit_code".to_owned(), exit_code.into())]);
            self.tell(Level::ERROR, "error", message, fields);
        } else {
            self.say(&format!("error: {message}"));
        }
    }

    /// Shows a live area, or another one; `rows` gives its rows for a terminal of a size.
    pub fn show(&self, rows: impl Fn(Size) -> Vec<String> + Send + Sync + 'static) {
        if self.0.has_live {
            self.0.change(|state| {
                state.live = Some(Arc::new(rows));
                state.is_live_stale = true;
            });
        }
    }

    /// Takes the live area away.
    pub fn hide(&self) {
        self.0.change(|state| state.is_live_stale |= state.live.take().is_some());
    }

    /// Waits until all is written; gives up when nothing could be written for this long.
    pub fn flush(&self, patience: Duration) {
        let mut state = self.0.state();
        let (mut seen, mut since) = (state.writes, Instant::now());
        while state.has_work() || state.is_writing {
            let left = patience.saturating_sub(since.elapsed());
            if left.is_zero() {
                return;
            }
            state = self.0.progress.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            if state.writes != seen {
                (seen, since) = (state.writes, Instant::now());
            }
        }
    }

    fn push(&self, text: String, folds: bool) {
        self.0.change(|state| {
            if state.waiting_bytes + text.len() > MOST_WAITING {
                state.left_out += 1;
            } else {
                state.waiting_bytes += text.len();
                state.lines.push(Line { text, folds });
            }
        });
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.news.notify_one();
    }
}

impl State {
    fn has_work(&self) -> bool {
        !self.lines.is_empty() || self.left_out > 0 || self.is_live_stale
    }
}

fn terminal_size(stream: &impl std::os::fd::AsFd) -> Option<Size> {
    let size = tcgetwinsize(stream).ok()?;
    let or = |found: u16, usual: usize| if found == 0 { usual } else { usize::from(found) };
    Some(Size { columns: or(size.ws_col, 80), rows: or(size.ws_row, 24) })
}

/// How wide standard output is, if it is a terminal.
pub fn output_columns() -> Option<usize> {
    io::stdout().is_terminal().then(|| terminal_size(&io::stdout())).flatten().map(|size| size.columns)
}

/// What became of a text on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Printed {
    /// It was taken.
    Read,
    /// Nobody reads any more.
    ReaderIsGone,
}

/// Prints what a command was asked for on standard output. A reader that has seen enough is no error.
pub fn print(plain: &str) -> io::Result<Printed> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(plain.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(Printed::Read),
        Err(error) if is_reader_gone(&error) => Ok(Printed::ReaderIsGone),
        Err(error) => Err(error),
    }
}

/// Whether a write failed because the terminal is closed or the pipe has no reader.
fn is_reader_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
        || error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

/// One event of the log on its way to the console.
#[derive(Debug)]
pub struct LogWriter {
    console: Console,
    buffer: Vec<u8>,
}

impl<'a> MakeWriter<'a> for Console {
    type Writer = LogWriter;

    fn make_writer(&'a self) -> LogWriter {
        LogWriter { console: self.clone(), buffer: Vec::new() }
    }
}

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for LogWriter {
    /// Log lines hold names and messages of others.
    fn drop(&mut self) {
        if !self.buffer.is_empty() {
            let line = plain::log_line(&String::from_utf8_lossy(&self.buffer));
            self.console.push(line.trim_end_matches('\n').to_owned(), !self.console.is_json());
        }
    }
}

#[cfg(test)]
mod tests;
