//! The slots of one LLM server: how many are open, as they were set or as its answers tell.
//!
//! [`crate::concurrency`] finds the number; this keeps the time, and tells the slots. It must not know about tasks.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::concurrency::{Answered, Begun, Concurrency, Unanswered};
use crate::config::Slots;
use crate::llm::client::Client;
use crate::llm::{ChatReply, ChatRequest, LlmError, LlmErrorKind, LlmServer};

/// A server of one's own begins with so many: the best for an Ollama that works on one request at a time.
const FIRST: u32 = 2;
/// An account begins with so many.
const FIRST_OF_ACCOUNT: u32 = 8;
/// Of a server of one's own, so many are open at most where the number is measured.
const MOST: u32 = 256;
/// The same for an account: each request in flight is paid for, perhaps twice when this process is killed.
const MOST_OF_ACCOUNT: u32 = 64;

/// The slots of one server.
#[derive(Debug)]
pub struct ServerSlots {
    open: watch::Sender<u32>,
    /// Finds the number, where it is not fixed.
    found: Option<Mutex<Concurrency>>,
    most: u32,
    /// From here the time of `found` counts.
    started: Instant,
}

impl ServerSlots {
    /// The slots of a server, or of an account.
    pub fn new(setting: Slots, is_account: bool) -> Self {
        let (first, most) = match (setting, is_account) {
            (Slots::Fixed(number), _) => (number, number),
            (Slots::Auto, false) => (FIRST, MOST),
            (Slots::Auto, true) => (FIRST_OF_ACCOUNT, MOST_OF_ACCOUNT),
        };
        let found = (setting == Slots::Auto).then(|| Mutex::new(Concurrency::new(first, most)));
        Self { open: watch::Sender::new(first), found, most, started: Instant::now() }
    }

    /// How many are open.
    pub fn open(&self) -> u32 {
        *self.open.borrow()
    }

    /// How many may ever be open.
    pub fn most(&self) -> u32 {
        self.most
    }

    /// Whether the number is measured.
    pub fn is_auto(&self) -> bool {
        self.found.is_some()
    }

    /// Tells how many are open, from now on.
    pub(crate) fn watch(&self) -> watch::Receiver<u32> {
        self.open.subscribe()
    }

    /// The server may be another one now, or have another model.
    pub fn forget(&self) {
        self.change(Concurrency::forget);
    }

    /// Calls the model, and learns from that where the number is measured. A call that is dropped says nothing.
    pub(crate) async fn chat(&self, client: &Client, request: &ChatRequest) -> Result<ChatReply, LlmError> {
        if self.found.is_none() {
            return client.chat(request).await;
        }
        let begun = Instant::now();
        let mut call = Call { slots: self, begun: self.change(Concurrency::begin) };
        let answer = client.chat(request).await;
        let took = begun.elapsed();
        if let Some(begun) = call.begun.take() {
            self.change(|found, now| match &answer {
                Ok(reply) => found.answered(begun, now, &told(reply, took, client.is_hosted())),
                Err(error) => found.unanswered(begun, now, why(error, client)),
            });
        }
        answer
    }

    fn change<T>(&self, change: impl FnOnce(&mut Concurrency, Duration) -> T) -> Option<T> {
        let mut found: MutexGuard<'_, _> =
            self.found.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = change(&mut found, self.started.elapsed());
        let now = found.slots();
        self.open.send_if_modified(|open| {
            let is_other = *open != now;
            if is_other {
                tracing::debug!(before = *open, now, "another number of slots");
            }
            *open = now;
            is_other
        });
        Some(changed)
    }
}

impl fmt::Display for ServerSlots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_auto() { write!(f, "auto, now {}", self.open()) } else { write!(f, "{}", self.open()) }
    }
}

/// A model call under way.
struct Call<'a> {
    slots: &'a ServerSlots,
    begun: Option<Begun>,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if let Some(begun) = self.begun.take() {
            self.slots.change(|found, now| found.unanswered(begun, now, Unanswered::Other));
        }
    }
}

/// Ollama and llama.cpp tell how long they worked on an answer: for the rest of the time it waited, there or on
/// its way. A service works on what the account's limits let through.
fn told(reply: &ChatReply, took: Duration, is_hosted: bool) -> Answered {
    let usage = &reply.usage;
    let worked = Duration::from_millis(usage.load_ms + usage.prompt_ms + usage.generation_ms);
    let waited = if usage.generation_ms > 0 {
        Some(took.saturating_sub(worked))
    } else {
        is_hosted.then_some(reply.held)
    };
    Answered { tokens: usage.output_tokens, waited, loading: Duration::from_millis(usage.load_ms) }
}

/// Ollama refuses requests only while it loads, and a server of one's own while it starts.
fn why(error: &LlmError, client: &Client) -> Unanswered {
    match (&error.kind, client) {
        (LlmErrorKind::Overloaded { .. }, Client::Remote(_)) => Unanswered::Overloaded,
        _ => Unanswered::Other,
    }
}

#[cfg(test)]
mod tests {
    use qa_shared::model::Usage;

    use super::*;
    use crate::llm::Finish;

    fn reply(usage: Usage, held: Duration) -> ChatReply {
        ChatReply {
            content: String::new(),
            thinking: None,
            finish: Finish::Stop,
            usage,
            prompt_tokens: None,
            model: None,
            id: None,
            held,
        }
    }

    #[test]
    fn a_fixed_number_stays_and_a_measured_one_has_room() {
        let fixed = ServerSlots::new(Slots::Fixed(4), false);
        assert_eq!((fixed.open(), fixed.most(), fixed.to_string().as_str()), (4, 4, "4"));
        let own = ServerSlots::new(Slots::Auto, false);
        assert_eq!((own.open(), own.most(), own.to_string().as_str()), (2, 256, "auto, now 2"));
        let account = ServerSlots::new(Slots::Auto, true);
        assert_eq!((account.open(), account.most()), (8, 64));
    }

    #[test]
    fn what_is_not_work_is_waiting_where_the_work_is_told() {
        let usage = Usage {
            output_tokens: 7,
            load_ms: 1000,
            prompt_ms: 500,
            generation_ms: 2500,
            ..Usage::default()
        };
        let answered = told(&reply(usage, Duration::ZERO), Duration::from_secs(6), false);
        let expected =
            Answered { tokens: 7, waited: Some(Duration::from_secs(2)), loading: Duration::from_secs(1) };
        assert_eq!(answered, expected);
        let silent = reply(Usage::default(), Duration::from_secs(3));
        assert_eq!(told(&silent, Duration::from_secs(9), false).waited, None);
        assert_eq!(told(&silent, Duration::from_secs(9), true).waited, Some(Duration::from_secs(3)));
    }
}
