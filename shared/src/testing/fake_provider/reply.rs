//! An answer before it has its service's form: its text, how it ends, and what it cost.

use super::behaviour::{Behaviour, ProviderCall};
use super::instance;
use super::prefixes::Cached;
use super::request::{Asked, turns};
use crate::model::Pair;
use crate::testing::fake_server::answer::{count_tokens, fenced, fresh_pairs, repeating, tokens};

/// Tokens that are said before a filter takes the answer away.
const TOKENS_BEFORE_FILTER: usize = 3;
/// Tokens of a thought that a test asked for.
const THOUGHT_TOKENS: usize = 8;
const THOUGHT: &str = "Let me see {\"pairs\": ...} first.";

/// How an answer ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    Stop,
    /// The request's or the model's output ceiling.
    Length,
    /// The end of the model's context.
    ContextFull,
    Refused(String),
    Filtered,
    Recitation,
    /// A good end without content.
    Empty,
}

/// An answer before it has its service's form.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    pub(super) text: String,
    pub(super) end: End,
    /// What is shown of the reasoning.
    pub(super) thought: Option<String>,
    /// The answer stands in the reasoning's place.
    pub(super) in_reasoning: bool,
    /// Tokens of the text.
    pub(super) text_tokens: usize,
    /// Tokens of the reasoning.
    pub(super) reasoning_tokens: usize,
    pub(super) prompt_tokens: usize,
    pub(super) cached: Cached,
}

impl Reply {
    /// All tokens that were generated.
    pub(super) fn output_tokens(&self) -> usize {
        self.text_tokens + self.reasoning_tokens
    }
}

/// The answer to a call.
pub(super) fn compose(asked: &Asked, call: &ProviderCall, behaviour: &Behaviour, cached: Cached) -> Reply {
    let room = usize::try_from(asked.model.context).unwrap_or(usize::MAX).saturating_sub(asked.prompt_tokens);
    let ceiling = asked.ceiling.min(room);
    let cut = if room < asked.ceiling { End::ContextFull } else { End::Length };
    let mut reply = Reply {
        text: content(asked, call, behaviour),
        end: End::Stop,
        thought: None,
        in_reasoning: *behaviour == Behaviour::InReasoning,
        text_tokens: 0,
        reasoning_tokens: asked.reasoning,
        prompt_tokens: asked.prompt_tokens,
        cached,
    };
    if matches!(behaviour, Behaviour::FirstOtherBlock | Behaviour::InReasoning) {
        reply.reasoning_tokens = reply.reasoning_tokens.max(THOUGHT_TOKENS);
        reply.thought = Some(THOUGHT.to_owned());
    }
    if asked.shows_reasoning && reply.reasoning_tokens > 0 {
        reply.thought = Some(THOUGHT.to_owned());
    }
    match behaviour {
        Behaviour::Refuse(reason) => reply.end = End::Refused(reason.clone()),
        Behaviour::Filtered => reply.end = End::Filtered,
        Behaviour::Recitation => reply.end = End::Recitation,
        Behaviour::Empty => reply.end = End::Empty,
        _ => {}
    }
    let spent = *behaviour == Behaviour::SpentOnReasoning;
    if spent || (reply.reasoning_tokens > 0 && reply.reasoning_tokens >= ceiling) {
        reply.reasoning_tokens = ceiling;
        reply.text.clear();
        reply.end = cut;
        return reply;
    }
    let said = tokens(&reply.text);
    let mut room = ceiling - reply.reasoning_tokens;
    match behaviour {
        Behaviour::CutAfter(tokens) => room = room.min(*tokens),
        Behaviour::Filtered | Behaviour::Recitation => room = room.min(TOKENS_BEFORE_FILTER),
        _ => {}
    }
    if said.len() > room {
        reply.text = said[..room].concat();
        if reply.end == End::Stop {
            reply.end = if matches!(behaviour, Behaviour::CutAfter(_)) { End::Length } else { cut };
        }
    }
    reply.text_tokens = count_tokens(&reply.text);
    reply
}

fn content(asked: &Asked, call: &ProviderCall, behaviour: &Behaviour) -> String {
    let good = |count| {
        let text = instance::text(&asked.form, &pairs_for(call, count), &call.chunk);
        if asked.form == super::request::Form::Unread { fenced(&text) } else { text }
    };
    match behaviour {
        Behaviour::Text(text) => text.clone(),
        Behaviour::Fewer(count) => good(*count),
        Behaviour::Repeat(unit) => repeating(&pairs_for(call, 1), unit, asked.ceiling),
        Behaviour::Fenced => fenced(&good(call.asked)),
        Behaviour::Refuse(_) | Behaviour::Empty => String::new(),
        _ => good(call.asked),
    }
}

/// The first pairs that the user did not forbid to repeat.
fn pairs_for(call: &ProviderCall, count: u32) -> Vec<Pair> {
    let turns = turns(&call.body);
    let said: Vec<&str> =
        turns.iter().filter(|turn| turn.role == "user").map(|turn| turn.text.as_str()).collect();
    fresh_pairs(&call.chunk, &said, count)
}
