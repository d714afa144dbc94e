//! `--on-finish`: the user's own command at the end of a run. It learns the outcome from its environment, gets
//! no setting of ours (some are secrets), has a bounded time, and changes nothing about how the run ended.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use qa_shared::console::{Console, LAST_LINES};
use qa_shared::process_group::{Insistence, end_group};
use qa_shared::settings::{HIDDEN_ARGUMENTS, variables};
use qa_shared::shutdown::Shutdown;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::exit::ExitCode;
use crate::format::text;
use crate::happening::Figures;

/// How long the command may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
/// How long it may take to end when it is asked to.
const LAST_WISH: Duration = Duration::from_secs(1);
/// Of each of its outputs this much is shown where every line has to be JSON, in bytes.
const MOST_OUTPUT: u64 = 1024 * 1024;
/// In characters, of up to 4 bytes each; the system takes no variable over 128 KiB.
const LONGEST_REPORT: usize = 30_000;

/// What the command finds in its environment, in the order of `Outcome::values`.
pub const VARIABLES: [&str; 12] = [
    "QA_OUTCOME",
    "QA_EXIT_CODE",
    "QA_JOB",
    "QA_QA_DIR",
    "QA_OUTPUT_FILE",
    "QA_CHUNKS_TOTAL",
    "QA_CHUNKS_COMPLETED",
    "QA_CHUNKS_FAILED",
    "QA_CHUNKS_OUTSTANDING",
    "QA_PAIRS",
    "QA_SECONDS",
    "QA_REPORT",
];

/// What the command is told.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: ExitCode,
    pub(crate) job: String,
    pub(crate) qa_dir: String,
    /// The combined file if this run wrote it; else empty.
    pub(crate) output_file: String,
    pub(crate) figures: Figures,
    pub(crate) elapsed: Duration,
    pub(crate) report: String,
}

impl Outcome {
    fn values(&self) -> [String; 12] {
        let figures = &self.figures;
        let report: String = text(self.report.trim()).chars().take(LONGEST_REPORT).collect();
        [
            self.code.outcome().to_owned(),
            self.code.code().to_string(),
            self.job.clone(),
            self.qa_dir.clone(),
            self.output_file.clone(),
            figures.job_chunks.to_string(),
            figures.job_completed.to_string(),
            figures.job_failed.to_string(),
            figures.outstanding().to_string(),
            figures.job_pairs.to_string(),
            self.elapsed.as_secs().to_string(),
            report,
        ]
    }
}

/// How the command ended.
#[derive(Debug)]
enum End {
    Ended(ExitStatus),
    TooLate,
    Signalled,
}

/// Runs the command and says what went wrong with it, if anything did.
pub(crate) async fn run(
    command: &str,
    outcome: &Outcome,
    limit: Duration,
    console: &Console,
    shutdown: &Shutdown,
) {
    // What the command prints stands below our own lines.
    console.flush(LAST_LINES);
    let problem = match run_to_end(command, outcome, limit, console.is_json(), shutdown).await {
        Ok(End::Ended(status)) if status.success() => return,
        Ok(End::Ended(status)) => format!("it ended with {status}"),
        Ok(End::TooLate) => format!("it took longer than {} s and was ended", limit.as_secs()),
        Ok(End::Signalled) => "it was ended by the signal".to_owned(),
        Err(error) => format!("it could not be run: {error}"),
    };
    tracing::warn!("the command of --on-finish: {problem}; the run's own exit code stays as it is");
}

async fn run_to_end(
    command: &str,
    outcome: &Outcome,
    limit: Duration,
    as_json: bool,
    shutdown: &Shutdown,
) -> std::io::Result<End> {
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(command);
    shell.env_remove(HIDDEN_ARGUMENTS);
    for variable in variables::ALL {
        shell.env_remove(variable.name());
    }
    shell.envs(VARIABLES.into_iter().zip(outcome.values()));
    // Standard output belongs to --json.
    let output = || if as_json { Stdio::piped() } else { Stdio::from(std::io::stderr()) };
    let mut child = shell
        .stdin(Stdio::null())
        .stdout(output())
        .stderr(output())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let mut told = tokio::spawn(async move { tokio::join!(tell(stdout), tell(stderr)) });
    // A signal that came before is the reason for this end; only a further one ends the command too.
    let was_stopping = shutdown.is_stopping();
    let signalled =
        async { if was_stopping { shutdown.leaving_now().await } else { shutdown.stopping().await } };
    let end = tokio::select! {
        status = child.wait() => {
            // What it has left running may hold its output open.
            drop(tokio::time::timeout(LAST_WISH, &mut told).await);
            told.abort();
            return Ok(End::Ended(status?));
        }
        () = tokio::time::sleep(limit) => End::TooLate,
        () = signalled => End::Signalled,
    };
    end_all(&mut child).await;
    Ok(end)
}

/// Makes log lines of what the command prints.
async fn tell(output: Option<impl AsyncRead + Unpin>) {
    let Some(output) = output else { return };
    let mut lines = BufReader::new(output.take(MOST_OUTPUT)).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        let output = String::from_utf8_lossy(&line);
        tracing::info!(%output, "the command of --on-finish printed a line");
    }
}

/// Ends the command and what it has started.
async fn end_all(child: &mut Child) {
    let Some(head) = child.id() else { return };
    if let Err(error) = end_group(head, Insistence::Ask) {
        tracing::debug!(%error, "the command of --on-finish does not take the signal");
    }
    // Whether the shell is gone by then says nothing about what it has started, and it is not waited for, so
    // that its id stays its own.
    tokio::time::sleep(LAST_WISH).await;
    if let Err(error) = end_group(head, Insistence::Force) {
        tracing::debug!(%error, "nothing of the command of --on-finish is left to be ended");
    }
    drop(tokio::time::timeout(LAST_WISH, child.wait()).await);
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Instant;

    use super::*;

    fn outcome(report: &str) -> Outcome {
        Outcome {
            code: ExitCode::Failures,
            job: "b44cde413b9f".to_owned(),
            qa_dir: "/q a".to_owned(),
            output_file: String::new(),
            figures: Figures { job_chunks: 9, job_completed: 6, job_failed: 1, ..Figures::default() },
            elapsed: Duration::from_secs(12),
            report: report.to_owned(),
        }
    }

    async fn end(command: &str, limit: Duration, shutdown: &Shutdown) -> End {
        run_to_end(command, &outcome("r"), limit, false, shutdown).await.unwrap()
    }

    #[test]
    fn the_report_is_bounded_and_plain() {
        let values = outcome(&format!("a\0b\x1b[2J{}", "ü".repeat(40_000))).values();
        let report = values.last().unwrap();
        assert!(report.len() < 128 * 1024 && report.starts_with("a b [2J"), "{}", report.len());
        assert_eq!(values[..2], ["failed_chunks", "1"]);
        assert_eq!(values[5..9], ["9", "6", "1", "2"]);
    }

    #[tokio::test]
    async fn the_command_sees_the_outcome() {
        let script =
            r#"test "$QA_OUTCOME-$QA_EXIT_CODE-$QA_QA_DIR" = "failed_chunks-1-/q a" || exit 9; exit 7"#;
        let end = end(script, LIMIT, &Shutdown::new()).await;
        assert!(matches!(end, End::Ended(status) if status.code() == Some(7)), "{end:?}");
    }

    #[tokio::test]
    async fn a_command_that_takes_too_long_is_ended_with_what_it_has_started() {
        let folder = qa_shared::testing::temporary_folder();
        let file = folder.path().join("still there");
        let script = format!("trap '' TERM; (sleep 4; touch '{}') & wait; sleep 60", file.display());
        let begun = Instant::now();
        let end = end(&script, Duration::from_millis(300), &Shutdown::new()).await;
        assert!(matches!(end, End::TooLate) && begun.elapsed() < Duration::from_secs(30), "{end:?}");
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(!Path::new(&file).exists(), "what the command had started went on");
    }

    #[tokio::test]
    async fn only_a_further_signal_ends_the_command() {
        let shutdown = Shutdown::new();
        shutdown.stop();
        let ended = end("exit 0", LIMIT, &shutdown).await;
        assert!(matches!(ended, End::Ended(_)), "{ended:?}");
        shutdown.leave_now();
        assert!(matches!(end("sleep 60", LIMIT, &shutdown).await, End::Signalled));
        let fresh = Shutdown::new();
        let (ended, ()) = tokio::join!(end("sleep 60", LIMIT, &fresh), async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            fresh.stop();
        });
        assert!(matches!(ended, End::Signalled), "{ended:?}");
    }
}
