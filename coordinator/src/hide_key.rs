//! A key on the command line shows in the list of processes for as long as the process runs: starts this
//! program anew with the key in its environment, which only the same user can see.
//!
//! It must not know what the key is for.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use qa_shared::settings::variables;

const FLAG: &str = "--api-key";

/// Replaces this process by the same program without the flag, if it has one. Returns only without the flag,
/// or when that fails.
pub(crate) fn hide_key() -> io::Result<()> {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_else(|| OsString::from("qa-coordinator"));
    let Some((rest, key)) = take_key(arguments) else { return Ok(()) };
    Err(Command::new(std::env::current_exe()?)
        .arg0(name)
        .args(rest)
        .env(variables::QA_API_KEY.name(), key)
        .exec())
}

/// The arguments without the flag, and its last value; nothing where there is none, or where it is empty or
/// has no value (which is then told as usual).
fn take_key(arguments: impl Iterator<Item = OsString>) -> Option<(Vec<OsString>, String)> {
    let (mut rest, mut key) = (Vec::new(), None);
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        let text = argument.to_str().unwrap_or_default();
        if text == "--" {
            rest.push(argument);
            rest.extend(arguments.by_ref());
        } else if text == FLAG {
            key = Some(arguments.next()?.into_string().ok()?);
        } else if let Some(value) = text.strip_prefix(FLAG).and_then(|rest| rest.strip_prefix('=')) {
            key = Some(value.to_owned());
        } else {
            rest.push(argument);
        }
    }
    key.filter(|key| !key.trim().is_empty()).map(|key| (rest, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(arguments: &[&str]) -> Option<(Vec<String>, String)> {
        let (rest, key) = take_key(arguments.iter().map(OsString::from))?;
        Some((rest.into_iter().map(|argument| argument.into_string().unwrap()).collect(), key))
    }

    #[test]
    fn the_flag_goes_in_both_forms() {
        let rest = || vec!["generate".to_owned(), "--resume".to_owned()];
        assert_eq!(taken(&["generate", "--api-key", "k", "--resume"]), Some((rest(), "k".to_owned())));
        assert_eq!(taken(&["generate", "--api-key=k", "--resume"]), Some((rest(), "k".to_owned())));
        for nothing in [&["generate"][..], &["generate", "--api-key"], &["generate", "--api-key", " "]] {
            assert_eq!(taken(nothing), None, "{nothing:?}");
        }
        let after_dashes = taken(&["--api-key", "a", "--", "--api-key", "b"]).unwrap();
        assert_eq!(after_dashes, (vec!["--".into(), "--api-key".into(), "b".into()], "a".to_owned()));
    }
}
