//! What a person sees, on the screen of a terminal that wraps its rows anew when its size changes; and what happens
//! to a stream that takes nothing.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use super::painter::Painter;
use super::*;

/// A terminal and what it shows.
#[derive(Clone)]
struct Terminal(Arc<Mutex<(avt::Terminal, String)>>);

impl Terminal {
    fn new(columns: usize, rows: usize) -> Self {
        let terminal = avt::Terminal::with_scrollback(columns, rows, None).unwrap();
        Self(Arc::new(Mutex::new((terminal, String::new()))))
    }

    fn resize(&self, columns: usize, rows: usize) {
        self.0.lock().unwrap().0.resize(columns, rows);
    }

    fn size(&self) -> Size {
        let (columns, rows) = self.0.lock().unwrap().0.size();
        Size { columns, rows }
    }

    /// All rows from the first on; those that the terminal itself has wrapped as one.
    fn text(&self) -> String {
        let terminal = self.0.lock().unwrap();
        let mut text = String::new();
        for line in terminal.0.screen().all_lines() {
            if line.is_wrapped() {
                text.push_str(&line.text());
            } else {
                text.push_str(line.text().trim_end());
                text.push('\n');
            }
        }
        text.trim_end().to_owned()
    }

    /// What was written, as it was written.
    fn bytes(&self) -> String {
        self.0.lock().unwrap().1.clone()
    }

    fn feed(&self, text: &str) {
        let mut terminal = self.0.lock().unwrap();
        // As the system's terminal driver does.
        terminal.0.feed(text.replace('\n', "\r\n").as_str());
        terminal.1.push_str(text);
    }
}

impl Write for Terminal {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.feed(std::str::from_utf8(bytes).unwrap());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn console_on(terminal: &Terminal) -> Console {
    let (log_size, live_size) = (terminal.clone(), terminal.clone());
    let streams = Streams {
        log: Box::new(terminal.clone()),
        log_size: Box::new(move || Some(log_size.size())),
        live: None,
        live_size: Box::new(move || Some(live_size.size())),
    };
    Console::start_with(Look::default(), true, true, streams)
}

/// A console whose log goes to this stream, which is no terminal.
fn console_to(look: Look, log: impl Write + Send + 'static) -> Console {
    let streams =
        Streams { log: Box::new(log), log_size: Box::new(|| None), live: None, live_size: Box::new(|| None) };
    Console::start_with(look, false, false, streams)
}

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn lines_stand_above_the_live_area_which_is_there_once() {
    let terminal = Terminal::new(60, 12);
    let console = console_on(&terminal);
    for number in 0..20 {
        console.show(move |_| vec![format!("{number} of 20"), "below".to_owned()]);
        console.say(&format!("line {number}"));
        console.flush(PATIENCE);
    }
    let lines: Vec<_> = (0..20).map(|number| format!("line {number}")).collect();
    assert_eq!(terminal.text(), format!("{}\n19 of 20\nbelow", lines.join("\n")));
    console.hide();
    console.say("the end");
    console.flush(PATIENCE);
    assert_eq!(terminal.text(), format!("{}\nthe end", lines.join("\n")));
}

#[test]
fn a_resized_terminal_has_no_debris_and_every_line() {
    let terminal = Terminal::new(200, 24);
    let console = console_on(&terminal);
    console.say(&"a line that is longer than a narrow terminal is wide ".repeat(2));
    for columns in [200, 60, 80, 30, 200, 61] {
        terminal.resize(columns, 24);
        console.show(|size| vec!["=".repeat(size.columns * 2), "second".to_owned()]);
        console.flush(PATIENCE);
        let text = terminal.text();
        assert_eq!(text.matches("second").count(), 1, "at {columns}:\n{text}");
        assert_eq!(text.matches('…').count(), 1, "at {columns}:\n{text}");
        assert_eq!(text.matches("a line that is longer").count(), 2, "at {columns}:\n{text}");
    }
}

#[test]
fn no_row_is_wider_or_higher_than_the_terminal() {
    let terminal = Terminal::new(60, 4);
    let console = console_on(&terminal);
    console.show(|_| (0..10).map(|row| format!("{row} {}", "x".repeat(100))).collect());
    console.flush(PATIENCE);
    let text = terminal.text();
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(text.lines().all(|row| width(row) == 59 && row.ends_with('…')), "{text}");
}

/// What happens to a terminal.
#[derive(Debug, Clone)]
enum Happens {
    Line(usize),
    Draw(usize, usize),
    Resize(usize),
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        (0usize..120).prop_map(Happens::Line),
        (1usize..6, 0usize..60).prop_map(|(rows, width)| Happens::Draw(rows, width)),
        (20usize..100).prop_map(Happens::Resize),
    ]
}

proptest! {
    #[test]
    fn erasing_leaves_exactly_the_lines(story in proptest::collection::vec(happens(), 1..40)) {
        let terminal = Terminal::new(80, 24);
        let (mut painter, mut lines) = (Painter::default(), Vec::new());
        for happens in story {
            match happens {
                Happens::Line(width) => {
                    lines.push(format!("{}#", "l".repeat(width)));
                    terminal.feed(&format!("{}{}\n", painter.erase(), lines.last().unwrap()));
                }
                Happens::Draw(rows, width) => {
                    let width = width.min(terminal.size().columns - 1);
                    let erased = painter.erase();
                    terminal.feed(&format!("{erased}{}", painter.draw(&vec!["d".repeat(width); rows])));
                }
                Happens::Resize(columns) => terminal.resize(columns, 24),
            }
        }
        terminal.feed(painter.erase());
        prop_assert_eq!(terminal.text(), lines.join("\n"));
    }
}

/// Takes nothing until it is opened.
struct Gate {
    opened: Receiver<()>,
    is_open: bool,
    written: Arc<Mutex<Vec<u8>>>,
}

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.is_open {
            self.opened.recv().unwrap();
            self.is_open = true;
        }
        self.written.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn gate() -> (Gate, Sender<()>, Arc<Mutex<Vec<u8>>>) {
    let ((open, opened), written) = (channel(), Arc::<Mutex<Vec<u8>>>::default());
    (Gate { opened, is_open: false, written: Arc::clone(&written) }, open, written)
}

#[test]
fn a_reader_that_has_stopped_holds_nobody_up_and_learns_what_it_missed() {
    let (gate, open, written) = gate();
    let console = console_to(Look::default(), gate);
    // More than is kept: one batch is with the stream, another one waits.
    let line = "x".repeat(1000);
    for _ in 0..3 * MOST_WAITING / line.len() {
        console.say(&line);
    }
    console.flush(Duration::from_millis(50));
    assert_eq!(written.lock().unwrap().len(), 0);
    open.send(()).unwrap();
    console.flush(PATIENCE);
    let written = String::from_utf8(written.lock().unwrap().clone()).unwrap();
    let kept = written.lines().filter(|found| **found == line).count();
    let told = written.lines().find_map(|line| line.strip_prefix("warning: ")).unwrap();
    let missed: usize = told.split(' ').next().unwrap().parse().unwrap();
    assert_eq!(kept + missed, 3 * MOST_WAITING / line.len());
    assert!(told.ends_with("lines left out: standard error was not read"), "{told}");
}

struct Broken(io::ErrorKind);

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Err(self.0.into())
    }
}

#[test]
fn a_stream_that_fails_loses_lines_and_nothing_else() {
    for kind in [io::ErrorKind::BrokenPipe, io::ErrorKind::StorageFull, io::ErrorKind::Other] {
        let console = console_to(Look::default(), Broken(kind));
        for _ in 0..100 {
            console.say("nobody reads this");
        }
        console.flush(PATIENCE);
        assert!(!console.0.state().has_work());
    }
}

#[test]
fn a_dumb_terminal_gets_no_escape_sequence() {
    let terminal = Terminal::new(40, 10);
    let size = terminal.clone();
    let streams = Streams {
        log: Box::new(terminal.clone()),
        log_size: Box::new(move || Some(size.size())),
        live: None,
        live_size: Box::new(|| None),
    };
    let look = Look { is_dumb: true, ..Look::default() };
    let console = Console::start_with(look, true, look.draws(), streams);
    console.show(|_| vec!["a live area".to_owned()]);
    console.say("twelve words that are folded since a terminal of forty columns is narrow");
    console.flush(PATIENCE);
    assert!(!terminal.bytes().contains('\x1b'), "{:?}", terminal.bytes());
    assert!(terminal.bytes().lines().all(|row| width(row) <= 40), "{}", terminal.bytes());
}

#[test]
fn as_json_every_line_is_an_object() {
    let (gate, open, written) = gate();
    open.send(()).unwrap();
    let look = Look { format: LogFormat::Json, ..Look::default() };
    let console = console_to(look, gate);
    console.say("two\nlines\x1b[2J");
    let fields = Map::from_iter([("summary".to_owned(), serde_json::json!({"chunks": 3}))]);
    console.tell(Level::INFO, "summary", "result  finished", fields);
    console.error("it failed", 5);
    console.flush(PATIENCE);
    let written = String::from_utf8(written.lock().unwrap().clone()).unwrap();
    let objects: Vec<Value> = written.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(objects.len(), 3);
    assert_eq!(objects[0]["message"], "two\nlines\x1b[2J");
    assert!(!written.contains('\x1b'));
    assert_eq!((&objects[1]["event"], &objects[1]["summary"]["chunks"]), (&"summary".into(), &3.into()));
    assert_eq!((&objects[2]["level"], &objects[2]["message"]), (&"ERROR".into(), &"it failed".into()));
    assert_eq!(objects[2]["exit_code"], 5);
    assert!(objects.iter().all(|object| object["timestamp"].as_str().unwrap().ends_with('Z')));
}

#[test]
fn a_log_line_cannot_steer_the_terminal() {
    let (gate, open, written) = gate();
    open.send(()).unwrap();
    let console = console_to(Look::default(), gate);
    console.make_writer().write_all("WARN host=\x1b]0;title\x07 \u{202e}gpu\r1\n".as_bytes()).unwrap();
    console.flush(PATIENCE);
    assert_eq!(String::from_utf8(written.lock().unwrap().clone()).unwrap(), "WARN host= ]0;title   gpu 1\n");
}
