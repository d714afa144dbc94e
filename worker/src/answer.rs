//! From a model's raw answer to validated pairs.
//!
//! PURE: the same text gives the same pairs; it never panics and takes time linear in the text. Whatever
//! names a schema asked for, the usual ones are understood. It must not know how often a model is asked,
//! nor what is done about a problem: that is `disposition`.

use std::collections::HashSet;
use std::fmt;

use qa_shared::model::Pair;

use crate::json_salvage::{Node, salvage};
use crate::pair_check::{check, normalised};

/// More of an answer is not looked at, in bytes.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;
/// What an answer held.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parsed {
    /// Valid new pairs in the model's order, at most as many as were asked for.
    pub pairs: Vec<Pair>,
    /// What was wrong, each kind once, in the order of discovery.
    pub problems: Vec<Problem>,
    /// Whether the text ended in the middle: the last pair may be missing.
    pub truncated: bool,
}

/// Something wrong with an answer; shown to people and, in a follow-up, to the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Problem {
    /// Nothing but blanks.
    Empty,
    /// Nothing but reasoning.
    OnlyReasoning,
    /// No JSON value.
    NoJson,
    /// JSON, but no question with an answer in it.
    NoPairs,
    /// The JSON ended in the middle.
    Cut,
    /// A question without answer, or the reverse.
    Incomplete,
    /// A text that merely fills its place, such as `...`.
    Placeholder,
    /// The answer repeats its question.
    AnswerIsQuestion,
    /// A question that was asked before.
    Duplicate,
    /// A question or answer of absurd length.
    TooLong,
    /// More pairs than asked for; the first ones were taken.
    TooMany,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the answer was empty",
            Self::OnlyReasoning => "the answer held only reasoning",
            Self::NoJson => "the answer held no JSON",
            Self::NoPairs => "the JSON held no question with an answer",
            Self::Cut => "the answer was cut before its end",
            Self::Incomplete => "a question or an answer was missing or empty",
            Self::Placeholder => "a question or an answer was only a placeholder",
            Self::AnswerIsQuestion => "an answer only repeated its question",
            Self::Duplicate => "a question was asked twice",
            Self::TooLong => "a question or an answer was far too long",
            Self::TooMany => "there were more pairs than asked for",
        })
    }
}

/// Several problems as one phrase.
pub fn describe(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Takes up to `asked` new pairs out of an answer; questions of `already` do not count as new.
pub fn parse(raw: &str, asked: usize, already: &[Pair]) -> Parsed {
    let raw = prefix(raw, MAX_ANSWER_BYTES);
    let mut sieve = Sieve::new(already);
    if raw.trim().is_empty() {
        sieve.note(Problem::Empty);
        return sieve.parsed;
    }
    let Some(answer) = without_reasoning(raw) else {
        sieve.note(Problem::OnlyReasoning);
        sieve.parsed.truncated = true;
        return sieve.parsed;
    };
    let salvaged = salvage(answer);
    if salvaged.values.is_empty() {
        sieve.note(Problem::NoJson);
    }
    for value in &salvaged.values {
        sieve.walk(value);
    }
    if !salvaged.values.is_empty() && sieve.candidates == 0 && sieve.parsed.problems.is_empty() {
        sieve.note(Problem::NoPairs);
    }
    if salvaged.cut {
        sieve.note(Problem::Cut);
        sieve.parsed.truncated = true;
    }
    if sieve.parsed.pairs.len() > asked {
        sieve.parsed.pairs.truncate(asked);
        sieve.note(Problem::TooMany);
    }
    sieve.parsed
}

/// The answer without its leading reasoning; nothing where the reasoning never ends.
fn without_reasoning(raw: &str) -> Option<&str> {
    let text = raw.trim_start();
    // Where the prompt template opens the reasoning, only its end is in the answer.
    if text.starts_with(['{', '[', '`']) {
        return Some(text);
    }
    for (open, close) in [("<think>", "</think>"), ("<thinking>", "</thinking>")] {
        if let Some((_, answer)) = text.rsplit_once(close) {
            return Some(answer);
        }
        if text.starts_with(open) {
            return None;
        }
    }
    Some(text)
}

fn prefix(text: &str, bytes: usize) -> &str {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Which half of a pair a key names.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Half {
    Question,
    Answer,
}

fn half(key: &str) -> Option<Half> {
    // `Question 1`, `answer_2`, `Q3` are meant too.
    let key =
        key.trim().trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '_' | '-' | ' ' | ':' | '.'));
    match key.to_lowercase().as_str() {
        "question" | "q" | "instruction" | "prompt" | "query" => Some(Half::Question),
        "answer" | "a" | "response" | "output" | "reply" | "completion" => Some(Half::Answer),
        _ => None,
    }
}

/// A value that can be one half of a pair, as text.
fn as_text(node: &Node) -> Option<String> {
    match node {
        Node::Text(text) | Node::Bare(text) => Some(text.clone()),
        Node::Null => Some(String::new()),
        Node::Array(elements) => {
            let lines: Option<Vec<String>> = elements
                .iter()
                .map(|element| match element {
                    Node::Text(text) | Node::Bare(text) => Some(text.clone()),
                    Node::Null | Node::Array(_) | Node::Object(_) => None,
                })
                .collect();
            lines.map(|lines| lines.join("\n"))
        }
        Node::Object(_) => None,
    }
}

/// Lets valid new pairs through.
struct Sieve {
    seen: HashSet<String>,
    candidates: usize,
    parsed: Parsed,
}

impl Sieve {
    fn new(already: &[Pair]) -> Self {
        let seen = already.iter().map(|pair| normalised(&pair.question)).collect();
        Self { seen, candidates: 0, parsed: Parsed::default() }
    }

    fn note(&mut self, problem: Problem) {
        if !self.parsed.problems.contains(&problem) {
            self.parsed.problems.push(problem);
        }
    }

    /// Depth is bounded by the reader.
    fn walk(&mut self, node: &Node) {
        match node {
            Node::Array(elements) => elements.iter().for_each(|element| self.walk(element)),
            Node::Object(members) => self.walk_object(members),
            Node::Text(_) | Node::Bare(_) | Node::Null => {}
        }
    }

    /// One object may hold several numbered pairs; their halves follow each other in either order.
    fn walk_object(&mut self, members: &[(String, Node)]) {
        let (mut question, mut answer) = (None, None);
        for (key, node) in members {
            match (half(key), as_text(node)) {
                (Some(Half::Question), Some(text)) => {
                    if question.replace(text).is_some() {
                        self.note(Problem::Incomplete);
                    }
                }
                (Some(Half::Answer), Some(text)) => {
                    if answer.replace(text).is_some() {
                        self.note(Problem::Incomplete);
                    }
                }
                _ => self.walk(node),
            }
            if let (Some(question_text), Some(answer_text)) = (&question, &answer) {
                self.candidate(question_text, answer_text);
                (question, answer) = (None, None);
            }
        }
        if question.is_some() || answer.is_some() {
            self.note(Problem::Incomplete);
        }
    }

    fn candidate(&mut self, question: &str, answer: &str) {
        self.candidates += 1;
        let pair = Pair { question: question.trim().to_owned(), answer: answer.trim().to_owned() };
        if let Err(problem) = check(&pair) {
            self.note(problem);
        } else if self.seen.insert(normalised(&pair.question)) {
            self.parsed.pairs.push(pair);
        } else {
            self.note(Problem::Duplicate);
        }
    }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
