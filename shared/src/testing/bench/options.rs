//! A benchmark's command line (PURE).

use std::path::PathBuf;

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Small sizes: what is right and what is counted. What `cargo test` runs.
    Short,
    /// The sizes that reports quote.
    Full,
    /// Sizes that take many minutes, too.
    Long,
}

impl Mode {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::Full => "full",
            Self::Long => "long",
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) mode: Mode,
    pub(super) json: Option<PathBuf>,
    pub(super) baseline: Option<PathBuf>,
}

/// What the command line wants.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command {
    Measure(Options),
    /// Nothing is measured.
    Tell(String),
}

const USAGE: &str = "\
usage: cargo bench -p PACKAGE --bench NAME -- [--short | --long] [--json FILE] [--baseline FILE]

--short          small sizes: checks that it works, and what is counted (what 'cargo test' runs)
--long           the largest sizes too, which take many minutes
--json FILE      writes the report to a file
--baseline FILE  compares with such a file: counted values must agree, timed ones are shown as a ratio

Without --baseline a short run compares with the checked-in baseline; UPDATE_SNAPSHOTS=1 writes that anew.";

impl Options {
    /// Reads arguments, without the program's name. `cargo bench` says so by `--bench`; without it they are
    /// those of a test program, of which only the names matter here.
    pub(super) fn parse(name: &str, arguments: impl Iterator<Item = String>) -> Result<Command, String> {
        let arguments: Vec<_> = arguments.collect();
        let is_bench = arguments.iter().any(|argument| argument == "--bench");
        let mut options =
            Self { mode: if is_bench { Mode::Full } else { Mode::Short }, json: None, baseline: None };
        let (mut is_filtered, mut is_named) = (false, false);
        let mut rest = arguments.into_iter();
        while let Some(argument) = rest.next() {
            let mut file =
                || rest.next().map(PathBuf::from).ok_or(format!("{argument} needs a file\n\n{USAGE}"));
            match argument.as_str() {
                "--bench" => {}
                "--help" | "-h" => return Ok(Command::Tell(USAGE.to_owned())),
                "--short" => options.mode = Mode::Short,
                "--long" => options.mode = Mode::Long,
                "--json" => options.json = Some(file()?),
                "--baseline" => options.baseline = Some(file()?),
                // Programs that run tests ask for their names first.
                "--list" => return Ok(Command::Tell(String::new())),
                "--test-threads" | "--skip" | "--color" | "--format" if !is_bench => drop(rest.next()),
                flag if flag.starts_with('-') => {
                    if is_bench {
                        return Err(format!("unknown option {flag}\n\n{USAGE}"));
                    }
                }
                filter => {
                    is_filtered = true;
                    is_named |= name.contains(filter);
                }
            }
        }
        if is_filtered && !is_named {
            return Ok(Command::Tell(format!("{name}: not asked for")));
        }
        Ok(Command::Measure(options))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Command, String> {
        Options::parse("own_cost", line.split_whitespace().map(str::to_owned))
    }

    fn measured(mode: Mode) -> Command {
        Command::Measure(Options { mode, json: None, baseline: None })
    }

    #[test]
    fn a_benchmark_is_full_and_a_test_is_short() {
        assert_eq!(parse("--bench"), Ok(measured(Mode::Full)));
        assert_eq!(parse("--bench --short"), Ok(measured(Mode::Short)));
        assert_eq!(parse("--bench --long"), Ok(measured(Mode::Long)));
        assert_eq!(parse("--test-threads 6 --nocapture"), Ok(measured(Mode::Short)));
    }

    #[test]
    fn files_are_taken() {
        let Ok(Command::Measure(options)) = parse("--bench --json a.json --baseline b.json") else {
            panic!("it is to be measured")
        };
        assert_eq!((options.json, options.baseline), (Some("a.json".into()), Some("b.json".into())));
        assert!(parse("--bench --json").unwrap_err().starts_with("--json needs a file"));
    }

    #[test]
    fn a_filter_for_other_tests_leaves_it_out() {
        assert!(matches!(parse("slots::tests"), Ok(Command::Tell(_))));
        assert_eq!(parse("own"), Ok(measured(Mode::Short)));
    }

    #[test]
    fn a_typing_mistake_in_a_benchmark_is_named() {
        assert!(parse("--bench --shrot").unwrap_err().starts_with("unknown option --shrot"));
    }
}
