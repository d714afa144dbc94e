//! What stands between this program and a server: a proxy that the environment names, or a redirect.
//!
//! It must not know any provider's format.

use hyper_util::client::proxy::matcher::Matcher;
use qa_shared::base_url::is_loopback;
use qa_shared::secret::without_credentials;
use reqwest::Url;
use reqwest::header::LOCATION;
use serde::de::IgnoredAny;

use super::reply::Reply;
use super::{LlmError, LlmErrorKind};

/// Of a proxy's words so many characters are shown.
const MOST_WORDS: usize = 200;

/// What an error says besides where a proxy of the environment stands before the server; else nothing.
pub(crate) fn about_proxy(server: &str) -> String {
    about(&Matcher::from_env(), server).unwrap_or_default()
}

fn about(environment: &Matcher, server: &str) -> Option<String> {
    // The client goes to this machine directly.
    if is_loopback(server) {
        return None;
    }
    let proxy = environment.intercept(&server.parse().ok()?)?.uri().to_string();
    let proxy = without_credentials(proxy.trim_end_matches('/'));
    let host = Url::parse(server).ok()?.host_str()?.to_owned();
    Some(format!(
        "; requests to it go through the proxy {proxy} (HTTP_PROXY, HTTPS_PROXY or ALL_PROXY): add {host} to NO_PROXY \
         if it is to be reached directly"
    ))
}

/// The error that a reply stands for which a proxy of the environment gave, and not the server, as far as can be told.
pub(crate) fn refused_by_proxy(server: &str, reply: &Reply) -> Option<LlmError> {
    let is_foreign = || serde_json::from_slice::<IgnoredAny>(&reply.body).is_err();
    let is_proxys = reply.status == 407 || (matches!(reply.status, 403 | 502..=504) && is_foreign());
    if !is_proxys {
        return None;
    }
    let proxy = about(&Matcher::from_env(), server)?;
    let words: String = String::from_utf8_lossy(&reply.body).chars().take(MOST_WORDS).collect();
    let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
    let message = format!("{server} answered {}: {words}{proxy}", reply.status);
    Some(LlmError::new(LlmErrorKind::ProxyReply, message))
}

/// The error of a reply that leads elsewhere: a redirected POST would become a GET. It concerns every request.
pub(crate) fn redirect(server: &str, setting: &str, response: &reqwest::Response) -> Option<LlmError> {
    if !response.status().is_redirection() {
        return None;
    }
    let location =
        response.headers().get(LOCATION).map(|location| String::from_utf8_lossy(location.as_bytes()));
    let target = location.and_then(|location| response.url().join(&location).ok());
    let status = response.status().as_u16();
    let message = match target {
        Some(target) => redirected(server, setting, status, response.url(), &target),
        None => format!("{server} answered {status}, a redirect to nowhere: is it an LLM server?"),
    };
    Some(LlmError::new(LlmErrorKind::ProxyReply, message))
}

fn redirected(server: &str, setting: &str, status: u16, asked: &Url, target: &Url) -> String {
    let base = Url::parse(server).map(|url| url.path().trim_end_matches('/').to_owned()).unwrap_or_default();
    let route = asked.path().strip_prefix(base.as_str()).filter(|route| route.len() > 1);
    let remedy = match route.and_then(|route| target.path().strip_suffix(route)) {
        Some(path) => {
            let mut there = target.clone();
            there.set_path(path);
            format!("set {setting} to {}", shown(&there))
        }
        None => {
            format!("a gateway or a page to log in stands before it; give {setting} the server's own address")
        }
    };
    format!("{server} answered {status}: it redirects to {}; {remedy}", shown(target))
}

/// An address without credentials, query and final slash.
fn shown(url: &Url) -> String {
    let plain = without_credentials(url.as_str());
    let end = plain.find(['?', '#']).unwrap_or(plain.len());
    plain[..end].trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_named_without_its_credentials_and_with_the_variable_that_goes_around_it() {
        let environment = Matcher::builder()
            .http("http://me:hidden@proxy:3128")
            .https("http://secure:3129")
            .no("10.0.0.9,.lan")
            .build();
        let text = about(&environment, "http://gpu1:11434").unwrap();
        assert!(text.contains("http://proxy:3128") && text.contains("add gpu1 to NO_PROXY"), "{text}");
        assert!(!text.contains("hidden"), "{text}");
        assert!(about(&environment, "https://api.openai.com/v1").unwrap().contains("http://secure:3129"));
        for direct in
            ["http://10.0.0.9:11434", "http://gpu1.lan:11434", "http://localhost:1", "http://127.0.0.1"]
        {
            assert_eq!(about(&environment, direct), None, "{direct}");
        }
        assert_eq!(about(&Matcher::builder().build(), "http://gpu1"), None);
    }

    #[test]
    fn a_redirect_shows_its_target_and_what_to_set() {
        let told = |server: &str, asked: &str, target: &str| {
            redirected(
                server,
                "OLLAMA_BASE_URL",
                308,
                &Url::parse(asked).unwrap(),
                &Url::parse(target).unwrap(),
            )
        };
        assert_eq!(
            told("http://gpu1/llm", "http://gpu1/llm/api/chat", "https://gpu1.example/llm/api/chat?x=1"),
            "http://gpu1/llm answered 308: it redirects to https://gpu1.example/llm/api/chat; \
             set OLLAMA_BASE_URL to https://gpu1.example/llm"
        );
        let login =
            told("http://gpu1", "http://gpu1/api/version", "https://u:pw@sso.example/login?token=hidden");
        assert!(
            login.contains("redirects to https://sso.example/login; a gateway or a page to log in"),
            "{login}"
        );
        assert!(!login.contains("hidden") && !login.contains("pw"), "{login}");
    }
}
