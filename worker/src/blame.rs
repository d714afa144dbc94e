//! Whether a failure is the chunk's or its server's.
//!
//! What a server does to everybody is never a chunk's failure. A failure counts against the chunk only if the server
//! answered something else meanwhile: another chunk, or a trial that asks for a word. It must not know what an
//! error means, which `llm` and `disposition` decide.

use std::time::Duration;

use qa_shared::clock;
use qa_shared::model::{FailureReason, Outcome, PoolName, Task, TaskResult};
use tokio::time::Instant;

use crate::assigner::Assignment;
use crate::driver::WorkerSetup;
use crate::llm::{ChatRequest, LlmErrorKind, LlmServer};
use crate::progress::{Spent, TaskProgress};
use crate::server::Server;

/// At so many tries a server may fail over a chunk, while it answers others, before the chunk counts as failed.
const FAULTY_TRIES: u32 = 4;
/// The same where a try takes all the time that a task may take.
const SLOW_TRIES: u32 = 2;
/// The same where nothing was worked on: more, since a proxy with one broken server among good ones refuses any
/// chunk now and then.
pub(crate) const REFUSED_TRIES: u32 = 8;
/// How long an answer to a trial may take. A server that is slower than this is not well.
const TRIAL_TIME: Duration = Duration::from_secs(30);

/// How many tries a failure takes that the server may be the cause of; none where it is not.
pub(crate) fn tries_for(outcome: &Outcome) -> Option<u32> {
    match outcome {
        Outcome::Failed { failure } if failure.reason == FailureReason::ServerError => Some(FAULTY_TRIES),
        Outcome::Failed { failure } if failure.reason == FailureReason::Deadline => Some(SLOW_TRIES),
        Outcome::Failed { .. } | Outcome::Completed { .. } => None,
    }
}

/// A try at a task, with what was true at its begin.
pub(crate) struct Try<'a> {
    task: &'a Task,
    server: &'a Server,
    /// The model's name at the server.
    model: &'a str,
    pool: &'a PoolName,
    num_ctx: u32,
    deliveries: u64,
    started_at_ms: u64,
    pub(crate) started: Instant,
    /// Answers of the server until then.
    answered: u64,
    /// Model calls that counted until then.
    attempts: u32,
}

impl<'a> Try<'a> {
    pub(crate) fn begin(
        task: &'a Task,
        server: &'a Server,
        work: &'a Assignment,
        deliveries: u64,
        progress: &TaskProgress,
    ) -> Self {
        Self {
            task,
            server,
            model: &work.model,
            pool: &work.pool,
            num_ctx: work.num_ctx,
            deliveries,
            started_at_ms: clock::unix_millis(),
            started: Instant::now(),
            answered: server.answered(),
            attempts: progress.spent.attempts,
        }
    }

    /// Counts a failure that the server may be the cause of; tells whether the chunk has failed for good. `given_up`
    /// completes when nobody waits for that any more.
    pub(crate) async fn blames_chunk(
        &self,
        progress: &mut TaskProgress,
        tries: u32,
        given_up: impl Future<Output = ()>,
    ) -> bool {
        let is_well =
            self.server.answered() > self.answered || self.answers_a_trial(progress, given_up).await;
        if is_well {
            progress.faults += 1;
        } else {
            // A budget of calls is for those that the chunk is the cause of.
            progress.spent.attempts = self.attempts;
        }
        is_well && progress.faults >= tries
    }

    /// Asks the server for a word, with the options of every other call so that nothing is loaded for it.
    async fn answers_a_trial(&self, progress: &mut TaskProgress, given_up: impl Future<Output = ()>) -> bool {
        let request = ChatRequest {
            max_output: 16,
            num_ctx: self.num_ctx,
            ..ChatRequest::of(self.model, "Reply with the word OK.")
        };
        let asked = Instant::now();
        let answer = tokio::select! {
            answer = tokio::time::timeout(TRIAL_TIME, self.server.client.chat(&request)) => answer,
            () = given_up => return false,
        };
        match answer {
            Ok(Ok(reply)) => {
                progress.spent.usage.add(reply.usage);
                self.server.recovered(asked);
                self.server.can_serve(self.pool);
                true
            }
            Ok(Err(error)) => {
                progress.spent.usage.add(error.usage);
                tracing::debug!(server = %self.server.url, %error, "the server does not answer a trial either");
                matches!(
                    error.kind,
                    LlmErrorKind::Rejected | LlmErrorKind::Refused | LlmErrorKind::PromptTooLong
                )
            }
            Err(_) => false,
        }
    }

    /// What the try has come to.
    pub(crate) fn result(&self, setup: &WorkerSetup, outcome: Outcome, spent: Spent) -> TaskResult {
        TaskResult {
            key: self.task.key.clone(),
            text_hash: Some(self.task.text_hash),
            outcome,
            asked: self.task.settings.questions_per_chunk,
            worker: setup.instance.clone(),
            host: setup.host.clone(),
            server: Some(self.server.url.clone()),
            provider: Some(self.server.client.provider()),
            model: Some(self.model.to_owned()),
            attempts: spent.attempts,
            usage: spent.usage,
            started_at_ms: self.started_at_ms,
            duration_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            deliveries: self.deliveries,
            unusable: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use qa_shared::model::{JobId, Obstacle, Provider};
    use qa_shared::testing::fake_ollama::{Behaviour, FakeConfig, FakeOllama};
    use qa_shared::testing::samples;

    use super::*;
    use crate::config::Slots;
    use crate::llm::client::Client;
    use crate::llm::http::Timeouts;
    use crate::llm::ollama::OllamaServer;

    const MODEL: &str = "qwen3:8b";

    fn server(fake: &FakeOllama) -> Server {
        let client = OllamaServer::new(&fake.url(), Timeouts::default(), None).unwrap();
        Server::new(Client::Ollama(client), Slots::Fixed(1))
    }

    fn task() -> Task {
        let pool = Provider::Local.pool(MODEL);
        samples::task(&pool, samples::key(&JobId::from_random(1), 0), "A text.")
    }

    fn begun<'a>(task: &'a Task, server: &'a Server, progress: &TaskProgress) -> Try<'a> {
        Try {
            task,
            server,
            model: MODEL,
            pool: &task.pool,
            num_ctx: 8192,
            deliveries: 1,
            started_at_ms: 0,
            started: Instant::now(),
            answered: server.answered(),
            attempts: progress.spent.attempts,
        }
    }

    #[tokio::test]
    async fn a_server_that_fails_everybody_is_to_blame_however_often_it_fails() {
        let trouble = [
            Behaviour::Status(500, "EngineCore encountered an issue".to_owned()),
            Behaviour::Page(404, "<html>404 page not found</html>".to_owned()),
            Behaviour::Status(401, "unauthorized".to_owned()),
            Behaviour::Drop,
        ];
        for behaviour in trouble {
            let fake = FakeOllama::start(FakeConfig::default());
            fake.fault_every(1, behaviour);
            let (server, task, mut progress) = (server(&fake), task(), TaskProgress::default());
            for _ in 0..3 * REFUSED_TRIES {
                let begun = begun(&task, &server, &progress);
                progress.spent.attempts += 3;
                assert!(!begun.blames_chunk(&mut progress, FAULTY_TRIES, pending()).await);
            }
            assert_eq!((progress.faults, progress.spent.attempts), (0, 0));
        }
    }

    #[tokio::test]
    async fn a_chunk_is_to_blame_when_the_server_answers_a_trial() {
        let fake = FakeOllama::start(FakeConfig::default());
        let (server, task, mut progress) = (server(&fake), task(), TaskProgress::default());
        server.cannot_serve(&task.pool, Obstacle::Other, "it failed");
        let mut blamed = Vec::new();
        for _ in 0..FAULTY_TRIES {
            let begun = begun(&task, &server, &progress);
            blamed.push(begun.blames_chunk(&mut progress, FAULTY_TRIES, pending()).await);
        }
        assert_eq!(blamed, [false, false, false, true]);
        assert_eq!(server.obstacle_to(&task.pool), None, "it is well");
        assert!(progress.spent.usage.output_tokens > 0, "what a trial costs is counted");
        assert_eq!(fake.stats().last_body()["options"]["num_ctx"], 8192, "nothing is loaded for it");
    }

    #[tokio::test]
    async fn a_chunk_is_to_blame_when_the_server_answered_others_meanwhile() {
        let fake = FakeOllama::start(FakeConfig::default());
        fake.fault_every(1, Behaviour::Drop);
        let (server, task, mut progress) = (server(&fake), task(), TaskProgress::default());
        let begun = begun(&task, &server, &progress);
        server.recovered(Instant::now());
        assert!(begun.blames_chunk(&mut progress, 1, pending()).await);
        assert_eq!(fake.stats().chat_calls, 0, "there is nothing to try");
    }

    #[tokio::test]
    async fn a_trial_that_nobody_waits_for_blames_nothing() {
        let fake = FakeOllama::start(FakeConfig::default());
        fake.fault_every(1, Behaviour::Hang);
        let (server, task, mut progress) = (server(&fake), task(), TaskProgress::default());
        let begun = begun(&task, &server, &progress);
        let given_up = async { drop(fake.wait_for(|stats| stats.generating == 1).await) };
        assert!(!begun.blames_chunk(&mut progress, 1, given_up).await);
        assert_eq!(progress.faults, 0);
    }
}
