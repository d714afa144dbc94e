//! The notation of env files as python-dotenv understands it, and its translation for `dotenvy`.
//!
//! Pure text in, text out: every value is resolved here (quotes, escapes, comments, `${NAME}`), then written
//! as `NAME="..."` on one line with everything escaped that `dotenvy` would treat specially. Python text
//! rules hold: what `\s` matches is a space, and `\r\n` is one end of line.

use std::collections::HashMap;

/// A file in the form for `dotenvy`.
pub(super) struct Prepared {
    /// One `NAME="value"` per line.
    pub(super) text: String,
    /// For each line of `text` its line in the file, counted from 1.
    pub(super) lines: Vec<usize>,
    /// Lines that could not be understood; none of those after them is lost.
    pub(super) errors: Vec<SyntaxError>,
}

/// A line that python-dotenv would skip with a warning. Never holds the value, which may be a secret.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SyntaxError {
    /// Counted from 1.
    pub(super) line: usize,
    pub(super) problem: String,
    pub(super) remedy: &'static str,
}

/// Translates a file. `process` gives variables of the process environment, which win in `${NAME}`.
pub(super) fn prepare(text: &str, process: &dyn Fn(&str) -> Option<String>) -> Prepared {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n").replace('\r', "\n");
    let mut scanner = Scanner { text: &text, at: 0 };
    let mut known: HashMap<String, String> = HashMap::new();
    let mut prepared = Prepared { text: String::new(), lines: Vec::new(), errors: Vec::new() };
    while let Some(binding) = scanner.binding() {
        match binding {
            Err(error) => prepared.errors.push(error),
            // A name without `=` sets nothing, and what stood before is forgotten.
            Ok(Binding { key, value: None, line }) => {
                known.insert(key.clone(), String::new());
                prepared.write(&key, "", line);
            }
            Ok(Binding { key, value: Some(value), line }) => {
                let value = expand(&value, |name| process(name).or_else(|| known.get(name).cloned()));
                prepared.write(&key, &value, line);
                known.insert(key, value);
            }
        }
    }
    prepared
}

impl Prepared {
    fn write(&mut self, key: &str, value: &str, line: usize) {
        // No variable of ours has another kind of name, and dotenvy refuses the whole line.
        if !is_plain_name(key) {
            return;
        }
        self.text.push_str(key);
        self.text.push_str("=\"");
        for c in value.chars() {
            match c {
                '\n' => self.text.push_str("\\n"),
                '\\' | '"' | '$' => self.text.extend(['\\', c]),
                _ => self.text.push(c),
            }
        }
        self.text.push_str("\"\n");
        self.lines.push(line);
    }
}

fn is_plain_name(key: &str) -> bool {
    !key.starts_with(|c: char| c.is_ascii_digit())
        && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Replaces `${NAME}` and `${NAME:-default}`; every other `$` stays.
fn expand(value: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut expanded = String::new();
    let mut rest = value;
    while let Some(start) = rest.find("${") {
        let inner_and_rest = &rest[start + 2..];
        let reference = inner_and_rest.split_once('}').and_then(|(inner, after)| {
            let (name, default) = match inner.split_once(':') {
                None => (inner, ""),
                Some((name, default)) => (name, default.strip_prefix('-')?),
            };
            Some((name, default, after))
        });
        expanded.push_str(&rest[..start]);
        if let Some((name, default, after)) = reference {
            expanded.push_str(&lookup(name).unwrap_or_else(|| default.to_owned()));
            rest = after;
        } else {
            expanded.push_str("${");
            rest = inner_and_rest;
        }
    }
    expanded + rest
}

struct Binding {
    key: String,
    value: Option<String>,
    line: usize,
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    /// The next `NAME=value`, past blank lines and comments.
    fn binding(&mut self) -> Option<Result<Binding, SyntaxError>> {
        loop {
            self.skip(is_space);
            self.peek()?;
            let start = self.at;
            self.skip_export();
            if self.rest().starts_with('#') {
                self.skip(|c| c != '\n');
                continue;
            }
            let line = 1 + self.text[..start].matches('\n').count();
            let parsed = self.key_and_value();
            if parsed.is_err() {
                self.skip(|c| c != '\n');
            }
            return Some(match parsed {
                Ok((key, value)) => Ok(Binding { key, value, line }),
                Err((problem, remedy)) => Err(SyntaxError { line, problem, remedy }),
            });
        }
    }

    fn skip_export(&mut self) {
        if self.rest().strip_prefix("export").is_some_and(|rest| rest.starts_with(is_blank)) {
            self.at += "export".len();
            self.skip(is_blank);
        }
    }

    fn key_and_value(&mut self) -> Result<(String, Option<String>), (String, &'static str)> {
        const NO_NAME: (&str, &str) =
            ("no variable name found", "write NAME=value, or put # before a comment");
        let key = if let Some(quoted) = self.rest().strip_prefix('\'') {
            let length =
                quoted.find('\'').ok_or(("a quoted name is not closed".to_owned(), "write NAME=value"))?;
            self.at += length + 2;
            &quoted[..length]
        } else {
            self.take(|c| c != '=' && c != '#' && !is_space(c))
        };
        if key.is_empty() {
            return Err((NO_NAME.0.to_owned(), NO_NAME.1));
        }
        self.skip(is_blank);
        let value = if self.rest().starts_with('=') { Some(self.value(key)?) } else { None };
        self.skip(is_blank);
        if self.rest().starts_with('#') {
            self.skip(|c| c != '\n');
        }
        match (self.peek(), &value) {
            (None | Some('\n'), _) => Ok((key.to_owned(), value)),
            (_, Some(_)) => Err((
                format!("there is text after the closing quote of {key}"),
                "escape a quote inside quotes with \\, or leave the value without quotes",
            )),
            (_, None) => {
                Err((format!("no `=` after `{key}`"), "write NAME=value, or put # before a comment"))
            }
        }
    }

    fn value(&mut self, key: &str) -> Result<String, (String, &'static str)> {
        self.at += 1;
        let spaces = self.take(is_blank);
        match self.peek() {
            Some('#') if !spaces.is_empty() => Ok(String::new()),
            Some(quote @ ('\'' | '"')) => self.quoted(quote).ok_or_else(|| {
                (
                    format!("the quote of {key} is not closed"),
                    "close it; a value that begins with an apostrophe goes into double quotes",
                )
            }),
            _ => Ok(without_comment(self.take(|c| c != '\n')).trim_end_matches(is_space).to_owned()),
        }
    }

    /// A value in quotes, escapes resolved. Does not move when the quote is never closed.
    fn quoted(&mut self, quote: char) -> Option<String> {
        let mut value = String::new();
        let mut chars = self.text[self.at + 1..].char_indices();
        while let Some((offset, c)) = chars.next() {
            if c == quote {
                self.at += 1 + offset + 1;
                return Some(value);
            }
            if c != '\\' {
                value.push(c);
                continue;
            }
            let (_, escaped) = chars.next()?;
            match unescaped(quote, escaped) {
                Some(meant) => value.push(meant),
                None => value.extend(['\\', escaped]),
            }
        }
        None
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn take(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let length = rest.find(|c| !wanted(c)).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    fn skip(&mut self, wanted: impl Fn(char) -> bool) {
        self.take(wanted);
    }
}

/// What a backslash and `escaped` mean between these quotes; `None`: the backslash stays.
fn unescaped(quote: char, escaped: char) -> Option<char> {
    match (quote, escaped) {
        (_, '\\' | '\'') | ('"', '"') => Some(escaped),
        ('"', 'a') => Some('\u{7}'),
        ('"', 'b') => Some('\u{8}'),
        ('"', 'f') => Some('\u{c}'),
        ('"', 'n') => Some('\n'),
        ('"', 'r') => Some('\r'),
        ('"', 't') => Some('\t'),
        ('"', 'v') => Some('\u{b}'),
        _ => None,
    }
}

/// An unquoted value up to the first `#` that follows a space.
fn without_comment(value: &str) -> &str {
    let mut before = None;
    for (at, c) in value.char_indices() {
        if c == '#' && before.is_some_and(is_space) {
            return &value[..at];
        }
        before = Some(c);
    }
    value
}

/// What `\s` matches in Python.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

fn is_blank(c: char) -> bool {
    is_space(c) && c != '\n'
}

#[cfg(test)]
#[path = "env_syntax_tests.rs"]
mod tests;
