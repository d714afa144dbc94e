//! Flags that both programs have. Syntax only: values are texts here and are checked by the readers, so that
//! all mistakes are reported at once and in our words.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgAction, Args};

/// Flags of every command. No `Debug`: flags may hold secrets.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "General")]
pub struct CommonArgs {
    /// Read settings from this file [default: the first found of ./config.env, ./.env]
    #[arg(long, value_name = "PATH")]
    pub env_file: Option<PathBuf>,
    /// How log lines look: human or json [env: QA_LOG_FORMAT]
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// Log more; twice: much more
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,
    /// Show problems and the result only
    #[arg(short, long)]
    pub quiet: bool,
}

/// How the queue is reached. No `Debug`: flags may hold secrets.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Queue")]
pub struct NatsArgs {
    /// Address of the NATS server, or several separated by commas [env: QA_NATS_URL]
    #[arg(long, value_name = "URL")]
    pub nats_url: Option<String>,
    /// Token for the NATS server; other processes can see flags, so prefer [env: QA_NATS_TOKEN]
    #[arg(long, value_name = "TOKEN")]
    pub nats_token: Option<String>,
}

/// What a process that works tells about itself.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Telemetry")]
pub struct TelemetryArgs {
    /// Serve /metrics (for Prometheus), /healthz and /readyz at this address; 127.0.0.1:9464 is usual
    /// [env: QA_METRICS_LISTEN]
    #[arg(long, value_name = "ADDRESS")]
    pub metrics_listen: Option<String>,
}

/// The value of `--log-format` in a command line that could not be read.
pub fn wanted_log_format(line: impl IntoIterator<Item = OsString>) -> Option<String> {
    let mut line = line.into_iter().map(|word| word.to_string_lossy().into_owned());
    while let Some(word) = line.next() {
        if word == "--log-format" {
            return line.next();
        }
        if let Some(value) = word.strip_prefix("--log-format=") {
            return Some(value.to_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_format_is_found_in_a_line_that_is_wrong() {
        let of = |line: &str| wanted_log_format(line.split(' ').map(OsString::from));
        assert_eq!(of("qa-coordinator generate --wrong --log-format json").as_deref(), Some("json"));
        assert_eq!(of("qa-coordinator generate --log-format=json --wrong").as_deref(), Some("json"));
        assert_eq!(of("qa-coordinator generate --log-format"), None);
        assert_eq!(of("qa-coordinator generate --wrong"), None);
    }
}
