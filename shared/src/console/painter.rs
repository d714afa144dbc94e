//! The escape sequences of a live area (PURE).
//!
//! The cursor stays at the start of the area's first row. So one sequence removes the area whatever has become of
//! it: a terminal that is made narrower may have wrapped its rows, but it keeps the cursor at the same text, and
//! everything from there on is ours. Counting rows from the end would leave debris or eat log lines.

/// Goes to the start of the row and removes everything from there on.
const ERASE: &str = "\r\x1b[J";
/// A row that is longer than the terminal is wide is cut instead of wrapped: the size may change at any moment.
const NO_WRAP: &str = "\x1b[?7l";
const WRAP: &str = "\x1b[?7h";

/// What is on the screen.
#[derive(Debug, Default)]
pub(super) struct Painter {
    is_drawn: bool,
}

impl Painter {
    /// Removes the area.
    pub(super) fn erase(&mut self) -> &'static str {
        if std::mem::take(&mut self.is_drawn) { ERASE } else { "" }
    }

    /// Draws an area below what is there.
    pub(super) fn draw(&mut self, rows: &[String]) -> String {
        if rows.is_empty() {
            return String::new();
        }
        self.is_drawn = true;
        let up = match rows.len() - 1 {
            0 => String::new(),
            above => format!("\x1b[{above}A"),
        };
        format!("{NO_WRAP}{}{WRAP}\r{up}", rows.join("\r\n"))
    }
}
