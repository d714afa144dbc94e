//! Texts that must never be shown: API keys, passwords, tokens.

use std::fmt::{self, Write};

use sha2::{Digest, Sha256};

/// A text that prints as `***`; [`Secret::expose`] is the only way to it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a secret text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether it is long enough to be looked for in texts without meeting words: some servers of one's own
    /// have keys such as `none`.
    pub fn is_unmistakable(&self) -> bool {
        const LEAST: usize = 16;
        self.0.len() >= LEAST
    }

    /// What others sent, with `***` where this secret stands in it.
    #[must_use]
    pub fn redacted_bytes(&self, bytes: Vec<u8>) -> Vec<u8> {
        let secret = self.0.as_bytes();
        if secret.is_empty() || !bytes.windows(secret.len()).any(|window| window == secret) {
            return bytes;
        }
        let (mut clean, mut rest) = (Vec::with_capacity(bytes.len()), bytes.as_slice());
        while let Some(&first) = rest.first() {
            if let Some(after) = rest.strip_prefix(secret) {
                clean.extend_from_slice(b"***");
                rest = after;
            } else {
                clean.push(first);
                rest = &rest[1..];
            }
        }
        clean
    }

    /// Tells this secret from others without giving it away: 12 hexadecimal digits of a digest. `context` is
    /// what it is a secret for.
    pub fn fingerprint(&self, context: &str) -> String {
        let digest = Sha256::digest(format!("qa-fleet account {context} {}", self.0));
        digest[..6].iter().fold(String::with_capacity(12), |mut hex, byte| {
            write!(hex, "{byte:02x}").expect("a String takes every text");
            hex
        })
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Has the system write no core dump of this process, nor let others of the same user look into its memory:
/// keys lie there. What cannot be set is left as it is.
pub fn keep_out_of_core_dumps() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
            tracing::debug!(%error, "core dumps could not be switched off");
        }
    }
    if let Err(error) = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }) {
        tracing::debug!(%error, "the size of core dumps could not be limited");
    }
}

/// An address without the credentials that may stand before its `@`.
pub fn without_credentials(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let rest = rest[..authority_end].rfind('@').map_or(rest, |at| &rest[at + 1..]);
    if scheme.is_empty() { rest.to_owned() } else { format!("{scheme}://{rest}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print() {
        let secret = Secret::new("sk-123");
        assert_eq!(format!("{secret} {secret:?}"), "*** ***");
    }

    #[test]
    fn a_secret_leaves_the_texts_of_others_and_is_told_by_its_fingerprint() {
        let secret = Secret::new("sk-123");
        let clean = |secret: &Secret, text: &str| {
            String::from_utf8(secret.redacted_bytes(text.as_bytes().to_vec())).unwrap()
        };
        assert_eq!(clean(&secret, "bad key sk-123! sk-123"), "bad key ***! ***");
        assert_eq!(clean(&secret, "sk-12"), "sk-12");
        assert_eq!(clean(&Secret::new(""), "text"), "text");
        assert_eq!(secret.fingerprint("a").len(), 12);
        assert_ne!(secret.fingerprint("a"), Secret::new("sk-124").fingerprint("a"));
        assert_ne!(secret.fingerprint("a"), secret.fingerprint("b"));
    }

    #[test]
    fn credentials_leave_an_address() {
        assert_eq!(without_credentials("nats://me:p@ss@host:4222"), "nats://host:4222");
        assert_eq!(without_credentials("http://gpu1:11434/a@b"), "http://gpu1:11434/a@b");
        assert_eq!(without_credentials("token@host"), "host");
    }
}
