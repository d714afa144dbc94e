//! Each place where a process can die between two steps of the order of effects, by name: the process is
//! killed exactly there, a resume goes on, and the files are looked at from outside. In a fleet the death of
//! a coordinator costs no model call at all.
//!
//! The list of tests is the list of crash points; a place that is not reached fails its test.

use std::collections::BTreeSet;
use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::{Duration, Instant};

use qa_shared::failpoint::CrashPoint;
use qa_shared::testing::TestNats;
use qa_shared::testing::fake_ollama::{Behaviour, FakeConfig, FakeOllama};

use crate::checker::{Check, check};
use crate::command_line::Line;
use crate::documents::Document;
use crate::processes::{PATIENCE, Running, no_process_is_left_in};
use crate::site::{Site, read_json};

const CHUNKS: u64 = 14;

fn documents() -> [Document; 2] {
    [Document::new("handbook", 9), Document::pdf("notes", 5, 2)]
}

/// One call takes longer than a group of journal entries waits: every run has several groups and snapshots.
fn server() -> FakeOllama {
    let server = FakeOllama::start(FakeConfig { slots: 4, ..FakeConfig::default() });
    server.respond_with(|call| {
        Behaviour::Slow(Duration::from_millis(if call.number == 7 { 1300 } else { 50 }))
    });
    server
}

/// A queue, a job's directories, an LLM server, and a worker that lives.
struct Fleet {
    nats: TestNats,
    site: Site,
    server: FakeOllama,
    _worker: Running,
}

impl Fleet {
    async fn start() -> Self {
        let nats = TestNats::start().await;
        let (site, server) = (Site::new(&documents()), server());
        let worker = Line::worker(&nats, &[&server]).start();
        Self { nats, site, server, _worker: worker }
    }

    fn coordinator(&self) -> Line {
        self.site.generate().fleet(&self.nats)
    }

    async fn resume_and_check(&self) {
        self.coordinator().arg("--resume").run(0).await;
        self.site.check();
    }

    /// What a job has cost is known after a crash too; what came twice counts twice.
    fn has_account_of(&self, calls: u64) {
        let counted = self.site.summary()["all_runs"]["calls"].as_u64().unwrap();
        assert!(counted >= calls, "the account has {counted} calls of {calls}");
    }
}

/// In a coordinator's first run.
async fn in_a_run(place: &str) {
    let fleet = Fleet::start().await;
    fleet.coordinator().dying_at(place).start().dies(place).await;
    fleet.resume_and_check().await;
    assert_eq!(fleet.server.stats().chat_calls, CHUNKS);
    fleet.has_account_of(CHUNKS);
}

/// In a coordinator with a private queue and an in-process worker: what was running is repeated.
async fn on_one_machine(place: &str) {
    let (site, server) = (Site::new(&documents()), server());
    site.generate().servers(&[&server]).dying_at(place).start().dies(place).await;
    no_process_is_left_in(site.root()).await;
    site.generate().arg("--resume").servers(&[&server]).run(0).await;
    site.check();
    let paid = server.stats().chat_calls;
    assert!((CHUNKS..=CHUNKS + 2).contains(&paid), "{paid} calls for two slots");
}

/// In a worker with one slot, which dies over a chunk.
async fn in_a_worker(place: &str, repeated: RangeInclusive<u64>) {
    let nats = TestNats::start().await;
    let (site, server) = (Site::new(&documents()), server());
    let line = || Line::worker(&nats, &[&server]).args(["--concurrency", "1"]).impatient();
    let doomed = line().dying_at(place).start();
    let run = site.generate().fleet(&nats).impatient().start();
    doomed.dies(place).await;
    let heir = line().start();
    run.ends_with(0).await;
    site.check();
    let again = server.stats().chat_calls - CHUNKS;
    assert!(repeated.contains(&again), "{again} calls were repeated");
    drop(heir);
}

async fn in_a_worker_for_nothing(place: &str) {
    in_a_worker(place, 0..=0).await;
}

async fn in_a_worker_for_a_call(place: &str) {
    in_a_worker(place, 1..=1).await;
}

/// The next task may be in work by then.
async fn in_a_worker_beside_a_call(place: &str) {
    in_a_worker(place, 0..=1).await;
}

/// In a resume that tries a failed chunk again.
async fn in_a_retry(place: &str) {
    let fleet = Fleet::start().await;
    let bad = documents()[0].texts[4].clone();
    fleet.server.respond_with(move |call| {
        if call.chunk == bad { Behaviour::Text("no".to_owned()) } else { Behaviour::Answer }
    });
    fleet.coordinator().run(1).await;
    check(&Check::new(&fleet.site).failed("handbook", [4]));
    fleet.server.respond_with(|_| Behaviour::Answer);
    fleet.coordinator().arg("--resume").dying_at(place).start().dies(place).await;
    fleet.resume_and_check().await;
    // Three attempts, and the one that is good.
    assert_eq!(fleet.server.stats().chat_calls, CHUNKS + 2 + 1);
    fleet.has_account_of(CHUNKS + 2 + 1);
}

/// In a resume after a document was edited: one chunk is to do, the old file is kept. As long as the Q&A file
/// is of the old text, each resume takes the document's tasks back, and the call that runs is repeated.
async fn after_an_edit(place: &str) {
    let fleet = Fleet::start().await;
    fleet.coordinator().run(0).await;
    let [mut handbook, _] = documents();
    handbook.texts[3].push_str(" Edited.");
    fleet.site.write(&handbook);
    fleet.coordinator().arg("--resume").dying_at(place).start().dies(place).await;
    fleet.resume_and_check().await;
    let paid = fleet.server.stats().chat_calls;
    assert!((CHUNKS + 1..=CHUNKS + 2).contains(&paid), "{paid} calls for one edited chunk");
}

/// In a run that is told to stop while it has queued tasks.
async fn in_a_stop(place: &str) {
    let fleet = Fleet::start().await;
    let run = fleet.coordinator().dying_at(place).start();
    fleet.server.wait_for(|stats| stats.chat_calls >= 3).await;
    run.signal("TERM");
    run.dies(place).await;
    fleet.resume_and_check().await;
    // A task that a slot gets while it is taken back is asked for by both.
    let paid = fleet.server.stats().chat_calls;
    assert!((CHUNKS..=CHUNKS + 2).contains(&paid), "{paid} calls for two slots");
}

/// While the files of a finished job are put aside: to say it again does all of it, each chunk once.
async fn in_a_restart(place: &str) {
    let fleet = Fleet::start().await;
    fleet.coordinator().run(0).await;
    fleet.coordinator().arg("--restart").dying_at(place).start().dies(place).await;
    fleet.coordinator().arg("--restart").run(0).await;
    fleet.site.check();
    assert_eq!(fleet.server.stats().chat_calls, 2 * CHUNKS);
}

/// The same, but a resume follows: what was not yet put aside may stay.
async fn in_a_restart_before_a_resume(place: &str) {
    let fleet = Fleet::start().await;
    fleet.coordinator().run(0).await;
    fleet.coordinator().arg("--restart").dying_at(place).start().dies(place).await;
    fleet.resume_and_check().await;
    assert!(fleet.server.stats().chat_calls <= 2 * CHUNKS);
}

/// In `combine` by itself, which writes into a directory of its own.
async fn in_combine(place: &str) {
    let (site, server) = (Site::new(&documents()), server());
    site.generate().servers(&[&server]).run(0).await;
    let folder = site.root().join("combined");
    fs::create_dir(&folder).unwrap();
    let output = folder.join("all.json");
    let combine = || site.coordinator("combine").arg("--output-file").arg(&output);
    combine().dying_at(place).start().dies(place).await;
    combine().run(0).await;
    let pairs = |path: &Path| read_json(path)["training_pairs"].clone();
    assert_eq!(pairs(&output), pairs(&site.combined()));
    holds_only_the_combined_file(&folder);
}

/// In a run whose combined file lies in another directory.
async fn in_a_run_that_writes_elsewhere(place: &str) {
    let fleet = Fleet::start().await;
    let folder = fleet.site.root().join("elsewhere");
    fs::create_dir(&folder).unwrap();
    let output = folder.join("all.json");
    let line = || fleet.coordinator().arg("--output-file").arg(&output);
    line().dying_at(place).start().dies(place).await;
    line().arg("--resume").run(0).await;
    assert_eq!(fleet.server.stats().chat_calls, CHUNKS);
    let pairs = read_json(&output)["training_pairs"].as_array().unwrap().len();
    assert_eq!(pairs as u64, 3 * CHUNKS);
    holds_only_the_combined_file(&folder);
}

/// What a killed process left beside the combined file is removed by the next one.
fn holds_only_the_combined_file(folder: &Path) {
    let left: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["all.json"]);
}

/// While the user's command runs at the end.
#[tokio::test]
async fn the_users_command_is_running() {
    let fleet = Fleet::start().await;
    let begun = fleet.site.root().join("begun");
    let command = format!("touch '{}'; exec sleep 5 >/dev/null 2>&1", begun.display());
    let run = fleet.coordinator().args(["--on-finish", &command]).start();
    let until = Instant::now() + PATIENCE;
    while !begun.exists() {
        assert!(Instant::now() < until, "the command does not begin");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    run.kill().await;
    fleet.resume_and_check().await;
    assert_eq!(fleet.server.stats().chat_calls, CHUNKS);
}

macro_rules! crash_points {
    ($($name:ident: $scenario:ident($place:literal);)+) => {
        $(
            #[tokio::test]
            async fn $name() {
                $scenario($place).await;
            }
        )+

        const TESTED: &[&str] = &[$($place),+];
    };
}

crash_points! {
    the_job_is_taken: in_a_run("JobTaken");
    the_job_is_announced: in_a_run("JobAnnounced");
    rounds_are_appended: in_a_retry("RoundsAppended");
    rounds_are_synced: in_a_retry("RoundsSynced");
    the_first_task_is_published: in_a_run("TaskPublished");
    the_last_task_is_published: in_a_run("TaskPublished#14");
    a_task_is_delivered: in_a_worker_for_nothing("TaskDelivered#4");
    the_model_has_answered: in_a_worker_for_a_call("ModelAnswered#4");
    the_result_is_stored: in_a_worker_for_nothing("ResultStored#4");
    the_task_is_acked: in_a_worker_beside_a_call("TaskAcked#4");
    results_are_received: in_a_run("ResultsReceived#2");
    a_result_is_applied: in_a_run("ResultApplied#6");
    a_segment_is_begun: in_a_run("SegmentBegun");
    an_entry_is_torn: in_a_run("EntryTorn#3");
    the_first_entry_is_torn: in_a_run("EntryTorn");
    an_entry_is_appended: in_a_run("EntryAppended#5");
    the_account_is_saved: in_a_run("SpentSaved#2");
    a_new_segment_is_synced: in_a_run("SegmentSynced");
    the_journal_is_synced: in_a_run("JournalSynced#2");
    results_are_acked: in_a_run("ResultsAcked");
    a_previous_file_is_kept: after_an_edit("PreviousKept");
    a_qa_file_is_begun: in_a_run("FileBegun@handbook_qa.json");
    a_qa_file_is_written: in_a_run("FileWritten@handbook_qa.json");
    a_qa_file_is_synced: in_a_run("FileSynced@handbook_qa.json");
    a_qa_file_is_renamed: in_a_run("FileRenamed@handbook_qa.json");
    a_qa_file_is_durable: in_a_run("FileDurable@handbook_qa.json");
    a_snapshot_is_written: in_a_run("SnapshotWritten");
    the_last_snapshot_is_written: after_an_edit("SnapshotWritten");
    a_segment_is_removed: in_a_run("SegmentRemoved");
    the_job_file_is_begun: in_a_run("FileBegun@job.json");
    the_job_file_is_synced: in_a_run("FileSynced@job.json");
    the_job_file_is_renamed: in_a_run("FileRenamed@job.json");
    the_job_file_is_durable: in_a_run("FileDurable@job.json#2");
    the_account_is_begun: in_a_run("FileBegun@spent.json#2");
    the_account_is_written: in_a_run("FileWritten@spent.json#3");
    the_account_is_synced: in_a_run("FileSynced@spent.json#2");
    the_account_is_renamed: in_a_run("FileRenamed@spent.json#3");
    the_account_is_durable: in_a_run("FileDurable@spent.json");
    tasks_are_taken_back: in_a_stop("TasksTakenBack");
    the_run_has_ended: in_a_run("RunEnded");
    the_job_is_forgotten: in_a_run("JobForgotten");
    the_queue_is_tidied: in_a_run("QueueTidied");
    the_combined_file_is_begun: in_a_run("FileBegun@training_data.json");
    the_combined_file_is_written: in_a_run("FileWritten@training_data.json");
    the_combined_file_is_synced: in_a_run("FileSynced@training_data.json");
    the_combined_file_is_renamed: in_a_run("FileRenamed@training_data.json");
    the_combined_file_is_durable: in_a_run("FileDurable@training_data.json");
    all_is_combined: in_a_run("Combined");
    the_summary_is_synced: in_a_run("FileSynced@qa_generation_summary.json");
    the_summary_is_renamed: in_a_run("FileRenamed@qa_generation_summary.json");
    combine_has_begun_its_file: in_combine("FileBegun@all.json");
    combine_has_written_its_file: in_combine("FileWritten@all.json");
    combine_has_synced_its_file: in_combine("FileSynced@all.json");
    combine_has_renamed_its_file: in_combine("FileRenamed@all.json");
    a_combined_file_elsewhere_is_begun: in_a_run_that_writes_elsewhere("FileBegun@all.json");
    a_combined_file_elsewhere_is_written: in_a_run_that_writes_elsewhere("FileWritten@all.json");
    a_combined_file_elsewhere_is_renamed: in_a_run_that_writes_elsewhere("FileRenamed@all.json");
    old_files_are_kept: in_a_restart("OldFilesKept");
    an_old_file_is_removed: in_a_restart("OldFileRemoved");
    old_files_are_kept_and_a_resume_follows: in_a_restart_before_a_resume("OldFilesKept");
    an_old_file_is_removed_and_a_resume_follows: in_a_restart_before_a_resume("OldFileRemoved");
    a_restarted_job_is_saved_and_a_resume_follows: in_a_restart_before_a_resume("FileDurable@job.json");
    tasks_are_published_on_one_machine: on_one_machine("TaskPublished#5");
    a_result_is_stored_on_one_machine: on_one_machine("ResultStored#3");
    a_task_is_acked_on_one_machine: on_one_machine("TaskAcked#3");
    an_entry_is_appended_on_one_machine: on_one_machine("EntryAppended#4");
    the_journal_is_synced_on_one_machine: on_one_machine("JournalSynced#2");
    a_qa_file_is_renamed_on_one_machine: on_one_machine("FileRenamed@handbook_qa.json");
    the_queue_is_tidied_on_one_machine: on_one_machine("QueueTidied");
}

#[test]
fn every_crash_point_has_its_test() {
    let tested: BTreeSet<&str> = TESTED.iter().filter_map(|place| place.split(['@', '#']).next()).collect();
    let all = CrashPoint::ALL.iter().map(|point| format!("{point:?}"));
    let untested: Vec<_> = all.filter(|name| !tested.contains(&name[..])).collect();
    assert_eq!(untested, Vec::<String>::new());
}

#[tokio::test]
async fn a_place_that_is_never_reached_fails_its_test() {
    // A first run begins no rounds anew.
    let failed = tokio::spawn(in_a_run("RoundsSynced")).await.unwrap_err();
    let words = failed.into_panic().downcast::<String>().unwrap();
    assert!(words.contains("was never at RoundsSynced"), "{words}");
}
