//! Tasks on the worker's side: delivered, kept alive, settled.

use std::time::Duration;

use qa_shared::model::{PoolName, Task};
use qa_shared::queue::{AckError, Queue, SourceError, TaskSource, Tasks, Traceparent};
use qa_shared::testing::{Monitor, TestNats, TestNatsOptions};
use qa_shared::wire;
use tokio::time::Instant;

use crate::fixtures::{PATIENCE, job, key, raw, short, soon, task, until};

async fn pool_with_task(nats: &TestNats) -> (Queue, PoolName, TaskSource) {
    let queue = nats.queue(short()).await;
    let pool = PoolName::new("p");
    let tasks = Tasks::new(&queue);
    tasks.ensure_pool(&pool).await.unwrap();
    tasks.publish(&task(&pool, key(&job(1), 0), "text"), None).await.unwrap();
    let source = TaskSource::for_pool(&queue, &pool).await.unwrap().unwrap();
    (queue, pool, source)
}

#[tokio::test]
async fn a_task_without_sign_of_life_is_delivered_again() {
    let nats = TestNats::start().await;
    let (_, _, source) = pool_with_task(&nats).await;
    let first = source.next(PATIENCE).await.unwrap().unwrap();
    assert_eq!(first.deliveries, 1);
    let second = source.next(PATIENCE).await.unwrap().unwrap();
    assert_eq!((second.key.clone(), second.deliveries), (first.key.clone(), 2));
    second.ack().await.unwrap();
    // The first holder cannot know; its acknowledgement must be harmless.
    first.ack().await.unwrap();
}

#[tokio::test]
async fn beats_keep_a_task_until_its_deadline_and_not_longer() {
    let nats = TestNats::start().await;
    let (_, _, source) = pool_with_task(&nats).await;
    let held = source.next(PATIENCE).await.unwrap().unwrap();
    let started = Instant::now();
    let deadline = started + 3 * short().ack_wait;
    let _beats = held.start_beats(deadline);
    let again = source.next(PATIENCE).await.unwrap().unwrap();
    assert_eq!(again.key, held.key);
    assert!(started.elapsed() >= 3 * short().ack_wait, "delivered again after {:?}", started.elapsed());
}

#[tokio::test]
async fn dropping_the_guard_ends_the_beats() {
    let nats = TestNats::start().await;
    let (_, _, source) = pool_with_task(&nats).await;
    let held = source.next(PATIENCE).await.unwrap().unwrap();
    drop(held.start_beats(Instant::now() + 10 * PATIENCE));
    assert!(soon("redelivery", source.next(PATIENCE)).await.unwrap().is_some());
}

#[tokio::test]
async fn a_task_handed_back_comes_at_once_or_after_the_delay() {
    let nats = TestNats::start().await;
    let (_, _, source) = pool_with_task(&nats).await;
    source.next(PATIENCE).await.unwrap().unwrap().hand_back(None).await.unwrap();
    let again = source.try_next().await.unwrap().unwrap();
    assert_eq!(again.deliveries, 2);
    let delay = Duration::from_secs(2);
    let started = Instant::now();
    again.hand_back(Some(delay)).await.unwrap();
    assert!(source.try_next().await.unwrap().is_none());
    let third = source.next(PATIENCE).await.unwrap().unwrap();
    assert!(started.elapsed() >= delay, "{:?}", started.elapsed());
    assert_eq!(third.deliveries, 3);
}

#[tokio::test]
async fn an_acknowledgement_that_nobody_takes_is_an_error() {
    let nats = TestNats::start().await;
    let (_, pool, source) = pool_with_task(&nats).await;
    let held = source.next(PATIENCE).await.unwrap().unwrap();
    let stream = raw(&nats).await.get_stream("QA_TASKS").await.unwrap();
    stream.delete_consumer(&format!("pool-{}", pool.token())).await.unwrap();
    let error = held.ack().await.unwrap_err();
    assert!(matches!(error, AckError::Gone), "{error}");
}

#[tokio::test]
async fn a_pool_without_consumer_has_no_source_and_a_deleted_one_ends_the_wait() {
    let nats = TestNats::start().await;
    let queue = nats.connect(short()).await;
    let pool = PoolName::new("p");
    assert!(TaskSource::for_pool(&queue, &pool).await.unwrap().is_none(), "no stream yet");
    let queue = nats.queue(short()).await;
    assert!(TaskSource::for_pool(&queue, &pool).await.unwrap().is_none(), "no consumer yet");

    let tasks = Tasks::new(&queue);
    tasks.ensure_pool(&pool).await.unwrap();
    let source = TaskSource::for_pool(&queue, &pool).await.unwrap().unwrap();
    let waiting = tokio::spawn({
        let source = source.clone();
        async move { source.next(PATIENCE).await.map(|delivery| delivery.is_some()) }
    });
    until("the waiting slot", async || {
        let depth = tasks.pool_depth(&pool).await.unwrap().unwrap();
        (depth.waiting_slots == 1).then_some(())
    })
    .await;
    let stream = raw(&nats).await.get_stream("QA_TASKS").await.unwrap();
    stream.delete_consumer(&format!("pool-{}", pool.token())).await.unwrap();
    let ended = soon("the end of the wait", waiting).await.unwrap();
    assert!(matches!(ended, Err(SourceError::Gone { .. })), "{ended:?}");
    let error = soon("the answer", source.next(PATIENCE)).await.unwrap_err();
    assert!(matches!(error, SourceError::Gone { .. }), "{error}");
}

#[tokio::test]
async fn a_slot_gets_tasks_again_after_the_server_was_killed() {
    let mut nats = TestNats::start().await;
    let (queue, pool, source) = pool_with_task(&nats).await;
    source.next(PATIENCE).await.unwrap().unwrap().ack().await.unwrap();
    let waiting = tokio::spawn({
        let source = source.clone();
        // Far longer than the test's patience: only noticing the reconnect ends this wait.
        async move { source.next(20 * PATIENCE).await.map(|delivery| delivery.is_some()) }
    });
    let tasks = Tasks::new(&queue);
    until("the waiting slot", async || {
        let depth = tasks.pool_depth(&pool).await.ok()??;
        (depth.waiting_slots == 1).then_some(())
    })
    .await;
    let mut connected = queue.connected();
    nats.kill();
    soon("the loss", connected.wait_for(|up| !up)).await.unwrap();
    nats.restart().await;
    soon("the reconnect", connected.wait_for(|up| *up)).await.unwrap();
    assert!(!soon("the end of the lost pull", waiting).await.unwrap().unwrap());
    tasks.publish(&task(&pool, key(&job(1), 1), "text"), None).await.unwrap();
    assert!(source.next(PATIENCE).await.unwrap().is_some());
}

#[tokio::test]
async fn payload_and_trace_arrive_as_they_were_sent() {
    let nats = TestNats::start().await;
    let (queue, pool, source) = pool_with_task(&nats).await;
    source.next(PATIENCE).await.unwrap().unwrap().ack().await.unwrap();
    let sent = task(&pool, key(&job(1), 1), "text with ümlauts 概要 \u{0}");
    let context = Traceparent::new(sent.key.trace_id(), 7, true);
    Tasks::new(&queue).publish(&sent, Some(&context)).await.unwrap();
    let delivery = source.next(PATIENCE).await.unwrap().unwrap();
    assert_eq!(wire::decode::<Task>(&delivery.payload).unwrap(), sent);
    assert_eq!(delivery.context, Some(context));
}

#[tokio::test]
async fn a_foreign_message_is_told_apart_and_can_be_discarded() {
    let nats = TestNats::start().await;
    let (_, pool, source) = pool_with_task(&nats).await;
    source.next(PATIENCE).await.unwrap().unwrap().ack().await.unwrap();
    let subject = format!("qa.task.v1.{}.nonsense", pool.token());
    raw(&nats).await.publish(subject, "noise".into()).await.unwrap().await.unwrap();
    let delivery = source.next(PATIENCE).await.unwrap().unwrap();
    assert!(delivery.key.is_err());
    delivery.discard().await.unwrap();
    assert!(source.next(2 * short().ack_wait).await.unwrap().is_none(), "it came again");
}

#[tokio::test]
async fn one_subscription_serves_one_task_after_the_other() {
    let more = Monitor::CONFIGURATION.to_owned();
    let nats = TestNats::start_with(TestNatsOptions { more, ..Default::default() }).await;
    let (queue, pool, source) = pool_with_task(&nats).await;
    for chunk in 1..20 {
        Tasks::new(&queue).publish(&task(&pool, key(&job(1), chunk), "text"), None).await.unwrap();
    }
    let before = Monitor::of(&nats).subscriptions().await;
    let mut chunks = Vec::new();
    for _ in 0..20 {
        let delivery = source.next(PATIENCE).await.unwrap().unwrap();
        delivery.ack().await.unwrap();
        chunks.push(delivery.key.unwrap().chunk);
    }
    // An empty queue ends a pull too, and so does its time.
    assert!(source.try_next().await.unwrap().is_none());
    assert!(source.next(Duration::from_millis(100)).await.unwrap().is_none());
    assert_eq!(chunks, (0..20).collect::<Vec<_>>());
    assert_eq!(Monitor::of(&nats).subscriptions().await, before + 1);
}

#[tokio::test]
async fn what_comes_for_a_pull_that_was_given_up_comes_to_no_other_one() {
    let nats = TestNats::start().await;
    let (queue, pool, source) = pool_with_task(&nats).await;
    source.next(PATIENCE).await.unwrap().unwrap().ack().await.unwrap();
    let tasks = Tasks::new(&queue);
    let given_up = tokio::time::timeout(Duration::from_millis(50), source.next(PATIENCE)).await;
    assert!(given_up.is_err());
    for chunk in [7, 8] {
        tasks.publish(&task(&pool, key(&job(1), chunk), "text"), None).await.unwrap();
    }
    let delivery = soon("the task", source.next(PATIENCE)).await.unwrap().unwrap();
    assert_eq!(delivery.key.unwrap().chunk, 7);
    let depth = tasks.pool_depth(&pool).await.unwrap().unwrap();
    assert_eq!((depth.in_flight, depth.pending), (1, 1));
}
