//! From a model's raw answer to validated pairs.
//!
//! PURE: the same text gives the same pairs; it never panics and takes time linear in the text. Whatever
//! names a schema asked for, the usual ones are understood. It must not know how often a model is asked,
//! nor what is done about a problem: that is `disposition`.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

use qa_shared::model::Pair;

use crate::json_salvage::{End, Found, Node, salvage, unescaped, whole_string};
use crate::outside_reasoning::{self, Outside};
use crate::pair_check::{check, normalised};

/// More of an answer is not looked at, in bytes.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;
/// An answer is JSON in a JSON string in a JSON string, but not more often.
const MOST_ENCODINGS: u32 = 3;
/// More text behind an answer among reasoning is more reasoning, in bytes.
const LONGEST_CLOSING: usize = 200;
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
///
/// Reasoning is no answer, and of several complete answers the last one counts.
pub fn parse(raw: &str, asked: usize, already: &[Pair]) -> Parsed {
    let raw = prefix(raw, MAX_ANSWER_BYTES);
    if raw.trim().is_empty() {
        let mut sieve = Sieve::new(already);
        sieve.note(Problem::Empty);
        return sieve.parsed;
    }
    read_encoded(raw, asked, already, MOST_ENCODINGS).parsed
}

/// Takes pairs out of what a server calls reasoning, for an answer without any content. Some put the answer
/// there. Drafts stand there as well: only an answer that ends the text is one.
pub fn parse_reasoning(raw: &str, asked: usize, already: &[Pair]) -> Option<Parsed> {
    let raw = prefix(raw, MAX_ANSWER_BYTES).trim();
    let Read { parsed, rest, .. } = read_encoded(raw, asked, already, MOST_ENCODINGS);
    let is_last = rest <= LONGEST_CLOSING;
    (!parsed.pairs.is_empty() && !parsed.truncated && is_last).then_some(parsed)
}

/// What was read, and how much text follows it.
struct Read {
    parsed: Parsed,
    /// Whether anything looked like a pair.
    has_candidates: bool,
    /// Bytes behind the answer.
    rest: usize,
    /// Where the text behind the reasoning begins, in bytes.
    visible_from: usize,
}

/// Reads an answer, also one that was written into a JSON string, once or several times.
fn read_encoded(text: &str, asked: usize, already: &[Pair], encodings: u32) -> Read {
    if encodings > 0
        && let Some(inner) = whole_string(text)
    {
        return read_encoded(&inner, asked, already, encodings - 1);
    }
    let read = read(text, asked, already);
    // Whatever is around it, such as a fence or the end of reasoning, may be encoded as well or not.
    if read.has_candidates || encodings == 0 || !looks_encoded(&text[read.visible_from..]) {
        return read;
    }
    let decoded = read_encoded(&unescaped(text), asked, already, encodings - 1);
    if decoded.has_candidates { decoded } else { read }
}

fn read(text: &str, asked: usize, already: &[Pair]) -> Read {
    let Outside { values, cut, only_reasoning, visible_from } = outside_reasoning::read(text);
    let groups = group(text, &values);
    let (mut sieve, end) = choose(&values, &groups, asked, already).unwrap_or_else(|| {
        let end = values.last().map_or(0, |value| value.end);
        (Sieve::of(already, &values), end)
    });
    let has_candidates = sieve.candidates > 0;
    if only_reasoning {
        sieve.note(Problem::OnlyReasoning);
    } else if values.iter().all(|value| value.node.is_none()) {
        sieve.note(Problem::NoJson);
    } else if !has_candidates && sieve.parsed.problems.is_empty() {
        sieve.note(Problem::NoPairs);
    }
    if cut {
        if !only_reasoning {
            sieve.note(Problem::Cut);
        }
        sieve.parsed.truncated = true;
    }
    if sieve.parsed.pairs.len() > asked {
        sieve.parsed.pairs.truncate(asked);
        sieve.note(Problem::TooMany);
    }
    Read { parsed: sieve.parsed, has_candidates, rest: text.len() - end, visible_from }
}

/// Whether the first object or array is written as into a string: `{\"pairs\": ...`.
fn looks_encoded(text: &str) -> bool {
    let Some(start) = text.find(['{', '[']) else { return false };
    let mut rest = &text[start..];
    loop {
        let next = rest.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '{' | '['));
        let next = ["\\n", "\\t", "\\r"].iter().find_map(|blank| next.strip_prefix(blank)).unwrap_or(next);
        if next.len() == rest.len() {
            return rest.starts_with("\\\"") || rest.starts_with("\\\\");
        }
        rest = next;
    }
}

/// Values that belong to one answer.
struct Group {
    values: Range<usize>,
    /// Whether each of its values is a pair by itself.
    is_loose: bool,
    is_complete: bool,
    /// Whether words stand between it and the values before it.
    follows_words: bool,
}

/// Which values make up one answer: a list, or pairs that follow each other without a list.
fn group(text: &str, values: &[Found]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for (index, value) in values.iter().enumerate() {
        let before = index.checked_sub(1).map_or(0, |index| values[index].end);
        let follows_words = says_something(&text[before..value.start]);
        let is_loose = matches!(&value.node, Some(Node::Object(members)) if is_pair(members));
        let broke = index > 0 && values[index - 1].ended == End::Broken;
        match groups.last_mut() {
            // Behind a place that could not be read, the list goes on as single pairs.
            Some(last) if is_loose && (broke || (last.is_loose && !follows_words)) => {
                last.values.end = index + 1;
                last.is_complete &= value.ended == End::Complete;
            }
            _ => groups.push(Group {
                values: index..index + 1,
                is_loose,
                is_complete: value.ended == End::Complete,
                follows_words,
            }),
        }
    }
    groups
}

/// Words, not only the fence of a code block or the number of a list.
fn says_something(between: &str) -> bool {
    between.replace("json", "").contains(char::is_alphabetic)
}

fn is_pair(members: &[(String, Node)]) -> bool {
    let has = |which| members.iter().any(|(key, node)| half(key) == Some(which) && as_text(node).is_some());
    has(Half::Question) && has(Half::Answer)
}

/// The answer that counts, with the place where it ends; none where no value holds a pair.
fn choose(values: &[Found], groups: &[Group], asked: usize, already: &[Pair]) -> Option<(Sieve, usize)> {
    let read = |range: &Range<usize>| Sieve::of(already, &values[range.clone()]);
    let found: Vec<(&Group, usize)> = groups
        .iter()
        .map(|group| (group, read(&group.values).parsed.pairs.len()))
        .filter(|(_, pairs)| *pairs > 0)
        .collect();
    let (first, last) = (found.first()?.0, found.last()?.0);
    let end = |range: &Range<usize>| values[range.end - 1].end;
    // Pairs or short lists one after the other are one answer as long as they are not too many.
    let total: usize = found.iter().map(|(_, pairs)| pairs).sum();
    let is_one = found.iter().all(|(group, _)| group.is_loose)
        || found.iter().skip(1).all(|(group, _)| !group.follows_words);
    if total <= asked && is_one {
        let range = first.values.start..last.values.end;
        return Some((read(&range), end(&range)));
    }
    let complete = found.iter().rev().map(|(group, _)| *group).find(|group| group.is_complete);
    let range = &complete.unwrap_or(last).values;
    Some((read(range), end(range)))
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
    /// So often JSON inside a string is read.
    encodings: u32,
    parsed: Parsed,
}

impl Sieve {
    fn new(already: &[Pair]) -> Self {
        let seen = already.iter().map(|pair| normalised(&pair.question)).collect();
        Self { seen, candidates: 0, encodings: 0, parsed: Parsed::default() }
    }

    /// What these values hold. JSON inside their strings counts where nothing else is found.
    fn of(already: &[Pair], values: &[Found]) -> Self {
        let nodes = || values.iter().filter_map(|value| value.node.as_ref());
        let mut plain = Self::new(already);
        nodes().for_each(|node| plain.walk(node));
        if plain.candidates > 0 {
            return plain;
        }
        let mut inner = Self { encodings: MOST_ENCODINGS, ..Self::new(already) };
        nodes().for_each(|node| inner.walk(node));
        if inner.candidates > 0 { inner } else { plain }
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
            Node::Text(text) if self.encodings > 0 && text.trim_start().starts_with(['{', '[', '"']) => {
                self.walk_encoded(text);
            }
            Node::Text(_) | Node::Bare(_) | Node::Null => {}
        }
    }

    /// JSON that was written into a string.
    fn walk_encoded(&mut self, text: &str) {
        self.encodings -= 1;
        match whole_string(text) {
            Some(inner) => self.walk(&Node::Text(inner)),
            None => salvage(text).values.iter().for_each(|value| self.walk(value)),
        }
        self.encodings += 1;
    }

    /// One object may hold several numbered pairs; their halves follow each other in either order.
    fn walk_object(&mut self, members: &[(String, Node)]) {
        let (mut question, mut answer) = (None, None);
        // `{"response": "{\"pairs\": ...}"}` is an answer in a string rather than half of a pair.
        let may_be_encoded = self.encodings > 0 && !is_pair(members);
        for (key, node) in members {
            match (half(key), as_text(node)) {
                _ if may_be_encoded => self.walk(node),
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
