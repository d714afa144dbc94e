//! The exit codes of `qa-coordinator`: an interface, so documented in one place. It must not know why a code
//! is chosen.

use std::fmt::Write as _;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitCode {
    /// Everything was done.
    Success = 0,
    /// Finished, but chunks or documents failed.
    Failures = 1,
    /// Bad configuration or command line; nothing was done.
    Configuration = 2,
    /// Interrupted by a signal or `cancel`; `--resume` goes on.
    Interrupted = 3,
    /// Stopped because too many chunks failed or the budget is spent; `--resume` goes on.
    Stopped = 4,
    /// The queue cannot be reached or used.
    Queue = 5,
    /// Files cannot be read or written.
    Files = 6,
    /// A local run had no LLM server that can serve; `--resume` goes on.
    NoServer = 7,
    /// The queue server's store is full, and nothing of the job's would make room; `--resume` goes on.
    StoreFull = 8,
    /// A defect of the program.
    Internal = 70,
    /// Another program has the directory: the same command can do it later.
    Held = 75,
    /// A second signal: left at once.
    SecondSignal = 130,
}

impl ExitCode {
    /// Every code.
    pub const ALL: [Self; 12] = [
        Self::Success,
        Self::Failures,
        Self::Configuration,
        Self::Interrupted,
        Self::Stopped,
        Self::Queue,
        Self::Files,
        Self::NoServer,
        Self::StoreFull,
        Self::Internal,
        Self::Held,
        Self::SecondSignal,
    ];

    /// What the code means.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Success => "success; also a finished --sample",
            Self::Failures => "finished, but with failed chunks or documents",
            Self::Configuration => "bad configuration or command line; nothing was done",
            Self::Interrupted => "interrupted by a signal (also with --detach) or `cancel`; --resume goes on",
            Self::Stopped => {
                "stopped by --max-failure-rate, --max-cost or --max-tokens-total; --resume goes on"
            }
            Self::Queue => "queue unreachable or unusable",
            Self::Files => "files cannot be read or written",
            Self::NoServer => "no LLM server can serve (local run, without --wait); --resume goes on",
            Self::StoreFull => "the queue server's store is full; make room, then --resume goes on",
            Self::Internal => "internal error: please report it",
            Self::Held => "another program is working in the directory; try again later",
            Self::SecondSignal => "second signal: left at once; --resume goes on",
        }
    }

    /// The outcome of a run with this code, in a word.
    pub fn outcome(self) -> &'static str {
        match self {
            Self::Success => "completed",
            Self::Failures => "failed_chunks",
            Self::Interrupted => "interrupted",
            Self::Stopped | Self::NoServer | Self::StoreFull => "stopped",
            Self::Configuration
            | Self::Queue
            | Self::Files
            | Self::Internal
            | Self::Held
            | Self::SecondSignal => "error",
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
