//! What to do after a model call: take the pairs, ask again, wait, hand the task back, or give up.
//!
//! PURE: one function of the call's outcome, what was before, and the limits. It must not know how a server
//! is asked nor how waiting is done.
//!
//! The rule that everything follows: what a server does to everybody (overload, absence, a spent account)
//! never counts against a chunk, what happens to this chunk counts as an attempt. What an error reply means
//! is `llm::retry`'s and `llm::ollama_errors`' to say; together they are the whole retry policy.

use std::time::Duration;

use qa_shared::backoff::Backoff;
use qa_shared::model::{Failure, FailureReason, Obstacle};

use crate::answer::{Problem, describe};
use crate::llm::{Finish, LlmError, LlmErrorKind};

/// How much may be spent on one task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Model calls that count, at least 1.
    pub attempts: u32,
    /// Waits at an overloaded server before the task is handed back.
    pub holds: u32,
    /// The first wait; each later one is twice as long.
    pub first_wait: Duration,
    /// The longest wait with a task in hand; a server that asks for more loses it.
    pub longest_wait: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            attempts: 3,
            holds: 4,
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(60),
        }
    }
}

/// What a model call came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallOutcome {
    /// An answer, good or bad.
    Answered {
        /// Why the server stopped.
        finish: Finish,
        /// Valid pairs in it that were not there before.
        new_pairs: u32,
        /// What was wrong with it.
        problems: Vec<Problem>,
        /// Whether its JSON ended in the middle.
        truncated: bool,
    },
    /// No answer.
    Error(LlmError),
}

/// What happened to a task so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Pairs asked for.
    pub asked: u32,
    /// Valid pairs.
    pub have: u32,
    /// Model calls that count.
    pub attempts: u32,
    /// Answers among them.
    pub answers: u32,
    /// Answers that were cut before their first new pair.
    pub cut: u32,
    /// Answers that repeated themselves without end before their first new pair.
    pub repeated: u32,
    /// Waits at an overloaded server.
    pub holds: u32,
}

/// What is next for a task.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a task whose next step is dropped is lost"]
pub enum Next {
    /// Done: the pairs so far are the result.
    Accept,
    /// Ask for the missing pairs and say what was wrong.
    AskAgain {
        /// What was wrong with the last answer.
        reason: String,
        /// Pairs to ask for: those still missing, or fewer where not even one fitted into an answer.
        missing: u32,
        /// Whether the last answer ran out of room: ask for shorter texts.
        shorter: bool,
    },
    /// Send the same request again after a wait of `at_least` and a random part of `spread` (full jitter, so
    /// that many tasks do not come back at once).
    Hold {
        /// What the server asked for; zero where it did not.
        at_least: Duration,
        /// The back-off's bound.
        spread: Duration,
    },
    /// Give the task back to the queue: this server cannot work on it now.
    HandBack {
        /// Why.
        cause: HandBackCause,
        /// The same for people.
        message: String,
        /// How long this server should be left alone.
        after: Duration,
    },
    /// No pair will come of it.
    Fail(Failure),
}

/// Why a task goes back to the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandBackCause {
    /// The server has too much to do.
    Overloaded,
    /// The server does not answer.
    Unreachable,
    /// Something before the server answers in its place.
    ProxyReply,
    /// The server is busy loading the model.
    ModelLoading,
    /// The server does not have the model (any more).
    ModelMissing,
    /// The model runs only for accounts with a subscription.
    SubscriptionRequired,
    /// The server has not enough memory for the model.
    OutOfMemory,
    /// The provider does not accept the key.
    KeyRefused,
    /// The account's quota or credit is used up.
    QuotaExhausted,
    /// The worker is being stopped.
    Stopping,
}

impl HandBackCause {
    /// Whether only the account's owner can help: nobody should go on asking with it.
    pub fn is_about_the_account(self) -> bool {
        matches!(self, Self::KeyRefused | Self::QuotaExhausted)
    }

    /// The same for the coordinator, which only wants to know what lasts.
    pub fn obstacle(self) -> Obstacle {
        match self {
            Self::Unreachable => Obstacle::NothingListens,
            Self::ModelMissing => Obstacle::ModelUnknown,
            Self::OutOfMemory => Obstacle::OutOfMemory,
            Self::SubscriptionRequired => Obstacle::SubscriptionRequired,
            Self::KeyRefused => Obstacle::CredentialsRefused,
            Self::Overloaded
            | Self::ProxyReply
            | Self::ModelLoading
            | Self::QuotaExhausted
            | Self::Stopping => Obstacle::Other,
        }
    }

    /// Whether one request may bring it about while the server answers others: a filter of a proxy refuses a
    /// chunk's words, or a chunk ends the process that works on it.
    pub fn may_be_the_requests(self) -> bool {
        matches!(self, Self::Unreachable | Self::ProxyReply | Self::OutOfMemory | Self::KeyRefused)
    }
}

/// After this long a key or a quota is tried again: somebody may have mended it.
pub const ACCOUNT_PAUSE: Duration = Duration::from_secs(300);

/// Decides what is next, and brings the tally up to date with `outcome`.
pub fn decide(outcome: &CallOutcome, tally: &mut Tally, limits: &Limits) -> Next {
    match outcome {
        CallOutcome::Answered { finish, new_pairs, problems, truncated } => {
            let repeated = *finish == Finish::Repetition;
            // What failed the service's check is often half an object, whatever room there was.
            let invalid = matches!(finish, Finish::Invalid(_));
            let cut = *finish == Finish::Length || (*truncated && !repeated && !invalid);
            tally.attempts += 1;
            tally.answers += 1;
            tally.cut += u32::from(cut && *new_pairs == 0);
            tally.repeated += u32::from(repeated && *new_pairs == 0);
            tally.have = tally.have.saturating_add(*new_pairs);
            after_answer(finish, problems, cut, *new_pairs, *tally, limits)
        }
        CallOutcome::Error(error) => after_error(error, tally, limits),
    }
}

fn after_answer(
    finish: &Finish,
    problems: &[Problem],
    cut: bool,
    new_pairs: u32,
    tally: Tally,
    limits: &Limits,
) -> Next {
    if tally.have >= tally.asked {
        return Next::Accept;
    }
    if let Finish::Refused(reason) = finish {
        // Asking again costs the same and gets the same.
        return if tally.have > 0 {
            Next::Accept
        } else {
            let message = format!("the model or its provider declines: {reason}");
            Next::Fail(Failure { reason: FailureReason::Refused, message })
        };
    }
    let reason = complaint(finish, problems, cut);
    if tally.attempts < limits.attempts {
        let missing = tally.asked - tally.have;
        // The ceiling is the user's: more room comes from asking for less at once.
        let missing = if cut && new_pairs == 0 { missing.div_ceil(2) } else { missing };
        return Next::AskAgain { reason, missing, shorter: cut };
    }
    if tally.have > 0 {
        return Next::Accept;
    }
    let reason_kind = if tally.repeated > 0 && tally.repeated + tally.cut == tally.answers {
        // More room for a loop is of no use, so this is never `output_limit`.
        FailureReason::Repetition
    } else if tally.cut == tally.answers {
        FailureReason::OutputLimit
    } else {
        FailureReason::NoUsableAnswer
    };
    Next::Fail(Failure { reason: reason_kind, message: format!("{reason} ({})", after(tally.attempts)) })
}

fn complaint(finish: &Finish, problems: &[Problem], cut: bool) -> String {
    let mut parts = Vec::new();
    if cut && !problems.contains(&Problem::Cut) {
        parts.push("the answer reached the output limit".to_owned());
    }
    let is_loop = *finish == Finish::Repetition;
    if is_loop {
        parts.push("the answer repeated itself without end".to_owned());
    }
    // A loop has no end of course, and no room would be enough for it.
    let problems: Vec<Problem> =
        problems.iter().filter(|problem| !is_loop || **problem != Problem::Cut).copied().collect();
    if let Finish::Invalid(code) = finish {
        parts.push(format!("the answer failed the service's own check (`{code}`)"));
    }
    if let Finish::Other(reason) = finish {
        parts.push(format!("the server ended the answer with `{reason}`"));
        if reason == "RECITATION" {
            parts.push("use words of your own instead of long quotations".to_owned());
        }
    }
    if !problems.is_empty() {
        parts.push(describe(&problems));
    }
    if parts.is_empty() {
        parts.push("there were fewer pairs than asked for".to_owned());
    }
    parts.join("; ")
}

fn after_error(error: &LlmError, tally: &mut Tally, limits: &Limits) -> Next {
    match error.kind {
        LlmErrorKind::Overloaded { retry_after } => {
            wait_or_hand_back(HandBackCause::Overloaded, error, retry_after, tally, limits)
        }
        LlmErrorKind::ModelLoading => {
            wait_or_hand_back(HandBackCause::ModelLoading, error, None, tally, limits)
        }
        // Others may reach their servers, or have the model, or the memory for it: give the task to them.
        LlmErrorKind::Unreachable => hand_back(HandBackCause::Unreachable, error, limits.first_wait),
        LlmErrorKind::ProxyReply => hand_back(HandBackCause::ProxyReply, error, limits.first_wait),
        LlmErrorKind::SubscriptionRequired => {
            hand_back(HandBackCause::SubscriptionRequired, error, limits.longest_wait)
        }
        LlmErrorKind::ModelNotFound => hand_back(HandBackCause::ModelMissing, error, limits.longest_wait),
        LlmErrorKind::OutOfMemory => hand_back(HandBackCause::OutOfMemory, error, limits.longest_wait),
        // What was paid for stays; the rest waits for an account that works.
        LlmErrorKind::KeyRefused | LlmErrorKind::QuotaExhausted if tally.have > 0 => Next::Accept,
        LlmErrorKind::KeyRefused => hand_back(HandBackCause::KeyRefused, error, ACCOUNT_PAUSE),
        LlmErrorKind::QuotaExhausted => hand_back(HandBackCause::QuotaExhausted, error, ACCOUNT_PAUSE),
        LlmErrorKind::NotBegun => hand_back(HandBackCause::Stopping, error, Duration::ZERO),
        LlmErrorKind::PromptTooLong => fail_or_accept(FailureReason::PromptTooLong, error, tally),
        LlmErrorKind::Refused => fail_or_accept(FailureReason::Refused, error, tally),
        LlmErrorKind::Rejected => fail_or_accept(FailureReason::Rejected, error, tally),
        LlmErrorKind::ServerFault
        | LlmErrorKind::Malformed
        | LlmErrorKind::Timeout
        | LlmErrorKind::IdleTimeout => {
            if tally.attempts + 1 < limits.attempts {
                tally.attempts += 1;
                return Next::Hold { at_least: Duration::ZERO, spread: wait_number(tally.attempts, limits) };
            }
            fail_or_accept(FailureReason::ServerError, error, tally)
        }
    }
}

fn wait_or_hand_back(
    cause: HandBackCause,
    error: &LlmError,
    retry_after: Option<Duration>,
    tally: &mut Tally,
    limits: &Limits,
) -> Next {
    let next_wait = wait_number(tally.holds + 1, limits);
    let asked_for = retry_after.unwrap_or_default();
    if tally.holds < limits.holds && asked_for <= limits.longest_wait {
        tally.holds += 1;
        let spread = if asked_for.is_zero() { next_wait } else { limits.first_wait };
        Next::Hold { at_least: asked_for, spread }
    } else {
        hand_back(cause, error, asked_for.max(next_wait))
    }
}

fn hand_back(cause: HandBackCause, error: &LlmError, after: Duration) -> Next {
    Next::HandBack { cause, message: error.message.clone(), after }
}

/// The call counts; what was paid for before it is kept.
fn fail_or_accept(reason: FailureReason, error: &LlmError, tally: &mut Tally) -> Next {
    tally.attempts += 1;
    if tally.have > 0 {
        return Next::Accept;
    }
    Next::Fail(Failure { reason, message: format!("{} ({})", error.message, after(tally.attempts)) })
}

/// The n-th wait, n from 1.
fn wait_number(n: u32, limits: &Limits) -> Duration {
    let earlier = usize::try_from(n.saturating_sub(1)).unwrap_or(usize::MAX).min(64);
    Backoff::new(limits.first_wait, limits.longest_wait).nth(earlier).unwrap_or(limits.longest_wait)
}

fn after(attempts: u32) -> String {
    if attempts == 1 { "after 1 attempt".to_owned() } else { format!("after {attempts} attempts") }
}

#[cfg(test)]
#[path = "disposition_tests.rs"]
mod tests;
