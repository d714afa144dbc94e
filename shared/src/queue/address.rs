//! Addresses of queue servers as users write them: a list, perhaps with credentials.

use std::fmt;

use super::ConnectError;
use crate::secret::without_credentials;

/// The addresses of a list without their credentials, for people.
pub(super) fn shown_servers(url: &str) -> String {
    let shown: Vec<String> = url.split(',').map(|one| without_credentials(one.trim())).collect();
    shown.join(", ")
}

/// Credentials that stood in an address.
pub(super) enum Embedded {
    None,
    Token(String),
    User(String, String),
}

/// The addresses of a list, and the first credentials in them.
pub(super) fn addresses(url: &str) -> Result<(Vec<async_nats::ServerAddr>, Embedded), ConnectError> {
    let mut addresses = Vec::new();
    let mut embedded = Embedded::None;
    for one in url.split(',').map(str::trim).filter(|one| !one.is_empty()) {
        let bad = |reason: &dyn fmt::Display| ConnectError::Address {
            address: without_credentials(one),
            reason: reason.to_string(),
        };
        // The client reads credentials in addresses but does not send them.
        let with_credentials: async_nats::ServerAddr = one.parse().map_err(|error| bad(&error))?;
        if matches!(embedded, Embedded::None) {
            embedded = match (with_credentials.username(), with_credentials.password()) {
                (Some(user), Some(password)) => {
                    Embedded::User(percent_decoded(user), percent_decoded(password))
                }
                (Some(token), None) => Embedded::Token(percent_decoded(token)),
                (None, _) => Embedded::None,
            };
        }
        addresses.push(without_credentials(one).parse().map_err(|error| bad(&error))?);
    }
    if addresses.is_empty() {
        return Err(ConnectError::Address { address: url.to_owned(), reason: "it is empty".to_owned() });
    }
    Ok((addresses, embedded))
}

fn percent_decoded(text: &str) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = match (first, tail) {
            (b'%', [high, low, ..]) => std::str::from_utf8(&[*high, *low])
                .ok()
                .and_then(|digits| u8::from_str_radix(digits, 16).ok()),
            _ => None,
        };
        decoded.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_in_an_address_are_taken_out_and_used() {
        let (servers, embedded) = addresses("nats://me:p%40ss@a:1, b:2").unwrap();
        let shown: Vec<_> = servers.iter().map(|one| format!("{}:{}", one.host(), one.port())).collect();
        assert_eq!(shown, ["a:1", "b:2"]);
        assert!(servers.iter().all(|one| !one.has_user_pass()));
        assert!(matches!(embedded, Embedded::User(user, password) if user == "me" && password == "p@ss"));
        let (_, embedded) = addresses("nats://s3cret@a:1").unwrap();
        assert!(matches!(embedded, Embedded::Token(token) if token == "s3cret"));
    }

    #[test]
    fn an_unreadable_address_does_not_show_its_password() {
        let error = addresses("nats://me:hidden@host:notaport").err().unwrap().to_string();
        assert!(!error.contains("hidden") && error.contains("host:notaport"), "{error}");
        assert!(addresses(" , ").is_err());
    }
}
