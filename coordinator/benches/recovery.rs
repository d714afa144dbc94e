//! How long a fleet needs after something died, with default settings and models that take 0.3 s for a chunk:
//! `cargo bench -p qa-coordinator --bench recovery`. It measures and asserts nothing about time.
//!
//! A short run does only what needs no ack wait.
#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on says so by a panic")]

#[path = "support/e2e.rs"]
mod e2e;

use std::process::ExitCode;
use std::time::Duration;

use qa_shared::testing::bench::{Bench, Measure};
use qa_shared::testing::fake_ollama::{Behaviour, FakeConfig, FakeOllama};
use qa_shared::testing::{TestCluster, TestNats};
use tokio::time::{Instant, sleep};

use crate::e2e::command_line::Line;
use crate::e2e::documents::Document;
use crate::e2e::processes::Running;
use crate::e2e::site::Site;

const BASELINES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/baselines");
const SLOTS: usize = 2;
const CALL: Duration = Duration::from_millis(300);
const LIMIT: Duration = Duration::from_secs(180);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let what = format!("time to recovery; every LLM slot takes {} ms for a chunk", CALL.as_millis());
    let mut bench = match Bench::begin("recovery", &what, BASELINES) {
        Ok(bench) => bench,
        Err(code) => return code,
    };
    let mut show = |what: &str, took: Duration| bench.add(Measure::timed(what, took.as_secs_f64(), "s"));
    show("coordinator killed, resumed: every slot works", coordinator_killed().await);
    show("one machine, coordinator killed, resumed: the same", one_machine_killed().await);
    show("nats-server killed, started: every slot at a new call", queue_killed(false).await);
    if !bench.is_short() {
        let mut show = |what: &str, took: Duration| bench.add(Measure::timed(what, took.as_secs_f64(), "s"));
        show("worker killed: its tasks run elsewhere", worker_killed().await);
        show("nats-server killed, its store lost: the same", queue_killed(true).await);
        show("leader of three nats-servers killed: the same", leader_killed().await);
        show("Ollama server away for 10 s, back: its slots work", server_away().await);
    }
    bench.finish()
}

fn server() -> FakeOllama {
    let server = FakeOllama::start(FakeConfig { slots: SLOTS, ..FakeConfig::default() });
    server.respond_with(|_| Behaviour::Slow(CALL));
    server
}

fn calls(servers: &[&FakeOllama]) -> u64 {
    servers.iter().map(|server| server.stats().chat_calls).sum()
}

fn is_busy(servers: &[&FakeOllama]) -> bool {
    servers.iter().all(|server| server.stats().generating == SLOTS as u64)
}

/// Since then.
async fn until(since: Instant, condition: impl Fn() -> bool) -> Duration {
    while !condition() {
        assert!(since.elapsed() < LIMIT, "nothing recovers within {LIMIT:?}");
        sleep(Duration::from_millis(10)).await;
    }
    since.elapsed()
}

/// Every slot works, on a call that it had not begun.
async fn at_work_again(since: Instant, servers: &[&FakeOllama]) -> Duration {
    let before = calls(servers) + (SLOTS * servers.len()) as u64;
    until(since, || calls(servers) >= before && is_busy(servers)).await
}

/// Nothing is left to do: between two calls a server is idle, too, but not for that long.
async fn ran_dry(servers: &[&FakeOllama]) {
    let (mut seen, mut since) = (calls(servers), Instant::now());
    while since.elapsed() < 3 * CALL {
        sleep(CALL / 10).await;
        if calls(servers) != seen || servers.iter().any(|server| server.stats().in_flight > 0) {
            (seen, since) = (calls(servers), Instant::now());
        }
    }
}

fn concurrency(line: Line) -> Line {
    line.arg("--concurrency").arg(SLOTS.to_string())
}

/// Two servers, each with its worker, at work on one job.
struct Fleet {
    servers: [FakeOllama; 2],
    workers: Vec<Running>,
    run: Running,
    url: String,
    site: Site,
}

impl Fleet {
    async fn at(url: String, replicas: u32, chunks: usize) -> Self {
        let servers = [server(), server()];
        let site = Site::new(&[Document::new("guide", chunks)]);
        let worker = |server| concurrency(Line::worker_at(&url, &[server])).start();
        let workers = servers.iter().map(worker).collect();
        let run = site.generate().arg("--nats-url").arg(&url).env("QA_NATS_REPLICAS", replicas.to_string());
        let fleet = Self { workers, run: run.start(), servers, url, site };
        at_work_again(Instant::now(), &fleet.all()).await;
        fleet
    }

    fn all(&self) -> [&FakeOllama; 2] {
        [&self.servers[0], &self.servers[1]]
    }
}

async fn worker_killed() -> Duration {
    let nats = TestNats::start().await;
    let mut fleet = Fleet::at(nats.url(), 1, 700).await;
    fleet.workers.remove(0).kill().await;
    let killed = Instant::now();
    let moved = || {
        let [lost, other] = fleet.all().map(FakeOllama::stats);
        lost.per_chunk.keys().filter(|chunk| other.per_chunk.contains_key(*chunk)).count() == SLOTS
    };
    until(killed, moved).await
}

async fn coordinator_killed() -> Duration {
    let nats = TestNats::start().await;
    let Fleet { servers, run, site, url, workers } = Fleet::at(nats.url(), 1, 300).await;
    run.kill().await;
    ran_dry(&[&servers[0], &servers[1]]).await;
    let begun = Instant::now();
    let run = site.generate().args(["--resume", "--nats-url"]).arg(&url).start();
    let took = at_work_again(begun, &[&servers[0], &servers[1]]).await;
    drop((run, workers));
    took
}

async fn one_machine_killed() -> Duration {
    let server = server();
    let site = Site::new(&[Document::new("guide", 100)]);
    let start = || concurrency(site.generate().arg("--resume")).servers(&[&server]).start();
    let run = start();
    at_work_again(Instant::now(), &[&server]).await;
    run.kill().await;
    let begun = Instant::now();
    let run = start();
    let took = at_work_again(begun, &[&server]).await;
    drop(run);
    took
}

async fn queue_killed(and_loses_its_store: bool) -> Duration {
    let mut nats = TestNats::start().await;
    let fleet = Fleet::at(nats.url(), 1, 400).await;
    if and_loses_its_store {
        nats.wipe_and_restart().await;
    } else {
        nats.restart().await;
    }
    at_work_again(Instant::now(), &fleet.all()).await
}

async fn leader_killed() -> Duration {
    let mut cluster = TestCluster::start().await;
    let fleet = Fleet::at(cluster.url(), 3, 700).await;
    let (leader, _) = cluster.leader_of("QA_TASKS").await.unwrap();
    cluster.servers[leader].kill();
    at_work_again(Instant::now(), &fleet.all()).await
}

async fn server_away() -> Duration {
    let nats = TestNats::start().await;
    let fleet = Fleet::at(nats.url(), 1, 400).await;
    fleet.servers[0].disappear();
    sleep(Duration::from_secs(10)).await;
    fleet.servers[0].come_back();
    at_work_again(Instant::now(), &[&fleet.servers[0]]).await
}
