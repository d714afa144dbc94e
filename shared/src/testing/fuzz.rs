//! Mutates good and bad examples of a foreign input and hands them to its parser: it must neither panic nor
//! grow without bound. Runs on a stable compiler, as part of the tests; the same seed gives the same inputs.
//!
//! `QA_FUZZ_RUNS` says how many inputs each parser gets (2,000 unless set), `QA_FUZZ_SEED` which. An input that
//! was found to be harmful belongs into the examples. It must not know any parser.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Inputs for each parser unless told otherwise.
const RUNS: u64 = 2_000;
/// Inputs longer than this are cut, in bytes: long ones are for tests of their own.
const LONGEST: usize = 64 * 1024;
/// Of a harmful input this much is shown, in bytes.
const SHOWN: usize = 2_000;

/// What parsers of JSON, subjects, addresses, headers and settings stumble over.
const TOKENS: [&str; 44] = [
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"",
    "\\",
    "\\u",
    "\\ud800",
    "\\u0000",
    "null",
    "true",
    "-0",
    "1e400",
    "-1",
    "18446744073709551616",
    "0.0000000000000000000001",
    "NaN",
    "{}",
    "[]",
    "\"\"",
    "[[[[[[[[",
    "{\"a\":{\"a\":",
    "\u{feff}",
    "\u{202e}",
    "\u{1b}[2J",
    "\r\n",
    "\n",
    "\t",
    "\u{0}",
    " #",
    "'",
    "=",
    "${HOME}",
    "..",
    "/",
    "*",
    ">",
    "😀",
    "é",
    "data: ",
    "```",
    "</chunk>",
];

/// Examples of one input.
#[derive(Debug, Clone)]
pub struct Fuzz {
    name: &'static str,
    examples: Vec<Vec<u8>>,
}

impl Fuzz {
    /// For the parser of this name.
    pub fn of(name: &'static str) -> Self {
        Self { name, examples: Vec::new() }
    }

    /// Adds an example.
    #[must_use]
    pub fn example(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.examples.push(bytes.into());
        self
    }

    /// Adds each file of a directory, in the order of their names.
    #[must_use]
    pub fn corpus(mut self, directory: &Path) -> Self {
        let entries = std::fs::read_dir(directory).expect("the corpus is part of the checkout");
        let mut paths: Vec<_> = entries.map(|entry| entry.expect("it can be listed").path()).collect();
        paths.sort();
        for path in paths {
            self.examples.push(std::fs::read(path).expect("a file of the corpus can be read"));
        }
        self
    }

    /// Gives the parser every example and many mutations of them. A panic is passed on, with its input told.
    pub fn run(&self, parser: impl Fn(&[u8])) {
        let (runs, seed) = (number("QA_FUZZ_RUNS").unwrap_or(RUNS), number("QA_FUZZ_SEED").unwrap_or(1));
        for (index, example) in self.examples.iter().enumerate() {
            self.give(&parser, example, &format!("example {index}"));
        }
        for run in 0..runs {
            let mut random = StdRng::seed_from_u64(seed.wrapping_mul(1 << 32).wrapping_add(run));
            let input = self.mutated(&mut random);
            self.give(&parser, &input, &format!("run {run} of seed {seed}"));
        }
    }

    fn give(&self, parser: &impl Fn(&[u8]), input: &[u8], which: &str) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| parser(input))) {
            let shown = String::from_utf8_lossy(&input[..input.len().min(SHOWN)]);
            tell(&format!("{}, {which}: {} bytes: {shown:?}", self.name, input.len()));
            resume_unwind(panic);
        }
    }

    fn mutated(&self, random: &mut StdRng) -> Vec<u8> {
        let mut input = self.any_example(random);
        for _ in 0..random.random_range(1..=6_u32) {
            let at = random.random_range(0..=input.len());
            let end = random.random_range(at..=input.len().min(at + 64));
            match random.random_range(0..9_u32) {
                0 if at < input.len() => input[at] ^= 1 << random.random_range(0..8_u32),
                1 => drop(input.drain(at..end)),
                2 => drop(input.splice(at..end, TOKENS[random.random_range(0..TOKENS.len())].bytes())),
                3 => drop(input.splice(at..at, TOKENS[random.random_range(0..TOKENS.len())].bytes())),
                4 => {
                    let part = input[at..end].to_vec();
                    let times = random.random_range(1..50_usize);
                    drop(input.splice(at..at, part.repeat(times)));
                }
                5 => input.truncate(at),
                6 => {
                    let other = self.any_example(random);
                    let from = random.random_range(0..=other.len());
                    input.truncate(at);
                    input.extend_from_slice(&other[from..]);
                }
                7 => drop(input.splice(at..at, "[".repeat(random.random_range(1..400_usize)).bytes())),
                _ => input.insert(at, random.random()),
            }
            input.truncate(LONGEST);
        }
        input
    }

    fn any_example(&self, random: &mut StdRng) -> Vec<u8> {
        if self.examples.is_empty() {
            return Vec::new();
        }
        self.examples[random.random_range(0..self.examples.len())].clone()
    }
}

#[expect(clippy::disallowed_methods, reason = "a switch of the test, not a setting")]
fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[expect(clippy::print_stderr, reason = "what a failed test shows")]
fn tell(text: &str) {
    eprintln!("harmful input for {text}");
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_inputs_and_they_differ_from_each_other() {
        let fuzz = Fuzz::of("nothing").example(r#"{"a": [1, "two"]}"#).example("x");
        let seen = || {
            let inputs = RefCell::new(Vec::new());
            fuzz.run(|input| inputs.borrow_mut().push(input.to_vec()));
            inputs.into_inner()
        };
        let (one, two) = (seen(), seen());
        assert_eq!(one, two);
        let different: HashSet<_> = one.iter().collect();
        assert!(different.len() * 2 > one.len(), "{} of {}", different.len(), one.len());
        assert!(one.iter().all(|input| input.len() <= LONGEST));
    }

    #[test]
    fn a_parser_that_panics_is_found() {
        let runs = Cell::new(0_u32);
        let parser = |input: &[u8]| {
            runs.set(runs.get() + 1);
            let _first: char = String::from_utf8_lossy(input).chars().next().unwrap();
        };
        let found = catch_unwind(AssertUnwindSafe(|| Fuzz::of("firsts").example("ab").run(parser)));
        assert!(found.is_err(), "an empty input comes sooner or later");
        assert!(runs.get() > 1);
    }
}
