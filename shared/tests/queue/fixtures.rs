//! What the queue's tests share: short durations, tasks and results, and a client that can do anything.

use std::time::Duration;

use async_nats::jetstream;
use qa_shared::model::{
    DocumentName, GenerationSettings, InstanceId, JobId, OllamaOptions, Outcome, Pair, PoolName,
    PromptSettings, Provider, Task, TaskKey, TaskResult, TextHash, Usage,
};
use qa_shared::queue::Timing;
use qa_shared::testing::TestNats;

/// How long an event may take before a test gives up on it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Short enough for tests, long enough for a busy machine.
pub(crate) fn short() -> Timing {
    Timing {
        ack_wait: Duration::from_secs(1),
        presence_age: Duration::from_secs(2),
        request: Duration::from_secs(2),
        ack_confirmation: Duration::from_secs(1),
        poll: Duration::from_millis(200),
        ..Timing::default()
    }
}

pub(crate) fn job(bits: u64) -> JobId {
    JobId::from_random(bits)
}

pub(crate) fn key(job: &JobId, chunk: u32) -> TaskKey {
    TaskKey { job: job.clone(), document: DocumentName::new("guide").token(), chunk, round: 1 }
}

pub(crate) fn task(pool: &PoolName, key: TaskKey, text: &str) -> Task {
    Task {
        key,
        document: DocumentName::new("guide"),
        pool: pool.clone(),
        text: text.to_owned(),
        text_hash: TextHash::of(text),
        settings: GenerationSettings {
            provider: Provider::Local,
            model: "m".to_owned(),
            questions_per_chunk: 3,
            temperature: 0.7,
            max_tokens: 2000,
            reasoning: None,
            prompt: PromptSettings::default(),
            ollama: OllamaOptions::default(),
        },
        max_calls: None,
        second: None,
        published_at_ms: 1,
    }
}

pub(crate) fn result(key: TaskKey, question: &str) -> TaskResult {
    let pair = Pair { question: question.to_owned(), answer: "because".to_owned() };
    TaskResult {
        key,
        text_hash: None,
        outcome: Outcome::Completed { pairs: vec![pair] },
        asked: 1,
        worker: instance(1),
        host: "gpu1".to_owned(),
        server: None,
        provider: None,
        model: None,
        attempts: 1,
        usage: Usage::default(),
        started_at_ms: 0,
        duration_ms: 1,
        deliveries: 0,
        unusable: Vec::new(),
    }
}

pub(crate) fn instance(random: u32) -> InstanceId {
    InstanceId::new("gpu1", 4711, random)
}

/// A client beside ours, to do what our own code never does.
pub(crate) async fn raw(nats: &TestNats) -> jetstream::Context {
    jetstream::new(async_nats::connect(nats.url()).await.unwrap())
}

/// Waits for a future, but not for ever.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} did not happen"))
}

/// Repeats a question until its answer is `Some`: for what the server does by itself and announces to nobody.
pub(crate) async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    soon(what, async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
}
