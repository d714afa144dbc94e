//! Words of a command line that a person pastes into a POSIX shell (PURE).

use std::fmt::Write;

use qa_shared::plain::is_unsafe;

/// The text as one word: as it is where that is safe, else quoted. A character that a terminal would obey, or
/// that would be lost on the way to it, is written as an escape that the shell expands.
pub(crate) fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/@+,=%".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    if !text.chars().any(is_unsafe) {
        return format!("'{}'", text.replace('\'', r"'\''"));
    }
    // `$(...)` drops line ends at the end; the third character of IFS is one.
    let body = text.trim_end_matches('\n');
    let line_ends = "${IFS#??}".repeat(text.len() - body.len());
    format!("\"$(printf '{}'){line_ends}\"", printf_format(body))
}

/// The format with which `printf` prints the text.
fn printf_format(text: &str) -> String {
    let mut format = String::new();
    for c in text.chars() {
        match c {
            '%' => format.push_str("%%"),
            '\\' => format.push_str(r"\\"),
            // A format that begins with a hyphen would be taken for an option.
            c if c == '\'' || is_unsafe(c) || (c == '-' && format.is_empty()) => {
                for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                    write!(format, "\\{byte:03o}").expect("a String takes every text");
                }
            }
            c => format.push(c),
        }
    }
    format
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    /// The arguments that a shell makes of a command line.
    fn parsed(line: &str) -> Vec<String> {
        let script = format!("for word in {line}; do printf '%s\\0' \"$word\"; done");
        let output = Command::new("sh").arg("-c").arg(script).output().unwrap();
        assert!(output.status.success(), "{line}: {output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.split_terminator('\0').map(str::to_owned).collect()
    }

    #[test]
    fn plain_words_stay_as_they_are() {
        for word in ["qwen3:14b", "http://gpu1:11434,http://gpu2:11434", "/data/qa_results", "0.7", "50%"] {
            assert_eq!(shell_word(word), word);
        }
        assert_eq!(shell_word("my documents"), "'my documents'");
    }

    #[test]
    fn a_shell_reads_back_what_was_written() {
        let words = [
            "",
            " ",
            "my documents",
            "it's",
            "\"q\"",
            "$HOME",
            "`id`",
            "*",
            "~",
            "--qa-dir",
            "-x",
            "#",
            "a;b|c&d",
            "Füße/文書",
            "a\nb",
            "end\n",
            "\n\n",
            "a\x1b[2Jb",
            "-\x07",
            "\u{202e}x",
            "100%\n",
            "\\n\n",
            "it's\n$x \"y\"",
        ];
        let line: Vec<_> = words.iter().map(|word| shell_word(word)).collect();
        assert!(line.iter().all(|word| !word.chars().any(is_unsafe)), "{line:?}");
        assert_eq!(parsed(&line.join(" ")), words);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_words_survive_the_shell(words in prop::collection::vec("[^\0]{0,24}", 1..12)) {
            let line: Vec<_> = words.iter().map(|word| shell_word(word)).collect();
            prop_assert!(line.iter().all(|word| !word.chars().any(is_unsafe)));
            prop_assert_eq!(parsed(&line.join(" ")), words);
        }
    }
}
