//! Texts of others on their way to a terminal or a log: nothing in them moves the cursor, rings, hides, or turns
//! the direction of what follows (PURE).
//!
//! Names, messages and addresses come from other machines, from files and from models. They are cut and cleaned
//! where they come in, and everything is cleaned once more where it goes out.

/// Whether a character does something instead of showing something. Line ends do too.
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            // Marks, embeddings, overrides and isolates of direction; separators of lines and paragraphs; what
            // has no width.
            '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
        )
}

/// Whether nothing of a text shows: white space, and characters that only steer, join or fill.
pub fn is_blank(text: &str) -> bool {
    text.chars().all(|c| c.is_whitespace() || is_unsafe(c) || is_invisible(c))
}

/// Characters without a picture of their own that are not unsafe.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        // Soft hyphen, joiners, fillers, vowels that are not written, variation selectors, the blank of Braille, and
        // what stands for an object that is not there.
        '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{ffa0}' | '\u{fffc}'
            | '\u{e0100}'..='\u{e01ef}'
    )
}

/// A text of several lines with a space in place of each unsafe character but line ends.
pub fn text(text: &str) -> String {
    text.chars().map(|c| if is_unsafe(c) && c != '\n' { ' ' } else { c }).collect()
}

/// A text on one line without unsafe characters, cut to `longest` characters.
pub fn line(text: &str, longest: usize) -> String {
    let mut rest = text.chars().map(|c| if is_unsafe(c) { ' ' } else { c });
    let mut line: String = rest.by_ref().take(longest).collect();
    if rest.next().is_some() {
        line.pop();
        line.push('…');
    }
    line
}

/// JSON with unsafe characters in its strings as escapes, which mean the same.
pub fn json(json: &str) -> String {
    use std::fmt::Write;
    let mut plain = String::with_capacity(json.len());
    for c in json.chars() {
        if is_unsafe(c) && c != '\n' {
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(plain, "\\u{unit:04x}").expect("a String takes every text");
            }
        } else {
            plain.push(c);
        }
    }
    plain
}

/// A log line with the colours that the log library gives it, and no other escape sequence.
pub fn log_line(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(c) = rest.chars().next() {
        let colour = rest.strip_prefix("\x1b[").and_then(|after| {
            let end = after.find(|c: char| !c.is_ascii_digit() && c != ';')?;
            after[end..].starts_with('m').then_some(end + 3)
        });
        let length = colour.unwrap_or(c.len_utf8());
        match colour {
            Some(length) => plain.push_str(&rest[..length]),
            None => plain.push(if is_unsafe(c) && c != '\n' { ' ' } else { c }),
        }
        rest = &rest[length..];
    }
    plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What must never arrive: escape, return, bell, a C1 introducer, overrides of direction, a line separator.
    const HOSTILE: &str =
        "a\x1b]0;t\x07b\x1b[2Jc\rd\u{9b}2Je\u{202e}f\u{2066}g\u{2028}h\u{200b}i\x7fj\x08k\0l\u{e0041}m";

    #[test]
    fn unsafe_characters_leave_every_form() {
        for plain in [text(HOSTILE), line(HOSTILE, 200), log_line(HOSTILE), json(HOSTILE)] {
            assert!(!plain.chars().any(is_unsafe), "{plain:?}");
            assert!(plain.contains("[2Jc"), "{plain}");
        }
        assert_eq!(text("a\nb"), "a\nb");
        assert_eq!(line("a\nb", 9), "a b");
        assert_eq!(line("überlang", 5), "über…");
        assert_eq!(line("über", 4), "über");
    }

    #[test]
    fn json_means_the_same_and_colours_of_the_log_stay() {
        let written = serde_json::to_string(&[HOSTILE]).unwrap();
        assert_eq!(serde_json::from_str::<Vec<String>>(&json(&written)).unwrap(), [HOSTILE]);
        let coloured = "\x1b[2m12:00\x1b[0m \x1b[1;33m WARN\x1b[0m text";
        assert_eq!(log_line(coloured), coloured);
        assert_eq!(log_line("\x1b[1;3Hx \x1b["), " [1;3Hx  [");
    }

    #[test]
    fn a_text_of_which_nothing_shows_is_blank() {
        for blank in [
            "",
            " \t\r\n\u{a0}\u{3000}",
            "\u{200b}\u{feff}\u{ad}",
            "\0\u{1}\x0c\u{200e}",
            "\u{fffc}\u{fe0f}\u{2800}",
        ] {
            assert!(is_blank(blank), "{blank:?}");
        }
        for text in ["a", "\u{200b}.\u{200b}", "概", "\u{fffd}", "😀\u{fe0f}"] {
            assert!(!is_blank(text), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_plain_afterwards(any in ".*") {
            prop_assert!(!text(&any).chars().any(|c| is_unsafe(c) && c != '\n'));
            prop_assert!(!line(&any, 40).chars().any(is_unsafe) && line(&any, 40).chars().count() <= 40);
            prop_assert_eq!(log_line(&any).chars().count() <= any.chars().count(), true);
        }
    }
}
