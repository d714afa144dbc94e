//! What a test wants the fake server to do with a chat call.

use std::time::Duration;

use serde_json::Value;

use crate::testing::fake_server::script;

/// A chat call as the server sees it.
#[derive(Debug, Clone)]
pub struct ChatCall {
    /// Which chat call of this server it is, from 1; warm-ups do not count.
    pub number: u64,
    /// The model's name as it was asked for.
    pub model: String,
    /// The chunk in the first user message; the whole message where no chunk is marked.
    pub chunk: String,
    /// Pairs asked for.
    pub asked: u32,
    /// The whole request.
    pub body: Value,
}

/// What happens to a chat call. All but the refusals and [`Behaviour::Drop`] wait for their slot first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Behaviour {
    /// Answers as [`super::expected_pairs`] says.
    Answer,
    /// Answers with fewer pairs than asked for.
    Fewer(u32),
    /// Answers with this text.
    Text(String),
    /// This text as the model's reasoning, and no answer beside it.
    InThinking(String),
    /// One complete pair, then this text again and again up to the output ceiling.
    Repeat(String),
    /// The good answer with reasoning in its text, as `<think>` before it.
    EmbeddedThinking,
    /// The good answer in a Markdown code block with prose around it.
    Fenced,
    /// The good answer, but cut after this many tokens as if the output ceiling were reached.
    CutAfter(usize),
    /// The good answer in one object although a stream was asked for.
    Single,
    /// Takes this long before the first token, then answers.
    Slow(Duration),
    /// An answer that ends with this `done_reason`.
    DoneReason(String),
    /// HTTP status and error text, at once.
    Status(u16, String),
    /// HTTP status and a page for people at once, as of a proxy or tunnel before the server.
    Page(u16, String),
    /// 503 with `Retry-After`, in seconds.
    BusyFor(u64),
    /// Status 200, some tokens, then an error line.
    ErrorLine(String),
    /// Status 200, some tokens, then a line that is no JSON.
    GarbageLine,
    /// One object with `done: false` and no counts, as of an abandoned generation.
    NotDone,
    /// Some tokens, then the answer ends without its last line.
    EndsEarly,
    /// Never answers.
    Hang,
    /// Some tokens, then silence.
    HangMidStream,
    /// The connection breaks before an answer.
    Drop,
    /// Some tokens, then the connection breaks.
    DropMidStream,
}

/// Which call behaves how.
pub(super) type Script = script::Script<ChatCall, Behaviour>;
