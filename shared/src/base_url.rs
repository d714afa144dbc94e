//! One form for the addresses that people write for an LLM server.
//!
//! Both programs validate addresses. It must not open a connection, nor know what is asked there.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::secret::without_credentials;

/// Ollama's port where none is given.
const DEFAULT_PORT: u16 = 11434;

/// An address that cannot be used; the text that was found is shown without credentials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is not a server address: {problem}; expected for example http://gpu1:11434")]
pub struct BaseUrlError {
    found: String,
    problem: &'static str,
}

/// Brings an address into the form `scheme://[user:password@]host[:port][/path]` without a trailing slash.
///
/// A missing scheme means `http`, then a missing port means 11434 (as in `OLLAMA_HOST`). The endings `/v1`
/// and `/api` go, since clients of other APIs need them. An address to listen on, such as `0.0.0.0`, means
/// this machine. Several addresses are to be split before.
pub fn normalise_base_url(text: &str) -> Result<String, BaseUrlError> {
    let (origin, path) = split(text, Some(DEFAULT_PORT))?;
    Ok(format!("{origin}{}", base_path(&path)))
}

/// Brings the address of an API into the form `scheme://[user:password@]host[:port][/path]` without a trailing
/// slash. A missing scheme means `http`. `version` is the path under which the API's routes lie: with
/// `keeps_version` it stands at the end where the address has no path of its own (OpenAI's `/v1`; gateways
/// have others), else it is cut off, since routes bring it along.
pub fn normalise_api_url(text: &str, version: &str, keeps_version: bool) -> Result<String, BaseUrlError> {
    let (origin, path) = split(text, None)?;
    let path = path.trim_end_matches('/');
    let path = path.strip_suffix("/chat/completions").unwrap_or(path);
    if keeps_version {
        let path = if path.is_empty() { version } else { path };
        return Ok(format!("{origin}{path}"));
    }
    Ok(format!("{origin}{}", path.strip_suffix(version).unwrap_or(path)))
}

/// Brings any address of a server into the form `scheme://[user:password@]host[:port][/path]` without a trailing
/// slash. A missing scheme means `http`.
pub fn normalise_url(text: &str) -> Result<String, BaseUrlError> {
    let (origin, path) = split(text, None)?;
    Ok(format!("{origin}{}", path.trim_end_matches('/')))
}

/// Splits an address into `scheme://[user:password@]host[:port]` and its path as it was written. Where there
/// is no scheme, `default_port` is the port.
fn split(text: &str, default_port: Option<u16>) -> Result<(String, String), BaseUrlError> {
    let text = text.trim();
    let error = |problem| BaseUrlError { found: without_credentials(text), problem };
    if text.is_empty() {
        return Err(error("it is empty"));
    }
    if text.contains(',') {
        return Err(error("it holds a comma"));
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(error("it holds a blank"));
    }
    if text.contains(['?', '#', '\\', '"', '<', '>', '{', '}', '^', '`', '|']) {
        return Err(error("it holds a character that does not belong there"));
    }
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (Some(scheme.to_ascii_lowercase()), rest),
        None => (None, text),
    };
    if scheme.as_deref().is_some_and(|scheme| scheme != "http" && scheme != "https") {
        return Err(error("its scheme is neither http nor https"));
    }
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (user, host_port) = match authority.rsplit_once('@') {
        Some((user, host_port)) => (format!("{user}@"), host_port),
        None => (String::new(), authority),
    };
    let (host, port) = split_port(host_port).map_err(error)?;
    let port = port.or(if scheme.is_none() { default_port } else { None });
    let host = reachable_host(host).map_err(error)?;
    let mut origin = format!("{}://{user}{host}", scheme.as_deref().unwrap_or("http"));
    if let Some(port) = port {
        origin.push(':');
        origin.push_str(&port.to_string());
    }
    Ok((origin, path.to_owned()))
}

/// Whether an address in the form of [`normalise_base_url`] is on this machine.
pub fn is_loopback(url: &str) -> bool {
    let plain = without_credentials(url);
    let rest = plain.split_once("://").map_or(plain.as_str(), |(_, rest)| rest);
    let authority = &rest[..rest.find('/').unwrap_or(rest.len())];
    match split_port(authority) {
        Ok((host, _)) => {
            host.eq_ignore_ascii_case("localhost")
                || host.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
                || host.trim_matches(['[', ']']).parse::<Ipv6Addr>().is_ok_and(|ip| ip.is_loopback())
        }
        Err(_) => false,
    }
}

fn split_port(host_port: &str) -> Result<(&str, Option<u16>), &'static str> {
    if host_port.parse::<Ipv6Addr>().is_ok() {
        return Ok((host_port, None));
    }
    let (host, port) = match host_port.rfind(':') {
        // Inside brackets a colon belongs to the IPv6 address.
        Some(colon) if !host_port[colon..].contains(']') => {
            (&host_port[..colon], Some(&host_port[colon + 1..]))
        }
        _ => (host_port, None),
    };
    let port = match port {
        None | Some("") => None,
        Some(digits) => match digits.parse::<u16>() {
            Ok(port) if port > 0 => Some(port),
            _ => return Err("its port is not a number from 1 to 65535"),
        },
    };
    Ok((host, port))
}

/// The host as clients reach it.
fn reachable_host(host: &str) -> Result<String, &'static str> {
    if host.is_empty() || host == "0.0.0.0" {
        return Ok(Ipv4Addr::LOCALHOST.to_string());
    }
    let bare = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host);
    if let Ok(ip) = bare.parse::<Ipv6Addr>() {
        let ip = if ip.is_unspecified() { Ipv6Addr::LOCALHOST } else { ip };
        return Ok(format!("[{ip}]"));
    }
    if host.contains(['[', ']', ':', '%', '@', '(', ')', '*', '!', '$', '&', '\'', '=', ';', '+']) {
        return Err("its host name is not valid");
    }
    Ok(host.to_lowercase())
}

fn base_path(path: &str) -> &str {
    let path = path.trim_end_matches('/');
    match path.strip_suffix("/v1").or_else(|| path.strip_suffix("/api")) {
        Some(shorter) => base_path(shorter),
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_people_write_becomes_one_form() {
        for (written, expected) in [
            ("http://gpu1:11434", "http://gpu1:11434"),
            ("http://gpu1:11434/", "http://gpu1:11434"),
            ("http://gpu1:11434/v1", "http://gpu1:11434"),
            ("http://gpu1:11434/v1/", "http://gpu1:11434"),
            ("http://gpu1:11434/api", "http://gpu1:11434"),
            ("http://192.168.50.133:11434 ", "http://192.168.50.133:11434"),
            ("gpu1", "http://gpu1:11434"),
            ("GPU1:8080", "http://gpu1:8080"),
            ("gpu1/ollama/", "http://gpu1:11434/ollama"),
            ("gpu1:", "http://gpu1:11434"),
            (":11500", "http://127.0.0.1:11500"),
            ("0.0.0.0", "http://127.0.0.1:11434"),
            ("0.0.0.0:8080", "http://127.0.0.1:8080"),
            ("::1", "http://[::1]:11434"),
            ("[::1]:8080", "http://[::1]:8080"),
            ("http://[fe80::2]/v1", "http://[fe80::2]"),
            ("HTTPS://Ollama.Example.com/llm/v1", "https://ollama.example.com/llm"),
            ("http://me:p@ss@gpu1:11434", "http://me:p@ss@gpu1:11434"),
            ("localhost", "http://localhost:11434"),
        ] {
            assert_eq!(normalise_base_url(written).as_deref(), Ok(expected), "{written}");
        }
    }

    #[test]
    fn addresses_of_apis_keep_their_path() {
        for (written, expected) in [
            ("https://api.openai.com", "https://api.openai.com/v1"),
            ("https://api.openai.com/v1/", "https://api.openai.com/v1"),
            ("http://gpu1:8000/v1/chat/completions", "http://gpu1:8000/v1"),
            ("gpu1:8000", "http://gpu1:8000/v1"),
            ("https://gateway.example/api/v1", "https://gateway.example/api/v1"),
            ("https://gateway.example/openai", "https://gateway.example/openai"),
        ] {
            assert_eq!(normalise_api_url(written, "/v1", true).as_deref(), Ok(expected), "{written}");
        }
        for (written, expected) in [
            ("https://api.anthropic.com/v1/", "https://api.anthropic.com"),
            ("https://gateway.example/anthropic", "https://gateway.example/anthropic"),
        ] {
            assert_eq!(normalise_api_url(written, "/v1", false).as_deref(), Ok(expected), "{written}");
        }
        assert!(normalise_api_url("ftp://x", "/v1", true).is_err());
    }

    #[test]
    fn mistakes_are_named_and_credentials_hidden() {
        for (written, part) in [
            ("", "it is empty"),
            ("gpu1:11434,gpu2:11434", "it holds a comma"),
            ("http://gpu 1", "it holds a blank"),
            ("nats://gpu1:4222", "neither http nor https"),
            ("gpu1:port", "its port is not a number"),
            ("gpu1:0", "its port is not a number"),
            ("gpu1:70000", "its port is not a number"),
            ("http://gpu1?x=1", "a character that does not belong"),
            ("a:b:80", "host name is not valid"),
        ] {
            let error = normalise_base_url(written).unwrap_err().to_string();
            assert!(error.contains(part), "{written}: {error}");
        }
        let error = normalise_base_url("http://me:secret@gpu1:x").unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn loopback_is_recognised() {
        for url in
            ["http://localhost:11434", "http://127.0.0.1:1", "http://[::1]:2/x", "http://u:p@127.9.9.9"]
        {
            assert!(is_loopback(url), "{url}");
        }
        for url in ["http://gpu1:11434", "http://10.0.0.1:11434/127.0.0.1", "http://localhost.example:1"] {
            assert!(!is_loopback(url), "{url}");
        }
    }

    proptest! {
        #[test]
        fn the_form_is_stable(written in "(https?://)?[a-zA-Z0-9.:/\\[\\]@-]{0,24}") {
            if let Ok(url) = normalise_base_url(&written) {
                let again = normalise_base_url(&url);
                prop_assert_eq!(again.as_ref(), Ok(&url));
                let _local: bool = is_loopback(&url);
            }
        }
    }
}
