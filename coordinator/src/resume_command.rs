//! The command line that goes on with a job, ready to be pasted into a shell (PURE).
//!
//! The job keeps its settings, so `generate --resume --qa-dir DIR` is enough for them. What else is on the line: the
//! addresses and flags of this machine, and flags that a variable of this machine would contradict.

use std::path::{Path, PathBuf};

use qa_shared::model_table::Service;
use qa_shared::settings::{Address, Origin, Reader, Setting, Source};

use crate::cli_generate::GenerateArgs;
use crate::config::Place;
use crate::config_job::{KEPT, absolute};
use crate::config_settings::{NO_RESUME, ON_FINISH, QA_DIR, RESTART, RESUME, SAMPLE, SEED};
use crate::shell_word::shell_word;

/// Flags whose value is a path.
const PATHS: [&str; 5] =
    ["--chunks-dir", "--output-file", "--qa-prompt-template-file", "--model-table", "--nats-server"];
/// Flags of addresses: these are taken from the checked configuration.
const ADDRESSES: [&str; 3] = ["--nats-url", "--ollama-base-url", "--openai-base-url"];
/// Flags that stand alone.
const BARE: [&str; 3] = ["--no-speculation", "--pull", "--wait"];
/// Flags of one run or of the screen only.
const NOT_REPEATED: [&str; 2] = ["--log-format", "--batch-processing"];

/// The command line without the directory of the Q&A files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResumeCommand {
    words: Vec<String>,
    not_kept: Vec<String>,
}

impl ResumeCommand {
    /// Takes what is needed from a command line and what its settings became.
    pub(crate) fn read(reader: &Reader<'_>, args: &GenerateArgs, place: &Place) -> Self {
        let mut command = Self::default();
        command.add_bare(args);
        command.add_addresses(reader, place);
        for source in reader.sources() {
            if matches!(source.origin, Origin::Flag(_)) {
                command.add_flag(reader, source);
            }
        }
        command
    }

    /// The line as one would write it.
    pub(crate) fn line(&self, qa_dir: &Path) -> String {
        let qa_dir = absolute(qa_dir).map_or_else(|| qa_dir.to_owned(), PathBuf::from);
        let start = ["qa-coordinator", "generate", "--resume", "--qa-dir"].map(str::to_owned);
        let words = self.words.iter().map(|word| shell_word(word));
        let words = start.into_iter().chain([shell_word(&qa_dir.to_string_lossy())]).chain(words);
        words.collect::<Vec<_>>().join(" ")
    }

    /// What the line needs besides, because it is kept nowhere.
    pub(crate) fn not_kept(&self) -> Option<String> {
        let names = self.not_kept.join(", ");
        (!names.is_empty()).then(|| format!("give {names} again: it is kept nowhere"))
    }

    /// A hyphen at the beginning of a value would make it a flag.
    fn add(&mut self, flag: &str, value: &str) {
        if value.starts_with('-') {
            self.words.push(format!("{flag}={value}"));
        } else {
            self.words.extend([flag.to_owned(), value.to_owned()]);
        }
    }

    fn add_bare(&mut self, args: &GenerateArgs) {
        let given = [
            (args.place.local, "--local"),
            (args.place.detach, "--detach"),
            (args.files.overwrite, "--overwrite"),
            (args.run.no_retry_failed, "--no-retry-failed"),
        ];
        self.words.extend(given.iter().filter(|(given, _)| *given).map(|(_, flag)| (*flag).to_owned()));
        if let Some(path) = args.common.env_file.as_deref().and_then(absolute) {
            self.add("--env-file", &path);
        }
    }

    fn add_addresses(&mut self, reader: &Reader<'_>, place: &Place) {
        match place {
            Place::Fleet(place) => self.add_address(reader, "--nats-url", &[&place.nats.url]),
            Place::Local(place) => {
                for (service, flag) in
                    [(Service::Ollama, "--ollama-base-url"), (Service::Compatible, "--openai-base-url")]
                {
                    let servers = place.serving.servers.iter().filter(|server| server.service == service);
                    let urls: Vec<_> = servers.map(|server| &server.url).collect();
                    self.add_address(reader, flag, &urls);
                }
            }
        }
    }

    /// Credentials are not shown: a variable still has them, a flag has to be given again.
    fn add_address(&mut self, reader: &Reader<'_>, flag: &'static str, urls: &[&Address]) {
        let origin = reader.sources().iter().find(|source| source.setting == flag).map(|found| &found.origin);
        let has_credentials = urls.iter().any(|url| url.expose() != url.to_string());
        let shown = urls.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        match origin {
            Some(Origin::Flag(_)) if has_credentials => {
                self.add(flag, &shown);
                self.not_kept.push(format!("the credentials of {flag}"));
            }
            Some(Origin::Flag(_)) => self.add(flag, &shown),
            Some(Origin::Environment(_)) if !has_credentials && !shown.is_empty() => self.add(flag, &shown),
            _ => {}
        }
    }

    fn add_flag(&mut self, reader: &Reader<'_>, source: &Source) {
        let flag = source.setting;
        let of_this_run =
            [&QA_DIR, &RESUME, &NO_RESUME, &RESTART, &SAMPLE, &SEED].map(Setting::name).contains(&flag);
        if of_this_run || ADDRESSES.contains(&flag) || NOT_REPEATED.contains(&flag) {
            return;
        }
        let Some(value) = source.full.as_deref().filter(|_| flag != ON_FINISH.name()) else {
            self.not_kept.push(flag.to_owned());
            return;
        };
        if let Some(kept) = KEPT.iter().find(|kept| kept.name() == flag) {
            // The job has it, unless a variable says otherwise.
            let contradicts = reader.variable(kept).is_some_and(|found| found.value != value);
            if !contradicts {
                return;
            }
            if flag == "--ollama-stop" {
                for text in serde_json::from_str::<Vec<String>>(value).unwrap_or_default() {
                    self.words.push(format!("{flag}={text}"));
                }
                return;
            }
        }
        if BARE.contains(&flag) {
            self.words.push(flag.to_owned());
        } else if PATHS.contains(&flag) {
            let path = absolute(Path::new(value)).unwrap_or_else(|| value.to_owned());
            self.add(flag, &path);
        } else {
            self.add(flag, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use qa_shared::settings::Environment;

    use super::*;
    use crate::cli::{Cli, Command};
    use crate::config::GenerateConfig;

    fn command(args: &[&str], variables: &[(&str, &str)]) -> ResumeCommand {
        let words = ["qa-coordinator", "generate"].iter().chain(args).map(|word| (*word).into());
        let Ok(Cli { command: Command::Generate(args) }) = Cli::read(words) else { panic!("not generate") };
        let environment = Environment::from_pairs(variables.iter().copied());
        GenerateConfig::read(&args, &environment).unwrap().again
    }

    fn line(args: &[&str], variables: &[(&str, &str)]) -> String {
        command(args, variables).line(Path::new("/q a"))
    }

    const LOCAL: [&str; 4] = ["--provider", "local", "--model", "m"];

    #[test]
    fn the_job_knows_its_settings() {
        let args = ["--temperature", "0.3", "--max-cost", "3", "--chunks-dir", "c", "--qa-dir", "/q a"];
        let line = line(&[&LOCAL[..], &args].concat(), &[]);
        assert_eq!(line, "qa-coordinator generate --resume --qa-dir '/q a'");
    }

    #[test]
    fn addresses_and_flags_of_this_machine_are_on_the_line() {
        let args = ["--ollama-base-url", "http://gpu1:11434", "--concurrency", "4", "--no-retry-failed"];
        assert_eq!(
            line(&[&LOCAL[..], &args].concat(), &[]),
            "qa-coordinator generate --resume --qa-dir '/q a' --no-retry-failed --ollama-base-url http://gpu1:11434 \
             --concurrency 4"
        );
        let fleet = line(&["--model", "m", "--detach"], &[("QA_NATS_URL", "nats://queue:4222")]);
        assert!(fleet.ends_with(" --detach --nats-url nats://queue:4222"), "{fleet}");
    }

    #[test]
    fn a_flag_that_a_variable_contradicts_is_on_the_line() {
        let args = ["--temperature", "0.3", "--ollama-stop=-x y", "--no-speculation"];
        let variables =
            [("GENERATOR_TEMPERATURE", "0.7"), ("OLLAMA_STOP", "[\"z\"]"), ("QA_SPECULATION", "true")];
        let line = line(&[&LOCAL[..], &args].concat(), &variables);
        for part in [" --temperature 0.3", " '--ollama-stop=-x y'", " --no-speculation"] {
            assert!(line.contains(part), "{line}");
        }
    }

    #[test]
    fn every_flag_without_a_value_is_known_as_one() {
        use clap::CommandFactory;
        // Of one run, of the screen, or taken from the arguments themselves.
        let others = [
            "--resume",
            "--no-resume",
            "--restart",
            "--accept-changes",
            "--dry-run",
            "--batch-processing",
            "--json",
            "--verbose",
            "--quiet",
            "--local",
            "--detach",
            "--overwrite",
            "--no-retry-failed",
        ];
        let command = Cli::command();
        let generate = command.find_subcommand("generate").unwrap();
        for flag in generate.get_arguments().filter(|flag| !flag.get_action().takes_values()) {
            let name = format!("--{}", flag.get_long().unwrap());
            assert!(BARE.contains(&name.as_str()) || others.contains(&name.as_str()), "{name}");
        }
        let line = line(&[&LOCAL[..], &["--pull", "--wait"]].concat(), &[]);
        assert!(line.ends_with(" --pull --wait"), "{line}");
    }

    #[test]
    fn secrets_are_not_on_the_line_and_their_flags_are_named() {
        let args = [
            "--model",
            "m",
            "--api-key",
            "sk-secret",
            "--openai-base-url",
            "http://me:pw@gpu1/v1",
            "--on-finish",
            "notify",
        ];
        let command = command(&args, &[]);
        let line = command.line(Path::new("/q"));
        assert!(line.ends_with(" --openai-base-url http://gpu1/v1"), "{line}");
        let missing = command.not_kept().unwrap();
        assert_eq!(
            missing,
            "give the credentials of --openai-base-url, --api-key, --on-finish again: it is kept nowhere"
        );
        assert!(!format!("{command:?}").contains("sk-secret"));
        let from_variable = self::line(&LOCAL, &[("OLLAMA_BASE_URL", "http://me:pw@gpu1:11434")]);
        assert_eq!(from_variable, "qa-coordinator generate --resume --qa-dir '/q a'");
    }
}
