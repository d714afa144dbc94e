//! What the queue's tests share: short durations, tasks and results, and a client that can do anything.

use std::time::Duration;

use async_nats::jetstream;
use qa_shared::model::{InstanceId, JobId, Pair, TaskKey, TaskResult};
use qa_shared::queue::Timing;
use qa_shared::testing::{TestNats, samples};

pub(crate) use qa_shared::testing::samples::{key, task};

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

pub(crate) fn result(key: TaskKey, question: &str) -> TaskResult {
    let pair = Pair { question: question.to_owned(), answer: "because".to_owned() };
    samples::result(key, vec![pair])
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
