//! What a Rust source file says: its code without comments, texts and test modules. A small scanner and no
//! parser: it must not know what the code means.

use std::fs;
use std::path::Path;

/// A Rust source file.
#[derive(Debug, Clone)]
pub(crate) struct SourceFile {
    /// Its path from the root of the workspace, with `/`.
    pub(crate) path: String,
    /// What is in it.
    pub(crate) text: String,
}

impl SourceFile {
    /// Whether it is part of a program: not a test, an example or a module of tests.
    pub(crate) fn is_product(&self) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        let stem = name.trim_end_matches(".rs");
        let is_test_module = stem == "tests" || stem == "fixtures" || stem.ends_with("_tests");
        let test_modules_of_the_core = ["properties", "scenarios", "test_run"];
        let is_core_test =
            self.path.starts_with("coordinator/src/core/") && test_modules_of_the_core.contains(&stem);
        self.path.contains("/src/") && !is_test_module && !is_core_test
    }

    /// The code with comments and texts blanked out and modules of tests cut away.
    pub(crate) fn code(&self) -> String {
        without_tests(&blanked(&self.text))
    }
}

/// Every Rust file of the workspace's packages, in path order.
pub(crate) fn rust_files(root: &Path) -> Vec<SourceFile> {
    let mut files = Vec::new();
    for package in ["coordinator", "shared", "worker"] {
        collect(&root.join(package), package, &mut files);
    }
    files.sort_by(|one, other| one.path.cmp(&other.path));
    files
}

fn collect(directory: &Path, path: &str, files: &mut Vec<SourceFile>) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let path = format!("{path}/{name}");
        if entry.file_type().unwrap().is_dir() {
            if name != "target" && !name.starts_with('.') {
                collect(&entry.path(), &path, files);
            }
        } else if Path::new(&name).extension().is_some_and(|extension| extension == "rs") {
            files.push(SourceFile { path, text: fs::read_to_string(entry.path()).unwrap() });
        }
    }
}

/// The text with comments, string literals and characters replaced by blanks; line ends stay.
fn blanked(text: &str) -> String {
    let source: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < source.len() {
        let end = match source[at] {
            '/' if source.get(at + 1) == Some(&'/') => end_of_line(&source, at),
            '/' if source.get(at + 1) == Some(&'*') => end_of_block_comment(&source, at),
            '"' => end_of_string(&source, at),
            'r' if !follows_a_word(&source, at) => end_of_raw_string(&source, at).unwrap_or(at),
            '\'' => end_of_character(&source, at).unwrap_or(at),
            _ => at,
        };
        if end == at {
            code.push(source[at]);
            at += 1;
        } else {
            code.extend(source[at..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    code
}

fn follows_a_word(source: &[char], at: usize) -> bool {
    let before = at.checked_sub(1).map(|before| source[before]);
    // `br"..."` is a raw string too.
    before.is_some_and(|c| c != 'b' && (c.is_alphanumeric() || c == '_'))
}

fn end_of_line(source: &[char], at: usize) -> usize {
    source[at..].iter().position(|&c| c == '\n').map_or(source.len(), |length| at + length)
}

fn end_of_block_comment(source: &[char], at: usize) -> usize {
    let (mut depth, mut at) = (0, at);
    while at + 1 < source.len() {
        match (source[at], source[at + 1]) {
            ('/', '*') => (depth, at) = (depth + 1, at + 2),
            ('*', '/') => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    source.len()
}

fn end_of_string(source: &[char], at: usize) -> usize {
    let mut at = at + 1;
    while at < source.len() {
        match source[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    source.len()
}

fn end_of_raw_string(source: &[char], at: usize) -> Option<usize> {
    let hashes = source[at + 1..].iter().take_while(|&&c| c == '#').count();
    let open = at + 1 + hashes;
    (source.get(open) == Some(&'"')).then_some(())?;
    let is_end = |from: usize| {
        source[from] == '"' && source[from + 1..].iter().take_while(|&&c| c == '#').count() >= hashes
    };
    let close = (open + 1..source.len()).find(|&from| is_end(from))?;
    Some(close + 1 + hashes)
}

/// The end of `'x'` or `'\n'`; none for a lifetime.
fn end_of_character(source: &[char], at: usize) -> Option<usize> {
    match (source.get(at + 1)?, source.get(at + 2)?) {
        ('\\', _) => source[at + 3..].iter().position(|&c| c == '\'').map(|length| at + 4 + length),
        (_, '\'') => Some(at + 3),
        _ => None,
    }
}

/// The code without what stands under `#[cfg(test)]`: a module with a body, or one declaration.
fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let (mut kept, mut rest) = (String::new(), code);
    while let Some(at) = rest.find(MARK) {
        kept.push_str(&rest[..at]);
        rest = &rest[at + MARK.len()..];
        rest = &rest[end_of_item(rest)..];
    }
    kept.push_str(rest);
    kept
}

fn end_of_item(code: &str) -> usize {
    let mut depth = 0usize;
    for (at, c) in code.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth <= 1 => return at + 1,
            '}' => depth -= 1,
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

mod tests {
    use super::{blanked, without_tests};

    #[test]
    fn comments_and_texts_are_no_code() {
        for (text, code) in [
            ("a // async_nats\nb", "a b"),
            ("a /* x /* nested */ reqwest */ b", "a b"),
            (r#"say("tokio \" tokio"); c"#, "say( ); c"),
            ("let q = r#\"a \" tokio\"#; c", "let q = ; c"),
            ("match c { '\"' => 1, '\\'' => 2, '{' => 3 } // \"", "match c { => 1, => 2, => 3 }"),
            ("fn f<'a>(x: &'a str) -> &'a str { x }", "fn f<'a>(x: &'a str) -> &'a str { x }"),
        ] {
            let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert_eq!(words(&blanked(text)), words(code), "{text}");
        }
    }

    #[test]
    fn modules_of_tests_are_cut_away_and_what_follows_stays() {
        let text = "a\n#[cfg(test)]\nmod tests { fn f() { {} } }\nb\n#[cfg(test)]\nmod more;\nc";
        assert_eq!(without_tests(text).split_whitespace().collect::<Vec<_>>(), ["a", "b", "c"]);
    }
}
