//! The versioned form of tasks and results in a message.
//!
//! A message is one JSON object: `v`, the version, and `body`. Sizes are bounded before anything is parsed
//! (serde_json bounds the depth). An unknown version is an error, not a guess: a new version also gets a
//! new subject, so an old program normally never sees it.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::plain;

/// The version that this program writes and reads.
pub const VERSION: u32 = 1;

/// The largest message that is parsed, in bytes; far above what a server's `max_payload` lets through.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024 * 1024;

/// What is wrong may quote the whole message; this many characters of it are told.
const LONGEST_REASON: usize = 300;

/// Why a message could not be read.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// Larger than [`MAX_MESSAGE_BYTES`].
    #[error("message of {bytes} bytes is over the limit of {MAX_MESSAGE_BYTES} bytes")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Written by another version.
    #[error("message has version {found}, this program reads version {VERSION}: update the older program")]
    Version {
        /// The version that was found.
        found: u32,
    },
    /// Not the JSON that was expected.
    #[error("message is not readable: {}", plain::line(&.0.to_string(), LONGEST_REASON))]
    Json(#[from] serde_json::Error),
}

#[derive(Serialize)]
struct Outgoing<'a, T> {
    v: u32,
    body: &'a T,
}

#[derive(Deserialize)]
struct Incoming<'a> {
    v: u32,
    #[serde(borrow)]
    body: &'a RawValue,
}

/// Writes a message.
pub fn encode<T: Serialize>(body: &T) -> Result<Vec<u8>, WireError> {
    // What most messages fit into: growing takes time, above all in a process with much in its memory.
    let mut message = Vec::with_capacity(2048);
    serde_json::to_writer(&mut message, &Outgoing { v: VERSION, body })?;
    Ok(message)
}

/// Reads a message.
pub fn decode<T: DeserializeOwned>(message: &[u8]) -> Result<T, WireError> {
    if message.len() > MAX_MESSAGE_BYTES {
        return Err(WireError::TooLarge { bytes: message.len() });
    }
    let incoming: Incoming<'_> = serde_json::from_slice(message)?;
    if incoming.v != VERSION {
        return Err(WireError::Version { found: incoming.v });
    }
    Ok(serde_json::from_str(incoming.body.get())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{JobId, TaskKey};

    fn key() -> TaskKey {
        let document = crate::model::DocumentName::new("a").token();
        TaskKey { job: JobId::from_random(7), document, chunk: 3, round: 1 }
    }

    #[test]
    fn a_message_survives_the_wire() {
        assert_eq!(decode::<TaskKey>(&encode(&key()).unwrap()).unwrap(), key());
    }

    #[test]
    fn another_version_is_named() {
        let error = decode::<TaskKey>(br#"{"v":2,"body":{"anything":[]}}"#).unwrap_err();
        assert!(matches!(error, WireError::Version { found: 2 }), "{error}");
    }

    #[test]
    fn deep_nesting_and_noise_are_errors() {
        let deep = format!(r#"{{"v":1,"body":{}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
        assert!(matches!(decode::<TaskKey>(deep.as_bytes()), Err(WireError::Json(_))));
        assert!(matches!(decode::<TaskKey>(b"\xff\x00"), Err(WireError::Json(_))));
    }
}
