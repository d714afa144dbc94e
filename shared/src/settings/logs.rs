//! The settings of the log, which every command of both programs has.

use super::args::CommonArgs;
use super::reader::Reader;
use super::setting::Setting;
use super::source::Environment;
use super::variables;
use crate::console::Look;

static LOG_FORMAT: Setting = Setting::new("--log-format", &[&variables::QA_LOG_FORMAT]);
static LOG_FILTER: Setting = Setting::variable(&[&variables::RUST_LOG]);

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// How lines look.
    pub look: Look,
    /// What is logged, in `RUST_LOG`'s notation.
    pub filter: String,
    /// Whether only problems and the result are shown.
    pub quiet: bool,
}

impl LogSettings {
    /// Reads them. `-v` and `--quiet` beat `RUST_LOG`.
    pub fn read(reader: &mut Reader<'_>, args: &CommonArgs) -> Self {
        let format = reader
            .parsed(&LOG_FORMAT, args.log_format.as_deref(), "human or json", |text| text.parse().ok())
            .unwrap_or_default();
        let look = Look::of(format, |name| reader.environment().terminal_variable(name));
        let filter = reader
            .parsed(&LOG_FILTER, None, "a log filter such as info or info,qa_worker=debug", |text| {
                tracing_subscriber::EnvFilter::try_new(text).ok().map(|_| text.to_owned())
            })
            .unwrap_or_default();
        let filter = match (args.quiet, args.verbose) {
            (true, _) => "warn".to_owned(),
            (false, 0) => filter,
            (false, 1) => "info,qa_coordinator=debug,qa_worker=debug,qa_shared=debug".to_owned(),
            (false, _) => "debug,qa_coordinator=trace,qa_worker=trace,qa_shared=trace".to_owned(),
        };
        Self { look, filter, quiet: args.quiet }
    }

    /// How the lines look with which a program ends before it has read its settings. A wrong value has its default.
    pub fn look_of(environment: &Environment, flag: Option<&str>) -> Look {
        let format = environment.find(&LOG_FORMAT, flag).ok().flatten();
        let format = format.and_then(|found| found.value.parse().ok()).unwrap_or_default();
        Look::of(format, |name| environment.terminal_variable(name))
    }
}
