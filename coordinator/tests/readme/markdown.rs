//! What README.md holds: shell commands, tables, names. It must not know what any of it means.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;

use crate::root;

/// README.md.
pub(crate) struct Readme {
    pub(crate) text: String,
}

/// A command in a shell example or in a table.
pub(crate) struct ShellCommand {
    /// `NAME=VALUE` before it.
    pub(crate) variables: Vec<(String, String)>,
    /// The program and its arguments.
    pub(crate) words: Vec<String>,
}

impl ShellCommand {
    fn read(line: &str) -> Option<Self> {
        let line = line.split(" #").next()?;
        let mut words = line.split_whitespace().map(str::to_owned).peekable();
        let mut variables = Vec::new();
        while let Some((name, value)) = words.peek().and_then(|word| word.split_once('=')) {
            if !name.chars().all(|c| c.is_ascii_uppercase() || c == '_') {
                break;
            }
            variables.push((name.to_owned(), value.to_owned()));
            words.next();
        }
        let words: Vec<_> = words.collect();
        (!words.is_empty()).then_some(Self { variables, words })
    }

    pub(crate) fn program(&self) -> &str {
        &self.words[0]
    }
}

impl fmt::Display for ShellCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words.join(" "))
    }
}

impl Readme {
    pub(crate) fn load() -> Self {
        Self { text: fs::read_to_string(root().join("README.md")).unwrap() }
    }

    /// The commands of the `sh` blocks and those between backticks that begin with one of our programs.
    pub(crate) fn commands(&self) -> Vec<ShellCommand> {
        let mut lines: Vec<String> = Vec::new();
        for block in self.text.split("```sh\n").skip(1) {
            let block = block.split("```").next().unwrap_or_default().replace("\\\n", " ");
            lines.extend(block.lines().map(str::to_owned));
        }
        let ours = ["qa-coordinator ", "qa-worker "];
        lines.extend(self.spans().filter(|span| ours.iter().any(|program| span.starts_with(program))));
        lines.iter().filter_map(|line| ShellCommand::read(line)).collect()
    }

    /// What stands between backticks outside of blocks.
    fn spans(&self) -> impl Iterator<Item = String> {
        let prose: String = self.text.split("```").step_by(2).collect();
        prose.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>().into_iter()
    }

    /// Every `--flag`, wherever it stands.
    pub(crate) fn flags(&self) -> BTreeSet<String> {
        let is_flag = |c: char| c.is_ascii_lowercase() || c == '-';
        let mut flags = BTreeSet::new();
        for (at, _) in self.text.match_indices("--") {
            let before = self.text[..at].chars().next_back();
            let rest = &self.text[at + 2..];
            let name: String = rest.chars().take_while(|&c| is_flag(c)).collect();
            let begins = before.is_none_or(|c| c.is_whitespace() || "`(,:".contains(c));
            if begins && name.starts_with(|c: char| c.is_ascii_lowercase()) {
                flags.insert(format!("--{name}"));
            }
        }
        flags
    }

    /// Every word that looks like one of our variables.
    pub(crate) fn variables(&self) -> BTreeSet<String> {
        let words = self.text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let prefixes = ["QA_", "GENERATOR_", "OLLAMA_", "OPENAI_", "ANTHROPIC_", "GEMINI_", "RUST_"];
        words
            .filter(|word| prefixes.iter().any(|prefix| word.starts_with(prefix)))
            .filter(|word| word.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
            .map(str::to_owned)
            .collect()
    }

    /// The rows of the first table below a heading.
    pub(crate) fn table(&self, heading: &str) -> Vec<Vec<String>> {
        let is_heading =
            |line: &&str| line.trim_start_matches('#').trim() == heading && line.starts_with('#');
        let lines = self.text.lines().skip_while(|line| !is_heading(line));
        let rows = lines.skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
        let cells =
            |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
        let rows: Vec<_> = rows.skip(2).map(cells).collect();
        assert!(!rows.is_empty(), "README.md has no table below {heading:?}");
        rows
    }

    /// Targets of links that stay in the repository.
    pub(crate) fn links(&self) -> Vec<String> {
        let targets = self.text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let links: Vec<_> = targets.filter(|target| !target.contains("://")).map(str::to_owned).collect();
        assert!(!links.is_empty(), "README.md has no links any more");
        links
    }
}
