//! The thread that writes: lines, then the live area below them. Errors of a stream lose what could not be written.

use std::io::{ErrorKind, Write};
use std::sync::PoisonError;
use std::time::Duration;

use serde_json::Map;
use tracing::Level;

use super::painter::Painter;
use super::record::record;
use super::{Inner, Line, LogFormat, Rows, Size, cut, fold};

/// Somebody else has made the stream one that does not wait.
const TRY_AGAIN: Duration = Duration::from_millis(10);

type SizeOf = Box<dyn Fn() -> Option<Size> + Send>;

/// What is written to.
pub(super) struct Streams {
    /// For lines.
    pub(super) log: Box<dyn Write + Send>,
    /// The size of its terminal, if it is one.
    pub(super) log_size: SizeOf,
    /// For the live area, where that is another stream of the same terminal.
    pub(super) live: Option<Box<dyn Write + Send>>,
    /// The size of the live area's terminal.
    pub(super) live_size: SizeOf,
}

/// What is to be written next.
struct Work {
    lines: Vec<Line>,
    left_out: u64,
    live: Option<Rows>,
    is_live_stale: bool,
}

/// Writes until the process ends.
pub(super) fn run(console: &Inner, mut streams: Streams) {
    let mut painter = Painter::default();
    loop {
        let work = console.next();
        let is_terminal = (streams.log_size)().is_some();
        let text = console.text_of(&work, (streams.log_size)());
        let touches_live = work.is_live_stale || (is_terminal && !text.is_empty());
        let erased = if touches_live { painter.erase() } else { "" };
        let drawn = match (&work.live, touches_live) {
            (Some(rows), true) => draw(&mut painter, rows, (streams.live_size)()),
            (_, _) => String::new(),
        };
        match &mut streams.live {
            Some(live) => {
                console.write(live, erased);
                console.write(&mut streams.log, &text);
                console.write(live, &drawn);
            }
            None => console.write(&mut streams.log, &format!("{erased}{text}{drawn}")),
        }
        console.state().is_writing = false;
        console.progress.notify_all();
    }
}

fn draw(painter: &mut Painter, rows: &Rows, size: Option<Size>) -> String {
    // A terminal that is gone has no size.
    let Some(size) = size else { return String::new() };
    let mut rows = rows(size);
    rows.truncate(size.rows.saturating_sub(1).max(1));
    for row in &mut rows {
        *row = cut(row, size.columns.saturating_sub(1));
    }
    painter.draw(&rows)
}

impl Inner {
    /// Waits for something to write.
    fn next(&self) -> Work {
        let mut state = self.state();
        while !state.has_work() {
            state = self.news.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.is_writing = true;
        state.waiting_bytes = 0;
        Work {
            lines: std::mem::take(&mut state.lines),
            left_out: std::mem::take(&mut state.left_out),
            live: state.live.clone(),
            is_live_stale: std::mem::take(&mut state.is_live_stale),
        }
    }

    fn text_of(&self, work: &Work, size: Option<Size>) -> String {
        let mut text = String::new();
        for line in &work.lines {
            match size {
                Some(size) if line.folds => text.push_str(&fold(&line.text, size.columns)),
                _ => text.push_str(&line.text),
            }
            text.push('\n');
        }
        if work.left_out > 0 {
            let message = format!("{} lines left out: standard error was not read", work.left_out);
            let line = match self.look.format {
                LogFormat::Human => format!("warning: {message}"),
                LogFormat::Json => record(Level::WARN, "text", &message, Map::new()),
            };
            text.push_str(&line);
            text.push('\n');
        }
        text
    }

    fn write(&self, stream: &mut Box<dyn Write + Send>, text: &str) {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            match stream.write(rest) {
                Ok(0) => return,
                Ok(written) => {
                    rest = &rest[written..];
                    self.state().writes += 1;
                    self.progress.notify_all();
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(TRY_AGAIN),
                Err(_) => return,
            }
        }
        // A stream that takes no more loses what it holds.
        drop(stream.flush());
    }
}
