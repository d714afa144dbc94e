//! Mistakes in settings: collected, sorted and shown all at once.

use std::fmt;

use super::setting::Setting;
use super::source::{Found, Origin};
use crate::secret::without_credentials;

/// One wrong setting: which, what was found, what was expected, what to do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mistake {
    /// The flag, variable, or `file:line` that is wrong.
    pub setting: String,
    /// What is wrong with it.
    pub problem: String,
    /// What to do, where the problem does not say it.
    pub remedy: Option<String>,
}

impl Mistake {
    /// A mistake of a setting as such, such as one that is missing or contradicts another.
    pub fn new(setting: &Setting, problem: impl Into<String>) -> Self {
        Self { setting: setting.name().to_owned(), problem: problem.into(), remedy: None }
    }

    /// A value that is not what was expected. A secret value is not shown.
    pub fn value(setting: &Setting, found: &Found, expected: &str) -> Self {
        let problem = match (&found.origin, shown(setting, &found.value)) {
            (origin, Some(value)) => format!("found `{value}` {origin}, expected {expected}"),
            (Origin::Flag(_), None) => format!("expected {expected}"),
            (origin, None) => format!("found a wrong value {origin}, expected {expected}"),
        };
        Self::new(setting, problem)
    }

    /// The same mistake with what to do.
    #[must_use]
    pub fn remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..self }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.setting, self.problem)?;
        self.remedy.as_ref().map_or(Ok(()), |remedy| write!(f, "; {remedy}"))
    }
}

/// How a value is shown: shortened, an address without credentials; nothing for a secret.
pub(super) fn shown(setting: &Setting, value: &str) -> Option<String> {
    const LONGEST: usize = 80;
    if setting.is_secret() {
        return None;
    }
    let value = value.replace(['\n', '\r'], " ");
    let value = value.split(',').map(hide_credentials).collect::<Vec<_>>().join(",");
    let mut short: String = value.chars().take(LONGEST).collect();
    if short.len() < value.len() {
        short.push('…');
    }
    Some(short)
}

/// Whether nothing of a value is a secret.
pub(super) fn may_be_shown(setting: &Setting, value: &str) -> bool {
    !setting.is_secret() && value.split(',').all(|part| hide_credentials(part) == part)
}

/// An address shows without credentials; an `@` in a sentence makes no address.
fn hide_credentials(part: &str) -> String {
    let may_be_address = part.contains("://") || !part.trim().contains(char::is_whitespace);
    if part.contains('@') && may_be_address { without_credentials(part) } else { part.to_owned() }
}

/// Every mistake of a command line, its environment and its env file, sorted by setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Mistakes(Vec<Mistake>);

impl Mistakes {
    /// Sorts mistakes; `None` when there are none.
    pub fn new(mut mistakes: Vec<Mistake>) -> Option<Self> {
        mistakes.sort();
        mistakes.dedup();
        if mistakes.is_empty() { None } else { Some(Self(mistakes)) }
    }

    /// The mistakes in order.
    pub fn all(&self) -> &[Mistake] {
        &self.0
    }

    /// Replaces what to do about a setting, where somebody found out more.
    pub fn set_remedy(&mut self, setting: &Setting, remedy: &str) {
        for mistake in self.0.iter_mut().filter(|mistake| mistake.setting == setting.name()) {
            mistake.remedy = Some(remedy.to_owned());
        }
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => f.write_str("a setting is wrong, nothing was done:")?,
            count => write!(f, "{count} settings are wrong, nothing was done:")?,
        }
        self.0.iter().try_for_each(|mistake| write!(f, "\n  {mistake}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::variables;

    static MODEL: Setting = Setting::new("--model", &[&variables::GENERATOR_MODEL]);
    static KEY: Setting = Setting::new("--api-key", &[&variables::OPENAI_API_KEY]);

    #[test]
    fn a_shown_value_is_short_and_without_credentials() {
        for (value, expected) in [
            ("http://me:pw@gpu1,token@gpu2", "http://gpu1,gpu2"),
            ("write to me@example.com, please", "write to me@example.com, please"),
            ("two\nlines", "two lines"),
        ] {
            assert_eq!(shown(&MODEL, value).as_deref(), Some(expected));
        }
        let long = shown(&MODEL, &"ä".repeat(200)).unwrap();
        assert_eq!(long.chars().count(), 81);
        assert_eq!(shown(&KEY, "sk-1"), None);
    }
}
