//! Why a command cannot start: every mistake, and what a look at the local models could add.
//!
//! It must not do that look-up; whoever prints the error does.

use qa_shared::settings::{Address, Mistakes};

use crate::config_generation::Missing;
use crate::config_settings::{MODEL, PROVIDER};
use crate::shell_word::shell_word;

/// Why a command cannot start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{mistakes}")]
pub struct ConfigError {
    /// Everything that is wrong.
    pub mistakes: Mistakes,
    missing: Option<Missing>,
    servers: Vec<Address>,
}

impl ConfigError {
    pub(crate) fn new(mistakes: Mistakes, missing: Option<Missing>, servers: Vec<Address>) -> Self {
        Self { mistakes, missing, servers }
    }

    /// The Ollama servers whose models should be looked up, because a key or a model is missing.
    pub fn servers_to_ask(&self) -> Option<&[Address]> {
        self.missing.is_some().then_some(self.servers.as_slice())
    }

    /// Names models that [`Self::servers_to_ask`] have; an empty list if none answered.
    #[must_use]
    pub fn with_local_models(mut self, models: &[String]) -> Self {
        let servers: Vec<_> = self.servers.iter().map(ToString::to_string).collect();
        let (setting, flags) = match self.missing {
            None => return self,
            Some(Missing::Key) => (&PROVIDER, "--provider local --model"),
            Some(Missing::Model) => (&MODEL, "--model"),
        };
        let remedy = match models {
            [] => format!(
                "no Ollama server with a model answered at {}; start one, then use {flags} MODEL",
                servers.join(", ")
            ),
            [model] => format!("use {flags} {}", shell_word(model)),
            [model, others @ ..] => {
                format!("use {flags} {} (also there: {})", shell_word(model), others.join(", "))
            }
        };
        self.mistakes.set_remedy(setting, &remedy);
        self
    }
}

impl From<Mistakes> for ConfigError {
    fn from(mistakes: Mistakes) -> Self {
        Self { mistakes, missing: None, servers: Vec::new() }
    }
}
