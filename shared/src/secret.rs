//! Texts that must never be shown: API keys, passwords, tokens.

use std::fmt;

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
    fn credentials_leave_an_address() {
        assert_eq!(without_credentials("nats://me:p@ss@host:4222"), "nats://host:4222");
        assert_eq!(without_credentials("http://gpu1:11434/a@b"), "http://gpu1:11434/a@b");
        assert_eq!(without_credentials("token@host"), "host");
    }
}
