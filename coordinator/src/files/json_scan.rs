//! A pull scanner for one top-level JSON object: small fields whole, long arrays element by element, each
//! piece with its exact place in the file. It also takes a list, or values one after the other, where the caller
//! wants that.
//!
//! It checks what stands between the pieces; the pieces themselves are parsed by the caller with
//! [`Piece::parse`]. It keeps one piece in memory and does not know what any of them means.

use std::io::{self, BufRead};

use memchr::memchr2;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::Span;
use super::json_repair::{self, Repairs, repaired};

/// The largest field or element that is taken into memory, in bytes.
const MAX_PIECE_BYTES: usize = 256 * 1024 * 1024;

/// Why a file could not be scanned. Offsets are in bytes from the start of the file.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The system could not read it.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It ends too early.
    #[error("truncated: the file ends at byte {offset} in the middle of its JSON")]
    Truncated {
        /// Where it ends.
        offset: u64,
    },
    /// Something else stands there.
    #[error("not JSON: found {} at byte {offset}, expected {expected}", shown(*found))]
    Unexpected {
        /// Where.
        offset: u64,
        /// The byte that was found.
        found: u8,
        /// What JSON allows there.
        expected: &'static str,
    },
    /// One field or element is too large.
    #[error("the value at byte {offset} is over {MAX_PIECE_BYTES} bytes long")]
    TooLarge {
        /// Where it begins.
        offset: u64,
    },
    /// Text in another encoding.
    #[error("not UTF-8 but {encoding}: save it as UTF-8")]
    Encoding {
        /// Which it seems to be, and where that shows.
        encoding: String,
    },
    /// A piece is not what it should be.
    #[error("the value at byte {offset} is not as expected: {error}")]
    Piece {
        /// Where it begins.
        offset: u64,
        /// The parser's words; its line and column count from the beginning of the piece.
        error: serde_json::Error,
    },
}

fn shown(byte: u8) -> String {
    if byte.is_ascii_graphic() { format!("`{}`", char::from(byte)) } else { format!("byte 0x{byte:02x}") }
}

/// One value of the file.
#[derive(Debug, Clone, Copy)]
pub struct Piece<'a> {
    /// Where it lies.
    pub span: Span,
    /// Its bytes.
    pub raw: &'a [u8],
}

impl Piece<'_> {
    /// Reads the value as a type, repaired where it has to be.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, ScanError> {
        json_repair::from_slice(self.raw).map_err(|error| self.wrong(error))
    }

    /// The value's text as it stands, repaired where it has to be.
    pub fn text(&self) -> Result<(Box<RawValue>, Repairs), ScanError> {
        let read = |raw: &[u8]| {
            // Text may look like JSON and be no value.
            serde_json::from_slice::<serde_json::Value>(raw)?;
            serde_json::from_slice::<&RawValue>(raw).map(RawValue::to_owned)
        };
        match read(self.raw) {
            Ok(text) => Ok((text, Repairs::default())),
            Err(error) => {
                let (text, repairs) = repaired(self.raw).ok_or_else(|| self.wrong(error))?;
                Ok((read(&text).map_err(|error| self.wrong(error))?, repairs))
            }
        }
    }

    /// What has to be repaired in it.
    pub fn repairs(&self) -> Repairs {
        repaired(self.raw).map_or_else(Repairs::default, |(_, repairs)| repairs)
    }

    /// The error about this piece.
    pub(super) fn wrong(&self, error: serde_json::Error) -> ScanError {
        if let Err(not_utf8) = std::str::from_utf8(self.raw) {
            let at = not_utf8.valid_up_to();
            let byte = self.raw.get(at).copied().unwrap_or_default();
            let offset = self.span.offset + at as u64;
            let encoding = format!("perhaps Latin-1 or Windows-1252 (byte 0x{byte:02x} at byte {offset})");
            return ScanError::Encoding { encoding };
        }
        ScanError::Piece { offset: self.span.offset, error }
    }
}

/// Where the value that begins here ends; nothing where it goes on. It is not checked.
pub(super) fn end_of_value(bytes: &[u8]) -> Option<usize> {
    Outline::default().end(bytes)
}

/// What the scanner found next.
#[derive(Debug)]
pub enum Event<'a> {
    /// A field of the top-level object.
    Field {
        /// Its name.
        key: String,
        /// Its value.
        value: Piece<'a>,
    },
    /// A field that the caller wants element by element, and that is an array.
    ArrayStart {
        /// Its name.
        key: String,
    },
    /// An element of that array.
    Element(Piece<'a>),
    /// The end of that array.
    ArrayEnd,
}

/// What is expected behind a top-level value.
pub(super) const END_OF_FILE: &str = "the end of the file";

#[derive(Clone, Copy)]
enum State {
    Start,
    StartOfLines,
    Line,
    Key { first: bool },
    AfterField,
    Element { first: bool },
    AfterElement,
    Trailing,
    Done,
}

enum Step {
    Field(String, Span),
    ArrayStart(String),
    Element(Span),
    ArrayEnd,
    End,
}

/// The scanner.
pub struct Scanner<'k, R> {
    reader: R,
    streamed: &'k [&'k str],
    offset: u64,
    piece: Vec<u8>,
    state: State,
    /// The name that a top-level list gets, where one may stand there.
    list: Option<&'static str>,
    is_in_list: bool,
}

impl<'k, R: BufRead> Scanner<'k, R> {
    /// Starts; top-level arrays whose names are in `streamed` come element by element.
    pub fn new(reader: R, streamed: &'k [&'k str]) -> Self {
        let (piece, state) = (Vec::new(), State::Start);
        Self { reader, streamed, offset: 0, piece, state, list: None, is_in_list: false }
    }

    /// The same; instead of the object a list may stand there, which comes as an array of this name.
    pub fn or_list(reader: R, streamed: &'k [&'k str], name: &'static str) -> Self {
        Self { list: Some(name), ..Self::new(reader, streamed) }
    }

    /// Takes top-level values one after the other, each as an element: JSON Lines.
    pub fn lines(reader: R) -> Self {
        Self { state: State::StartOfLines, ..Self::new(reader, &[]) }
    }

    /// Goes on within an array whose first element, or end, is looked for from this place in the file on. What
    /// comes after the array's end means nothing.
    pub fn within_array(reader: R, offset: u64) -> Self {
        Self { offset, state: State::Element { first: true }, ..Self::new(reader, &[]) }
    }

    /// How far it has come, in bytes: after an array's start, where its elements begin.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next piece; `None` after a complete object followed by white space only. After an error the
    /// scanner's answers mean nothing.
    #[expect(clippy::should_implement_trait, reason = "an event borrows from the scanner; Iterator cannot")]
    pub fn next(&mut self) -> Result<Option<Event<'_>>, ScanError> {
        let step = self.step()?;
        let raw = self.piece.as_slice();
        Ok(match step {
            Step::Field(key, span) => Some(Event::Field { key, value: Piece { span, raw } }),
            Step::ArrayStart(key) => Some(Event::ArrayStart { key }),
            Step::Element(span) => Some(Event::Element(Piece { span, raw })),
            Step::ArrayEnd => Some(Event::ArrayEnd),
            Step::End => None,
        })
    }

    fn step(&mut self) -> Result<Step, ScanError> {
        loop {
            match self.state {
                State::Start => {
                    if let Some(list) = self.start()? {
                        return Ok(list);
                    }
                }
                State::StartOfLines => {
                    self.skip_byte_order_mark()?;
                    self.state = State::Line;
                }
                State::Line => {
                    if self.peek_after_space()?.is_none() {
                        self.state = State::Done;
                        continue;
                    }
                    return Ok(Step::Element(self.value()?));
                }
                State::Key { first } => match self.next_byte()? {
                    b'"' => return self.field(),
                    b'}' if first => self.pass(State::Trailing),
                    found => return Err(self.unexpected(found, "a field name (`\"`)")),
                },
                State::AfterField => match self.next_byte()? {
                    b',' => self.pass(State::Key { first: false }),
                    b'}' => self.pass(State::Trailing),
                    found => return Err(self.unexpected(found, "`,` or `}`")),
                },
                State::Element { first } => {
                    if first && self.next_byte()? == b']' {
                        return Ok(self.end_of_array());
                    }
                    let span = self.value()?;
                    self.state = State::AfterElement;
                    return Ok(Step::Element(span));
                }
                State::AfterElement => match self.next_byte()? {
                    b',' => self.pass(State::Element { first: false }),
                    b']' => return Ok(self.end_of_array()),
                    found => return Err(self.unexpected(found, "`,` or `]`")),
                },
                State::Trailing => match self.peek_after_space()? {
                    Some(found) => return Err(self.unexpected(found, END_OF_FILE)),
                    None => self.state = State::Done,
                },
                State::Done => return Ok(Step::End),
            }
        }
    }

    fn start(&mut self) -> Result<Option<Step>, ScanError> {
        self.skip_byte_order_mark()?;
        if let Some(name) = self.list
            && self.next_byte()? == b'['
        {
            self.is_in_list = true;
            self.pass(State::Element { first: true });
            return Ok(Some(Step::ArrayStart(name.to_owned())));
        }
        self.expect(b'{', "an object (`{`)")?;
        self.state = State::Key { first: true };
        Ok(None)
    }

    fn end_of_array(&mut self) -> Step {
        self.pass(if self.is_in_list { State::Trailing } else { State::AfterField });
        Step::ArrayEnd
    }

    fn field(&mut self) -> Result<Step, ScanError> {
        let span = self.value()?;
        let key: String = Piece { span, raw: &self.piece }.parse()?;
        self.expect(b':', "`:`")?;
        if self.next_byte()? == b'[' && self.streamed.contains(&key.as_str()) {
            self.pass(State::Element { first: true });
            return Ok(Step::ArrayStart(key));
        }
        let span = self.value()?;
        self.state = State::AfterField;
        Ok(Step::Field(key, span))
    }

    /// Copies the next value into `piece`. Where it ends is found by counting brackets outside of strings.
    fn value(&mut self) -> Result<Span, ScanError> {
        let first = self.next_byte()?;
        let offset = self.offset;
        let mut outline = Outline::default();
        self.piece.clear();
        loop {
            let bytes = self.reader.fill_buf()?;
            if bytes.is_empty() {
                return Err(ScanError::Truncated { offset: self.offset });
            }
            let end = outline.end(bytes);
            let taken = end.unwrap_or(bytes.len());
            self.piece.extend_from_slice(&bytes[..taken]);
            self.reader.consume(taken);
            self.offset += taken as u64;
            if self.piece.len() > MAX_PIECE_BYTES {
                return Err(ScanError::TooLarge { offset });
            }
            if end.is_some() {
                break;
            }
        }
        if self.piece.is_empty() {
            return Err(self.unexpected(first, "a value"));
        }
        Ok(Span { offset, len: self.piece.len() as u64 })
    }

    /// UTF-16 shows in its mark, or in the zeros beside the first character.
    fn refuse_utf16(&mut self) -> Result<(), ScanError> {
        let encoding = match self.reader.fill_buf()? {
            [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => "UTF-32",
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [b'{' | b'[', 0, ..] | [0, b'{' | b'[', ..] => "UTF-16",
            _ => return Ok(()),
        };
        Err(ScanError::Encoding { encoding: encoding.to_owned() })
    }

    fn skip_byte_order_mark(&mut self) -> Result<(), ScanError> {
        self.refuse_utf16()?;
        for expected in [0xef, 0xbb, 0xbf] {
            match self.peek()? {
                Some(byte) if byte == expected => self.advance(),
                Some(found) if self.offset > 0 => return Err(self.unexpected(found, "UTF-8")),
                _ => break,
            }
        }
        Ok(())
    }

    fn peek(&mut self) -> Result<Option<u8>, ScanError> {
        Ok(self.reader.fill_buf()?.first().copied())
    }

    fn advance(&mut self) {
        self.reader.consume(1);
        self.offset += 1;
    }

    fn pass(&mut self, state: State) {
        self.advance();
        self.state = state;
    }

    fn peek_after_space(&mut self) -> Result<Option<u8>, ScanError> {
        loop {
            let bytes = self.reader.fill_buf()?;
            let is_space = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
            let (spaces, end) = (bytes.iter().take_while(is_space).count(), bytes.len());
            let found = bytes.get(spaces).copied();
            self.reader.consume(spaces);
            self.offset += spaces as u64;
            if found.is_some() || end == 0 {
                return Ok(found);
            }
        }
    }

    fn next_byte(&mut self) -> Result<u8, ScanError> {
        self.peek_after_space()?.ok_or(ScanError::Truncated { offset: self.offset })
    }

    fn expect(&mut self, wanted: u8, expected: &'static str) -> Result<(), ScanError> {
        let found = self.next_byte()?;
        if found != wanted {
            return Err(self.unexpected(found, expected));
        }
        self.advance();
        Ok(())
    }

    fn unexpected(&self, found: u8, expected: &'static str) -> ScanError {
        ScanError::Unexpected { offset: self.offset, found, expected }
    }
}

/// How far into a value the bytes so far have led.
#[derive(Default)]
struct Outline {
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Outline {
    /// Where the value ends within these bytes; `None` where it goes on.
    fn end(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            if self.escaped {
                self.escaped = false;
            } else if self.in_string {
                // Nearly every byte of a file is text.
                at += memchr2(b'"', b'\\', &bytes[at..])?;
                self.escaped = bytes[at] == b'\\';
                self.in_string = self.escaped;
                if !self.in_string && self.depth == 0 {
                    return Some(at + 1);
                }
            } else {
                match byte {
                    b'"' => self.in_string = true,
                    b'{' | b'[' => self.depth += 1,
                    b'}' | b']' if self.depth > 1 => self.depth -= 1,
                    b'}' | b']' => return Some(if self.depth == 0 { at } else { at + 1 }),
                    b',' | b':' | b' ' | b'\t' | b'\n' | b'\r' if self.depth == 0 => return Some(at),
                    _ => {}
                }
            }
            at += 1;
        }
        None
    }
}

#[cfg(test)]
mod tests;
