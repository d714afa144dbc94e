//! One program at a time writes an output directory, and one coordinator consumes a job's results, also where directories were copied.

use std::fs;
use std::path::Path;
use std::time::Duration;

use qa_shared::queue::{Lease, Timing, remains};
use qa_shared::testing::TestNats;
use qa_shared::testing::fake_ollama::{Behaviour, FakeConfig, FakeOllama};

use crate::command_line::Line;
use crate::documents::Document;
use crate::site::Site;

fn server(millis: u64) -> FakeOllama {
    let server = FakeOllama::start(FakeConfig { slots: 2, ..FakeConfig::default() });
    server.respond_with(move |_| Behaviour::Slow(Duration::from_millis(millis)));
    server
}

/// What makes a directory a job's.
fn copy_job(from: &Path, to: &Path) {
    fs::create_dir_all(to.join(".qa-fleet")).unwrap();
    fs::copy(from.join(".qa-fleet/job.json"), to.join(".qa-fleet/job.json")).unwrap();
}

#[tokio::test]
async fn a_run_keeps_other_writers_out_with_an_exit_code_of_its_own_and_lets_everybody_look() {
    let (site, server) = (Site::new(&[Document::new("guide", 12)]), server(200));
    let run = site.generate().servers(&[&server]).start();
    server.wait_for(|stats| stats.chat_calls >= 2).await;
    for line in [
        site.coordinator("combine"),
        site.coordinator("cancel"),
        site.generate().arg("--resume").servers(&[&server]),
    ] {
        let ended = line.run(75).await;
        assert!(ended.stderr.contains("`generate`, process"), "{}", ended.stderr);
    }
    let status = site.coordinator("status").run(0).await;
    assert!(status.stdout.contains("coordinator  running"), "{}", status.stdout);
    for command in ["failures", "status"] {
        site.coordinator(command).run(0).await;
    }
    run.ends_with(0).await;
    site.check();
    site.coordinator("combine").run(0).await;
}

#[tokio::test]
async fn a_copy_of_a_running_jobs_directory_waits_for_the_lease_and_touches_nothing_before() {
    let nats = TestNats::start().await;
    let (site, server) = (Site::new(&[Document::new("guide", 16)]), server(250));
    let worker = Line::worker(&nats, &[&server]).impatient().start();
    let run = site.generate().fleet(&nats).impatient().start();
    server.wait_for(|stats| stats.chat_calls >= 3).await;
    let copied = site.root().join("copy");
    copy_job(&site.qa_dir(), &copied);
    let unfinished = copied.join(".qa-fleet.tmp-1-left");
    fs::write(&unfinished, "half").unwrap();
    let again = |arguments: &[&str]| {
        let line = Line::coordinator("generate", site.root()).arg("--qa-dir").arg(&copied);
        let line = line.arg("--chunks-dir").arg(site.chunks_dir());
        let line = line.args(["--provider", "local", "--model", "qwen3:8b"]).fleet(&nats).impatient();
        arguments.iter().fold(line, Line::arg).start()
    };
    for start in ["--restart", "--resume"] {
        let mut second = again(&[start]);
        second.says("waiting: job").await;
        second.says(&format!("directory {}", site.qa_dir().display())).await;
        assert!(unfinished.exists(), "something was cleaned away before the lease was won");
        second.signal("INT");
        second.ends_with(3).await;
    }
    let second = again(&["--resume"]);
    run.ends_with(0).await;
    site.check();
    second.ends_with(0).await;
    assert!(!unfinished.exists());
    assert!(copied.join("guide_qa.json").exists());
    drop(worker);
}

#[tokio::test]
async fn a_run_that_did_nothing_leaves_nothing() {
    let site = Site::new(&[Document::new("guide", 3)]);
    let away = Line::coordinator("generate", site.root()).arg("--qa-dir").arg(site.qa_dir());
    let away = away.arg("--chunks-dir").arg(site.root().join("chunks"));
    fs::rename(site.chunks_dir().join("guide_chunks.json"), site.chunks_dir().join("notes.txt")).unwrap();
    away.args(["--provider", "local", "--model", "qwen3:8b"]).run(2).await;
    assert!(!site.qa_dir().exists());
}

/// A coordinator that is killed in the middle, and the job that it leaves.
async fn killed(nats: &TestNats, site: &Site, server: &FakeOllama) -> String {
    let before = server.stats().finished;
    let run = site.generate().fleet(nats).impatient().start();
    server.wait_for(|stats| stats.finished >= before + 3).await;
    run.kill().await;
    // What runs ends as a result that no coordinator receives.
    server.wait_for(|stats| stats.in_flight == 0).await;
    site.job().to_string()
}

#[tokio::test]
async fn nothing_of_a_killed_job_is_left_on_the_queue_server_once_it_is_cancelled_or_forgotten() {
    let nats = TestNats::start().await;
    let (site, server) = (Site::new(&[Document::new("guide", 16)]), server(100));
    let worker = Line::worker(&nats, &[&server]).impatient().start();
    let queue = nats.connect(Timing::default()).await;
    let on_server = |command: &str| Line::coordinator(command, site.root()).fleet(&nats).impatient();
    for (command, words) in [("cancel", "is removed from the queue"), ("forget", "its entry")] {
        let job = killed(&nats, &site, &server).await;
        let status = on_server("status").run(0).await.stdout;
        assert!(status.contains(&format!("job {job}")) && status.contains("result"), "{status}");
        if command == "forget" {
            let ended = on_server("forget").arg("--job").arg(&job).run(75).await;
            assert!(ended.stderr.contains("nothing was removed"), "{}", ended.stderr);
            let is_free = async || Lease::holder(&queue, &site.job()).await.unwrap().is_none();
            while !is_free().await {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            let status = on_server("status").run(0).await.stdout;
            assert!(status.contains(&format!("qa-coordinator forget --job {job} --nats-url")), "{status}");
        }
        let ended = on_server(command).arg("--job").arg(&job).run(0).await;
        assert!(ended.stderr.contains(words), "{}", ended.stderr);
        assert!(remains(&queue).await.unwrap().is_empty(), "{command}: something is left");
        // The files go on.
        site.generate().arg("--resume").fleet(&nats).impatient().run(0).await;
        site.check();
        fs::remove_dir_all(site.qa_dir()).unwrap();
    }
    let ended = on_server("forget").args(["--job", "0123456789ab"]).run(0).await;
    assert!(ended.stderr.contains("nothing of job 0123456789ab"), "{}", ended.stderr);
    drop(worker);
}

#[tokio::test]
async fn a_purge_waits_for_the_coordinator_and_removes_what_waits_for_a_resume() {
    let nats = TestNats::start().await;
    let (site, server) = (Site::new(&[Document::new("guide", 16)]), server(300));
    let worker = Line::worker(&nats, &[&server]).impatient().start();
    let run = site.generate().fleet(&nats).impatient().start();
    server.wait_for(|stats| stats.finished >= 2).await;
    let ended = site.coordinator("cancel").arg("--purge").fleet(&nats).impatient().run(0).await;
    assert!(ended.stderr.contains("is removed from the queue"), "{}", ended.stderr);
    run.ends_with(3).await;
    let queue = nats.connect(Timing::default()).await;
    let left = remains(&queue).await.unwrap();
    assert!(left.values().all(|job| !job.has_entry && job.tasks + job.consumers == 0), "{left:?}");
    site.generate().arg("--resume").fleet(&nats).impatient().run(0).await;
    site.check();
    drop(worker);
}

#[tokio::test]
async fn a_queue_server_that_no_job_has_used_is_no_problem_for_a_look() {
    let nats = TestNats::start().await;
    let site = Site::new(&[]);
    let status = Line::coordinator("status", site.root()).fleet(&nats).run(0).await.stdout;
    assert!(status.contains("no job, no worker"), "{status}");
}
