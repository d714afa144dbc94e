//! Jobs, heartbeats and poison notes.

use std::collections::BTreeSet;

use qa_shared::model::{JobEntry, JobId, JobState, PoolName, Provider, TaskKey, WorkerPresence};
use qa_shared::queue::{Jobs, JobsError, PoisonNotes, Presence, Renewal, ensure};
use qa_shared::testing::TestNats;

use crate::fixtures::{instance, job, key, raw, short, soon, until};

fn entry(job: JobId, state: JobState) -> JobEntry {
    JobEntry {
        job,
        state,
        pool: PoolName::new("ollama/m:latest"),
        provider: Provider::Local,
        model: "m".to_owned(),
        context_tokens: 4096,
        num_ctx: None,
        host: "desk".to_owned(),
        directory: "/data/qa".to_owned(),
        dropped: Vec::new(),
        updated_at_ms: 1,
    }
}

fn worker(random: u32) -> WorkerPresence {
    WorkerPresence {
        instance: instance(random),
        host: "gpu1".to_owned(),
        pid: 4711,
        version: "0.1.0".to_owned(),
        servers: Vec::new(),
        pools: Vec::new(),
        named_pools: Vec::new(),
        draining: false,
        beat: 0,
    }
}

#[tokio::test]
async fn a_job_is_written_changed_and_removed() {
    let nats = TestNats::start().await;
    let queue = nats.queue(short()).await;
    let jobs = Jobs::new(&queue);
    assert!(jobs.get(&job(1)).await.unwrap().is_none());
    jobs.put(&entry(job(1), JobState::Active)).await.unwrap();
    jobs.put(&entry(job(2), JobState::Active)).await.unwrap();
    jobs.set_state(&job(1), JobState::Cancelled).await.unwrap();
    let changed = jobs.get(&job(1)).await.unwrap().unwrap();
    assert_eq!(changed.state, JobState::Cancelled);
    assert!(changed.updated_at_ms > 1);
    assert_eq!(jobs.all().await.unwrap().len(), 2);
    jobs.delete(&job(1)).await.unwrap();
    assert_eq!(jobs.all().await.unwrap().into_keys().collect::<Vec<_>>(), [job(2)]);
    let error = jobs.set_state(&job(1), JobState::Active).await.unwrap_err();
    assert!(matches!(error, JobsError::Unknown(_)), "{error}");
    jobs.put(&entry(job(1), JobState::Active)).await.unwrap();
    assert!(jobs.get(&job(1)).await.unwrap().is_some(), "a deleted job can be made again");
}

#[tokio::test]
async fn a_renewal_brings_back_what_was_forgotten_and_leaves_alone_what_was_cancelled() {
    let nats = TestNats::start().await;
    let queue = nats.queue(short()).await;
    let jobs = Jobs::new(&queue);
    let renewed = JobEntry { dropped: vec![key(&job(1), 1)], ..entry(job(1), JobState::Active) };
    assert_eq!(jobs.renew(&renewed).await.unwrap(), Renewal::Restored);
    assert_eq!(jobs.renew(&renewed).await.unwrap(), Renewal::Renewed);
    assert_eq!(jobs.get(&job(1)).await.unwrap(), Some(renewed.clone()));
    jobs.set_state(&job(1), JobState::Interrupted).await.unwrap();
    assert_eq!(jobs.renew(&renewed).await.unwrap(), Renewal::Restored);
    assert_eq!(jobs.get(&job(1)).await.unwrap(), Some(renewed.clone()));
    jobs.set_state(&job(1), JobState::Cancelled).await.unwrap();
    assert_eq!(jobs.renew(&renewed).await.unwrap(), Renewal::Cancelled);
    assert_eq!(jobs.get(&job(1)).await.unwrap().unwrap().state, JobState::Cancelled);
}

#[tokio::test]
async fn a_change_of_state_keeps_what_a_newer_program_wrote() {
    let nats = TestNats::start().await;
    let queue = nats.queue(short()).await;
    let mut value = serde_json::to_value(entry(job(1), JobState::Active)).unwrap();
    value["colour"] = "blue".into();
    let message = serde_json::json!({ "v": 1, "body": value }).to_string();
    let store = raw(&nats).await.get_key_value("QA_JOBS").await.unwrap();
    store.put(job(1).as_str(), message.into()).await.unwrap();
    Jobs::new(&queue).set_state(&job(1), JobState::Interrupted).await.unwrap();
    let stored = store.get(job(1).as_str()).await.unwrap().unwrap();
    let stored: serde_json::Value = serde_json::from_slice(&stored).unwrap();
    assert_eq!(stored["body"]["colour"], "blue");
    assert_eq!(stored["body"]["state"], "interrupted");
}

#[tokio::test]
async fn jobs_are_watched_before_the_bucket_exists_through_restarts_and_wipes() {
    let mut nats = TestNats::start().await;
    let early = nats.connect(short()).await;
    let watched = Jobs::new(&early).watch();
    let mut seen = watched.receiver();
    let queue = nats.connect(short()).await;
    ensure(&queue, None).await.unwrap();
    let jobs = Jobs::new(&queue);
    jobs.put(&entry(job(1), JobState::Active)).await.unwrap();
    soon("job 1", seen.wait_for(|jobs| jobs.contains_key(&job(1)))).await.unwrap();

    nats.restart().await;
    until("the server's return", async || jobs.set_state(&job(1), JobState::Cancelled).await.ok()).await;
    let cancelled =
        |jobs: &std::collections::BTreeMap<JobId, JobEntry>| jobs[&job(1)].state == JobState::Cancelled;
    soon("the cancel", seen.wait_for(|jobs| cancelled(jobs))).await.unwrap();

    jobs.delete(&job(1)).await.unwrap();
    soon("the removal", seen.wait_for(|jobs| jobs.is_empty())).await.unwrap();

    nats.wipe_and_restart().await;
    until("the server's return", async || ensure(&queue, None).await.ok()).await;
    jobs.put(&entry(job(2), JobState::Active)).await.unwrap();
    soon("job 2", seen.wait_for(|jobs| jobs.contains_key(&job(2)))).await.unwrap();
}

#[tokio::test]
async fn an_entry_of_a_newer_version_is_left_out_and_hides_no_other() {
    let nats = TestNats::start().await;
    let queue = nats.queue(short()).await;
    let jobs = Jobs::new(&queue);
    let store = raw(&nats).await.get_key_value("QA_JOBS").await.unwrap();
    store.put(job(1).as_str(), r#"{"v":2,"body":{}}"#.into()).await.unwrap();
    jobs.put(&entry(job(2), JobState::Active)).await.unwrap();
    let watched = jobs.watch();
    soon("job 2", watched.receiver().wait_for(|jobs| jobs.contains_key(&job(2)))).await.unwrap();
    assert_eq!(watched.current().len(), 1);
    let error = jobs.get(&job(1)).await.unwrap_err().to_string();
    assert!(error.contains("version 2"), "{error}");
}

#[tokio::test]
async fn a_worker_is_seen_until_it_withdraws_or_is_not_heard_of() {
    let nats = TestNats::start().await;
    let queue = nats.queue(short()).await;
    let presence = Presence::new(&queue);
    let watched = presence.watch();
    let mut seen = watched.receiver();
    presence.announce(&worker(1)).await.unwrap();
    soon("worker 1", seen.wait_for(|workers| workers.contains_key(&instance(1)))).await.unwrap();
    presence.withdraw(&instance(1)).await.unwrap();
    soon("the withdrawal", seen.wait_for(|workers| workers.is_empty())).await.unwrap();

    presence.announce(&worker(2)).await.unwrap();
    soon("worker 2", seen.wait_for(|workers| workers.contains_key(&instance(2)))).await.unwrap();
    let first = seen.borrow()[&instance(2)].beat;
    presence.announce(&worker(2)).await.unwrap();
    // It lives, though there is nothing new about it.
    soon(
        "the next heartbeat",
        seen.wait_for(|workers| workers.get(&instance(2)).is_some_and(|one| one.beat > first)),
    )
    .await
    .unwrap();
    let mut draining = worker(2);
    draining.draining = true;
    presence.announce(&draining).await.unwrap();
    soon("the change", seen.wait_for(|workers| workers.get(&instance(2)).is_some_and(|one| one.draining)))
        .await
        .unwrap();
    soon("the expiry", seen.wait_for(|workers| workers.is_empty())).await.unwrap();
    assert!(presence.workers().await.unwrap().is_empty());
}

#[tokio::test]
async fn notes_of_vanished_instances_are_counted_and_others_are_not() {
    let nats = TestNats::start().await;
    let queue = nats.queue(short()).await;
    let notes = PoisonNotes::new(&queue);
    let (task, other) = (key(&job(1), 0), key(&job(1), 1));
    for random in 1..=4 {
        notes.note(&task, &instance(random)).await.unwrap();
        notes.note(&task, &instance(random)).await.unwrap();
    }
    notes.note(&other, &instance(9)).await.unwrap();
    notes.clear(&task, &instance(1)).await.unwrap();
    notes.clear(&task, &instance(77)).await.unwrap();
    let live = BTreeSet::from([instance(2)]);
    assert_eq!(notes.vanished(&task, &live).await.unwrap(), 2);
    assert_eq!(notes.vanished(&other, &live).await.unwrap(), 1);
    // Rounds of a chunk are judged together; who vanished with two of them vanished once.
    let second = TaskKey { round: 2, ..task.clone() };
    for random in [3, 5] {
        notes.note(&second, &instance(random)).await.unwrap();
    }
    assert_eq!(notes.vanished(&task, &live).await.unwrap(), 3);
    assert_eq!(notes.vanished(&second, &live).await.unwrap(), 3);
    notes.forget_job(&job(1)).await.unwrap();
    assert_eq!(notes.vanished(&task, &BTreeSet::new()).await.unwrap(), 0);
}
