//! Names, links and messages of somebody who means harm: nothing leaves the output directory, and nothing that is
//! printed or logged steers the terminal.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use qa_shared::model::{
    Failure, FailureReason, InstanceId, PoolName, Provider, ServedModel, ServerPresence, TaskKey, TaskResult,
    WorkerPresence,
};
use qa_shared::plain::is_unsafe;
use qa_shared::queue::{Presence, Results, Timing};
use qa_shared::testing::TestNats;
use qa_shared::testing::fake_ollama::{FakeConfig, FakeOllama};

use crate::documents::Document;
use crate::processes::Ended;
use crate::site::Site;

/// Names that a file may have and that something else may take for more than a name.
const NAMES: &[&str] = &[
    "",
    "..",
    "...",
    "-rf",
    "~root",
    "$(touch owned)",
    "`touch owned`",
    "..\\..\\owned",
    "%2e%2e%2fowned",
    "C:owned",
    "CON",
    "nul.txt",
    "*",
    "a>b.c",
    "{0}",
    "\u{1b}]0;owned\u{7}\u{1b}[2J",
    "line\nerror: all is lost",
    "return\rerror: all is lost",
    "\u{202e}txt.exe",
    "\u{9b}2J",
];

const STEERING: &str = "gpu\u{1b}]0;owned\u{7}\u{1b}[2J\rhost\u{9b}2J\u{202e}txt\nerror: all is lost";

fn is_plain(ended: &Ended) {
    for (stream, text) in [("stdout", &ended.stdout), ("stderr", &ended.stderr)] {
        let found: Vec<_> = text
            .lines()
            .filter(|line| line.chars().any(is_unsafe) || line.starts_with("error: all"))
            .collect();
        assert!(found.is_empty(), "{stream} holds {found:?}");
    }
}

/// Every path below a directory.
fn all_below(directory: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        found.insert(entry.path().to_str().unwrap().to_owned());
        if entry.file_type().unwrap().is_dir() {
            found.extend(all_below(&entry.path()));
        }
    }
    found
}

#[tokio::test]
async fn documents_of_any_name_stay_in_the_output_directory() {
    let documents: Vec<_> = NAMES.iter().map(|name| Document::new(name, 1)).collect();
    let site = Site::new(&documents);
    let server = FakeOllama::start(FakeConfig { slots: 4, ..FakeConfig::default() });
    let before = all_below(site.root());
    let ended = site.generate().args(["--local", "-v"]).servers(&[&server]).run(0).await;
    is_plain(&ended);
    site.check();
    let inside = site.qa_dir().to_str().unwrap().to_owned();
    let outside: Vec<_> = all_below(site.root())
        .into_iter()
        .filter(|path| !before.contains(path) && !path.starts_with(&inside))
        .collect();
    assert!(outside.is_empty(), "{outside:?}");
    let made =
        fs::read_dir(site.qa_dir()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let made: BTreeSet<_> = made.filter(|name| name.ends_with("_qa.json")).collect();
    assert_eq!(made, NAMES.iter().map(|name| format!("{name}_qa.json")).collect());
    for line in [
        site.coordinator("status"),
        site.coordinator("status").arg("--json"),
        site.coordinator("failures"),
        site.coordinator("show").args(["--random", "100"]),
        site.coordinator("show").args(["--random", "100", "--json"]),
        site.coordinator("combine"),
        site.generate().args(["--local", "--resume", "--dry-run"]).servers(&[&server]),
    ] {
        is_plain(&line.run(0).await);
    }
}

#[tokio::test]
async fn links_are_replaced_and_never_written_through() {
    let site = Site::new(&[Document::new("linked", 2), Document::new("plain", 1)]);
    let server = FakeOllama::start(FakeConfig::default());
    let precious = site.root().join("precious.json");
    fs::write(&precious, "{\"status\": \"completed\"}").unwrap();
    fs::create_dir(site.qa_dir()).unwrap();
    for name in ["linked_qa.json", "training_data.json", "qa_generation_summary.json"] {
        symlink(&precious, site.qa_dir().join(name)).unwrap();
    }
    symlink("/dev/zero", site.chunks_dir().join("endless_chunks.json")).unwrap();
    symlink(site.chunks_dir().join("loop_chunks.json"), site.chunks_dir().join("loop_chunks.json")).unwrap();
    let run = site.generate().args(["--local", "--restart", "--overwrite"]).servers(&[&server]);
    let ended = run.run(1).await;
    assert!(ended.stderr.contains("endless_chunks.json: it is no regular file"), "{}", ended.stderr);
    assert_eq!(fs::read_to_string(&precious).unwrap(), "{\"status\": \"completed\"}");
    for name in ["linked_qa.json", "training_data.json", "qa_generation_summary.json"] {
        assert!(fs::symlink_metadata(site.qa_dir().join(name)).unwrap().is_file(), "{name} is a link");
    }
    assert_eq!(site.status_of("linked"), "completed");
}

#[tokio::test]
async fn a_job_folder_that_is_a_link_is_refused() {
    let site = Site::new(&[Document::new("guide", 1)]);
    let elsewhere = site.root().join("elsewhere");
    for directory in [&elsewhere, &site.qa_dir()] {
        fs::create_dir(directory).unwrap();
    }
    symlink(&elsewhere, site.job_folder()).unwrap();
    let ended = site.generate().args(["--local", "--ollama-base-url", "http://127.0.0.1:9"]).run(2).await;
    assert!(ended.stderr.contains(".qa-fleet` is a link: a job belongs to one"), "{}", ended.stderr);
    assert_eq!(fs::read_dir(elsewhere).unwrap().count(), 0);
}

fn presence(random: u32) -> WorkerPresence {
    let server = ServerPresence {
        url: STEERING.to_owned(),
        provider: Provider::Local,
        account: None,
        version: Some(STEERING.to_owned()),
        reachable: true,
        problem: Some(STEERING.to_owned()),
        obstacle: None,
        unserved: Vec::new(),
        models: vec![ServedModel {
            name: STEERING.to_owned(),
            digest: Some(STEERING.to_owned()),
            gpu_percent: Some(1),
        }],
        slots: u32::MAX,
        auto: true,
        busy: u32::MAX,
        finished: u64::MAX,
        tokens_per_second: 1e300,
        running: Vec::new(),
    };
    WorkerPresence {
        instance: InstanceId::new("hostile", 1, random),
        host: STEERING.to_owned(),
        pid: 1,
        version: STEERING.to_owned(),
        servers: vec![server.clone(), server],
        pools: vec![PoolName::new(STEERING)],
        named_pools: vec![PoolName::new(STEERING)],
        draining: false,
        beat: 0,
    }
}

#[tokio::test]
async fn a_hostile_worker_cannot_steer_the_terminal_or_stop_the_run() {
    let nats = TestNats::start().await;
    let site = Site::new(&[Document::new("attacked", 4)]);
    let queue = nats.queue(Timing::default()).await;
    for random in 1..=3 {
        Presence::new(&queue).announce(&presence(random)).await.unwrap();
    }
    let mut run = site.generate().fleet(&nats).arg("-v").start();
    // Nobody serves the model: what the present workers have is listed.
    run.says("no worker serves pool").await;
    let document = qa_shared::model::DocumentName::new("attacked").token();
    for chunk in 0..4 {
        let key = TaskKey { job: site.job(), document: document.clone(), chunk, round: 1 };
        let failure = Failure { reason: FailureReason::Other, message: STEERING.to_owned() };
        let worker = InstanceId::new("hostile", 1, 1);
        let mut result = TaskResult::failed_without_call(key, failure, worker, STEERING.to_owned(), u64::MAX);
        result.server = Some(STEERING.to_owned());
        result.model = Some(STEERING.to_owned());
        (result.asked, result.attempts, result.duration_ms) = (u32::MAX, u32::MAX, u64::MAX);
        result.usage.input_tokens = u64::MAX;
        result.usage.output_tokens = u64::MAX;
        Results::new(&queue).publish(&result, None).await.unwrap();
    }
    for line in
        [site.coordinator("status").fleet(&nats), site.coordinator("status").fleet(&nats).arg("--json")]
    {
        is_plain(&line.run(0).await);
    }
    let ended = run.ends_with(1).await;
    is_plain(&ended);
    assert_eq!(site.summary()["chunks"]["failed"], 4);
    is_plain(&site.coordinator("status").run(0).await);
}
