//! The fakes of the model services, asked over plain HTTP: what they say, what they refuse, how they fail.
//!
//! Other tests rely on the fakes' strictness, so each rule is tested here.
#![expect(clippy::unwrap_used, reason = "part of the tests")]

mod claude;
mod compatible;
mod faults;
mod gemini;
mod http;
mod openai;
