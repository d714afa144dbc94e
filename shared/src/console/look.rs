//! How lines look (PURE): for people or as JSON, with colours or without, on a terminal that can move its cursor
//! or not.

use std::str::FromStr;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Human,
    /// One JSON object per line.
    Json,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "human" => Ok(Self::Human),
            "json" => Ok(Self::Json),
            _ => Err(format!("`{text}` is not a log format: expected human or json")),
        }
    }
}

/// Where log lines have colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Colours {
    /// Nowhere.
    Never,
    /// On a terminal.
    #[default]
    OnTerminals,
    /// Everywhere.
    Always,
}

impl Colours {
    /// Whether lines of a stream have colours.
    pub fn are_on(self, is_terminal: bool) -> bool {
        match self {
            Self::Never => false,
            Self::OnTerminals => is_terminal,
            Self::Always => true,
        }
    }
}

/// How this process shows lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Look {
    /// For people or for machines.
    pub format: LogFormat,
    /// Where colours are.
    pub colours: Colours,
    /// Whether the terminal understands no escape sequences.
    pub is_dumb: bool,
}

impl Look {
    /// What the environment says: `find` gives the value of a variable. `NO_COLOR` wins over `CLICOLOR_FORCE`,
    /// that one over `CLICOLOR` and over a dumb terminal, as clap has it for `--help`.
    pub fn of(format: LogFormat, find: impl Fn(&str) -> Option<String>) -> Self {
        let is_on = |name: &str| find(name).is_some_and(|value| !value.is_empty() && value != "0");
        let is_dumb = find("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        let colours = if find("NO_COLOR").is_some_and(|value| !value.is_empty()) {
            Colours::Never
        } else if is_on("CLICOLOR_FORCE") {
            Colours::Always
        } else if is_dumb || find("CLICOLOR").is_some_and(|value| value == "0") {
            Colours::Never
        } else {
            Colours::OnTerminals
        };
        Self { format, colours, is_dumb }
    }

    /// Whether a live area can be drawn on a terminal.
    pub fn draws(self) -> bool {
        self.format == LogFormat::Human && !self.is_dumb
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(variables: &[(&str, &str)]) -> Look {
        Look::of(LogFormat::Human, |name| {
            variables.iter().find(|(found, _)| *found == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_usual_variables_decide_about_colours() {
        let xterm = ("TERM", "xterm-256color");
        for (variables, expected) in [
            (&[xterm][..], Colours::OnTerminals),
            (&[xterm, ("NO_COLOR", "1")], Colours::Never),
            (&[xterm, ("NO_COLOR", "")], Colours::OnTerminals),
            (&[xterm, ("CLICOLOR_FORCE", "1")], Colours::Always),
            (&[xterm, ("CLICOLOR_FORCE", "0")], Colours::OnTerminals),
            (&[xterm, ("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], Colours::Never),
            (&[xterm, ("CLICOLOR", "0")], Colours::Never),
            (&[("TERM", "dumb")], Colours::Never),
            (&[("TERM", "dumb"), ("CLICOLOR_FORCE", "1")], Colours::Always),
            (&[], Colours::Never),
        ] {
            assert_eq!(look(variables).colours, expected, "{variables:?}");
        }
    }

    #[test]
    fn colours_are_for_terminals_unless_they_are_forced() {
        let on = |colours: Colours| [colours.are_on(true), colours.are_on(false)];
        assert_eq!(on(Colours::Never), [false, false]);
        assert_eq!(on(Colours::OnTerminals), [true, false]);
        assert_eq!(on(Colours::Always), [true, true]);
    }

    #[test]
    fn only_a_terminal_that_moves_its_cursor_gets_a_live_area() {
        assert!(look(&[("TERM", "xterm")]).draws());
        assert!(!look(&[("TERM", "dumb")]).draws());
        assert!(!look(&[]).draws());
        assert!(!Look { format: LogFormat::Json, ..look(&[("TERM", "xterm")]) }.draws());
    }
}
