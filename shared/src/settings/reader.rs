//! Takes typed values out of flags, environment, env file and defaults, and collects every mistake.
//!
//! A wrong value is noted and its default goes on, so that one reading finds all mistakes; [`Reader::finish`]
//! then gives them all. It must not know any particular setting.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::errors::{Mistake, Mistakes, may_be_shown, shown};
use super::setting::Setting;
use super::source::{Environment, Found, Origin};
use super::values;
use crate::secret::Secret;

/// Something worth telling before the work starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Whether something will probably go wrong.
    pub warning: bool,
    /// A sentence fragment for people.
    pub text: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A setting with its value and where it came from, for the start header. A secret shows as `***`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The setting as messages name it.
    pub setting: &'static str,
    /// The value as it is shown.
    pub value: String,
    /// Where it was found.
    pub origin: Origin,
    /// The value as it was written; absent where that must not be shown.
    pub full: Option<String>,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} = {} ({})",
            self.setting,
            self.value,
            match &self.origin {
                Origin::Flag(_) => "flag".to_owned(),
                Origin::Environment(variable) => format!("environment, {variable}"),
                Origin::File { path, line, .. } => format!("{}:{line}", path.display()),
                Origin::Job(_) => "job".to_owned(),
                Origin::Default => "default".to_owned(),
            }
        )
    }
}

/// One reading of all settings of a command.
pub struct Reader<'a> {
    environment: &'a Environment,
    mistakes: Vec<Mistake>,
    notes: Vec<Note>,
    sources: Vec<Source>,
}

impl<'a> Reader<'a> {
    /// Starts a reading; mistakes in the env file are part of it.
    pub fn new(environment: &'a Environment) -> Self {
        let mistakes = environment.mistakes().to_vec();
        let notes = environment.likely_slips().into_iter().map(|text| Note { warning: true, text }).collect();
        Self { environment, mistakes, notes, sources: Vec::new() }
    }

    /// Notes a mistake.
    pub fn mistake(&mut self, mistake: Mistake) {
        self.mistakes.push(mistake);
    }

    /// Notes something worth telling.
    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(Note { warning: false, text: text.into() });
    }

    /// Notes that something will probably go wrong.
    pub fn warn(&mut self, text: impl Into<String>) {
        self.notes.push(Note { warning: true, text: text.into() });
    }

    /// Whether a setting was set anywhere, without reading it.
    pub fn is_set(&self, setting: &Setting) -> Option<Origin> {
        self.variable(setting).map(|found| found.origin)
    }

    /// What the variables say about a setting, without reading it: neither flag nor job count.
    pub fn variable(&self, setting: &Setting) -> Option<Found> {
        self.environment.find_given(setting, None).ok().flatten()
    }

    /// What the resumed job keeps of a setting, without reading it.
    pub fn in_job(&self, setting: &Setting) -> Option<Found> {
        self.environment.in_job(setting)
    }

    /// Whether a job is resumed that keeps its settings.
    pub fn has_job(&self) -> bool {
        self.environment.has_job()
    }

    /// Notes the value of a setting for the start header.
    pub fn note_source(&mut self, setting: &'static Setting, found: &Found) {
        let value = shown(setting, &found.value).unwrap_or_else(|| "***".to_owned());
        let full = may_be_shown(setting, &found.value).then(|| found.value.clone());
        self.sources.push(Source { setting: setting.name(), value, origin: found.origin.clone(), full });
    }

    /// Shows a setting that was read under another name and with another value.
    pub fn echo_as(&mut self, setting: &Setting, name: &'static str, value: &str) {
        if let Some(source) = self.sources.iter_mut().rfind(|source| source.setting == setting.name()) {
            source.setting = name;
            value.clone_into(&mut source.value);
        }
    }

    /// What was read so far and where it came from.
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// The environment that is read from.
    pub fn environment(&self) -> &'a Environment {
        self.environment
    }

    /// A free text, such as an instruction: any character counts.
    pub fn text(&mut self, setting: &'static Setting, flag: Option<&str>) -> Option<Found> {
        match self.environment.find(setting, flag) {
            Ok(found) => {
                let found = found.or_else(|| default_of(setting));
                if let Some(found) = &found {
                    self.note_source(setting, found);
                }
                found
            }
            Err(mistake) => {
                self.mistakes.push(mistake);
                default_of(setting)
            }
        }
    }

    /// A name, path, number or the like, trimmed. What an env file's reader would have cut off but a service
    /// manager passes on, a comment or quotes, is a mistake that names the cause.
    pub fn word(&mut self, setting: &'static Setting, flag: Option<&str>) -> Option<Found> {
        let found = self.text(setting, flag)?;
        let value = found.value.trim().to_owned();
        if let Origin::Environment(variable) = found.origin
            && let Some((what, expected)) = left_by_a_service_manager(&value)
        {
            let mistake = Mistake::value(setting, &found, expected).remedy(format!(
                "{variable} comes from the process environment, where {what}: Docker's --env-file and systemd \
                 pass them on as part of the value; correct it there"
            ));
            self.mistakes.push(mistake);
            return default_of(setting);
        }
        Some(Found { value, origin: found.origin })
    }

    /// A value in a notation that `parse` understands. `expected` says what it is, for the message.
    pub fn parsed<T>(
        &mut self,
        setting: &'static Setting,
        flag: Option<&str>,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let found = self.word(setting, flag)?;
        parse(&found.value).or_else(|| {
            self.mistakes.push(Mistake::value(setting, &found, expected));
            setting.default().and_then(parse)
        })
    }

    /// A path.
    pub fn path(&mut self, setting: &'static Setting, flag: Option<&str>) -> Option<PathBuf> {
        self.word(setting, flag).map(|found| PathBuf::from(found.value))
    }

    /// A file that is read at start, as text. The message of a file that cannot be read names it.
    pub fn file_text(&mut self, setting: &'static Setting, flag: Option<&str>) -> Option<(PathBuf, String)> {
        let found = self.word(setting, flag)?;
        let path = PathBuf::from(&found.value);
        match read_text(&path) {
            Ok(text) => Some((path, text)),
            Err(problem) => {
                self.mistakes.push(cannot_read(setting, &found, &problem));
                None
            }
        }
    }

    /// A file that somebody else will read: it must be there and readable.
    pub fn existing_file(&mut self, setting: &'static Setting, flag: Option<&str>) -> Option<PathBuf> {
        let found = self.word(setting, flag)?;
        let path = PathBuf::from(&found.value);
        let problem = match std::fs::File::open(&path).and_then(|file| file.metadata()) {
            Ok(metadata) if metadata.is_dir() => "it is a directory".to_owned(),
            Ok(_) => return Some(path),
            Err(error) => error.to_string(),
        };
        self.mistakes.push(cannot_read(setting, &found, &problem));
        None
    }

    /// Yes or no; the default is no.
    pub fn yes_or_no(&mut self, setting: &'static Setting, flag: Option<bool>) -> bool {
        let flag = flag.map(|flag| if flag { "true" } else { "false" });
        self.parsed(setting, flag, "true or false (also 1, yes, on, 0, no, off)", values::yes_or_no)
            .unwrap_or_default()
    }

    /// A duration above zero; the setting has a default.
    pub fn duration(&mut self, setting: &'static Setting, flag: Option<&str>) -> Duration {
        let expected = "a duration above 0, such as 30, 30s, 5m or 2h";
        self.parsed(setting, flag, expected, values::positive_duration).unwrap_or_default()
    }

    /// A secret text.
    pub fn secret(&mut self, setting: &'static Setting, flag: Option<&str>) -> Option<Secret> {
        self.text(setting, flag).map(|found| Secret::new(found.value.trim()))
    }

    /// A secret that stands in a file.
    pub fn secret_file(&mut self, setting: &'static Setting) -> Option<Secret> {
        let (path, text) = self.file_text(setting, None)?;
        if text.trim().is_empty() {
            let problem = format!("the file `{}` is empty", path.display());
            self.mistake(Mistake::new(setting, problem).remedy("write the secret into it"));
        }
        Some(Secret::new(text.trim()))
    }

    /// Gives `value` with everything worth telling, or every mistake.
    pub fn finish<T>(self, value: T) -> Result<(T, Vec<Note>, Vec<Source>), Mistakes> {
        match Mistakes::new(self.mistakes) {
            Some(mistakes) => Err(mistakes),
            None => Ok((value, self.notes, self.sources)),
        }
    }
}

fn default_of(setting: &Setting) -> Option<Found> {
    setting.default().map(|value| Found { value: value.to_owned(), origin: Origin::Default })
}

fn left_by_a_service_manager(value: &str) -> Option<(&'static str, &'static str)> {
    let comment =
        value.starts_with('#') || value.match_indices('#').any(|(at, _)| value[..at].ends_with([' ', '\t']));
    let quotes = value.len() >= 2
        && [('"', '"'), ('\'', '\'')].iter().any(|(l, r)| value.starts_with(*l) && value.ends_with(*r));
    if comment {
        Some(("text after ` #` is no comment", "a value without a comment"))
    } else if quotes {
        Some(("quotes are not removed", "a value without quotes"))
    } else {
        None
    }
}

fn read_text(path: &Path) -> Result<String, String> {
    const LARGEST: u64 = 1024 * 1024;
    let metadata = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if metadata.is_dir() {
        return Err("it is a directory".to_owned());
    }
    if metadata.len() > LARGEST {
        return Err(format!("it has {} bytes, at most {LARGEST} are sensible here", metadata.len()));
    }
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned())?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

fn cannot_read(setting: &Setting, found: &Found, problem: &str) -> Mistake {
    let problem = format!("found `{}` {}, but it cannot be read: {problem}", found.value, found.origin);
    Mistake::new(setting, problem).remedy("name a file that exists and that you may read")
}
