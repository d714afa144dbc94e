//! Command lines of both programs, in an environment that holds nothing of this machine.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use qa_shared::testing::TestNats;
use qa_shared::testing::fake_ollama::FakeOllama;
use qa_shared::testing::fake_provider::{FAKE_KEY, FakeProvider};
use tokio::process::Command;

use super::processes::{Ended, Running};
use super::programs;

/// Where workers run: they read and write no file of their directory.
const WORKERS_DIRECTORY: &str = "/";

/// A command line in the making.
pub(crate) struct Line {
    name: String,
    command: Command,
}

impl Line {
    fn new(name: &str, program: &Path, directory: &Path) -> Self {
        let mut command = Command::new(program);
        command.env_clear().current_dir(directory).env("RUST_BACKTRACE", "1");
        // What finds the nats-server, and nothing else.
        for variable in ["PATH", "QA_NATS_SERVER"] {
            #[expect(clippy::disallowed_methods, reason = "a test has no settings object")]
            let value: Option<OsString> = std::env::var_os(variable);
            command.envs(value.map(|value| (variable, value)));
        }
        // Two slots a server: what a kill may cost is known, and no run is over before the test gets to it.
        command.env("QA_CONCURRENCY", "2");
        // And no call is made twice because this machine was busy for a moment.
        command.env("QA_SPECULATION", "false");
        Self { name: name.to_owned(), command }
    }

    /// `qa-coordinator COMMAND`.
    pub(crate) fn coordinator(command: &str, directory: &Path) -> Self {
        Self::new(&format!("qa-coordinator {command}"), programs::coordinator(), directory).arg(command)
    }

    /// A shell that finds both programs.
    pub(crate) fn shell(script: &str, directory: &Path) -> Self {
        let mut line = Self::new("sh", Path::new("/bin/sh"), directory).args(["-c", script]);
        #[expect(clippy::disallowed_methods, reason = "a test has no settings object")]
        let path = std::env::var("PATH").unwrap_or_default();
        let programs = programs::coordinator().parent().unwrap();
        line.command.env("PATH", format!("{}:{path}", programs.display()));
        line
    }

    /// `qa-worker` for these servers.
    pub(crate) fn worker(nats: &TestNats, servers: &[&FakeOllama]) -> Self {
        Self::bare_worker().fleet(nats).servers(servers)
    }

    /// `qa-worker` with nothing said yet.
    pub(crate) fn bare_worker() -> Self {
        Self::new("qa-worker", programs::worker(), Path::new(WORKERS_DIRECTORY))
    }

    /// `qa-worker COMMAND`.
    pub(crate) fn plain_worker(command: &str, directory: &Path) -> Self {
        Self::new(&format!("qa-worker {command}"), programs::worker(), directory).arg(command)
    }

    /// `qa-worker` for these servers, with the queue at these addresses.
    pub(crate) fn worker_at(nats: &str, servers: &[&FakeOllama]) -> Self {
        let line = Self::new("qa-worker", programs::worker(), Path::new(WORKERS_DIRECTORY))
            .arg("--nats-url")
            .arg(nats);
        line.servers(servers)
    }

    /// `qa-worker` for this service, with its key.
    pub(crate) fn worker_of(nats: &TestNats, service: &FakeProvider, provider: &str) -> Self {
        Self::bare_worker().fleet(nats).args(["--providers", provider]).service(service, provider)
    }

    /// With this service and its key in the environment.
    pub(crate) fn service(self, service: &FakeProvider, provider: &str) -> Self {
        let (url, key) = match provider {
            "openai" => ("OPENAI_BASE_URL", "OPENAI_API_KEY"),
            "claude" => ("ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY"),
            _ => ("GEMINI_BASE_URL", "GEMINI_API_KEY"),
        };
        self.env(url, service.url()).env(key, FAKE_KEY)
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    pub(crate) fn args<const N: usize>(mut self, args: [&str; N]) -> Self {
        self.command.args(args);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// With the number of slots as it is where nobody sets it.
    pub(crate) fn measuring(mut self) -> Self {
        self.command.env_remove("QA_CONCURRENCY");
        self
    }

    /// With second rounds for what seems stuck, as it is where nobody says anything.
    pub(crate) fn speculating(mut self) -> Self {
        self.command.env_remove("QA_SPECULATION");
        self
    }

    /// With the queue of a fleet.
    pub(crate) fn fleet(self, nats: &TestNats) -> Self {
        self.arg("--nats-url").arg(nats.url())
    }

    /// For these LLM servers.
    pub(crate) fn servers(mut self, servers: &[&FakeOllama]) -> Self {
        for server in servers {
            self = self.arg("--ollama-base-url").arg(server.url());
        }
        self
    }

    /// With short durations: for scenarios in which something has to expire. Every process of a fleet needs
    /// the same.
    pub(crate) fn impatient(self) -> Self {
        self.env("QA_ACK_WAIT", "3s").env("QA_PRESENCE_AGE", "3s")
    }

    /// With its spans going there, soon.
    pub(crate) fn traced(self, collector: &str) -> Self {
        let line = self.env("OTEL_EXPORTER_OTLP_ENDPOINT", collector).env("OTEL_METRICS_EXPORTER", "none");
        line.env("OTEL_BSP_SCHEDULE_DELAY", "100")
    }

    /// Killed at this crash point.
    pub(crate) fn dying_at(self, place: &str) -> Self {
        self.env("QA_FAILPOINTS", format!("crash:{place}"))
    }

    /// Its name and the command, for a test with outputs of its own.
    pub(crate) fn into_parts(self) -> (String, std::process::Command) {
        (self.name, self.command.into_std())
    }

    /// Started with the signals of a terminal ignored, as by `nohup` and in the background of a plain shell.
    pub(crate) fn ignoring_signals(self) -> Self {
        let program = self.command.as_std();
        let mut shell = Command::new("/bin/sh");
        shell.env_clear().args(["-c", "trap '' HUP INT QUIT; exec \"$@\"", "sh"]);
        shell.arg(program.get_program()).args(program.get_args());
        shell.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        if let Some(directory) = program.get_current_dir() {
            shell.current_dir(directory);
        }
        Self { name: self.name, command: shell }
    }

    pub(crate) fn start(self) -> Running {
        Running::start(&self.name, self.command)
    }

    /// Runs it to its end.
    pub(crate) async fn run(self, code: i32) -> Ended {
        self.start().ends_with(code).await
    }
}
