//! One task from its text to pairs or a failure: asks the model, judges the answer, asks again.
//!
//! The decisions are `disposition`'s, the words `prompt`'s and `answer`'s; this file only carries them out.
//! It must not know how tasks arrive or where results go, nor the provider. The caller enforces the task's
//! deadline and stops by dropping the future.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use qa_shared::model::{Failure, FailureReason, Outcome, Pair, Provider, Task, UnusableAnswer};
use qa_shared::plain::is_blank;
use qa_shared::tokens::fewest_tokens;

use crate::answer::{Parsed, describe, parse, parse_reasoning};
use crate::context;
use crate::disposition::{CallOutcome, HandBackCause, Limits, Next, Tally, decide};
use crate::llm::{ChatReply, ChatRequest, Finish, LlmError, LlmErrorKind, LlmServer, Message, Role};
use crate::metrics;
use crate::progress::{Spent, TaskProgress};
use crate::prompt::{self, Prompt, answer_schema, estimate_conversation};
use crate::trace::Attempt;

/// Unusable answers that travel with a result at most.
const MAX_UNUSABLE: usize = 3;
/// Of an unusable answer this much is kept, in characters.
const MAX_UNUSABLE_CHARS: usize = 2_000;
/// Of an answer this much is shown to the model again, in characters.
const MAX_ECHO_CHARS: usize = 4_000;

/// What processing needs beside the task.
#[derive(Debug, Clone)]
pub struct Processing {
    /// The model's name at this server, which an alias may change.
    pub model: String,
    /// The context that the server loads the model with, in tokens.
    pub num_ctx: u32,
    /// The longest context of the model at this server, in tokens, where it is known.
    pub longest_ctx: Option<u32>,
    /// What may be spent.
    pub limits: Limits,
    /// When the task must have an end: pairs that are there by then are its result.
    pub deadline: Option<Instant>,
}

/// What became of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a task that is neither answered nor handed back is lost"]
#[expect(clippy::large_enum_variant, reason = "there is one per task")]
pub enum Processed {
    /// A result to publish.
    Result {
        /// Pairs or a failure.
        outcome: Outcome,
        /// What it took, with all its tries here.
        spent: Spent,
        /// What went wrong last, if the last model call gave no answer.
        last_error: Option<LlmError>,
        /// Answers that held nothing usable, each bounded, the last few only.
        unusable: Vec<UnusableAnswer>,
    },
    /// This server cannot work on the task now: it goes back to the queue.
    HandBack {
        /// Why.
        cause: HandBackCause,
        /// The same for people.
        message: String,
        /// How long the server should be left alone.
        after: Duration,
    },
}

/// Works on a task until there is a result or the server cannot go on. `progress` is how far it has come before,
/// and is kept up to date with each model call.
pub async fn process<S: LlmServer>(
    task: &Task,
    server: &S,
    processing: &Processing,
    progress: &mut TaskProgress,
) -> Processed {
    let settings = &task.settings;
    let asked = settings.questions_per_chunk;
    if is_blank(&task.text) {
        return not_asked(FailureReason::EmptyChunk, "the chunk has no text".to_owned());
    }
    let prompt = match prompt::build(settings, &task.text, asked) {
        Ok(prompt) => prompt,
        Err(error) => {
            return not_asked(FailureReason::Rejected, format!("the prompt template is unusable: {error}"));
        }
    };
    let num_ctx = num_ctx_of(task, processing);
    if let Some(message) = surely_too_long(&prompt, num_ctx) {
        return not_asked(FailureReason::PromptTooLong, message);
    }
    // A budget counts on so many calls for the task, not for each try.
    let calls_left = task.max_calls.unwrap_or(u32::MAX).saturating_sub(progress.spent.attempts);
    let attempts = calls_left.min(processing.limits.attempts);
    let limits = Limits { attempts, ..processing.limits };
    let mut session = Session {
        request: ChatRequest {
            model: processing.model.clone(),
            messages: opening(&prompt),
            schema: Some(answer_schema(asked)),
            temperature: settings.temperature,
            max_output: settings.output_ceiling(),
            reasoning: settings.reasoning,
            num_ctx,
            sampling: settings.ollama.clone(),
            seed: None,
            repetitions: 0,
        },
        prompt,
        tally: Tally { asked, have: count(progress.pairs.len()), ..Tally::default() },
        progress,
        last_error: None,
        unusable: VecDeque::new(),
        last_answer: String::new(),
        asked_again: None,
    };
    let have = session.tally.have;
    if have >= asked || (attempts == 0 && have > 0) {
        return session.accept();
    }
    if attempts == 0 {
        let message = "the model calls that the budget counts on are used up".to_owned();
        return session
            .result(Outcome::Failed { failure: Failure { reason: FailureReason::NoUsableAnswer, message } });
    }
    if have > 0 {
        session.ask_again("some pairs are still missing", asked - have, false);
    }
    loop {
        let call = session.call(server);
        let outcome = match processing.deadline {
            Some(deadline) => tokio::time::timeout_at(deadline, call).await,
            None => Ok(call.await),
        };
        let Ok(outcome) = outcome else { return session.out_of_time() };
        let before = session.tally.attempts;
        let next = decide(&outcome, &mut session.tally, &limits);
        session.progress.spent.attempts += session.tally.attempts - before;
        tracing::debug!(task = %task.key, tally = ?session.tally, ?next, "model call finished");
        match next {
            Next::Accept => return session.accept(),
            Next::Fail(failure) => return session.result(Outcome::Failed { failure }),
            Next::HandBack { cause, message, after } => {
                return Processed::HandBack { cause, message, after };
            }
            Next::Hold { at_least, spread } => {
                session.asked_again = Some(metrics::asked_again(&outcome));
                tokio::time::sleep(at_least + spread.mul_f64(rand::random())).await;
            }
            Next::AskAgain { reason, missing, shorter } => {
                session.asked_again = Some(metrics::asked_again(&outcome));
                session.ask_again(&reason, missing, shorter);
            }
        }
    }
}

/// The context of a task's requests: the user's, the one that the chunk needs beside the job's others, or the one
/// that all requests share. Only Ollama's is a matter of the request.
fn num_ctx_of(task: &Task, processing: &Processing) -> u32 {
    match task.settings.ollama.num_ctx.or(task.num_ctx) {
        Some(wanted) if task.settings.provider == Provider::Local => {
            context::of_request(wanted, processing.longest_ctx)
        }
        _ => processing.num_ctx,
    }
}

/// The work on one task.
struct Session<'a> {
    request: ChatRequest,
    prompt: Prompt,
    progress: &'a mut TaskProgress,
    tally: Tally,
    last_error: Option<LlmError>,
    unusable: VecDeque<UnusableAnswer>,
    last_answer: String,
    /// Why the model is asked again, if it is.
    asked_again: Option<String>,
}

impl Session<'_> {
    async fn call<S: LlmServer>(&mut self, server: &S) -> CallOutcome {
        let attempt =
            Attempt { number: self.progress.spent.attempts + 1, because: self.asked_again.as_deref() };
        match metrics::chat(server, &self.request, attempt).await {
            Ok(reply) => {
                self.last_error = None;
                self.judge(reply)
            }
            Err(error) => {
                self.progress.spent.usage.add(error.usage);
                self.last_error = Some(error.clone());
                CallOutcome::Error(error)
            }
        }
    }

    fn judge(&mut self, reply: ChatReply) -> CallOutcome {
        tracing::debug!(finish = ?reply.finish, usage = ?reply.usage, "model answered");
        self.progress.spent.usage.add(reply.usage);
        let missing = usize::try_from(self.tally.asked.saturating_sub(self.tally.have)).unwrap_or(usize::MAX);
        let Parsed { pairs, problems, truncated } = match &reply.finish {
            // Whatever stands beside a refusal is no pair.
            Finish::Refused(_) => Parsed { pairs: Vec::new(), problems: Vec::new(), truncated: false },
            _ => read_reply(&reply, missing, &self.progress.pairs),
        };
        let new_pairs = count(pairs.len());
        if pairs.is_empty() {
            let mut reason = describe(&problems);
            if let Finish::Refused(why) = &reply.finish {
                reason = format!("refused: {why}");
            }
            if reply.finish == Finish::Length {
                reason.push_str("; the output limit was reached");
            }
            if reply.finish == Finish::Repetition {
                reason.push_str("; it repeated itself without end");
            }
            // An empty answer has often been thought about at length: that is what helps to understand it.
            let kept = if reply.content.trim().is_empty() {
                reply.thinking.as_deref().unwrap_or_default()
            } else {
                reply.content.as_str()
            };
            let answer = beginning(kept, MAX_UNUSABLE_CHARS);
            self.unusable.push_back(UnusableAnswer { attempt: self.tally.attempts + 1, reason, answer });
            if self.unusable.len() > MAX_UNUSABLE {
                self.unusable.pop_front();
            }
        }
        self.progress.pairs.extend(pairs);
        if reply.finish == Finish::Repetition {
            self.request.repetitions += 1;
            // A model that sees its loop again falls into it again.
            self.last_answer.clear();
        } else {
            self.last_answer = reply.content;
        }
        CallOutcome::Answered { finish: reply.finish, new_pairs, problems, truncated }
    }

    /// The conversation goes on after the model's last answer. What came before that is left out: the pairs
    /// that were good are named in the follow-up.
    fn ask_again(&mut self, reason: &str, missing: u32, shorter: bool) {
        let mut follow_up = prompt::reask(reason, &self.progress.pairs, missing);
        if shorter {
            follow_up.push_str("\nKeep questions and answers short: the last reply ran out of room.");
        }
        let mut messages = opening(&self.prompt);
        let echo = beginning(self.last_answer.trim(), MAX_ECHO_CHARS);
        let room = self.request.num_ctx.saturating_sub(self.request.max_output);
        let with_echo = estimate_conversation(
            messages.iter().map(|message| message.content.as_str()).chain([echo.as_str(), &follow_up]),
        );
        if echo.is_empty() || with_echo > room {
            // Some chat templates refuse two user messages in a row.
            if let Some(last) = messages.last_mut() {
                last.content.push_str("\n\n");
                last.content.push_str(&follow_up);
            }
        } else {
            messages.push(Message::new(Role::Assistant, echo));
            messages.push(Message::new(Role::User, follow_up));
        }
        self.request.messages = messages;
        self.request.schema = Some(answer_schema(missing));
    }

    /// The call that the deadline ended counts too.
    fn out_of_time(mut self) -> Processed {
        self.progress.spent.attempts += 1;
        let message = "no answer within the time that a task may take (--task-timeout)".to_owned();
        self.last_error = Some(LlmError::new(LlmErrorKind::Timeout, message.clone()));
        if !self.progress.pairs.is_empty() {
            return self.accept();
        }
        self.result(Outcome::Failed { failure: Failure { reason: FailureReason::Deadline, message } })
    }

    fn accept(self) -> Processed {
        let pairs = self.progress.pairs.clone();
        self.result(Outcome::Completed { pairs })
    }

    fn result(self, outcome: Outcome) -> Processed {
        let (spent, last_error) = (self.progress.spent, self.last_error);
        Processed::Result { outcome, spent, last_error, unusable: self.unusable.into() }
    }
}

/// The pairs of a reply. What the server calls reasoning counts only where the model said nothing else and came
/// to its end: an interrupted line of thought holds drafts.
pub(crate) fn read_reply(reply: &ChatReply, asked: usize, already: &[Pair]) -> Parsed {
    let thinking = reply.thinking.as_deref().filter(|_| reply.content.trim().is_empty());
    let is_whole = !matches!(reply.finish, Finish::Length | Finish::Repetition | Finish::Refused(_));
    thinking
        .filter(|_| is_whole)
        .and_then(|thinking| parse_reasoning(thinking, asked, already))
        .unwrap_or_else(|| parse(&reply.content, asked, already))
}

fn not_asked(reason: FailureReason, message: String) -> Processed {
    let outcome = Outcome::Failed { failure: Failure { reason, message } };
    Processed::Result { outcome, spent: Spent::default(), last_error: None, unusable: Vec::new() }
}

fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

fn opening(prompt: &Prompt) -> Vec<Message> {
    let mut messages = Vec::with_capacity(4);
    if !prompt.system.is_empty() {
        messages.push(Message::new(Role::System, prompt.system.clone()));
    }
    let constant = prompt.constant;
    messages.push(Message { constant, ..Message::new(Role::User, prompt.user.clone()) });
    messages
}

/// Whether the prompt alone exceeds the context whatever the tokenizer. A careful estimate would refuse prompts
/// that fit; between the two the server decides.
fn surely_too_long(prompt: &Prompt, num_ctx: u32) -> Option<String> {
    let least = fewest_tokens(&prompt.system).saturating_add(fewest_tokens(&prompt.user));
    (least >= num_ctx)
        .then(|| format!("the prompt takes at least {least} tokens, the model's context is {num_ctx} tokens"))
}

fn beginning(text: &str, chars: usize) -> String {
    text.chars().take(chars).collect()
}
