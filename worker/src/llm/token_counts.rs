//! The token counts of one server: whether they can be used, and whether they show that it cuts prompts.
//!
//! [`super::truncation`] judges, [`super::usage`] estimates; this remembers for all models of the server and says
//! what its user has to know, once. It must not know how a request travels.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::truncation::{Counts, NEAR, PromptSize, Verdict, probe_text};
use super::usage::complete;
use super::{ChatReply, ChatRequest, Finish, LlmError, LlmErrorKind};

/// What is known about a server's counts.
#[derive(Debug, Default)]
pub(super) struct TokenCounts {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    models: HashMap<String, Counts>,
    /// Its counts are ignored.
    are_ignored: bool,
    /// That it reports none was said.
    missing_is_said: bool,
}

/// The request that settles a suspicion: the same prompt with more text behind it, and hardly an answer.
pub(super) fn probe(request: &ChatRequest) -> ChatRequest {
    let mut probe = ChatRequest { max_output: 1, schema: None, ..request.clone() };
    if let Some(last) = probe.messages.last_mut() {
        last.content.push_str(&probe_text());
    }
    probe
}

impl TokenCounts {
    /// What the prompt's count says; [`Verdict::Whole`] where there is none that could say anything.
    pub(super) fn judge(&self, request: &ChatRequest, reply: &ChatReply) -> Verdict {
        let mut state = self.state();
        let Some(count) = reply.prompt_tokens.filter(|count| *count > 0 && !state.are_ignored) else {
            return Verdict::Whole;
        };
        let size = PromptSize::of(request.messages.iter().map(|message| message.content.as_str()));
        state.counts(request).judge(&size, count, request.num_ctx)
    }

    /// What the answer to the [`probe`] says. It costs tokens like any call.
    pub(super) fn probed(
        &self,
        request: &ChatRequest,
        reply: &mut ChatReply,
        answer: Result<ChatReply, LlmError>,
    ) -> Verdict {
        let count = reply.prompt_tokens.unwrap_or_default();
        let probe = match answer {
            Ok(answer) => {
                reply.usage.add(answer.usage);
                let Some(probe) = answer.prompt_tokens else { return Verdict::Whole };
                Some(probe)
            }
            Err(error) if error.kind == LlmErrorKind::PromptTooLong => None,
            // Nothing is known: the next suspicious prompt is probed again.
            Err(_) => return Verdict::Whole,
        };
        self.state().counts(request).probed(count, probe)
    }

    /// Refuses answers about a part of the prompt, with `cut_remedy` in the message. Estimates what others cost where
    /// the server does not tell.
    pub(super) fn conclude(
        &self,
        (server, cut_remedy): (&str, &str),
        request: &ChatRequest,
        mut reply: ChatReply,
        verdict: &Verdict,
    ) -> Result<ChatReply, LlmError> {
        let told = self.complete_usage(server, request, &mut reply, verdict);
        let problem = match verdict {
            Verdict::Cut(how) => format!("cut the prompt: {how}; {cut_remedy}"),
            Verdict::Whole if leaves_no_room(request, told, &reply.finish) => format!(
                "had no room for an answer: the prompt takes {} of the context's {} tokens",
                told.unwrap_or_default(),
                request.num_ctx
            ),
            Verdict::Whole | Verdict::Suspicious | Verdict::Unusable(_) => return Ok(reply),
        };
        let message = format!("{server} {problem}");
        Err(LlmError::new(LlmErrorKind::PromptTooLong, message).costing(reply.usage))
    }

    /// Fills in the usage; says once what is wrong with the server's own. Gives the prompt's count, if it is one.
    fn complete_usage(
        &self,
        server: &str,
        request: &ChatRequest,
        reply: &mut ChatReply,
        verdict: &Verdict,
    ) -> Option<u32> {
        let mut state = self.state();
        if let Verdict::Unusable(how) = verdict
            && !state.are_ignored
        {
            (state.are_ignored, state.missing_is_said) = (true, true);
            tracing::warn!(%server, model = %request.model, reason = %how,
                "the server's token counts cannot be used: ignored from now on, usage and budgets count estimates");
        }
        if state.are_ignored {
            reply.prompt_tokens = None;
        }
        let is_estimated = complete(reply, request, !state.are_ignored);
        // An answer that was given up or refused has no counts, whatever the server reports otherwise.
        let has_end = !matches!(reply.finish, Finish::Repetition | Finish::Invalid(_));
        if is_estimated && has_end && !state.missing_is_said {
            state.missing_is_said = true;
            tracing::warn!(%server, model = %request.model,
                "the server does not report token counts: usage and budgets count estimates");
        }
        reply.prompt_tokens
    }

    /// The server may be another one now.
    pub(super) fn forget(&self) {
        *self.state() = State::default();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Hints only: what a panic left behind does no harm.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn counts(&mut self, request: &ChatRequest) -> &mut Counts {
        self.models.entry(request.model.clone()).or_default()
    }
}

/// Whether the answer ended where the context does, right behind the prompt: no output limit helps.
fn leaves_no_room(request: &ChatRequest, prompt_tokens: Option<u32>, finish: &Finish) -> bool {
    let is_full = |count: u32| count <= request.num_ctx && count.saturating_add(NEAR) >= request.num_ctx;
    *finish == Finish::Length && prompt_tokens.is_some_and(is_full)
}

#[cfg(test)]
#[path = "token_counts_tests.rs"]
mod tests;
