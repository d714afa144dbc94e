//! Three queue servers of which the one that leads a stream or a consumer is lost during a job.

use std::time::Duration;

use qa_shared::testing::TestCluster;
use qa_shared::testing::fake_ollama::{Behaviour, FakeConfig, FakeOllama};

use crate::command_line::Line;
use crate::documents::Document;
use crate::site::Site;
use crate::spent::{calls, texts};

/// What the lost server leads: a stream, or the consumer of one.
const LOST: [(&str, bool); 5] = [
    ("QA_TASKS", false),
    ("QA_RESULTS", false),
    ("KV_QA_JOBS", false),
    ("QA_TASKS", true),
    ("QA_RESULTS", true),
];

#[tokio::test]
async fn the_server_that_leads_a_stream_or_a_consumer_is_lost_and_the_job_goes_on() {
    let mut cluster = TestCluster::start().await;
    let documents = [Document::new("replicated", 240), Document::new("single", 1)];
    let site = Site::new(&documents);
    let server = FakeOllama::start(FakeConfig { slots: 2, ..FakeConfig::default() });
    server.respond_with(|_| Behaviour::Slow(Duration::from_millis(150)));
    let worker = Line::worker_at(&cluster.url(), &[&server]).start();
    let mut run = site.generate().arg("--nats-url").arg(cluster.url()).env("QA_NATS_REPLICAS", "3").start();
    server.wait_for(|stats| stats.chat_calls > 10).await;
    // Each leader in turn: the next one only when the last one is back, since two of three must be there.
    for (stream, of_consumer) in LOST {
        let (mut leader, holders) = cluster.leader_of(stream).await.unwrap();
        assert_eq!(holders, 3);
        if of_consumer {
            leader = cluster.leader_of_consumer(stream).await.unwrap();
        }
        cluster.servers[leader].kill();
        let calls = server.stats().chat_calls;
        server.wait_for(|stats| stats.chat_calls > calls + 8).await;
        assert!(run.is_running(), "the job was over before the leader of {stream} was lost");
        cluster.servers[leader].restart().await;
        for (stream, _) in LOST {
            cluster.wait_until_whole(stream).await;
        }
    }
    run.ends_with(0).await;
    site.check();
    let spent = calls(&[&server], &texts(&documents));
    let repeated: usize = spent.iter().filter(|(calls, _)| **calls > 1).map(|(_, chunks)| chunks).sum();
    assert!(
        repeated <= LOST.len() * 8,
        "more than was running when servers were lost is done again: {spent:?}"
    );
    worker.signal("TERM");
    worker.ends_with(0).await;
}
