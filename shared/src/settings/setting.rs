//! A setting: one thing that a user can set, with its flag, its variables and its default.
//!
//! It must not know what the value means; the programs' `config` modules do.

use super::variables::Variable;

/// One setting. The programs keep theirs as statics.
#[derive(Debug)]
pub struct Setting {
    flag: Option<&'static str>,
    variables: &'static [&'static Variable],
    default: Option<&'static str>,
}

impl Setting {
    /// A setting with a flag (written `--name`) and a variable, whose default holds.
    pub const fn new(flag: &'static str, variables: &'static [&'static Variable]) -> Self {
        let default = if variables.is_empty() { None } else { variables[0].default() };
        Self { flag: Some(flag), variables, default }
    }

    /// A setting that has a variable only.
    pub const fn variable(variables: &'static [&'static Variable]) -> Self {
        Self { flag: None, variables, default: variables[0].default() }
    }

    /// A setting that has a flag only.
    pub const fn flag(flag: &'static str, default: Option<&'static str>) -> Self {
        Self { flag: Some(flag), variables: &[], default }
    }

    /// A setting that is an argument without a flag, by the name that the help gives it.
    pub const fn argument(name: &'static str) -> Self {
        Self::flag(name, None)
    }

    /// The same setting without a default.
    #[must_use]
    pub const fn without_default(self) -> Self {
        Self { default: None, ..self }
    }

    /// How messages name it: the flag, or the variable where there is none.
    pub fn name(&self) -> &'static str {
        self.flag.or_else(|| self.variables.first().map(|variable| variable.name())).unwrap_or("setting")
    }

    /// Its flag and variables, for `set --model or GENERATOR_MODEL`.
    pub fn ways_to_set(&self) -> String {
        let variables = self.variables.iter().map(|variable| variable.name());
        self.flag.into_iter().chain(variables).collect::<Vec<_>>().join(" or ")
    }

    /// Its variables; an earlier one wins.
    pub fn variables(&self) -> &'static [&'static Variable] {
        self.variables
    }

    /// What holds when it is set nowhere.
    pub fn default(&self) -> Option<&'static str> {
        self.default
    }

    /// Whether its value must never be shown.
    pub fn is_secret(&self) -> bool {
        self.variables.iter().any(|variable| variable.is_secret())
    }
}
