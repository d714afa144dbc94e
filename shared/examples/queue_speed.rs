//! What `sync_interval: always` costs: tasks per second into and out of a nats-server of this machine, with and
//! without it. `cargo run --release -p qa-shared --features testing --example queue_speed`

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement for people, not a program")]

use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use qa_shared::model::{
    DocumentName, GenerationSettings, JobId, OllamaOptions, PoolName, PromptSettings, Provider, Task,
    TaskKey, TextHash,
};
use qa_shared::queue::{TaskSource, Tasks, Timing};
use qa_shared::testing::{TestNats, TestNatsOptions};

const TASKS: u32 = 1000;

#[tokio::main]
async fn main() {
    for sync_always in [false, true] {
        for in_flight in [1, 64] {
            let nats = TestNats::start_with(TestNatsOptions { sync_always, ..Default::default() }).await;
            let queue = nats.queue(Timing::default()).await;
            let (tasks, pool) = (Tasks::new(&queue), PoolName::new("speed"));
            tasks.ensure_pool(&pool).await.unwrap();
            let begun = Instant::now();
            let publishing = (0..TASKS).map(|chunk| {
                let (tasks, task) = (tasks.clone(), task(&pool, chunk));
                async move { tasks.publish(&task, None).await.unwrap() }
            });
            stream::iter(publishing).buffer_unordered(in_flight).count().await;
            let published = begun.elapsed();
            let source = TaskSource::for_pool(&queue, &pool).await.unwrap().unwrap();
            let begun = Instant::now();
            let taking = (0..TASKS).map(|_| async {
                source.next(Duration::from_secs(10)).await.unwrap().unwrap().ack().await.unwrap();
            });
            stream::iter(taking).buffer_unordered(in_flight).count().await;
            let taken = begun.elapsed();
            let per_second = |time: Duration| f64::from(TASKS) / time.as_secs_f64();
            println!(
                "sync_interval {}, {in_flight:>2} at once: {:>6.0} published/s, {:>6.0} taken and acknowledged/s",
                if sync_always { "always" } else { "2m    " },
                per_second(published),
                per_second(taken),
            );
        }
    }
}

fn task(pool: &PoolName, chunk: u32) -> Task {
    let text = "a chunk of four thousand bytes ".repeat(129);
    let document = DocumentName::new("speed");
    Task {
        key: TaskKey { job: JobId::from_random(1), document: document.token(), chunk, round: 1 },
        document,
        pool: pool.clone(),
        text_hash: TextHash::of(&text),
        text,
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
