//! Reports in files.

use std::fs;
use std::path::Path;

use super::Report;

pub(super) fn write(report: &Report, path: &Path) -> Result<(), String> {
    let mut text = serde_json::to_string_pretty(report).map_err(|error| error.to_string())?;
    text.push('\n');
    fs::write(path, text).map_err(|error| format!("cannot write the report to `{}`: {error}", path.display()))
}

pub(super) fn read(path: &Path) -> Result<Report, String> {
    const REMEDY: &str = "UPDATE_SNAPSHOTS=1 writes the checked-in baseline, --json FILE any other";
    let text = fs::read_to_string(path)
        .map_err(|error| format!("cannot read the baseline `{}`: {error}; {REMEDY}", path.display()))?;
    serde_json::from_str(&text)
        .map_err(|error| format!("the baseline `{}` is no report: {error}; {REMEDY}", path.display()))
}

/// Whether the checked-in baselines are to be written anew, as every other snapshot.
#[expect(clippy::disallowed_methods, reason = "a test has no settings object")]
pub(super) fn is_to_be_written() -> bool {
    std::env::var_os("UPDATE_SNAPSHOTS").is_some()
}

#[cfg(test)]
mod tests {
    use super::super::{Measure, Mode};
    use super::*;

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let directory = crate::testing::temporary_folder();
        let path = directory.path().join("growth.json");
        let mut report = Report::new("growth", Mode::Short);
        report.measures.push(Measure::counted("files", 3.0, "files"));
        write(&report, &path).unwrap();
        assert_eq!(read(&path), Ok(report));
    }

    #[test]
    fn a_file_that_is_missing_or_no_report_is_named_with_the_remedy() {
        let directory = crate::testing::temporary_folder();
        let path = directory.path().join("none.json");
        assert!(read(&path).unwrap_err().contains("UPDATE_SNAPSHOTS=1"));
        fs::write(&path, "[]").unwrap();
        let mistake = read(&path).unwrap_err();
        assert!(mistake.contains("none.json` is no report"), "{mistake}");
    }
}
