//! The end of a run: what is stuck at a server is given to a free one too, and never counts twice.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use qa_shared::queue::{Results, Tasks, Timing};
use qa_shared::testing::TestNats;
use qa_shared::testing::fake_ollama::{Behaviour, FakeConfig, FakeOllama};
use serde_json::json;

use crate::command_line::Line;
use crate::documents::Document;
use crate::site::Site;
use crate::spent::{calls, texts};

const QUICK: Behaviour = Behaviour::Slow(Duration::from_millis(100));
/// Longer than any of these tests.
const FOR_EVER: Behaviour = Behaviour::Slow(Duration::from_secs(600));

fn server() -> FakeOllama {
    let server = FakeOllama::start(FakeConfig { slots: 2, ..FakeConfig::default() });
    server.respond_with(|_| QUICK);
    server
}

fn documents() -> [Document; 2] {
    [Document::new("guide", 61), Document::pdf("notes", 19, 4)]
}

/// Two servers with a worker each.
struct Fleet {
    nats: TestNats,
    site: Site,
    sick: FakeOllama,
    well: FakeOllama,
    workers: [crate::processes::Running; 2],
}

impl Fleet {
    /// The sick one's calls, from the ninth on, are like that.
    async fn start(like: Behaviour) -> Self {
        let (nats, site) = (TestNats::start().await, Site::new(&documents()));
        let (sick, well) = (server(), server());
        sick.respond_with(move |call| if call.number > 8 { like.clone() } else { QUICK });
        let worker =
            |server: &FakeOllama| Line::worker(&nats, &[server]).args(["--concurrency", "2"]).start();
        let workers = [worker(&sick), worker(&well)];
        Self { nats, site, sick, well, workers }
    }

    fn generate(&self) -> Line {
        self.site.generate().speculating().fleet(&self.nats)
    }

    fn paid(&self) -> u64 {
        self.sick.stats().chat_calls + self.well.stats().chat_calls
    }

    async fn leaves_nothing_in_the_queue(&self) {
        let queue = self.nats.connect(Timing::default()).await;
        let job = self.site.job();
        assert_eq!(Tasks::new(&queue).stored(&job).await.unwrap(), []);
        assert_eq!(Results::new(&queue).stored_keys(&job).await.unwrap(), []);
    }

    fn events(&self) -> String {
        std::fs::read_to_string(self.site.job_folder().join("events.jsonl")).unwrap()
    }
}

#[tokio::test]
async fn chunks_at_a_server_that_stalls_are_answered_by_another_one() {
    let fleet = Fleet::start(FOR_EVER).await;
    let ended = fleet.generate().run(0).await;
    assert!(ended.stderr.contains("a chunk seems stuck, a free slot tries it too"), "{}", ended.stderr);
    fleet.site.check();
    // 80 chunks: at most two.
    assert_eq!(fleet.site.summary()["speculation"], json!({"started": 2, "won": 2, "lost": 0}));
    assert_eq!(fleet.paid(), 82);
    fleet.sick.wait_for(|stats| stats.cancelled == 2 && stats.in_flight == 0).await;
    fleet.leaves_nothing_in_the_queue().await;
    assert_eq!(fleet.events().matches(r#""event":"second_round""#).count(), 2, "{}", fleet.events());
    for worker in fleet.workers {
        worker.signal("TERM");
        worker.ends_with(0).await;
    }
}

#[tokio::test]
async fn a_slow_server_may_be_first_after_all_and_the_other_one_is_stopped() {
    let fleet = Fleet::start(QUICK).await;
    let slow: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let has_it = Arc::clone(&slow);
    fleet.sick.respond_with(move |call| {
        if call.number <= 8 {
            return QUICK;
        }
        slow.lock().unwrap().insert(call.chunk.clone());
        Behaviour::Slow(Duration::from_secs(10))
    });
    fleet.well.respond_with(
        move |call| {
            if has_it.lock().unwrap().contains(&call.chunk) { FOR_EVER } else { QUICK }
        },
    );
    fleet.generate().run(0).await;
    fleet.site.check();
    let speculation = fleet.site.summary()["speculation"].clone();
    let begun = speculation["started"].as_u64().unwrap();
    assert!(begun >= 1);
    assert_eq!(speculation, json!({"started": begun, "won": 0, "lost": begun}));
    assert_eq!(fleet.paid(), 80 + begun);
    fleet.well.wait_for(|stats| stats.cancelled == begun && stats.in_flight == 0).await;
    fleet.leaves_nothing_in_the_queue().await;
}

#[tokio::test]
async fn without_speculation_each_chunk_is_asked_once() {
    let fleet = Fleet::start(Behaviour::Slow(Duration::from_secs(4))).await;
    fleet.generate().arg("--no-speculation").run(0).await;
    fleet.site.check();
    assert_eq!(fleet.site.summary().get("speculation"), None);
    assert_eq!(calls(&[&fleet.sick, &fleet.well], &texts(&documents())), [(1, 80)].into());
}

#[tokio::test]
async fn a_coordinator_that_dies_between_two_rounds_of_a_chunk_counts_it_once() {
    let fleet = Fleet::start(FOR_EVER).await;
    let well_is_stuck: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let seen = Arc::clone(&well_is_stuck);
    fleet.sick.respond_with(move |call| {
        if call.number <= 8 {
            return QUICK;
        }
        seen.lock().unwrap().insert(call.chunk.clone());
        FOR_EVER
    });
    fleet.well.respond_with(move |call| {
        if well_is_stuck.lock().unwrap().contains(&call.chunk) { FOR_EVER } else { QUICK }
    });
    let mut run = fleet.generate().start();
    run.says("a chunk seems stuck").await;
    fleet.well.wait_for(|stats| stats.chat_calls + fleet.sick.stats().chat_calls == 82).await;
    run.kill().await;
    // The older rounds succeed while nobody is there; the newer ones are as stuck as before.
    fleet.sick.respond_with(|_| QUICK);
    fleet.well.respond_with(|_| QUICK);
    for server in [&fleet.sick, &fleet.well] {
        server.disappear();
        server.come_back();
    }
    fleet.generate().arg("--resume").run(0).await;
    fleet.site.check();
    // Two that were stuck, two beside them, and each of these may have been asked again. On a slow machine the resume
    // finds the two that are open as old as stuck ones, and each gets one more round.
    assert!((82..=88).contains(&fleet.paid()), "{} calls", fleet.paid());
    fleet.leaves_nothing_in_the_queue().await;
}
