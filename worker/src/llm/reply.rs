//! What came back over HTTP, in a form that pure code reads: status, headers, body.
//!
//! PURE. It must not know how it was fetched nor which service sent it.

use std::collections::BTreeMap;

/// Header fields by lower-case name; of a repeated one the first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Headers(BTreeMap<String, String>);

impl Headers {
    /// A field's value, trimmed.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A field's value as a number.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok()
    }
}

impl<N: AsRef<str>, V: AsRef<str>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(fields: I) -> Self {
        let mut headers = BTreeMap::new();
        for (name, value) in fields {
            let name = name.as_ref().to_ascii_lowercase();
            headers.entry(name).or_insert_with(|| value.as_ref().trim().to_owned());
        }
        Self(headers)
    }
}

/// A whole reply.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Reply {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The header fields.
    pub(crate) headers: Headers,
    /// The body, cut where it was absurdly long.
    pub(crate) body: Vec<u8>,
}
