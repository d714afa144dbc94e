//! What jobs have on a queue server: listed, and removed.

use std::time::Duration;

use qa_shared::model::{JobEntry, JobState, PoolName, Provider};
use qa_shared::queue::{
    Jobs, Lease, LeaseHolder, PoisonNotes, Queue, Remains, Removed, Results, ResultsConsumer, Tasks, Timing,
    dead_jobs, forget_job, remains,
};
use qa_shared::testing::TestNats;

use crate::fixtures::{instance, job, key, result, short, task, until};

fn holder() -> LeaseHolder {
    LeaseHolder {
        instance: instance(1),
        host: "desk".to_owned(),
        directory: "/data/qa".to_owned(),
        pid: 1,
        lock: None,
    }
}

/// Job 1 with an entry, two tasks, a result, a consumer and a note.
async fn use_queue(queue: &Queue) {
    let pool = PoolName::new("p");
    let entry = JobEntry {
        job: job(1),
        state: JobState::Active,
        pool: pool.clone(),
        provider: Provider::Local,
        model: "m".to_owned(),
        context_tokens: 0,
        num_ctx: None,
        host: "desk".to_owned(),
        directory: "/data/qa".to_owned(),
        dropped: Vec::new(),
        updated_at_ms: 0,
    };
    Jobs::new(queue).put(&entry).await.unwrap();
    for chunk in [0, 1] {
        Tasks::new(queue).publish(&task(&pool, key(&job(1), chunk), "text"), None).await.unwrap();
    }
    Results::new(queue).publish(&result(key(&job(1), 2), "why?"), None).await.unwrap();
    ResultsConsumer::create(queue, &job(1), 7).await.unwrap();
    PoisonNotes::new(queue).note(&key(&job(1), 0), &instance(2)).await.unwrap();
}

#[tokio::test]
async fn everything_of_a_job_is_listed_and_removed_and_nothing_of_others() {
    let nats = TestNats::start().await;
    let queue = nats.queue(Timing { presence_age: Timing::default().presence_age, ..short() }).await;
    use_queue(&queue).await;
    Results::new(&queue).publish(&result(key(&job(2), 0), "why?"), None).await.unwrap();
    let lease = Lease::acquire(&queue, &job(1), holder()).await.unwrap().lease;
    let found = remains(&queue).await.unwrap();
    let Remains { tasks, results, bytes, consumers, has_entry, holder: held } = &found[&job(1)];
    assert_eq!((*tasks, *results, *consumers, *has_entry), (2, 1, 1, true));
    assert!(*bytes > 100 && *held == Some(holder()), "{bytes} {held:?}");
    let removed = forget_job(&queue, &job(1)).await.unwrap();
    assert_eq!(removed, Removed { tasks: 2, results: 1, consumers: 1, notes: 1 });
    lease.release().await.unwrap();
    let left = remains(&queue).await.unwrap();
    assert_eq!(left.keys().collect::<Vec<_>>(), [&job(2)]);
    assert_eq!((left[&job(2)].results, left[&job(2)].has_entry), (1, false));
}

#[tokio::test]
async fn a_job_is_dead_long_after_its_last_sign_and_never_under_a_lease() {
    let nats = TestNats::start().await;
    let young = nats.queue(Timing { presence_age: Timing::default().presence_age, ..short() }).await;
    use_queue(&young).await;
    assert_eq!(dead_jobs(&young).await.unwrap(), []);
    let timing =
        Timing { dead_after: Duration::ZERO, presence_age: Timing::default().presence_age, ..short() };
    let old = nats.connect(timing).await;
    let lease = Lease::acquire(&old, &job(1), holder()).await.unwrap().lease;
    // Whole seconds are compared.
    let others = async || {
        Results::new(&old).publish(&result(key(&job(2), 0), "why?"), None).await.unwrap();
        (dead_jobs(&old).await.unwrap() == [job(2)]).then_some(())
    };
    until("the death of the job without a lease", others).await;
    lease.release().await.unwrap();
    assert_eq!(dead_jobs(&old).await.unwrap(), [job(1), job(2)]);
}

#[tokio::test]
async fn a_server_that_no_job_has_used_has_nothing() {
    let nats = TestNats::start().await;
    let queue = nats.connect(Timing::default()).await;
    assert!(remains(&queue).await.unwrap().is_empty());
}
