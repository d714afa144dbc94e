//! Identities: of jobs, documents, chunks, tasks and processes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A text that is not a valid identity of the kind that was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {kind} `{found}`: expected {expected}")]
pub struct InvalidId {
    kind: &'static str,
    found: String,
    expected: &'static str,
}

/// The durable identity of the work on one output directory: 12 lowercase hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct JobId(String);

impl JobId {
    /// Makes an identity from 48 random bits.
    pub fn from_random(bits: u64) -> Self {
        Self(format!("{:012x}", bits & 0xffff_ffff_ffff))
    }

    /// The identity as text, safe in a subject and in a file name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for JobId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let valid = text.len() == 12 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidId {
                kind: "job id",
                found: text.chars().take(40).collect(),
                expected: "12 lowercase hexadecimal digits",
            })
        }
    }
}

impl TryFrom<String> for JobId {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A document's name: its chunk file's name without the ending `_chunks.json`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DocumentName(String);

impl DocumentName {
    /// Takes a name as it is; any text is a valid name.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The name as text. It may hold any character that a file name may hold.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The form in which this document stands in a subject.
    pub fn token(&self) -> DocumentToken {
        DocumentToken(slug_with_hash(&self.0))
    }
}

impl fmt::Display for DocumentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A document in a subject: a readable slug of its name and 12 hexadecimal digits of the name's SHA-256.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct DocumentToken(String);

impl DocumentToken {
    /// The token as text: lowercase ASCII letters, digits and `-`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DocumentToken {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        if is_token(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidId {
                kind: "document token",
                found: text.chars().take(80).collect(),
                expected: "1 to 64 lowercase letters, digits and dashes",
            })
        }
    }
}

impl TryFrom<String> for DocumentToken {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl fmt::Display for DocumentToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A model pool: the unit that tasks are routed by and that workers join, such as `ollama/qwen3:14b`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PoolName(String);

impl PoolName {
    /// Takes a name as it is (`--pool NAME`); any text is a valid name.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The form in which this pool stands in subjects and consumer names.
    pub fn token(&self) -> String {
        slug_with_hash(&self.0)
    }
}

impl fmt::Display for PoolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One running process: host, process id and a random part, such as `gpu1-4711-9f3a2c`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct InstanceId(String);

impl InstanceId {
    /// Makes an identity that is safe as one token of a key or subject.
    pub fn new(host: &str, pid: u32, random: u32) -> Self {
        Self(format!("{}-{pid}-{:06x}", slug(host, 24), random & 0x00ff_ffff))
    }

    /// The identity as text: lowercase ASCII letters, digits and `-`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for InstanceId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        if is_token(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidId {
                kind: "instance id",
                found: text.chars().take(80).collect(),
                expected: "1 to 64 lowercase letters, digits and dashes",
            })
        }
    }
}

impl TryFrom<String> for InstanceId {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a task and its result are known by, in subjects and in messages.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskKey {
    /// The job.
    pub job: JobId,
    /// The document, as it stands in subjects.
    pub document: DocumentToken,
    /// The chunk's position in the document's `chunks` array, from 0.
    pub chunk: u32,
    /// Which try at the chunk this is, counted by the coordinator from 1.
    pub round: u32,
}

impl TaskKey {
    /// The trace of this chunk and round: derived, so that every process and every redelivery agrees on it.
    pub fn trace_id(&self) -> TraceId {
        let digest = Sha256::digest(format!("qa-fleet trace {self}").as_bytes());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        TraceId(bytes)
    }

    /// The first span of that trace; never 0.
    pub fn root_span_id(&self) -> u64 {
        let digest = Sha256::digest(format!("qa-fleet span {self}").as_bytes());
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&digest[..8]);
        u64::from_be_bytes(bytes).max(1)
    }
}

impl fmt::Display for TaskKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}.{}", self.job, self.document, self.chunk, self.round)
    }
}

/// A W3C trace id: 16 bytes, shown as 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId([u8; 16]);

impl TraceId {
    /// A trace id from elsewhere.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// The first 16 bytes of the SHA-256 of a chunk's text, shown as 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TextHash([u8; 16]);

impl TextHash {
    /// The hash of a chunk's text.
    pub fn of(text: &str) -> Self {
        let digest = Sha256::digest(text.as_bytes());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        Self(bytes)
    }
}

impl fmt::Display for TextHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl FromStr for TextHash {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let invalid = || InvalidId {
            kind: "text hash",
            found: text.chars().take(80).collect(),
            expected: "32 hexadecimal digits",
        };
        if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(invalid());
        }
        let value = u128::from_str_radix(text, 16).map_err(|_| invalid())?;
        Ok(Self(value.to_be_bytes()))
    }
}

impl TryFrom<String> for TextHash {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<TextHash> for String {
    fn from(hash: TextHash) -> Self {
        hash.to_string()
    }
}

fn is_token(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn slug_with_hash(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let mut token = slug(text, 32);
    token.push('-');
    for byte in &digest[..6] {
        token.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
        token.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
    }
    token
}

/// The readable part of a token: lowercase ASCII letters and digits, everything else one dash.
fn slug(text: &str, longest: usize) -> String {
    let mut slug = String::with_capacity(longest);
    for c in text.chars() {
        if slug.len() == longest {
            break;
        }
        if c.is_ascii_alphanumeric() {
            slug.push(c.to_ascii_lowercase());
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    let slug = slug.trim_end_matches('-');
    if slug.is_empty() { "x".to_owned() } else { slug.to_owned() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_that_differ_only_in_case_have_different_tokens() {
        assert_ne!(DocumentName::new("Guide").token(), DocumentName::new("guide").token());
    }

    #[test]
    fn a_token_shows_its_name() {
        let token = DocumentName::new("FAQ – überblick 概要").token();
        assert!(token.as_str().starts_with("faq-berblick-"), "{token}");
    }

    #[test]
    fn a_trace_id_depends_on_the_round() {
        let key = |round| TaskKey {
            job: JobId::from_random(1),
            document: DocumentName::new("a").token(),
            chunk: 0,
            round,
        };
        assert_eq!(key(1).trace_id(), key(1).trace_id());
        assert_ne!(key(1).trace_id(), key(2).trace_id());
    }

    proptest! {
        #[test]
        fn any_name_gives_a_valid_token(name in ".*") {
            let token = DocumentName::new(name.clone()).token();
            prop_assert_eq!(token.as_str().parse::<DocumentToken>(), Ok(token.clone()));
            prop_assert!(PoolName::new(name.clone()).token().parse::<DocumentToken>().is_ok());
            prop_assert!(InstanceId::new(&name, 1, 2).as_str().parse::<InstanceId>().is_ok());
        }

        #[test]
        fn hashes_and_job_ids_survive_their_text(text in ".*", bits: u64) {
            let hash = TextHash::of(&text);
            prop_assert_eq!(hash.to_string().parse::<TextHash>(), Ok(hash));
            let job = JobId::from_random(bits);
            prop_assert_eq!(job.as_str().parse::<JobId>(), Ok(job.clone()));
        }
    }
}
