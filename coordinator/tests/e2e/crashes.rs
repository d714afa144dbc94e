//! In a fleet any process may die at any moment: nothing is lost, nothing is there twice, and only what was
//! in flight is paid for again.

use std::time::Duration;

use qa_shared::model::JobState;
use qa_shared::queue::{Jobs, Presence, Tasks, Timing};
use qa_shared::testing::fake_ollama::{Behaviour, FakeConfig, FakeOllama};
use qa_shared::testing::{TestNats, TestNatsOptions};

use tokio::time::{sleep, timeout};

use crate::command_line::Line;
use crate::documents::Document;
use crate::processes::{PATIENCE, eventually};
use crate::site::Site;

fn documents() -> [Document; 3] {
    [Document::new("concepts", 32), Document::pdf("guide", 18, 5), Document::new("FAQ", 10)]
}

const CHUNKS: u64 = 60;

/// A server whose answers take this long.
fn server(millis: u64) -> FakeOllama {
    let server = FakeOllama::start(FakeConfig { slots: 4, ..FakeConfig::default() });
    server.respond_with(move |_| Behaviour::Slow(Duration::from_millis(millis)));
    server
}

#[tokio::test]
async fn a_coordinator_killed_again_and_again_costs_nothing_while_its_workers_live() {
    let nats = TestNats::start().await;
    let (site, server) = (Site::new(&documents()), server(60));
    let worker = Line::worker(&nats, &[&server]).start();
    for calls in [1, 14, 33, 58] {
        let run = site.generate().arg("--resume").fleet(&nats).start();
        server.wait_for(|stats| stats.chat_calls >= calls).await;
        run.kill().await;
    }
    site.generate().arg("--resume").fleet(&nats).run(0).await;
    site.check();
    assert_eq!(server.stats().chat_calls, CHUNKS);
    drop(worker);
}

#[tokio::test]
async fn the_task_of_a_worker_killed_in_a_model_call_goes_to_another_one() {
    let nats = TestNats::start().await;
    let (site, server) = (Site::new(&documents()), server(20));
    server.fault_next(Behaviour::Hang);
    let doomed = Line::worker(&nats, &[&server]).args(["--concurrency", "1"]).impatient().start();
    let run = site.generate().fleet(&nats).impatient().start();
    server.wait_for(|stats| stats.generating == 1).await;
    doomed.kill().await;
    let heir = Line::worker(&nats, &[&server]).impatient().start();
    run.ends_with(0).await;
    site.check();
    assert_eq!(server.stats().chat_calls, CHUNKS + 1);
    let events = std::fs::read_to_string(site.job_folder().join("events.jsonl")).unwrap();
    assert!(events.contains(r#""event":"tasks_moved","redelivered":1,"#), "{events}");
    drop(heir);
}

#[tokio::test]
async fn a_queue_server_killed_and_started_again_loses_nothing() {
    let mut nats = TestNats::start().await;
    let (site, server) = (Site::new(&documents()), server(60));
    let worker = Line::worker(&nats, &[&server]).impatient().start();
    let run = site.generate().fleet(&nats).impatient().start();
    for calls in [8, 30] {
        server.wait_for(|stats| stats.chat_calls >= calls).await;
        nats.restart().await;
    }
    run.ends_with(0).await;
    site.check();
    let paid = server.stats().chat_calls;
    let often: Vec<_> = server.stats().per_chunk.into_iter().filter(|(_, calls)| *calls > 1).collect();
    assert!((CHUNKS..=CHUNKS + 4).contains(&paid), "{paid} calls for two restarts and two slots: {often:?}");
    drop(worker);
}

#[tokio::test]
async fn a_queue_server_that_syncs_always_and_is_killed_loses_nothing_and_nothing_is_said_to_be_lost() {
    let mut nats = TestNats::start_with(TestNatsOptions { sync_always: true, ..Default::default() }).await;
    let (site, server) = (Site::new(&documents()), server(60));
    let worker = Line::worker(&nats, &[&server]).impatient().start();
    let run = site.generate().fleet(&nats).impatient().start();
    for calls in [6, 14, 22, 30, 38, 46] {
        server.wait_for(|stats| stats.chat_calls >= calls).await;
        nats.restart().await;
    }
    let ended = run.ends_with(0).await;
    site.check();
    assert!(!ended.stderr.contains("lost tasks"), "{}", ended.stderr);
    let paid = server.stats().chat_calls;
    assert!((CHUNKS..=CHUNKS + 12).contains(&paid), "{paid} calls for six restarts and two slots");
    drop(worker);
}

#[tokio::test]
async fn a_queue_server_that_stays_away_for_a_while_is_waited_for() {
    let mut nats = TestNats::start().await;
    let (site, server) = (Site::new(&documents()), server(40));
    let mut worker = Line::worker(&nats, &[&server]).impatient().start();
    let mut run = site.generate().fleet(&nats).impatient().start();
    server.wait_for(|stats| stats.chat_calls >= 10).await;
    nats.kill();
    server.wait_for(|stats| stats.in_flight == 0).await;
    sleep(Duration::from_secs(5)).await;
    assert!(run.is_running() && worker.is_running());
    nats.restart().await;
    run.ends_with(0).await;
    site.check();
    assert!(server.stats().chat_calls <= CHUNKS + 2);
}

#[tokio::test]
async fn a_queue_server_that_lost_its_disk_between_two_runs_costs_only_model_calls() {
    let mut nats = TestNats::start().await;
    let (site, server) = (Site::new(&documents()), server(60));
    let worker = Line::worker(&nats, &[&server]).impatient().start();
    let run = site.generate().fleet(&nats).impatient().start();
    server.wait_for(|stats| stats.chat_calls >= 25).await;
    run.kill().await;
    nats.wipe_and_restart().await;
    site.generate().arg("--resume").fleet(&nats).impatient().run(0).await;
    site.check();
    let paid = server.stats().chat_calls;
    // Results that waited in the queue for the dead coordinator are gone too, one journal group at most.
    assert!((CHUNKS..=CHUNKS + 40).contains(&paid), "{paid} calls");
    drop(worker);
}

#[tokio::test]
async fn a_queue_server_that_loses_its_disk_during_a_run_costs_only_model_calls() {
    let mut nats = TestNats::start().await;
    let (site, server) = (Site::new(&documents()), server(60));
    let worker = Line::worker(&nats, &[&server]).impatient().start();
    let run = site.generate().fleet(&nats).impatient().start();
    server.wait_for(|stats| stats.chat_calls >= 20).await;
    nats.wipe_and_restart().await;
    run.ends_with(0).await;
    site.check();
    drop(worker);
}

#[tokio::test]
async fn tasks_that_an_operator_purged_are_published_again() {
    let nats = TestNats::start().await;
    let (site, server) = (Site::new(&documents()), server(150));
    let worker = Line::worker(&nats, &[&server]).impatient().start();
    let run = site.generate().fleet(&nats).impatient().start();
    server.wait_for(|stats| stats.chat_calls >= 10).await;
    let queue = nats.connect(Timing::default()).await;
    let purged = Tasks::new(&queue).purge_job(&site.job()).await.unwrap();
    assert!(purged > 2, "there was nothing to lose");
    run.ends_with(0).await;
    site.check();
    assert!(server.stats().chat_calls <= CHUNKS + 2);
    drop(worker);
}

#[tokio::test]
async fn a_worker_that_is_told_to_stop_finishes_its_tasks_and_says_goodbye() {
    let nats = TestNats::start().await;
    let (site, server) = (Site::new(&documents()), server(300));
    let leaving = Line::worker(&nats, &[&server]).start();
    let run = site.generate().fleet(&nats).start();
    server.wait_for(|stats| stats.generating == 2).await;
    let queue = nats.connect(Timing::default()).await;
    assert_eq!(Presence::new(&queue).workers().await.unwrap().len(), 1);
    leaving.signal("TERM");
    leaving.ends_with(0).await;
    let stats = server.stats();
    assert_eq!((stats.cancelled, stats.in_flight), (0, 0), "a running call was given up");
    assert_eq!(Presence::new(&queue).workers().await.unwrap().len(), 0);
    let next = Line::worker(&nats, &[&server]).args(["--concurrency", "4"]).start();
    run.ends_with(0).await;
    site.check();
    assert_eq!(server.stats().chat_calls, CHUNKS);
    drop(next);
}

#[tokio::test]
async fn a_rolling_restart_of_all_workers_fails_no_chunk_and_repeats_no_call() {
    let nats = TestNats::start().await;
    let (site, server) = (Site::new(&documents()), server(120));
    let start = || Line::worker(&nats, &[&server]).start();
    let mut workers = vec![start(), start(), start()];
    let run = site.generate().fleet(&nats).start();
    for calls in [8, 20, 32] {
        server.wait_for(|stats| stats.chat_calls >= calls).await;
        let old = workers.remove(0);
        old.signal("TERM");
        workers.push(start());
        old.ends_with(0).await;
    }
    run.ends_with(0).await;
    site.check();
    assert_eq!(server.stats().chat_calls, CHUNKS);
}

#[tokio::test]
async fn a_worker_with_no_time_to_drain_hands_back_and_another_one_goes_on_at_once() {
    let nats = TestNats::start().await;
    let (site, server) = (Site::new(&documents()), server(20));
    server.fault_next(Behaviour::Hang);
    let hurried =
        Line::worker(&nats, &[&server]).args(["--concurrency", "1", "--drain-timeout", "0"]).start();
    let run = site.generate().fleet(&nats).start();
    server.wait_for(|stats| stats.generating == 1).await;
    hurried.signal("TERM");
    hurried.ends_with(0).await;
    // The ack wait is 60 s here, as long as any wait of these tests: only a task handed back comes sooner.
    let next = Line::worker(&nats, &[&server]).start();
    run.ends_with(0).await;
    site.check();
    assert_eq!(server.stats().chat_calls, CHUNKS + 1);
    drop(next);
}

#[tokio::test]
async fn a_worker_that_was_frozen_longer_than_the_ack_wait_puts_nothing_twice_into_the_files() {
    let nats = TestNats::start().await;
    let (site, server) = (Site::new(&documents()), server(150));
    let frozen = Line::worker(&nats, &[&server]).impatient().start();
    let run = site.generate().fleet(&nats).impatient().start();
    server.wait_for(|stats| stats.generating == 2).await;
    frozen.signal("STOP");
    let other = Line::worker(&nats, &[&server]).impatient().start();
    let texts: Vec<_> = crate::spent::texts(&documents());
    let again = |stats: &qa_shared::testing::fake_ollama::FakeStats| {
        texts.iter().any(|text| stats.calls_for(text) > 1)
    };
    server.wait_for(again).await;
    frozen.signal("CONT");
    run.ends_with(0).await;
    site.check();
    assert!(server.stats().chat_calls <= CHUNKS + 2);
    drop((frozen, other));
}

#[tokio::test]
async fn a_frozen_coordinator_whose_lease_was_taken_leaves_the_job_to_the_other_one() {
    let nats = TestNats::start().await;
    let (site, server) = (Site::new(&documents()), server(150));
    let worker = Line::worker(&nats, &[&server]).impatient().start();
    let zombie = site.generate().fleet(&nats).impatient().start();
    let folder = site.job_folder();
    eventually("the job is saved", || folder.join("job.json").exists().then_some(())).await;
    server.wait_for(|stats| stats.chat_calls >= 10).await;
    zombie.signal("STOP");
    // Somebody copied the directory to another machine and resumes there: same job, another lock.
    let copy = Site::new(&documents());
    copy_tree(&site.qa_dir(), &copy.qa_dir());
    // The copy lies beside other chunk files, which a job takes only when that is accepted.
    let resumed = copy.generate().args(["--resume", "--accept-changes"]);
    let mut other = resumed.fleet(&nats).impatient().start();
    other.says("waiting: job").await;
    other.says("worker is present").await;
    zombie.signal("CONT");
    let ended = zombie.ends_with(5).await;
    assert!(
        ended.stderr.contains("lease") || ended.stderr.contains("another coordinator"),
        "{}",
        ended.stderr
    );
    other.ends_with(0).await;
    copy.check();
    assert!(server.stats().chat_calls <= CHUNKS + 2);
    drop(worker);
}

fn copy_tree(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test]
async fn tasks_that_the_queue_server_takes_for_acknowledged_after_a_power_cut_are_done_nevertheless() {
    let mut nats = TestNats::start().await;
    let documents = [Document::new("cut", 6)];
    let site = Site::new(&documents);
    let server = FakeOllama::start(FakeConfig { slots: 2, ..FakeConfig::default() });
    let run = site.generate().fleet(&nats).impatient().start();
    let tasks = Tasks::new(&nats.connect(Timing::default()).await);
    let job = eventually("the job", || site.job_folder().join("job.json").exists().then(|| site.job())).await;
    while tasks.stored(&job).await.map_or(0, |stored| stored.len()) < 6 {
        sleep(Duration::from_millis(20)).await;
    }
    nats.copy_store();
    // It will not see the results that get lost.
    run.signal("STOP");
    let mut worker = Line::worker(&nats, &[&server]).impatient().start();
    while !tasks.stored(&job).await.unwrap().is_empty() {
        sleep(Duration::from_millis(20)).await;
    }
    nats.set_messages_back();
    nats.restart().await;
    run.signal("CONT");
    worker.says("connected to NATS again").await;
    run.ends_with(0).await;
    site.check();
    worker.signal("TERM");
    worker.ends_with(0).await;
}

#[tokio::test]
async fn a_resumed_run_goes_on_when_the_queue_server_is_set_back_to_before_the_resume() {
    let mut nats = TestNats::start().await;
    let site = Site::new(&[Document::new("back", 6)]);
    let server = FakeOllama::start(FakeConfig { slots: 2, ..FakeConfig::default() });
    let run = site.generate().fleet(&nats).impatient().start();
    let jobs = Jobs::new(&nats.connect(Timing::default()).await).watch();
    let has_state = async |state| {
        let mut jobs = jobs.receiver();
        let found = jobs.wait_for(|jobs| jobs.values().any(|entry| entry.state == state));
        drop(timeout(PATIENCE, found).await.expect("the job gets there").unwrap());
    };
    has_state(JobState::Active).await;
    run.signal("TERM");
    run.ends_with(3).await;
    has_state(JobState::Interrupted).await;
    nats.copy_store();
    let resumed = site.generate().arg("--resume").fleet(&nats).impatient().start();
    has_state(JobState::Active).await;
    nats.set_store_back();
    nats.restart().await;
    let worker = Line::worker(&nats, &[&server]).impatient().start();
    resumed.ends_with(0).await;
    site.check();
    worker.signal("TERM");
    worker.ends_with(0).await;
}
