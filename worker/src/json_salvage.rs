//! Reads JSON the way models write it: with prose around it, raw line breaks in strings, cut at any point.
//!
//! PURE, linear in the length of the text, bounded in depth, without panics. It keeps every value that is
//! complete and says whether the text ended in the middle of one. It must not know what the values mean.

use std::iter::Peekable;
use std::ops::Range;
use std::str::CharIndices;

/// Values nested deeper than this are not read.
const MAX_DEPTH: usize = 64;

/// A JSON value as far as it matters for answers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Node {
    /// Members in their order; a key may come twice.
    Object(Vec<(String, Node)>),
    /// Elements in their order.
    Array(Vec<Node>),
    /// A string with its escapes resolved.
    Text(String),
    /// A number or a truth value as it was written.
    Bare(String),
    /// `null`
    Null,
}

/// What a text held.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Salvaged {
    /// Objects and arrays at the top level, in their order; of a broken or cut one what was complete.
    pub(crate) values: Vec<Node>,
    /// Whether the text ended inside the last value.
    pub(crate) cut: bool,
}

/// One object or array at the top level of a text, and where it stands.
#[derive(Debug, PartialEq)]
pub(crate) struct Found {
    /// What could be read of it.
    pub(crate) node: Option<Node>,
    /// Where it begins, in bytes.
    pub(crate) start: usize,
    /// Where reading stopped.
    pub(crate) end: usize,
    /// How it ended.
    pub(crate) ended: End,
    /// Where the strings in it stand, from behind the first quotation mark; the last one may have no end.
    pub(crate) strings: Vec<Range<usize>>,
    /// Whether the last string has none.
    pub(crate) is_string_open: bool,
}

/// Finds and reads every object and array in a text.
pub(crate) fn salvage(text: &str) -> Salvaged {
    let mut salvaged = Salvaged::default();
    let mut from = 0;
    // Reading resumes where it stopped, never earlier: that keeps it linear.
    while let Some(found) = next_value(text, from) {
        from = found.end;
        salvaged.cut = found.ended == End::OfText;
        salvaged.values.extend(found.node);
    }
    salvaged
}

/// The first object or array that begins at `from` or later.
pub(crate) fn next_value(text: &str, from: usize) -> Option<Found> {
    let start = from + text[from..].find(['{', '['])?;
    let mut reader = Reader::of(&text[start..]);
    let (node, ended) = reader.value();
    let end = match ended {
        End::Complete | End::Broken => start + reader.offset(text.len() - start).max(1),
        End::OfText => text.len(),
    };
    let is_string_open = reader.is_string_open;
    let place = |at: usize| start.saturating_add(at).min(text.len());
    let strings = reader.strings.into_iter().map(|string| place(string.start)..place(string.end)).collect();
    Some(Found { node, start, end, ended, strings, is_string_open })
}

/// The text of a JSON string, where `text` is one and nothing else.
pub(crate) fn whole_string(text: &str) -> Option<String> {
    let rest = text.trim().strip_prefix('"')?;
    let mut reader = Reader::of(rest);
    let (inner, complete) = reader.string();
    (complete && reader.chars.peek().is_none()).then_some(inner)
}

/// The text without one level of escapes, as of JSON that was written into a string.
pub(crate) fn unescaped(text: &str) -> String {
    let mut reader = Reader::of(text);
    let mut plain = String::with_capacity(text.len());
    while let Some((_, c)) = reader.chars.next() {
        if c == '\\' { reader.escape(&mut plain) } else { plain.push(c) }
    }
    plain
}

/// How a value ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// With its closing bracket.
    Complete,
    /// With something that is no JSON.
    Broken,
    /// With the end of the text.
    OfText,
}

/// A container whose end has not been seen.
enum Open {
    /// Members so far, and the key whose value is next.
    Object(Vec<(String, Node)>, Option<String>),
    Array(Vec<Node>),
}

struct Reader<'a> {
    chars: Peekable<CharIndices<'a>>,
    open: Vec<Open>,
    strings: Vec<Range<usize>>,
    is_string_open: bool,
}

impl<'a> Reader<'a> {
    fn of(text: &'a str) -> Self {
        let chars = text.char_indices().peekable();
        Self { chars, open: Vec::new(), strings: Vec::new(), is_string_open: false }
    }

    /// Reads one value that begins with a bracket. What was complete survives any kind of end.
    fn value(&mut self) -> (Option<Node>, End) {
        // A value counts once a comma, a bracket or the end of the text follows: a string that runs into
        // its neighbour for want of a comma must not become an answer.
        let mut pending: Option<Node> = None;
        loop {
            self.skip_blanks();
            let Some(&(at, c)) = self.chars.peek() else {
                // Of a number at the end of the text, digits may be missing.
                pending.take_if(|node| matches!(node, Node::Bare(_)));
                self.commit(&mut pending);
                return (self.close_all(), End::OfText);
            };
            let understood = match c {
                '{' | '[' if pending.is_none() && self.value_may_start() && self.open.len() < MAX_DEPTH => {
                    self.open.push(if c == '{' {
                        Open::Object(Vec::new(), None)
                    } else {
                        Open::Array(Vec::new())
                    });
                    self.chars.next();
                    true
                }
                '}' | ']' if self.closes(c) => {
                    self.commit(&mut pending);
                    self.chars.next();
                    pending = self.open.pop().map(Open::into_node);
                    if self.open.is_empty() {
                        return (pending, End::Complete);
                    }
                    true
                }
                ',' => {
                    self.commit(&mut pending);
                    self.chars.next();
                    true
                }
                '"' if pending.is_none() => {
                    let (text, complete) = self.noted_string(at);
                    if !complete {
                        return (self.close_all(), End::OfText);
                    }
                    self.text_or_key(text, &mut pending)
                }
                _ if pending.is_none() && self.value_may_start() => match self.bare() {
                    Some(node) => {
                        pending = Some(node);
                        true
                    }
                    None => false,
                },
                _ => false,
            };
            if !understood {
                let end = if self.chars.peek().is_some() { End::Broken } else { End::OfText };
                return (self.close_all(), end);
            }
        }
    }

    /// Bytes read so far.
    fn offset(&mut self, length: usize) -> usize {
        self.chars.peek().map_or(length, |&(at, _)| at)
    }

    fn skip_blanks(&mut self) {
        while self.chars.next_if(|(_, c)| c.is_whitespace()).is_some() {}
    }

    fn value_may_start(&self) -> bool {
        !matches!(self.open.last(), Some(Open::Object(_, None)))
    }

    fn closes(&self, c: char) -> bool {
        match self.open.last() {
            Some(Open::Object(..)) => c == '}',
            Some(Open::Array(_)) => c == ']',
            None => false,
        }
    }

    fn commit(&mut self, pending: &mut Option<Node>) {
        let Some(node) = pending.take() else { return };
        match self.open.last_mut() {
            Some(Open::Object(members, key)) => {
                if let Some(key) = key.take() {
                    members.push((key, node));
                }
            }
            Some(Open::Array(elements)) => elements.push(node),
            None => {}
        }
    }

    fn close_all(&mut self) -> Option<Node> {
        let mut closed = self.open.pop()?.into_node();
        while let Some(mut outer) = self.open.pop() {
            match &mut outer {
                Open::Object(members, key) => members.extend(key.take().map(|key| (key, closed))),
                Open::Array(elements) => elements.push(closed),
            }
            closed = outer.into_node();
        }
        Some(closed)
    }

    /// A string in an object without a key is one, if a colon follows.
    fn text_or_key(&mut self, text: String, pending: &mut Option<Node>) -> bool {
        if let Some(Open::Object(_, key @ None)) = self.open.last_mut() {
            *key = Some(text);
            self.skip_blanks();
            // At the end of the text the cut is noticed in the next step.
            return self.chars.next_if(|&(_, c)| c == ':').is_some() || self.chars.peek().is_none();
        }
        *pending = Some(Node::Text(text));
        true
    }

    /// The string whose quotation mark stands at `at`, and whether its end was seen.
    fn noted_string(&mut self, at: usize) -> (String, bool) {
        self.chars.next();
        let (text, complete) = self.string();
        let end = self.chars.peek().map_or(usize::MAX, |&(at, _)| at);
        self.strings.push(at + 1..end);
        self.is_string_open = !complete;
        (text, complete)
    }

    /// The rest of a string and whether its end was seen.
    fn string(&mut self) -> (String, bool) {
        let mut text = String::new();
        while let Some((_, c)) = self.chars.next() {
            match c {
                '"' if self.string_may_end() => return (text, true),
                '\\' => self.escape(&mut text),
                _ => text.push(c),
            }
        }
        (text, false)
    }

    /// The rest of an escape, behind its backslash.
    fn escape(&mut self, text: &mut String) {
        match self.chars.next() {
            Some((_, 'n')) => text.push('\n'),
            Some((_, 't')) => text.push('\t'),
            Some((_, 'r')) => text.push('\r'),
            Some((_, 'b' | 'f')) => text.push(' '),
            Some((_, 'u')) => text.push(self.unicode_escape()),
            // `\"`, `\\`, `\/`, and escapes that do not exist, such as `\_`.
            Some((_, other)) => text.push(other),
            None => {}
        }
    }

    /// Whether a quotation mark ends its string: then a comma, colon, bracket or nothing follows. Models
    /// forget to escape quotation marks inside.
    fn string_may_end(&self) -> bool {
        let mut ahead = self.chars.clone();
        while ahead.next_if(|(_, c)| c.is_whitespace()).is_some() {}
        matches!(ahead.peek(), None | Some((_, ',' | ':' | '}' | ']')))
    }

    fn unicode_escape(&mut self) -> char {
        let Some(high) = self.four_hex_digits() else { return char::REPLACEMENT_CHARACTER };
        if !(0xd800..0xdc00).contains(&high) {
            return char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER);
        }
        let mut ahead = self.chars.clone();
        if ahead.next().map(|(_, c)| c) != Some('\\') || ahead.next().map(|(_, c)| c) != Some('u') {
            return char::REPLACEMENT_CHARACTER;
        }
        self.chars = ahead;
        match self.four_hex_digits() {
            Some(low @ 0xdc00..0xe000) => char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00))
                .unwrap_or(char::REPLACEMENT_CHARACTER),
            _ => char::REPLACEMENT_CHARACTER,
        }
    }

    fn four_hex_digits(&mut self) -> Option<u32> {
        let mut value = 0;
        for _ in 0..4 {
            let (_, c) = self.chars.next_if(|(_, c)| c.is_ascii_hexdigit())?;
            value = value * 16 + c.to_digit(16)?;
        }
        Some(value)
    }

    /// A number, a truth value or null, also as Python writes them.
    fn bare(&mut self) -> Option<Node> {
        let mut word = String::new();
        while let Some((_, c)) =
            self.chars.next_if(|(_, c)| c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.'))
        {
            word.push(c);
        }
        match word.as_str() {
            "null" | "None" => Some(Node::Null),
            "true" | "True" | "false" | "False" => Some(Node::Bare(word.to_lowercase())),
            // Rust reads `inf` and `nan` as numbers too.
            _ if word.ends_with(|c: char| c.is_ascii_digit()) && word.parse::<f64>().is_ok() => {
                Some(Node::Bare(word))
            }
            _ => None,
        }
    }
}

impl Open {
    fn into_node(self) -> Node {
        match self {
            Self::Object(members, _) => Node::Object(members),
            Self::Array(elements) => Node::Array(elements),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(text: &str) -> Node {
        Node::Text(text.to_owned())
    }

    fn object(members: &[(&str, Node)]) -> Node {
        Node::Object(members.iter().map(|(key, node)| ((*key).to_owned(), node.clone())).collect())
    }

    #[test]
    fn a_value_is_found_between_prose() {
        let salvaged = salvage("Sure [here: {\"a\": [1, true, null, \"x\"]} Done.");
        assert_eq!(
            salvaged.values.last(),
            Some(&object(&[(
                "a",
                Node::Array(vec![
                    Node::Bare("1".to_owned()),
                    Node::Bare("true".to_owned()),
                    Node::Null,
                    text("x")
                ]),
            )]))
        );
        assert!(!salvaged.cut);
    }

    #[test]
    fn a_cut_array_keeps_its_complete_elements() {
        let salvaged = salvage(r#"[{"a":"1"},{"a":"2"},{"a":"3 and th"#);
        assert!(salvaged.cut);
        assert_eq!(
            salvaged.values,
            [Node::Array(vec![object(&[("a", text("1"))]), object(&[("a", text("2"))]), object(&[])])]
        );
    }

    #[test]
    fn raw_line_breaks_wrong_escapes_and_bare_quotation_marks_are_read() {
        let salvaged = salvage("{\"a\":\"one\ntwo \\_ \\u00e9\\ud83d\\ude00 say \"hi\" now\",}");
        assert_eq!(salvaged.values, [object(&[("a", text("one\ntwo _ é😀 say \"hi\" now"))])]);
    }

    #[test]
    fn a_string_that_swallowed_its_neighbour_is_dropped() {
        let salvaged = salvage(r#"{"a":"1","b":"2" "c":"3"}"#);
        assert_eq!(salvaged.values, [object(&[("a", text("1"))])]);
    }

    #[test]
    fn depth_is_bounded_and_reading_goes_on() {
        let deep = format!("{}{{\"a\":\"1\"}}", "[".repeat(100_000));
        assert!(salvage(&deep).cut);
        let closed = format!("{}{} {{\"a\":\"1\"}}", "[".repeat(MAX_DEPTH + 3), "]".repeat(MAX_DEPTH + 3));
        assert_eq!(salvage(&closed).values.last(), Some(&object(&[("a", text("1"))])));
    }

    fn to_node(value: &serde_json::Value) -> Node {
        use serde_json::Value;
        match value {
            Value::Null => Node::Null,
            Value::Bool(_) | Value::Number(_) => Node::Bare(value.to_string()),
            Value::String(string) => text(string),
            Value::Array(elements) => Node::Array(elements.iter().map(to_node).collect()),
            Value::Object(members) => {
                Node::Object(members.iter().map(|(key, value)| (key.clone(), to_node(value))).collect())
            }
        }
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        // Backspace and form feed are read as blanks on purpose.
        let string = "[^\u{8}\u{c}]{0,8}";
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            string.prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 24, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                prop::collection::btree_map(string, inner, 0..4)
                    .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn valid_json_reads_as_it_is(value in any_json(), pretty: bool) {
            let value = serde_json::Value::Array(vec![value]);
            let written = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
            let salvaged = salvage(&written.unwrap());
            prop_assert_eq!(salvaged, Salvaged { values: vec![to_node(&value)], cut: false });
        }

        #[test]
        fn cut_json_is_noticed(value in any_json(), at: prop::sample::Index) {
            let written = serde_json::Value::Array(vec![value]).to_string();
            let ends: Vec<usize> = written.char_indices().skip(1).map(|(end, _)| end).collect();
            prop_assert!(salvage(&written[..ends[at.index(ends.len())]]).cut);
        }

        #[test]
        fn nothing_panics(noise in ".*|[\\[\\]{}\",:\\\\u0-9a ]{0,60}") {
            let _read = salvage(&noise);
        }
    }
}
