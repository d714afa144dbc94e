//! What a test wants a fake service to do with a call.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

/// A call for an answer as the service sees it.
#[derive(Debug, Clone)]
pub struct ProviderCall {
    /// Which call of this service it is, from 1.
    pub number: u64,
    /// The model's name as it was asked for.
    pub model: String,
    /// The chunk in the messages; the whole first user message where no chunk is marked.
    pub chunk: String,
    /// Pairs asked for.
    pub asked: u32,
    /// The whole request; null where it is no JSON.
    pub body: Value,
    /// The request's headers, with names in lower case.
    pub headers: BTreeMap<String, String>,
}

/// How a service that refuses a call says when to come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RetryHint {
    /// `retry-after` in seconds.
    Seconds(u64),
    /// `retry-after` as an HTTP date, this many seconds from now.
    Date(u64),
    /// `retry-after-ms`.
    Milliseconds(u64),
    /// The reset header of the service's request limit with this text, such as `6m0s`.
    ResetText(String),
    /// The `retryDelay` of Gemini's error details, such as `37s`; elsewhere words in the message.
    RetryInfo(String),
    /// Not at all.
    None,
}

/// What happens to a good call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Behaviour {
    /// Answers as [`super::expected_pairs`] says.
    Answer,
    /// Answers with fewer pairs than asked for.
    Fewer(u32),
    /// Answers with this text.
    Text(String),
    /// One complete pair, then this text again and again up to the output ceiling.
    Repeat(String),
    /// The good answer in a Markdown code block with prose around it.
    Fenced,
    /// The good answer, but cut after this many tokens as if the output ceiling were reached.
    CutAfter(usize),
    /// Reasoning used up the output ceiling: no text at all.
    SpentOnReasoning,
    /// The model refuses, with this explanation.
    Refuse(String),
    /// A filter of the service takes the answer away.
    Filtered,
    /// The answer repeats its source too literally (Gemini); elsewhere as [`Behaviour::Filtered`].
    Recitation,
    /// A good end without any content.
    Empty,
    /// Something else comes before the text: a thinking block (Claude), a thought (Gemini), a field with
    /// reasoning (OpenAI's API).
    FirstOtherBlock,
    /// The good answer in the field for reasoning, and none in the one for text (vLLM); elsewhere as
    /// [`Behaviour::FirstOtherBlock`].
    InReasoning,
    /// This status with these headers and this body.
    Status {
        /// The HTTP status.
        status: u16,
        /// Headers to add.
        headers: Vec<(String, String)>,
        /// The body as it is; JSON by its content type.
        body: String,
    },
    /// 429 for too many calls.
    RateLimited(RetryHint),
    /// The account's money or day is used up.
    QuotaExhausted,
    /// The account has no money: Claude's 402; elsewhere as [`Behaviour::QuotaExhausted`].
    NoCredit,
    /// The service has too much to do; llama.cpp still loads its model.
    Overloaded,
    /// A status from 500 with the service's error for it.
    ServerError(u16),
    /// The key is refused, and repeated in the error's text.
    KeyRefused,
    /// Status 200 with an error in the body; from LM Studio as an event stream.
    ErrorIn200,
    /// Status 200 with this body.
    RawBody(Vec<u8>),
    /// Status 200 with a JSON text of this many bytes that never becomes an answer.
    HugeBody(usize),
    /// The good answer, with this pause before each byte.
    Drip(Duration),
    /// Takes this long before it answers.
    Slow(Duration),
    /// Never answers.
    Hang,
    /// The connection breaks before an answer.
    Drop,
    /// Half of the good answer, then the connection breaks.
    DropMidBody,
    /// An error that may be retried, in an array of one (Gemini's habit).
    ArrayWrappedError,
}
