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
///
/// Azure's classic form, `https://NAME.openai.azure.com/openai/deployments/DEPLOYMENT?api-version=DATE`, keeps its
/// query; an address of Azure without a path gets `/openai/v1`.
pub fn normalise_api_url(text: &str, version: &str, keeps_version: bool) -> Result<String, BaseUrlError> {
    let (text, query) = match text.trim().split_once('?') {
        Some((text, query)) if keeps_version => (text, Some(query)),
        _ => (text, None),
    };
    let (origin, path) = split(text, None)?;
    let path = path.trim_end_matches('/');
    let path = path.strip_suffix("/chat/completions").unwrap_or(path);
    if !keeps_version {
        return Ok(format!("{origin}{}", path.strip_suffix(version).unwrap_or(path)));
    }
    let error = |problem| BaseUrlError { found: without_credentials(text), problem };
    let is_azure = is_azure_host(host_of(&origin));
    let path = match path {
        "" | "/openai" if is_azure => "/openai/v1",
        "" => version,
        path => path,
    };
    let query = query.map(|query| query.trim_end_matches(['&', '/'])).filter(|query| !query.is_empty());
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._~=&%+".contains(c);
    if query.is_some_and(|query| !query.chars().all(is_plain)) {
        return Err(error("its query holds a character that does not belong there"));
    }
    if is_azure && path.contains("/deployments/") && !query.is_some_and(names_api_version) {
        return Err(error("an Azure deployment needs its API version: add ?api-version=DATE"));
    }
    Ok(query.map_or_else(|| format!("{origin}{path}"), |query| format!("{origin}{path}?{query}")))
}

/// Whether a server with OpenAI's API takes its key in the header `api-key`, as Azure does, not as a bearer's.
pub fn wants_api_key_header(url: &str) -> bool {
    is_azure_host(host_of(url)) || url.split_once('?').is_some_and(|(_, query)| names_api_version(query))
}

fn names_api_version(query: &str) -> bool {
    query.split('&').any(|part| part.strip_prefix("api-version=").is_some_and(|version| !version.is_empty()))
}

fn is_azure_host(host: &str) -> bool {
    [".azure.com", ".azure.us", ".azure.cn", ".azure-api.net"].iter().any(|domain| host.ends_with(domain))
}

/// Tells servers apart whatever they are called: the names of this machine are one, and so are an address with and
/// without `/v1`, `/api`, a slash, or the usual port.
pub fn server_identity(url: &str) -> String {
    let plain = without_credentials(url);
    let plain = plain.split('?').next().unwrap_or_default();
    let (scheme, rest) = plain.split_once("://").unwrap_or(("http", plain));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (host, port) = split_port(authority).unwrap_or((authority, None));
    let port = port.unwrap_or(if scheme == "https" { 443 } else { 80 });
    let host = if is_loopback_host(host) { "localhost" } else { host };
    format!("{host}:{port}{}", base_path(path))
}

/// The host in an address.
fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = &rest[..rest.find(['/', '?']).unwrap_or(rest.len())];
    let host_port = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    split_port(host_port).map_or(host_port, |(host, _)| host)
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
        Ok((host, _)) => is_loopback_host(host),
        Err(_) => false,
    }
}

fn is_loopback_host(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
        || host.trim_matches(['[', ']']).parse::<Ipv6Addr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
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
    fn azures_classic_form_keeps_its_version_and_takes_its_key_in_a_header() {
        let classic = "https://x.openai.azure.com/openai/deployments/D?api-version=2024-10-21";
        for (written, expected) in [
            (classic, classic),
            ("https://X.openai.azure.com/openai/deployments/D/?api-version=2024-10-21", classic),
            // As Azure's portal shows it.
            (
                "https://x.openai.azure.com/openai/deployments/D/chat/completions?api-version=2024-10-21",
                classic,
            ),
            ("https://x.openai.azure.com/", "https://x.openai.azure.com/openai/v1"),
            ("https://x.openai.azure.com/openai/v1/", "https://x.openai.azure.com/openai/v1"),
            ("http://gw:8080/openai?api-version=1", "http://gw:8080/openai?api-version=1"),
        ] {
            let url = normalise_api_url(written, "/v1", true);
            assert_eq!(url.as_deref(), Ok(expected), "{written}");
            assert!(wants_api_key_header(expected), "{expected}");
        }
        assert!(!wants_api_key_header("https://api.openai.com/v1?x=api-version=1"));
        let lacking = normalise_api_url("https://x.openai.azure.com/openai/deployments/D", "/v1", true);
        assert!(lacking.unwrap_err().to_string().contains("add ?api-version=DATE"));
        assert!(normalise_api_url("http://gpu1/v1?a=<b>", "/v1", true).is_err());
        assert!(normalise_api_url("https://api.anthropic.com?x=1", "/v1", false).is_err());
    }

    #[test]
    fn one_server_has_one_identity_under_all_its_names() {
        for names in [
            [
                "http://localhost:11434",
                "http://127.0.0.1:11434",
                "http://[::1]:11434/v1",
                "http://u:p@localhost:11434/",
            ],
            ["http://gpu1", "http://gpu1:80/", "http://gpu1/api", "http://gpu1/v1"],
            ["https://gpu1/llm", "https://gpu1:443/llm/", "https://gpu1/llm/v1", "https://me:x@gpu1/llm?a=b"],
        ] {
            for name in names {
                assert_eq!(server_identity(name), server_identity(names[0]), "{name}");
            }
        }
        for (one, other) in [
            ("http://localhost:11434", "http://localhost:11435"),
            ("http://gpu1/a", "http://gpu1/b"),
            ("http://gpu1", "http://gpu2"),
            ("http://gpu1", "https://gpu1"),
        ] {
            assert_ne!(server_identity(one), server_identity(other));
        }
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
        for url in [
            "http://localhost:11434",
            "http://127.0.0.1:1",
            "http://[::1]:2/x",
            "http://u:p@127.9.9.9",
            "http://localhost.:1",
            "http://ollama.localhost",
            "http://[::ffff:127.0.0.1]:1",
        ] {
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
