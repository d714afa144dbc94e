//! Replies that the LLM server itself did not write: pages of a proxy, a tunnel or a login before it.
//!
//! PURE. APIs of LLM servers speak JSON, so a page for people comes from something else. It must not decide what
//! is done about one.

use super::ollama_errors::shortened;

/// Of a page this much is read, in characters: pages with scripts are long, and their title stands at the top.
const MOST_PAGE: usize = 20_000;

/// Whether a body is a page for people (HTML, XML) rather than a reply of an API.
pub(crate) fn is_page(content_type: Option<&str>, body: &[u8]) -> bool {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let is_html =
        content_type.is_some_and(|kind| kind.trim_start().to_ascii_lowercase().starts_with("text/html"));
    let start = body.trim_ascii_start();
    start.starts_with(b"<") || (is_html && !start.starts_with(b"{") && !start.starts_with(b"["))
}

/// What a page says, on one line of bounded length: its title, else its text without markup. Other texts stay as
/// they are.
pub(crate) fn page_words(text: &str) -> String {
    let text: String = text.trim_start_matches('\u{feff}').trim_start().chars().take(MOST_PAGE).collect();
    if !text.starts_with('<') {
        return shortened(&spaced(&text));
    }
    // Only ASCII letters change, so positions stay the same.
    let lower = text.to_ascii_lowercase();
    let title = lower.find("<title").and_then(|start| {
        let begin = start + lower[start..].find('>')? + 1;
        let end = begin + lower[begin..].find("</title")?;
        Some(without_markup(&text[begin..end]))
    });
    let words = title.filter(|title| !title.is_empty()).unwrap_or_else(|| without_markup(&text));
    shortened(&words)
}

fn without_markup(text: &str) -> String {
    let mut words = String::with_capacity(text.len());
    let mut in_tag = false;
    for c in text.chars() {
        match c {
            '<' => in_tag = true,
            '>' if in_tag => {
                in_tag = false;
                words.push(' ');
            }
            c if !in_tag => words.push(c),
            _ => {}
        }
    }
    spaced(&words)
}

fn spaced(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pages_are_told_from_replies() {
        let html = Some("text/html; charset=utf-8");
        for (kind, body, expected) in [
            (None, "<!DOCTYPE html><html>", true),
            (None, "\u{feff}\n <html>", true),
            (Some("application/json"), "<html>", true),
            (None, "<?xml version=\"1.0\"?><Error/>", true),
            (html, "The endpoint is offline.", true),
            (html, "", true),
            (html, r#"{"error":"a"}"#, false),
            (html, "[1]", false),
            (None, r#"{"error":"<b>a</b>"}"#, false),
            (Some("text/plain"), "404 page not found", false),
            (None, "", false),
        ] {
            assert_eq!(is_page(kind, body.as_bytes()), expected, "{kind:?} {body:?}");
        }
    }

    #[test]
    fn a_page_says_what_its_title_says() {
        for (page, words) in [
            (
                "<!DOCTYPE html><html><head><title>gpu.example.org |\n 521: Web server is down</title></head><body>xx",
                "gpu.example.org | 521: Web server is down",
            ),
            ("<HTML><TITLE lang=en>Sign in</TITLE>", "Sign in"),
            (
                "<html><title></title><body><h1>502 Bad Gateway</h1>\n<hr>nginx</body>",
                "502 Bad Gateway nginx",
            ),
            ("<html>", "(no text)"),
            (
                "The endpoint abc is offline.\n\nERR_NGROK_3200\n",
                "The endpoint abc is offline. ERR_NGROK_3200",
            ),
            ("", "(no text)"),
        ] {
            assert_eq!(page_words(page), words, "{page:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_gives_one_bounded_line(text in "(<title>|</title>|<|>|[a-zäß\n ])*") {
            let words = page_words(&text);
            prop_assert!(!words.is_empty() && words.chars().count() <= 500);
            prop_assert!(!words.contains('\n'));
        }
    }
}
