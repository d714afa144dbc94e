//! The exit codes of `qa-worker`: an interface, so documented in one place. It must not know why a code is
//! chosen.

use std::fmt::Write as _;

/// How the program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitCode {
    /// Stopped as asked; every task was finished or handed back.
    Success = 0,
    /// `check` found something that does not work.
    Check = 1,
    /// Bad configuration or command line; nothing was done.
    Configuration = 2,
    /// The queue cannot be reached or used.
    Queue = 5,
    /// A defect of the program.
    Internal = 70,
    /// A second signal: left at once.
    SecondSignal = 130,
}

impl ExitCode {
    /// Every code.
    pub const ALL: [Self; 6] =
        [Self::Success, Self::Check, Self::Configuration, Self::Queue, Self::Internal, Self::SecondSignal];

    /// What the code means.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Success => {
                "stopped as asked; every task was finished or handed back; `check`: everything works"
            }
            Self::Check => "`check` found something that does not work",
            Self::Configuration => "bad configuration or command line; nothing was done",
            Self::Queue => "queue unreachable or unusable",
            Self::Internal => "internal error: please report it",
            Self::SecondSignal => "second signal: left at once",
        }
    }

    /// The number that the shell sees.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The table in `--help`.
    pub fn table() -> String {
        let mut table = String::from("Exit codes:\n");
        for code in Self::ALL {
            writeln!(table, "  {:>3}  {}", code.code(), code.meaning()).expect("a String takes every text");
        }
        table
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code.code())
    }
}
