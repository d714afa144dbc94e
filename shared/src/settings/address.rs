//! An address of a server that may hold credentials: it prints without them.

use std::fmt;

use crate::secret::without_credentials;

/// An address, or several separated by commas; [`Address::expose`] is the only way to its credentials and its query.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(String);

impl Address {
    /// Takes a checked address.
    pub fn new(address: impl Into<String>) -> Self {
        Self(address.into())
    }

    /// The address with its credentials, for the one place that connects.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Vec<_> =
            self.0.split(',').map(|one| without_query(&without_credentials(one.trim()))).collect();
        f.write_str(&shown.join(","))
    }
}

/// A query may hold a key.
fn without_query(url: &str) -> String {
    url.split('?').next().unwrap_or_default().to_owned()
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
