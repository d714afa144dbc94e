//! What both programs show before they begin: the settings that were set anywhere, and what is to be said about
//! them.

use std::path::Path;

use serde_json::{Map, Value, json};
use tracing::Level;

use super::{LogSettings, Note, Origin, Source};
use crate::console::Console;

/// What the settings of a program were read from.
#[derive(Debug, Clone, Copy)]
pub struct Header<'a> {
    /// The log's own settings.
    pub logs: &'a LogSettings,
    /// The settings file, if there is one.
    pub env_file: Option<&'a Path>,
    /// Each setting and where it was found.
    pub sources: &'a [Source],
    /// What is to be said about them.
    pub notes: &'a [Note],
}

impl Header<'_> {
    /// Shows it, unless nobody wants to see it.
    pub fn show(&self, console: &Console) {
        if self.logs.quiet {
            return;
        }
        let mut lines = Vec::new();
        let mut fields = Map::new();
        if let Some(path) = self.env_file {
            lines.push(format!("settings file: {}", path.display()));
            fields.insert("settings_file".to_owned(), path.display().to_string().into());
        }
        // Defaults are in --help; with -v they are shown as well.
        let is_verbose = self.logs.filter.contains("debug");
        let sources = self.sources.iter().filter(|source| is_verbose || source.origin != Origin::Default);
        let mut settings = Vec::new();
        for source in sources {
            lines.push(format!("  {source}"));
            let origin = source.origin.to_string();
            settings.push(json!({"setting": source.setting, "value": source.value, "origin": origin}));
        }
        if !lines.is_empty() {
            fields.insert("settings".to_owned(), Value::Array(settings));
            let text = if console.is_json() { "settings".to_owned() } else { lines.join("\n") };
            console.tell(Level::INFO, "settings", &text, fields);
        }
        for note in self.notes {
            let (level, label) =
                if note.warning { (Level::WARN, "warning: ") } else { (Level::INFO, "note: ") };
            let label = if console.is_json() { "" } else { label };
            console.tell(level, "note", &format!("{label}{note}"), Map::new());
        }
    }
}
