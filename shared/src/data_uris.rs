//! Files that stand in a text as `data:` addresses (PURE).
//!
//! Converters of documents leave images like this, each a hundred kilobytes of letters about which nothing can be
//! asked. A prompt gets a short word in place of each; short ones stay, since a text may be about them.

use std::borrow::Cow;

/// A shorter content stays.
const LEAST_CONTENT: usize = 256;
/// What stands between `data:` and the comma is no longer.
const LONGEST_HEADER: usize = 160;
/// A line of base64 that belongs to the one before has so many characters, the last one aside.
const LEAST_LINE: usize = 60;

/// What was left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Addresses.
    pub uris: usize,
    /// Their length in bytes, all together.
    pub bytes: usize,
    /// Whether no letter and no digit stands beside them.
    pub is_all: bool,
}

/// A text with a short word in place of each long `data:` address.
pub fn leave_out(text: &str) -> (Cow<'_, str>, LeftOut) {
    let mut left = LeftOut::default();
    let (mut short, mut taken, mut searched) = (String::new(), 0, 0);
    let mut has_words = false;
    while let Some(found) = text[searched..].find("data:") {
        let start = searched + found;
        let Some((kind, length)) = uri(&text[start..]) else {
            searched = start + "data:".len();
            continue;
        };
        has_words |= says_something(&text[taken..start]);
        short.push_str(&text[taken..start]);
        for part in ["[", kind, " left out]"] {
            short.push_str(part);
        }
        (taken, searched) = (start + length, start + length);
        left.uris += 1;
        left.bytes += length;
    }
    if left.uris == 0 {
        return (Cow::Borrowed(text), left);
    }
    left.is_all = !has_words && !says_something(&text[taken..]);
    short.push_str(&text[taken..]);
    (Cow::Owned(short), left)
}

fn says_something(text: &str) -> bool {
    text.chars().any(char::is_alphanumeric)
}

/// The kind and the length of the address that a text begins with, if it is long.
fn uri(text: &str) -> Option<(&str, usize)> {
    let rest = text.strip_prefix("data:")?;
    let is_header = |c: char| c.is_ascii_alphanumeric() || "!#$&-^_.+/;=\"".contains(c);
    let comma = rest.find(|c: char| !is_header(c)).filter(|at| rest[*at..].starts_with(','))?;
    let header = rest.get(..comma).filter(|header| header.len() <= LONGEST_HEADER)?;
    let content = &rest[comma + 1..];
    let length = if header.ends_with(";base64") { base64(content) } else { escaped(content) };
    let kind = header.split(';').next().filter(|kind| !kind.is_empty()).unwrap_or("data");
    (length >= LEAST_CONTENT).then_some((kind, text.len() - content.len() + length))
}

/// How far base64 goes, over line ends where it is wrapped.
fn base64(content: &str) -> usize {
    let run = |text: &str| {
        text.find(|c: char| !(c.is_ascii_alphanumeric() || "+/=-_%".contains(c))).unwrap_or(text.len())
    };
    let mut length = run(content);
    loop {
        let rest = &content[length..];
        let indented = rest.trim_start_matches(['\r', '\n', ' ', '\t']);
        let blank = rest.len() - indented.len();
        let line = run(indented);
        let is_wrapped = blank > 0 && rest[..blank].matches('\n').count() == 1 && length >= LEAST_LINE;
        if !is_wrapped || !(line >= LEAST_LINE || (line > 0 && indented[..line].ends_with('='))) {
            return length;
        }
        length += blank + line;
    }
}

/// How far a content with percent signs goes.
fn escaped(content: &str) -> usize {
    let ends = |c: char| !c.is_ascii_graphic() || "\"'`<>()[]{}\\".contains(c);
    content.find(ends).unwrap_or(content.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn image(length: usize) -> String {
        let content = "iVBORw0KGgo+/".repeat(length / 13 + 1);
        format!("data:image/png;base64,{}==", &content[..length])
    }

    #[test]
    fn an_image_in_the_text_becomes_a_word() {
        let (long, short) = (image(100_000), image(40));
        let text = format!("Figure 7. ![pump]({long}) shows <img src=\"{long}\"> and {short}.");
        let (sent, left) = leave_out(&text);
        let expected = format!(
            "Figure 7. ![pump]([image/png left out]) shows <img src=\"[image/png left out]\"> and {short}."
        );
        assert_eq!(sent, expected);
        assert_eq!(left, LeftOut { uris: 2, bytes: 2 * long.len(), is_all: false });
    }

    #[test]
    fn every_form_ends_where_it_ends() {
        let wrapped = format!("{}\n{}\n  AAA=", image(76 * 4).trim_end_matches('='), "B".repeat(76));
        let escaped = format!("data:image/svg+xml;charset=utf-8,{}", "%3Csvg%20a".repeat(30));
        let bare = format!("data:;base64,{}", "A".repeat(300));
        for (uri, word) in [
            (wrapped, "[image/png left out]"),
            (escaped, "[image/svg+xml left out]"),
            (bare, "[data left out]"),
        ] {
            for (before, after) in [("a (", ") b"), ("a '", "' b"), ("a ", "\n\nNext line."), ("ü", "ü")] {
                assert_eq!(leave_out(&format!("{before}{uri}{after}")).0, format!("{before}{word}{after}"));
            }
        }
    }

    #[test]
    fn what_is_only_about_data_stays() {
        for text in [
            "The data: 1, 2, 3.",
            "data:text/plain;base64,SGVsbG8=",
            "data:",
            "metadata:x,y",
            "data:image/png",
        ] {
            assert_eq!(leave_out(text), (Cow::Borrowed(text), LeftOut::default()));
        }
    }

    #[test]
    fn a_text_with_nothing_else_is_known() {
        let is_all = |text: &str| leave_out(text).1.is_all;
        assert!(is_all(&format!("![]({}) \n", image(500))));
        assert!(!is_all(&format!("![pump]({})", image(500))) && !is_all(""));
    }

    proptest! {
        #[test]
        fn any_text_is_gone_through(parts in prop::collection::vec(prop_oneof![
            Just("data:".to_owned()), Just(image(300)), ".{0,8}", "[A-Za-z0-9+/,;=]{0,300}",
        ], 0..6)) {
            let text = parts.concat();
            let (sent, left) = leave_out(&text);
            prop_assert_eq!(left.uris == 0, sent == text);
            prop_assert!(sent.len() + left.bytes >= text.len());
        }
    }
}
