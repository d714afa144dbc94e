//! The JSON values of an answer that stand outside its reasoning, with what lies between them.
//!
//! PURE, linear in the length of the text. A mark inside a JSON string is text: documents about prompt formats
//! are full of them. It must not know what the values mean.

use crate::json_salvage::{End, Found, next_value};
use crate::reasoning::{Kind, Mark, marks};

/// A text may begin strings that swallow marks; so often it is read again from such a mark, at most.
const MOST_RETURNS: u32 = 32;

/// What an answer says outside its reasoning.
#[derive(Debug, Default)]
pub(crate) struct Outside {
    /// Objects and arrays in their order.
    pub(crate) values: Vec<Found>,
    /// Whether the text ended inside the last value, or inside reasoning.
    pub(crate) cut: bool,
    /// Whether there is reasoning and nothing else.
    pub(crate) only_reasoning: bool,
    /// Where the text behind the reasoning begins, in bytes.
    pub(crate) visible_from: usize,
}

/// Reads an answer.
pub(crate) fn read(text: &str) -> Outside {
    let marks = marks(text);
    let mut walk = Walk {
        text,
        marks: &marks,
        next: 0,
        at: 0,
        open: false,
        values: Vec::new(),
        returns: 0,
        visible_from: 0,
    };
    while walk.step() {}
    let Walk { open, values, visible_from, .. } = walk;
    let cut = open || values.last().is_some_and(|value| value.ended == End::OfText);
    let behind = marks.last().map_or(0, |mark| mark.end);
    let says_nothing = open || text[behind..].trim().is_empty();
    Outside {
        only_reasoning: values.is_empty() && !marks.is_empty() && says_nothing,
        values,
        cut,
        visible_from,
    }
}

struct Walk<'a> {
    text: &'a str,
    marks: &'a [Mark],
    /// The first mark that was not looked at.
    next: usize,
    at: usize,
    /// Whether reasoning was begun and not ended.
    open: bool,
    values: Vec<Found>,
    returns: u32,
    visible_from: usize,
}

impl Walk<'_> {
    /// Takes the next mark or value; false at the end of the text.
    fn step(&mut self) -> bool {
        while self.marks.get(self.next).is_some_and(|mark| mark.start < self.at) {
            self.next += 1;
        }
        let mark = self.marks.get(self.next).copied();
        if self.open {
            // Reasoning is no JSON, whatever stands in it.
            let Some(mark) = mark else { return false };
            self.take(mark);
            return true;
        }
        let bracket = self.text[self.at..].find(['{', '[']).map(|length| self.at + length);
        match (mark, bracket) {
            (Some(mark), Some(bracket)) if mark.start > bracket => self.value(),
            (Some(mark), _) => self.take(mark),
            (None, Some(_)) => self.value(),
            (None, None) => return false,
        }
        true
    }

    fn take(&mut self, mark: Mark) {
        match mark.kind {
            Kind::Open => self.open = true,
            Kind::MessageEnd => self.open = false,
            Kind::Close if self.open => self.open = false,
            // What came before was reasoning, although nothing said where it began.
            Kind::Close | Kind::Answer => {
                self.open = false;
                self.values.clear();
            }
        }
        self.at = mark.end;
        self.visible_from = mark.end;
    }

    fn value(&mut self) {
        let Some(found) = next_value(self.text, self.at) else { return };
        if let Some(mark) = self.swallowed(&found) {
            self.returns += 1;
            self.take(mark);
            return;
        }
        self.at = found.end;
        self.values.push(found);
    }

    /// A mark that a draft's string ran over. The string of a draft that was given up has no end; it takes one
    /// from the answer behind the mark, and then a bracket and a quotation mark of that answer are inside it.
    fn swallowed(&self, found: &Found) -> Option<Mark> {
        if self.returns >= MOST_RETURNS {
            return None;
        }
        let inside = self.marks[self.next..].iter().take_while(|mark| mark.start < found.end);
        inside.copied().find(|mark| self.is_swallowed(*mark, found))
    }

    fn is_swallowed(&self, mark: Mark, found: &Found) -> bool {
        let at = found.strings.partition_point(|string| string.start <= mark.start);
        let string = at.checked_sub(1).map(|at| &found.strings[at]).filter(|string| mark.start < string.end);
        // Outside of strings only the bracket of `[/THINK]` is read as JSON.
        let Some(string) = string else { return true };
        if mark.end > string.end || !matches!(mark.kind, Kind::Close | Kind::Answer) {
            return false;
        }
        let behind = &self.text[mark.end..string.end];
        let is_open = found.is_string_open && at == found.strings.len();
        match unescaped_quote(behind) {
            // The quotation mark that ends the string.
            Some(quote) if quote + 1 == behind.len() && !is_open => false,
            // What follows the quotation mark may be the bracket of an answer that was written into a string.
            Some(quote) => {
                let next = behind[quote + 1..].chars().next();
                behind[..quote].contains(['{', '[']) || matches!(next, Some('{' | '['))
            }
            None => behind.contains(['{', '[']),
        }
    }
}

/// Where the first quotation mark without a backslash stands.
fn unescaped_quote(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    text.bytes().position(|byte| {
        let is_quote = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_quote
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn values(text: &str) -> Vec<&str> {
        read(text).values.iter().map(|found| &text[found.start..found.end]).collect()
    }

    #[test]
    fn drafts_are_not_outside() {
        for text in [
            "<think>[1]</think>[2]",
            "[1]</think>[2]",
            r#"{"a":"draft </think>[2]"#,
            r#"{"a":["x","draft that ends </think>[2]"#,
            r#"<think>it said "</think>" and [1]</think>[2]"#,
            "<think>[1]</think>[0]</think>[2]",
            "<|channel|>analysis<|message|>[1]<|end|><|start|>assistant<|channel|>final<|message|>[2]<|return|>",
            "<|channel|>commentary<|message|>[1]<|end|>[2]",
            "analysis[1]assistantfinal[2]",
            "<think>[1]</think><answer>[2]</answer>",
            "[1]\n<answer>[2]</answer>",
            "Here is my thought process: [1]\nHere is my response:\n[2]",
            "[2]\n<think>[1]</think>",
            "[2]\n<think>[1]",
        ] {
            assert_eq!(values(text), ["[2]"], "{text}");
        }
    }

    #[test]
    fn reasoning_without_an_end_is_no_answer() {
        for text in [
            "<think>[1]",
            "\n\n<thought>\n[1]",
            "<|channel|>analysis<|message|>[1]",
            "[THINK][1]",
            "analysisSo [1]",
        ] {
            let outside = read(text);
            assert!(
                outside.values.is_empty() && outside.cut && outside.only_reasoning,
                "{text}: {outside:?}"
            );
        }
        let ended = read("<think>[1]</think>\n");
        assert!(ended.only_reasoning && !ended.cut);
        assert!(!read("<think>[1]</think>I cannot.").only_reasoning);
    }

    #[test]
    fn a_mark_inside_a_string_is_text() {
        for text in [
            r#"{"a":"What does </think> end?"}"#,
            r#"[{"a":"What does <|channel|>final<|message|> begin?","b":"[1] and <answer>"}]"#,
            r#"<think>[1]</think>{"a":"</think>"}"#,
        ] {
            let found = values(text);
            assert!(found.len() == 1 && text.ends_with(found[0]), "{text}: {found:?}");
        }
        let cut = r#"[{"q":"What is </think>?","a":"An end."},{"q":"Why","a":"Bec"#;
        assert_eq!(values(cut), [cut]);
        let in_its_last_string = r#"[{"q":"What?","a":"An end."},{"q":"Why </think> and"#;
        assert_eq!(values(in_its_last_string), [in_its_last_string]);
    }

    #[test]
    fn many_swallowed_marks_take_linear_time() {
        let text = r#"{"a":"</think>"#.repeat(60_000);
        assert!(read(&text).values.len() <= 60_000);
    }

    const PAIRS: [(&str, &str); 7] = [
        ("<think>", "</think>"),
        ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
        ("<thought>", "</thought>"),
        ("[THINK]", "[/THINK]"),
        ("<seed:think>", "</seed:think>"),
        ("◁think▷", "◁/think▷"),
        ("<|START_THINKING|>", "<|END_THINKING|><|START_RESPONSE|>"),
    ];

    proptest! {
        #[test]
        fn whatever_stands_in_reasoning_only_the_answer_is_read(
            draft in "[a-z{}\\[\\]\":, \n]{0,40}",
            inside in "[a-z ]{0,6}(</think>|\\[/THINK\\]|<\\|channel\\|>final<\\|message\\|>|◁/think▷)?[a-z ]{0,6}",
            marks in prop::sample::select(PAIRS.to_vec()),
            is_opened: bool,
        ) {
            let answer = serde_json::json!([{ "question": inside, "answer": "x" }]).to_string();
            let open = if is_opened { marks.0 } else { "" };
            let text = format!("{open}{draft}{}\n{answer}", marks.1);
            let found = values(&text);
            prop_assert_eq!(found, [answer.as_str()], "{}", text);
        }

        #[test]
        fn nothing_panics(noise in "([{}\\[\\]\",:a\\\\ ]|</?think>|<\\|channel\\|>|assistantfinal){0,40}") {
            let _outside = read(&noise);
        }
    }
}
