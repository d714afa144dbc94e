//! Marks with which models set their reasoning apart from their answer inside one text.
//!
//! PURE, linear in the length of the text. Servers that know a model's markup take the reasoning out; others
//! leave it in the content, and a draft in it looks like an answer. It must not know what an answer is.

/// What stands at a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Reasoning begins.
    Open,
    /// Reasoning ends. Without a beginning, everything before it is reasoning: some prompt templates open it.
    Close,
    /// A message ends. It closes an open reasoning block and means nothing otherwise.
    MessageEnd,
    /// The answer begins: everything before it is reasoning.
    Answer,
}

/// A mark in a text, with its place in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) kind: Kind,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// Names of blocks that hold reasoning, in lower case, without brackets, namespaces and `start_` or `end_`.
/// Qwen, DeepSeek, GLM, MiniMax, Hunyuan, Nemotron (`think`), EXAONE and Marco (`thought`), Magistral
/// (`[THINK]`), Seed (`seed:think`), Kimi (`◁think▷`), Command A (`START_THINKING`), OpenThinker
/// (`begin_of_thought`), LongCat (`longcat_think`), Reflection, LLaVA-CoT and models told to by their prompt.
const REASONING: &[&str] = &[
    "think",
    "thinking",
    "thought",
    "thoughts",
    "thought_process",
    "reason",
    "reasoning",
    "reasoning_process",
    "reflection",
    "analysis",
    "scratchpad",
    "rationale",
    "deliberation",
    "inner_monologue",
    "internal_monologue",
    "inner_thoughts",
    "chain_of_thought",
    "cot",
    "antthinking",
    "longcat_think",
    "draft",
];
/// Names of blocks that hold the answer.
const ANSWER: &[&str] = &[
    "answer",
    "final_answer",
    "final",
    "response",
    "final_response",
    "solution",
    "output",
    "conclusion",
    "result",
    "content",
    "text",
];
/// Ends of messages in harmony (gpt-oss) and Solar.
const MESSAGE_ENDS: &[&str] = &["|end|", "|call|", "|return|"];
/// Sentences of Granite, and what is left of harmony's marks where a server drops special tokens.
const PHRASES: &[(&str, Kind)] = &[
    ("here is my thought process:", Kind::Open),
    ("here's my thought process:", Kind::Open),
    ("here is my response:", Kind::Answer),
    ("here's my response:", Kind::Answer),
    ("assistantfinal", Kind::Answer),
    ("assistantanalysis", Kind::Open),
    ("assistantcommentary", Kind::Open),
];
/// The longest text between two brackets that can be a mark, in bytes.
const LONGEST_TAG: usize = 40;
/// Between a channel's name and its message harmony may name a format, in bytes.
const LONGEST_HEADER: usize = 80;

/// All marks of a text in their order. Whether one stands inside a JSON string is for the caller to know.
pub(crate) fn marks(text: &str) -> Vec<Mark> {
    let mut marks: Vec<Mark> = stripped_channel(text).into_iter().collect();
    let mut from = marks.first().map_or(0, |mark| mark.end);
    for (at, c) in text.char_indices() {
        if at < from {
            continue;
        }
        let found = match c {
            '<' => tag(text, at, '<', ">"),
            '[' => tag(text, at, '[', "]"),
            '◁' => tag(text, at, '◁', "▷"),
            'h' | 'H' | 'a' => phrase(text, at),
            _ => None,
        };
        if let Some(mark) = found {
            from = mark.end;
            marks.push(mark);
        }
    }
    marks
}

/// A harmony answer without its special tokens begins with the channel's name, glued to the first word.
fn stripped_channel(text: &str) -> Option<Mark> {
    let start = text.len() - text.trim_start().len();
    let (name, rest) =
        ["analysis", "commentary"].iter().find_map(|name| Some((name, text[start..].strip_prefix(name)?)))?;
    let is_glued = rest.starts_with(|c: char| c.is_alphabetic() || matches!(c, '{' | '[' | '"'));
    is_glued.then_some(Mark { kind: Kind::Open, start, end: start + name.len() })
}

fn phrase(text: &str, at: usize) -> Option<Mark> {
    let rest = &text.as_bytes()[at..];
    PHRASES.iter().find_map(|&(phrase, kind)| {
        let found = rest.get(..phrase.len())?;
        // What is left of a special token is always in lower case, a sentence may begin a line.
        let is_same = if phrase.starts_with('a') {
            found == phrase.as_bytes()
        } else {
            found.eq_ignore_ascii_case(phrase.as_bytes()) && begins_line(text, at)
        };
        is_same.then_some(Mark { kind, start: at, end: at + phrase.len() })
    })
}

/// A word in brackets of some kind, such as `<think>`, `[/THINK]`, `◁/think▷` or `<|END_THINKING|>`.
fn tag(text: &str, at: usize, opener: char, closer: &str) -> Option<Mark> {
    let begin = at + opener.len_utf8();
    let mut limit = text.len().min(begin + LONGEST_TAG);
    while !text.is_char_boundary(limit) {
        limit -= 1;
    }
    let length = text[begin..limit].find(closer)?;
    let inner = &text[begin..begin + length];
    let end = begin + length + closer.len();
    if let Some(mark) = channel(text, at, inner, end) {
        return Some(mark);
    }
    let kind = kind_of(inner, opener)?;
    // In prose a tag may be named; a block's beginning stands at the start of a line. Special tokens are
    // never prose.
    let is_token = inner.contains('|') || opener != '<';
    let is_effective = kind != Kind::Open || is_token || begins_line(text, at);
    is_effective.then_some(Mark { kind, start: at, end })
}

/// Harmony's `<|channel|>NAME<|message|>`, Gemma's `<|channel>thought` with its end `<channel|>`.
fn channel(text: &str, start: usize, inner: &str, end: usize) -> Option<Mark> {
    let rest = &text[end..];
    match inner {
        "|channel|" => {
            let is_final = rest.trim_start().starts_with("final");
            let header = rest.find("<|message|>").filter(|length| *length <= LONGEST_HEADER);
            let end = header.map_or(end, |length| end + length + "<|message|>".len());
            Some(Mark { kind: if is_final { Kind::Answer } else { Kind::Open }, start, end })
        }
        "|channel" => {
            let is_thought = rest.trim_start().starts_with("thought");
            is_thought.then_some(Mark { kind: Kind::Open, start, end })
        }
        "channel|" => Some(Mark { kind: Kind::Close, start, end }),
        _ => None,
    }
}

fn kind_of(inner: &str, opener: char) -> Option<Kind> {
    let lower = inner.trim().to_lowercase();
    if opener == '<' && MESSAGE_ENDS.contains(&lower.as_str()) {
        return Some(Kind::MessageEnd);
    }
    let bare = lower.trim_matches(['|', ' ']);
    let (name, mut closes) = match bare.strip_prefix('/') {
        Some(name) => (name.trim_matches(['|', ' ']), true),
        None => (bare, false),
    };
    if name == "inner_prefix" || name == "inner_suffix" {
        // Apertus.
        return Some(if name == "inner_prefix" { Kind::Open } else { Kind::Close });
    }
    let mut name = name.rsplit(':').next().unwrap_or_default();
    for (prefix, ends) in [
        ("begin_of_", false),
        ("start_of_", false),
        ("begin_", false),
        ("start_", false),
        ("end_of_", true),
        ("end_", true),
    ] {
        if let Some(rest) = name.strip_prefix(prefix) {
            (name, closes) = (rest, closes || ends);
            break;
        }
    }
    let name = name.replace(['-', ' '], "_");
    if REASONING.contains(&name.as_str()) {
        return Some(if closes { Kind::Close } else { Kind::Open });
    }
    // `[answer]` in lower case names a place to fill in; `<|text|>` alone is too common a token.
    let is_shouted = opener == '<' || !inner.chars().any(char::is_lowercase);
    let needs_start = matches!(name.as_str(), "content" | "text") && !inner.contains('|');
    let is_answer = !closes && is_shouted && !needs_start && ANSWER.contains(&name.as_str());
    is_answer.then_some(Kind::Answer)
}

/// Whether only blanks stand before it on its line.
fn begins_line(text: &str, at: usize) -> bool {
    let before = &text[..at];
    before[before.rfind('\n').map_or(0, |line| line + 1)..].trim().is_empty()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kinds(text: &str) -> Vec<Kind> {
        marks(text).iter().map(|mark| mark.kind).collect()
    }

    #[test]
    fn the_markup_of_known_models_is_understood() {
        use Kind::{Answer, Close, MessageEnd, Open};
        for (text, expected) in [
            ("<think>a</think>b", vec![Open, Close]),
            ("<thinking>a</thinking>b", vec![Open, Close]),
            ("<thought>\na\n</thought>\n\nb", vec![Open, Close]),
            ("[THINK]a[/THINK]b", vec![Open, Close]),
            ("<seed:think>a</seed:think>b", vec![Open, Close]),
            ("<reasoning>a</reasoning>b", vec![Open, Close]),
            ("◁think▷a◁/think▷b", vec![Open, Close]),
            (
                "<|START_THINKING|>a<|END_THINKING|><|START_RESPONSE|>b<|END_RESPONSE|>",
                vec![Open, Close, Answer],
            ),
            ("<|begin_of_thought|>a<|end_of_thought|><|begin_of_solution|>b", vec![Open, Close, Answer]),
            ("<|think|>a<|end|><|begin|>assistant<|content|>b", vec![Open, MessageEnd, Answer]),
            ("<|think|>a<|/think|>b", vec![Open, Close]),
            ("<|inner_prefix|>a<|inner_suffix|>b", vec![Open, Close]),
            ("<longcat_think>a</longcat_think>b", vec![Open, Close]),
            ("<mm:think>a</mm:think>b", vec![Open, Close]),
            ("<THINK>a</THINK>b", vec![Open, Close]),
            ("<Thought>a</Thought>\n<Output>b</Output>", vec![Open, Close, Answer]),
            ("<think>a</think>\n<answer>b</answer>", vec![Open, Close, Answer]),
            ("<think>a</think>\n<response>b</response>", vec![Open, Close, Answer]),
            ("<REASONING>a</REASONING>\n<CONCLUSION>b</CONCLUSION>", vec![Open, Close, Answer]),
            ("<|channel>thought\na<channel|>b", vec![Open, Close]),
            (
                "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b<|return|>",
                vec![Open, MessageEnd, Answer, MessageEnd],
            ),
            ("<|channel|>final <|constrain|>json<|message|>b", vec![Answer]),
            ("analysisWe need pairs.assistantfinalb", vec![Open, Answer]),
            ("Here is my thought process:\na\nHere's my response:\nb", vec![Open, Answer]),
        ] {
            assert_eq!(kinds(text), expected, "{text}");
        }
    }

    #[test]
    fn a_mark_ends_where_the_answer_begins() {
        for text in [
            "a</think>b",
            "<|channel|>final <|constrain|>json<|message|>b",
            "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b",
            "analysisx assistantfinalb",
        ] {
            assert_eq!(&text[marks(text).last().unwrap().end..], "b", "{text}");
        }
    }

    #[test]
    fn prose_and_json_hold_no_marks() {
        for text in [
            "Pairs about the <think> tag:",
            "An analysis of the text: [1] and [a, b].",
            "analysis of the text",
            r#"{"pairs":[{"question":"Q","response":"A"}]}"#,
            "<chunk>x</chunk> <div> a < b > c [answer] [text]",
            "I said: here is my response: x",
            "<|im_end|>",
            "<html><text>",
        ] {
            assert_eq!(kinds(text), [], "{text}");
        }
    }

    proptest! {
        #[test]
        fn marks_are_in_order_and_within_the_text(
            text in "([<\\[◁]/?\\|?(think|END_THINKING|channel|answer|final)\\|?[>\\]▷]|[a-zé<\\[|\\n ]{0,6}){0,20}"
        ) {
            let mut from = 0;
            for mark in marks(&text) {
                prop_assert!(mark.start >= from && mark.start < mark.end);
                prop_assert!(text.is_char_boundary(mark.start) && text.is_char_boundary(mark.end));
                from = mark.end;
            }
        }
    }
}
