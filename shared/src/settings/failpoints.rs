//! What a test has armed in this process: `QA_FAILPOINTS`. No setting of a user: it is not in the table of
//! variables, and a release build does not read it.
//!
//! It must not know what the places and mistakes are about.

use std::path::{Path, PathBuf};

use crate::failpoint::{CrashPoint, Mistake};

/// The variable.
const VARIABLE: &str = "QA_FAILPOINTS";

/// What is armed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Failpoints {
    /// Where the process dies.
    pub crash: Option<Armed>,
    /// The mistake that it makes.
    pub mistake: Option<Mistake>,
    /// The file that says by how many milliseconds its wall clock is wrong.
    pub clock: Option<PathBuf>,
}

/// A place where the process dies.
#[derive(Debug, PartialEq, Eq)]
pub struct Armed {
    /// The place.
    pub point: CrashPoint,
    /// The name of the file that must pass by; every one counts without it.
    pub file: Option<String>,
    /// Which time of passing by it is, from 1.
    pub passage: u64,
}

/// Reads it from the environment of this process.
///
/// # Panics
///
/// When it names nothing that there is: a test that arms nothing would prove nothing.
pub fn read_failpoints() -> Failpoints {
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    let text = std::env::var_os(VARIABLE).unwrap_or_default();
    let text = text.to_string_lossy();
    parse(&text).unwrap_or_else(|| panic!("{VARIABLE} is not understood: {text}"))
}

/// What the file says now, in milliseconds; nothing while there is no such file.
pub fn read_clock_offset(file: &Path) -> Option<i64> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// `crash:POINT`, `crash:POINT@FILE`, either with `#PASSAGE`, or `mistake:MISTAKE`, or `clock:FILE`; nothing
/// arms nothing.
fn parse(text: &str) -> Option<Failpoints> {
    const MISTAKES: [Mistake; 4] =
        [Mistake::AckBeforeJournal, Mistake::NoReconciliation, Mistake::PairsTwice, Mistake::NoUpkeep];
    if text.is_empty() {
        return Some(Failpoints::default());
    }
    if let Some(name) = text.strip_prefix("mistake:") {
        let mistake = MISTAKES.into_iter().find(|mistake| format!("{mistake:?}") == name)?;
        return Some(Failpoints { mistake: Some(mistake), ..Failpoints::default() });
    }
    if let Some(file) = text.strip_prefix("clock:") {
        return Some(Failpoints { clock: Some(file.into()), ..Failpoints::default() });
    }
    let text = text.strip_prefix("crash:")?;
    let (text, passage) = match text.rsplit_once('#') {
        Some((text, passage)) => (text, passage.parse().ok()?),
        None => (text, 1),
    };
    let (name, file) = match text.split_once('@') {
        Some((name, file)) => (name, Some(file.to_owned())),
        None => (text, None),
    };
    let point = CrashPoint::ALL.iter().copied().find(|point| format!("{point:?}") == name)?;
    Some(Failpoints { crash: Some(Armed { point, file, passage }), ..Failpoints::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_is_armed_and_what_does_not_exist_is_refused() {
        let crash = |text| parse(text).unwrap().crash.unwrap();
        assert_eq!(parse(""), Some(Failpoints::default()));
        assert_eq!(crash("crash:TaskAcked"), Armed { point: CrashPoint::TaskAcked, file: None, passage: 1 });
        let armed = crash("crash:FileRenamed@spent.json#3");
        assert_eq!(armed.point, CrashPoint::FileRenamed);
        assert_eq!((armed.file.as_deref(), armed.passage), (Some("spent.json"), 3));
        assert_eq!(parse("mistake:PairsTwice").unwrap().mistake, Some(Mistake::PairsTwice));
        assert_eq!(parse("clock:/a b").unwrap().clock.as_deref(), Some("/a b".as_ref()));
        for wrong in ["crash:Nowhere", "crash:TaskAcked#x", "mistake:None", "TaskAcked"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
