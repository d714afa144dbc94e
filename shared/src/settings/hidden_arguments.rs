//! Secrets of the command line, kept out of the list of processes, which every user of the machine can read: the
//! program starts itself again with a mark in each secret's place, and with the secrets in its environment, which
//! only the same user can read.
//!
//! It must not know what a secret is for.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// The variable with the secrets, one a line, in their order on the command line. Not a setting: a program sets it
/// for itself. Processes that it starts have no use for it.
pub const HIDDEN_ARGUMENTS: &str = "_QA_FLEET_HIDDEN_ARGUMENTS";
/// What others see.
const MARK: &str = "***";

/// What a flag's value may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    /// A secret.
    Secret,
    /// Addresses, perhaps with credentials before an `@`.
    Addresses,
}

const FLAGS: [(&str, Value); 5] = [
    ("--api-key", Value::Secret),
    ("--nats-token", Value::Secret),
    ("--nats-url", Value::Addresses),
    ("--ollama-base-url", Value::Addresses),
    ("--openai-base-url", Value::Addresses),
];

/// The arguments that this program was given, its name first.
#[expect(clippy::disallowed_methods, reason = "the command line comes before every setting")]
pub fn arguments() -> Vec<OsString> {
    restored(std::env::args_os(), std::env::var_os(HIDDEN_ARGUMENTS).as_deref())
}

/// Replaces this process by the same program with its secrets hidden, if there are any to hide. Returns only if
/// there are none, or when that fails.
///
/// # Errors
///
/// When the program cannot be started again: others can see the secrets.
pub fn hide_arguments() -> io::Result<()> {
    let Some((arguments, secrets)) = hidden(std::env::args_os()) else { return Ok(()) };
    let mut arguments = arguments.into_iter();
    let name = arguments.next().unwrap_or_default();
    let program = std::env::current_exe()?;
    Err(Command::new(program).arg0(name).args(arguments).env(HIDDEN_ARGUMENTS, secrets).exec())
}

/// The arguments with marks, and the secrets; nothing where there is no secret.
fn hidden(arguments: impl Iterator<Item = OsString>) -> Option<(Vec<OsString>, String)> {
    let mut secrets = Vec::new();
    let shown = with_values(arguments, |kind, value| {
        let is_secret = match kind {
            Value::Secret => !value.trim().is_empty(),
            Value::Addresses => value.contains('@'),
        };
        // A secret of several lines is none, and is told as a mistake.
        if !is_secret || value == MARK || value.contains('\n') {
            return None;
        }
        secrets.push(value.to_owned());
        Some(MARK.to_owned())
    });
    (!secrets.is_empty()).then(|| (shown, secrets.join("\n")))
}

/// The arguments with their secrets again.
fn restored(arguments: impl Iterator<Item = OsString>, secrets: Option<&OsStr>) -> Vec<OsString> {
    let mut secrets = secrets.and_then(OsStr::to_str).into_iter().flat_map(|secrets| secrets.split('\n'));
    with_values(arguments, |_, value| if value == MARK { secrets.next().map(str::to_owned) } else { None })
}

/// The arguments with other values of the flags above.
fn with_values(
    arguments: impl Iterator<Item = OsString>,
    mut other: impl FnMut(Value, &str) -> Option<String>,
) -> Vec<OsString> {
    let mut changed = Vec::new();
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        let text = argument.to_str().unwrap_or_default();
        if text == "--" {
            changed.push(argument);
            changed.extend(arguments.by_ref());
        } else if let Some((_, kind)) = FLAGS.iter().find(|(flag, _)| *flag == text) {
            changed.push(argument);
            // A flag without a value is told as a mistake.
            if let Some(value) = arguments.next() {
                let replaced = value.to_str().and_then(|value| other(*kind, value));
                changed.push(replaced.map_or(value, OsString::from));
            }
        } else {
            let joined = text.split_once('=').and_then(|(name, value)| {
                let (flag, kind) = FLAGS.iter().find(|(flag, _)| *flag == name)?;
                Some(OsString::from(format!("{flag}={}", other(*kind, value)?)))
            });
            changed.push(joined.unwrap_or(argument));
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    fn hidden_in(line: &str) -> Option<(String, String)> {
        let (shown, secrets) = hidden(words(line).into_iter())?;
        Some((shown.join(OsStr::new(" ")).into_string().unwrap(), secrets))
    }

    #[test]
    fn keys_tokens_and_addresses_with_credentials_are_hidden_in_both_forms() {
        for (line, shown, secrets) in [
            ("q generate --api-key k --resume", "q generate --api-key *** --resume", "k"),
            ("q --nats-token=t", "q --nats-token=***", "t"),
            ("q --nats-url nats://t@h:4222 x", "q --nats-url *** x", "nats://t@h:4222"),
            (
                "q --ollama-base-url http://a,http://u:p@b --openai-base-url=http://u:p@c",
                "q --ollama-base-url *** --openai-base-url=***",
                "http://a,http://u:p@b\nhttp://u:p@c",
            ),
            ("q --api-key a -- --api-key b", "q --api-key *** -- --api-key b", "a"),
        ] {
            assert_eq!(hidden_in(line), Some((shown.to_owned(), secrets.to_owned())), "{line}");
        }
    }

    #[test]
    fn without_a_secret_nothing_is_done() {
        for line in [
            "q generate",
            "q --api-key",
            "q --api-key=",
            "q --api-key ***",
            "q --nats-url nats://h:4222",
            "q --model me@host --api-keys k",
            "q -- --nats-token t",
        ] {
            assert_eq!(hidden_in(line), None, "{line}");
        }
    }

    #[test]
    fn a_mark_that_stands_for_nothing_stays() {
        assert_eq!(restored(words("q --api-key ***").into_iter(), None), words("q --api-key ***"));
    }

    proptest! {
        #[test]
        fn what_was_hidden_comes_back(
            parts in prop::collection::vec(
                prop_oneof![
                    Just("--api-key".to_owned()), Just("--nats-url".to_owned()), Just("--".to_owned()),
                    Just("--nats-token=t".to_owned()), Just("***".to_owned()), "[a-z@:/,=*-]{0,8}",
                ],
                0..10,
            ),
        ) {
            let line: Vec<OsString> = parts.iter().map(OsString::from).collect();
            if let Some((shown, secrets)) = hidden(line.clone().into_iter()) {
                // A user who writes the mark as a secret has the next one in its place: no secret is a mark.
                prop_assume!(!parts.iter().any(|part| part.ends_with(MARK)));
                prop_assert_eq!(restored(shown.into_iter(), Some(OsStr::new(&secrets))), line);
            }
        }
    }
}
