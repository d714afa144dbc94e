//! Text in rows of a terminal's width (PURE). Colours take no room.

use unicode_width::UnicodeWidthChar;

/// A second row of a line whose label ends here starts below the text after the label.
const WIDEST_LABEL: usize = 16;

/// How many columns a text takes.
pub fn width(text: &str) -> usize {
    let (mut columns, mut rest) = (0, text);
    while let Some(c) = rest.chars().next() {
        let length = colour(rest).unwrap_or_else(|| {
            columns += c.width().unwrap_or(0);
            c.len_utf8()
        });
        rest = &rest[length..];
    }
    columns
}

/// The length of the colour that a text begins with.
fn colour(text: &str) -> Option<usize> {
    let after = text.strip_prefix("\x1b[")?;
    let end = after.find(|c: char| !c.is_ascii_digit() && c != ';')?;
    after[end..].starts_with('m').then_some(end + 3)
}

/// A text without colours cut to this many columns.
pub fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let (mut cut, mut taken) = (String::new(), 0);
    for c in text.chars() {
        let wide = c.width().unwrap_or(0);
        if taken + wide + 1 > columns {
            break;
        }
        taken += wide;
        cut.push(c);
    }
    if columns > 0 {
        cut.push('…');
    }
    cut
}

/// Breaks lines at spaces so that none is wider than `columns`. A word that is wider stays whole, and so does a line
/// with a command of ours: both are there to be copied.
pub fn fold(text: &str, columns: usize) -> String {
    let lines: Vec<_> = text.split('\n').map(|line| fold_line(line, columns)).collect();
    lines.join("\n")
}

fn fold_line(line: &str, columns: usize) -> String {
    if width(line) <= columns || holds_command(line) {
        return line.to_owned();
    }
    let indent = indent_of(line).min(columns / 2);
    let start = line.len() - line.trim_start().len();
    let (mut folded, mut row) = (String::new(), line[..start].to_owned());
    let mut is_row_empty = true;
    for word in line[start..].split(' ') {
        let gap = usize::from(!is_row_empty);
        if !is_row_empty && width(&row) + gap + width(word) > columns {
            folded.push_str(row.trim_end());
            folded.push('\n');
            row = " ".repeat(indent);
            is_row_empty = true;
            if word.is_empty() {
                continue;
            }
        }
        if !is_row_empty {
            row.push(' ');
        }
        row.push_str(word);
        is_row_empty = false;
    }
    folded.push_str(row.trim_end());
    folded
}

/// Where further rows of a line start: below the text after its label, else a little further right than the line.
fn indent_of(line: &str) -> usize {
    let blank = line.len() - line.trim_start().len();
    let gap = line[blank..].find("  ").map(|at| blank + at);
    let label = gap.map(|gap| gap + line[gap..].len() - line[gap..].trim_start().len());
    match label {
        Some(label) if label <= WIDEST_LABEL && line.is_char_boundary(label) => width(&line[..label]),
        _ => blank + 2,
    }
}

fn holds_command(line: &str) -> bool {
    line.split(' ').any(|word| word == "qa-coordinator" || word == "qa-worker")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_that_fits_stays() {
        assert_eq!(fold("a  b c\n\n  d", 6), "a  b c\n\n  d");
    }

    #[test]
    fn a_long_line_is_broken_at_spaces_and_goes_on_below_its_text() {
        assert_eq!(fold("result      one two three", 24), "result      one two\n            three");
        assert_eq!(fold("  chunks: 1 kept, 2 moved", 16), "  chunks: 1\n    kept, 2\n    moved");
    }

    #[test]
    fn commands_and_long_words_stay_whole() {
        let command = "go on with  qa-coordinator generate --resume --qa-dir results";
        assert_eq!(fold(command, 20), command);
        assert_eq!(fold("in /a/very/long/path/indeed it is", 12), "in\n  /a/very/long/path/indeed\n  it is");
    }

    #[test]
    fn colours_take_no_room_and_wide_characters_two_columns() {
        assert_eq!(width("\x1b[1;33m WARN\x1b[0m"), 5);
        assert_eq!(width("日本"), 4);
        assert_eq!(cut("日本語", 5), "日本…");
        assert_eq!(cut("日本語", 4), "日…");
        assert_eq!(
            (cut("abc", 3), cut("abcd", 3), cut("abc", 0)),
            ("abc".into(), "ab…".into(), String::new())
        );
    }

    proptest! {
        #[test]
        fn folding_keeps_every_word_and_no_row_of_short_words_is_too_wide(
            words in proptest::collection::vec("[a-zé日]{1,6}", 1..40), columns in 24usize..100
        ) {
            let line = words.join(" ");
            let folded = fold(&line, columns);
            prop_assert!(folded.lines().all(|row| width(row) <= columns), "{folded}");
            prop_assert_eq!(folded.split_whitespace().collect::<Vec<_>>(), words);
        }

        #[test]
        fn a_cut_text_is_never_too_wide(text in "[a-zé日]{0,40}", columns in 0usize..50) {
            prop_assert!(width(&cut(&text, columns)) <= columns);
        }
    }
}
