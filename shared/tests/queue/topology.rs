//! Streams and consumers that are there already: used, migrated or refused.

use std::time::Duration;

use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::stream::{Config, RetentionPolicy};
use qa_shared::model::PoolName;
use qa_shared::queue::{QueueError, Tasks, Timing, TopologyError, TopologyNote, ensure};
use qa_shared::testing::TestNats;

use crate::fixtures::{job, key, raw, short, task};

#[tokio::test]
async fn everything_is_created_once() {
    let nats = TestNats::start().await;
    let queue = nats.connect(short()).await;
    let notes = ensure(&queue, None).await.unwrap();
    assert_eq!(notes.len(), 5);
    assert!(notes.iter().all(|note| matches!(note, TopologyNote::Created { .. })), "{notes:?}");
    assert_eq!(ensure(&queue, None).await.unwrap(), []);
    assert_eq!(ensure(&queue, Some(1)).await.unwrap(), []);
}

#[tokio::test]
async fn coordinators_that_start_at_the_same_time_agree() {
    let nats = TestNats::start().await;
    let queues = [nats.connect(short()).await, nats.connect(short()).await, nats.connect(short()).await];
    let [a, b, c] = &queues;
    let (a, b, c) = tokio::join!(ensure(a, None), ensure(b, None), ensure(c, None));
    assert!(a.is_ok() && b.is_ok() && c.is_ok(), "{a:?} {b:?} {c:?}");
}

#[tokio::test]
async fn what_the_server_can_change_is_migrated_and_keeps_its_messages() {
    let nats = TestNats::start().await;
    let js = raw(&nats).await;
    js.create_stream(Config {
        name: "QA_TASKS".to_owned(),
        subjects: vec!["qa.task.v1.>".to_owned()],
        retention: RetentionPolicy::WorkQueue,
        max_age: Duration::from_secs(3600),
        max_bytes: 1_000_000,
        ..Config::default()
    })
    .await
    .unwrap();
    let queue = nats.connect(short()).await;
    let pool = PoolName::new("p");
    let tasks = Tasks::new(&queue);
    tasks.publish(&task(&pool, key(&job(1), 0), "text"), None).await.unwrap();

    let notes = ensure(&queue, None).await.unwrap();
    let migrated: Vec<String> = notes
        .iter()
        .filter(|note| matches!(note, TopologyNote::Migrated { .. }))
        .map(ToString::to_string)
        .collect();
    assert!(migrated.iter().any(|note| note.contains("max_age") && note.contains("3600s")), "{migrated:?}");
    assert_eq!(tasks.stored(&job(1)).await.unwrap().len(), 1);
    let config = js.get_stream("QA_TASKS").await.unwrap().cached_info().config.clone();
    assert_eq!(config.max_age, Duration::ZERO);
    assert_eq!((config.max_messages_per_subject, config.discard_new_per_subject), (1, true));
    assert_eq!(config.max_bytes, 1_000_000, "the operator's limit stays");
    assert_eq!(ensure(&queue, None).await.unwrap(), []);
}

#[tokio::test]
async fn other_durations_of_a_fleet_are_taken_over() {
    let nats = TestNats::start().await;
    nats.queue(Timing::default()).await;
    let queue = nats.connect(short()).await;
    let notes = ensure(&queue, None).await.unwrap();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].to_string().starts_with("stream KV_QA_PRESENCE: max_age"), "{}", notes[0]);
}

#[tokio::test]
async fn what_the_server_cannot_change_is_refused_with_the_command_that_helps() {
    let nats = TestNats::start().await;
    raw(&nats)
        .await
        .create_stream(Config {
            name: "QA_RESULTS".to_owned(),
            subjects: vec!["qa.result.v1.>".to_owned()],
            ..Config::default()
        })
        .await
        .unwrap();
    let error = ensure(&nats.connect(short()).await, None).await.unwrap_err();
    assert!(matches!(error, TopologyError::Incompatible { .. }), "{error}");
    let text = error.to_string();
    for part in ["QA_RESULTS", "retention", "Limits", "WorkQueue", "nats stream rm QA_RESULTS"] {
        assert!(text.contains(part), "{part} is missing in: {text}");
    }
}

#[tokio::test]
async fn more_replicas_than_servers_are_refused_in_the_servers_words() {
    let nats = TestNats::start().await;
    let error = ensure(&nats.connect(short()).await, Some(3)).await.unwrap_err();
    assert!(matches!(error, TopologyError::Queue(QueueError::Refused { .. })), "{error}");
    assert!(error.to_string().contains("replicas > 1"), "{error}");
}

#[tokio::test]
async fn a_foreign_stream_on_our_subjects_is_refused() {
    let nats = TestNats::start().await;
    let foreign = Config { name: "OTHER".to_owned(), subjects: vec!["qa.>".to_owned()], ..Config::default() };
    raw(&nats).await.create_stream(foreign).await.unwrap();
    let error = ensure(&nats.connect(short()).await, None).await.unwrap_err();
    assert!(error.to_string().contains("overlap"), "{error}");
}

#[tokio::test]
async fn a_pools_consumer_is_brought_in_order_or_refused() {
    let nats = TestNats::start().await;
    let queue = nats.queue(short()).await;
    let tasks = Tasks::new(&queue);
    let pool = PoolName::new("p");
    tasks.ensure_pool(&pool).await.unwrap();
    let stream = raw(&nats).await.get_stream("QA_TASKS").await.unwrap();
    let name = format!("pool-{}", pool.token());
    let ours = stream.consumer_info(&name).await.unwrap().config;
    assert_eq!((ours.ack_wait, ours.max_ack_pending, ours.max_waiting), (short().ack_wait, 10_000, 4096));

    let consumer = |max_waiting, ack_wait| pull::Config {
        durable_name: Some(name.clone()),
        filter_subject: format!("qa.task.v1.{}.>", pool.token()),
        ack_wait,
        max_waiting,
        ..pull::Config::default()
    };
    stream.create_consumer(consumer(4096, Duration::from_secs(7))).await.unwrap();
    tasks.ensure_pool(&pool).await.unwrap();
    assert_eq!(stream.consumer_info(&name).await.unwrap().config.ack_wait, short().ack_wait);

    stream.delete_consumer(&name).await.unwrap();
    stream.create_consumer(consumer(1, short().ack_wait)).await.unwrap();
    let error = tasks.ensure_pool(&pool).await.unwrap_err().to_string();
    assert!(error.contains("max_waiting") && error.contains("nats consumer rm"), "{error}");
}
