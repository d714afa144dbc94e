//! What a service remembers of prompts: beginnings that it need not compute again.

use std::collections::{BTreeMap, BTreeSet};

use super::request::{Asked, Piece};
use crate::model::TextHash;
use crate::testing::fake_server::answer::CHARS_PER_TOKEN;

/// Blocks before a breakpoint in which a remembered beginning is looked for.
const LOOK_BACK: usize = 20;

/// Tokens of a prompt that were read from the cache or written into it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cached {
    pub(super) read: usize,
    pub(super) written: usize,
}

/// The memory of one life of a service.
#[derive(Debug, Default)]
pub(super) struct Prefixes {
    /// Whole prompts by model, where the service looks for the longest common beginning by itself.
    prompts: BTreeMap<String, Vec<String>>,
    /// Marked beginnings by model.
    marked: BTreeSet<(String, TextHash)>,
}

impl Prefixes {
    /// What the longest beginning shared with an earlier prompt has in tokens, in steps of `step`.
    pub(super) fn shared(&self, asked: &Asked, step: usize) -> Cached {
        let Some(least) = asked.model.cache_from else { return Cached::default() };
        let prompt = whole(&asked.prompt);
        let earlier = self.prompts.get(&asked.model.name).into_iter().flatten();
        let longest = earlier.map(|earlier| shared_chars(earlier, &prompt)).max().unwrap_or(0);
        let tokens = (longest / CHARS_PER_TOKEN).min(asked.prompt_tokens);
        let read = if tokens >= least as usize { tokens / step * step } else { 0 };
        Cached { read, written: 0 }
    }

    /// What the breakpoints of a prompt read and write.
    pub(super) fn marked(&self, asked: &Asked) -> Cached {
        let Some(least) = asked.model.cache_from else { return Cached::default() };
        let beginnings = beginnings(&asked.prompt);
        let is_known = |&at: &usize| {
            let (hash, tokens) = &beginnings[at];
            *tokens >= least as usize && self.marked.contains(&(asked.model.name.clone(), *hash))
        };
        let (mut read, mut end) = (0, 0);
        let breakpoints = (0..asked.prompt.len()).filter(|&at| asked.prompt[at].is_breakpoint);
        for at in breakpoints {
            if let Some(known) = (at.saturating_sub(LOOK_BACK)..=at).rev().find(is_known) {
                read = read.max(beginnings[known].1);
            }
            if beginnings[at].1 >= least as usize {
                end = beginnings[at].1;
            }
        }
        Cached { read, written: end.saturating_sub(read) }
    }

    /// Remembers a prompt; only now others can read it.
    pub(super) fn remember(&mut self, asked: &Asked) {
        let prompt = whole(&asked.prompt);
        let prompts = self.prompts.entry(asked.model.name.clone()).or_default();
        if !prompts.contains(&prompt) {
            prompts.push(prompt);
        }
        let marks = beginnings(&asked.prompt);
        for ((hash, _), _) in marks.into_iter().zip(&asked.prompt).filter(|(_, piece)| piece.is_breakpoint) {
            self.marked.insert((asked.model.name.clone(), hash));
        }
    }
}

fn whole(pieces: &[Piece]) -> String {
    pieces.iter().map(|piece| piece.text.as_str()).collect()
}

/// For each piece the prompt up to its end, with its tokens.
fn beginnings(pieces: &[Piece]) -> Vec<(TextHash, usize)> {
    let (mut text, mut tokens) = (String::new(), 0);
    pieces
        .iter()
        .map(|piece| {
            text.push_str(&piece.text);
            tokens += piece.tokens;
            (TextHash::of(&text), tokens)
        })
        .collect()
}

fn shared_chars(one: &str, other: &str) -> usize {
    one.chars().zip(other.chars()).take_while(|(a, b)| a == b).count()
}
