//! Publishing tasks, looking for them, taking them back.

use std::time::Duration;

use qa_shared::model::PoolName;
use qa_shared::queue::{PublishError, QueueError, Stored, TaskSource, Tasks, ensure};
use qa_shared::testing::{TestNats, TestNatsOptions};

use crate::fixtures::{PATIENCE, job, key, short, soon, task, until};

#[tokio::test]
async fn a_task_published_again_is_stored_once_also_after_a_restart_of_the_server() {
    let mut nats = TestNats::start().await;
    let queue = nats.queue(short()).await;
    let tasks = Tasks::new(&queue);
    let pool = PoolName::new("p");
    let task = task(&pool, key(&job(1), 0), "text");
    let first = tasks.publish(&task, None).await.unwrap();
    assert!(first.sequence.is_some());
    assert_eq!(tasks.publish(&task, None).await.unwrap(), Stored { sequence: None });
    nats.restart().await;
    let again = until("the server's return", async || tasks.publish(&task, None).await.ok()).await;
    assert_eq!(again, Stored { sequence: None });
    assert_eq!(tasks.stored(&job(1)).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_task_over_the_servers_limit_is_reported_with_both_sizes() {
    let nats = TestNats::start_with(TestNatsOptions { max_payload: 4096, ..Default::default() }).await;
    let queue = nats.queue(short()).await;
    assert_eq!(queue.max_payload(), 4096);
    let task = task(&PoolName::new("p"), key(&job(1), 0), &"x".repeat(5000));
    match Tasks::new(&queue).publish(&task, None).await {
        Err(PublishError::TooLarge { bytes, limit }) => {
            assert!(bytes > 5000 && limit.contains("max_payload of 4096 bytes"));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn publishing_without_streams_says_that_they_are_missing() {
    let nats = TestNats::start().await;
    let queue = nats.connect(short()).await;
    let tasks = Tasks::new(&queue);
    let task = task(&PoolName::new("p"), key(&job(1), 0), "text");
    let error = tasks.publish(&task, None).await.unwrap_err();
    assert!(matches!(error, PublishError::Unavailable(QueueError::Missing { .. })), "{error}");
    assert!(matches!(tasks.stored(&job(1)).await, Err(QueueError::Missing { .. })));
    ensure(&queue, None).await.unwrap();
    tasks.publish(&task, None).await.unwrap();
}

#[tokio::test]
async fn taking_back_removes_what_nobody_had_and_leaves_what_was_delivered() {
    let nats = TestNats::start().await;
    let queue = nats.queue(short()).await;
    let tasks = Tasks::new(&queue);
    let pool = PoolName::new("p");
    tasks.ensure_pool(&pool).await.unwrap();
    let (ours, other) = (job(1), job(2));
    for chunk in 0..4 {
        tasks.publish(&task(&pool, key(&ours, chunk), "text"), None).await.unwrap();
        tasks.publish(&task(&pool, key(&other, chunk), "text"), None).await.unwrap();
    }
    let source = TaskSource::for_pool(&queue, &pool).await.unwrap().unwrap();
    let finished = source.next(PATIENCE).await.unwrap().unwrap();
    assert_eq!(finished.key, Ok(key(&ours, 0)));
    finished.ack().await.unwrap();
    source.next(PATIENCE).await.unwrap().unwrap().ack().await.unwrap();
    let in_work = source.next(PATIENCE).await.unwrap().unwrap();
    assert_eq!(in_work.key, Ok(key(&ours, 1)));

    let keys: Vec<_> = (0..4).map(|chunk| key(&ours, chunk)).collect();
    let mut taken = tasks.take_back(&pool, &keys).await.unwrap();
    taken.removed.sort();
    assert_eq!(taken.absent, [key(&ours, 0)]);
    assert_eq!(taken.in_flight, [key(&ours, 1)]);
    assert_eq!(taken.removed, [key(&ours, 2), key(&ours, 3)]);
    assert_eq!(tasks.stored(&other).await.unwrap().len(), 3);
    in_work.ack().await.unwrap();
    assert_eq!(tasks.stored(&ours).await.unwrap(), []);
}

#[tokio::test]
async fn a_purged_job_is_gone_from_every_pool_and_late_acknowledgements_are_harmless() {
    let nats = TestNats::start().await;
    let queue = nats.queue(short()).await;
    let tasks = Tasks::new(&queue);
    let (here, there) = (PoolName::new("here"), PoolName::new("there"));
    tasks.ensure_pool(&here).await.unwrap();
    tasks.publish(&task(&here, key(&job(1), 0), "text"), None).await.unwrap();
    tasks.publish(&task(&there, key(&job(1), 1), "text"), None).await.unwrap();
    tasks.publish(&task(&here, key(&job(2), 0), "text"), None).await.unwrap();
    let source = TaskSource::for_pool(&queue, &here).await.unwrap().unwrap();
    let in_work = source.next(PATIENCE).await.unwrap().unwrap();
    assert_eq!(tasks.purge_job(&job(1)).await.unwrap(), 2);
    in_work.ack().await.unwrap();
    in_work.ack().await.unwrap();
    assert_eq!(tasks.stored(&job(2)).await.unwrap().len(), 1);
    let depth = tasks.pool_depth(&here).await.unwrap().unwrap();
    assert_eq!((depth.pending, depth.in_flight), (1, 0));
    assert_eq!(tasks.pool_depth(&there).await.unwrap(), None);
}

#[tokio::test]
async fn pools_of_any_name_are_routed_apart() {
    let nats = TestNats::start().await;
    let queue = nats.queue(short()).await;
    let tasks = Tasks::new(&queue);
    let names = ["ollama/qwen3:14b", "Ollama/qwen3:14b", "概要", "a.b.*.>", " ", &"x".repeat(300)];
    for (chunk, name) in (0..).zip(names) {
        let pool = PoolName::new(name);
        tasks.ensure_pool(&pool).await.unwrap();
        tasks.publish(&task(&pool, key(&job(1), chunk), name), None).await.unwrap();
    }
    assert_eq!(tasks.stored(&job(1)).await.unwrap().len(), names.len());
    for (chunk, name) in (0..).zip(names) {
        let pool = PoolName::new(name);
        let source = TaskSource::for_pool(&queue, &pool).await.unwrap().unwrap();
        let delivery = source.try_next().await.unwrap().unwrap();
        assert_eq!(delivery.key, Ok(key(&job(1), chunk)));
        assert!(source.try_next().await.unwrap().is_none(), "{name} got another pool's task");
    }
}

#[tokio::test]
async fn a_removed_task_is_not_delivered() {
    let nats = TestNats::start().await;
    let queue = nats.queue(short()).await;
    let tasks = Tasks::new(&queue);
    let pool = PoolName::new("p");
    tasks.ensure_pool(&pool).await.unwrap();
    for chunk in 0..2 {
        tasks.publish(&task(&pool, key(&job(1), chunk), "text"), None).await.unwrap();
    }
    tasks.remove(&pool, &key(&job(1), 0)).await.unwrap();
    tasks.remove(&pool, &key(&job(1), 7)).await.unwrap();
    assert!(!tasks.is_stored(&pool, &key(&job(1), 0)).await.unwrap());
    assert!(tasks.is_stored(&pool, &key(&job(1), 1)).await.unwrap());
    let source = TaskSource::for_pool(&queue, &pool).await.unwrap().unwrap();
    let delivery = soon("a delivery", source.next(Duration::from_secs(5))).await.unwrap().unwrap();
    assert_eq!(delivery.key, Ok(key(&job(1), 1)));
}
