//! Whole tasks against strict fakes of OpenAI, Claude, Gemini and of servers with OpenAI's API: what is sent is
//! taken, and whatever comes back has its one meaning.

#![expect(clippy::unwrap_used, reason = "a test whose preparation fails has to fail")]

mod addresses;
mod check;
mod faults;
mod limits;
mod models;
mod odd_answers;
mod outcomes;
mod prefix;
mod sharing;
mod support;
