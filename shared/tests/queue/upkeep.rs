//! Streams, buckets and consumers that vanish or change while a run goes on: each alone.

use std::time::Duration;

use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::stream::RetentionPolicy;
use qa_shared::model::PoolName;
use qa_shared::queue::{Queue, ResultsConsumer, TaskSource, Tasks, Timing, TopologyError, Upkeep};
use qa_shared::testing::{NatsOperator, Shipped, TestNats};

use crate::fixtures::{job, key, raw, short, soon, task};
use crate::permissions::queue_of;

const STREAMS: [&str; 5] = ["QA_TASKS", "QA_RESULTS", "KV_QA_JOBS", "KV_QA_PRESENCE", "KV_QA_POISON"];

fn upkeep() -> Upkeep {
    Upkeep { pool: PoolName::new("p"), job: job(1), epoch: 7, shares: false }
}

/// A server with everything that a run needs.
async fn complete(nats: &TestNats, timing: Timing) -> Queue {
    let queue = nats.queue(timing).await;
    Tasks::new(&queue).ensure_pool(&upkeep().pool).await.unwrap();
    ResultsConsumer::create(&queue, &job(1), 7).await.unwrap();
    queue
}

async fn notes(queue: &Queue) -> Vec<String> {
    upkeep().ensure(queue).await.unwrap().iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn what_is_complete_is_left_alone() {
    let nats = TestNats::start().await;
    assert_eq!(notes(&complete(&nats, short()).await).await, Vec::<String>::new());
}

#[tokio::test]
async fn each_stream_and_bucket_is_made_again_alone() {
    let nats = TestNats::start().await;
    let queue = complete(&nats, short()).await;
    let operator = NatsOperator::new(&nats).await;
    for stream in STREAMS {
        operator.delete_stream(stream).await;
        let mended = notes(&queue).await;
        assert_eq!(mended[0], format!("stream {stream} was created"));
        // A stream of tasks takes its consumer along.
        assert_eq!(mended.len(), if stream == "QA_TASKS" { 2 } else { 1 }, "{mended:?}");
        assert_eq!(notes(&queue).await, Vec::<String>::new());
    }
    Tasks::new(&queue).publish(&task(&upkeep().pool, key(&job(1), 0), "text"), None).await.unwrap();
}

#[tokio::test]
async fn a_pools_consumer_is_made_again_and_delivers_what_its_source_asks_for() {
    let nats = TestNats::start().await;
    let queue = complete(&nats, short()).await;
    let source = TaskSource::for_pool(&queue, &upkeep().pool).await.unwrap().unwrap();
    Tasks::new(&queue).publish(&task(&upkeep().pool, key(&job(1), 0), "text"), None).await.unwrap();
    let name = NatsOperator::new(&nats).await.delete_consumer("QA_TASKS").await;
    assert!(source.next(Duration::from_secs(1)).await.is_err());
    assert_eq!(notes(&queue).await, [format!("consumer {name} of QA_TASKS was created")]);
    // The worker's own source, from before.
    let delivery = soon("a delivery", source.next(Duration::from_secs(20))).await.unwrap().unwrap();
    assert_eq!(delivery.key, Ok(key(&job(1), 0)));
}

#[tokio::test]
async fn a_results_consumer_is_left_to_whoever_receives_since_the_job_may_be_anothers_by_now() {
    let nats = TestNats::start().await;
    let queue = complete(&nats, short()).await;
    NatsOperator::new(&nats).await.delete_consumer("QA_RESULTS").await;
    assert_eq!(notes(&queue).await, Vec::<String>::new());
}

#[tokio::test]
async fn paused_consumers_are_resumed() {
    let nats = TestNats::start().await;
    let queue = complete(&nats, short()).await;
    let operator = NatsOperator::new(&nats).await;
    for stream in ["QA_TASKS", "QA_RESULTS"] {
        let name = operator.pause_consumer(stream).await;
        assert_eq!(notes(&queue).await, [format!("consumer {name} of {stream} was paused and is resumed")]);
        assert_eq!(notes(&queue).await, Vec::<String>::new());
    }
    // Also by a run that begins.
    operator.pause_consumer("QA_TASKS").await;
    Tasks::new(&queue).ensure_pool(&upkeep().pool).await.unwrap();
    assert_eq!(notes(&queue).await, Vec::<String>::new());
}

#[tokio::test]
async fn other_settings_are_changed_back_and_a_consumer_where_that_cannot_be_is_made_again() {
    let nats = TestNats::start().await;
    let queue = complete(&nats, short()).await;
    let stream = raw(&nats).await.get_stream("QA_TASKS").await.unwrap();
    let name = NatsOperator::new(&nats).await.consumer("QA_TASKS").await;
    let ours = pull::Config {
        durable_name: Some(name.clone()),
        filter_subject: format!("qa.task.v1.{}.>", upkeep().pool.token()),
        ack_wait: short().ack_wait,
        max_ack_pending: 10_000,
        max_waiting: 4096,
        ..pull::Config::default()
    };
    let hours = Duration::from_secs(3600);
    for (setting, changed) in [
        ("ack_wait", pull::Config { ack_wait: hours, ..ours.clone() }),
        ("max_ack_pending", pull::Config { max_ack_pending: 1, ..ours.clone() }),
        ("headers_only", pull::Config { headers_only: true, ..ours.clone() }),
        ("max_expires", pull::Config { max_expires: Duration::from_millis(1), ..ours.clone() }),
        ("max_deliver", pull::Config { max_deliver: 1, ..ours.clone() }),
        ("filter_subject", pull::Config { filter_subject: "qa.task.v1.x.>".to_owned(), ..ours.clone() }),
    ] {
        stream.create_consumer(changed).await.unwrap();
        let mended = notes(&queue).await;
        let start = format!("consumer {name} of QA_TASKS: {setting} was changed from ");
        assert!(mended.len() == 1 && mended[0].starts_with(&start), "{mended:?}");
    }
    stream.delete_consumer(&name).await.unwrap();
    stream.create_consumer(pull::Config { max_waiting: 1, ..ours }).await.unwrap();
    let mended = notes(&queue).await;
    assert!(mended.len() == 1 && mended[0].contains("max_waiting was changed from 1 to 4096"), "{mended:?}");
    assert_eq!(stream.consumer_info(&name).await.unwrap().config.max_waiting, 4096);

    let mut config = stream.get_info().await.unwrap().config;
    config.max_age = hours;
    raw(&nats).await.update_stream(config).await.unwrap();
    assert_eq!(notes(&queue).await, ["stream QA_TASKS: max_age was changed from 3600s to 0ns"]);
}

#[tokio::test]
async fn durations_of_other_jobs_at_work_stay_and_nothing_else_does() {
    let nats = TestNats::start().await;
    complete(&nats, Timing { presence_age: Duration::from_secs(9), ..Timing::default() }).await;
    let queue = nats.connect(short()).await;
    let shared = Upkeep { shares: true, epoch: 8, ..upkeep() };
    assert_eq!(shared.ensure(&queue).await.unwrap(), []);
    NatsOperator::new(&nats).await.pause_consumer("QA_TASKS").await;
    assert_eq!(shared.ensure(&queue).await.unwrap().len(), 1);
    let alone = Upkeep { shares: false, ..shared };
    let changed: Vec<_> = alone.ensure(&queue).await.unwrap().iter().map(ToString::to_string).collect();
    assert!(
        changed.len() == 2 && changed[0].contains("max_age") && changed[1].contains("ack_wait"),
        "{changed:?}"
    );
}

#[tokio::test]
async fn a_stream_that_cannot_be_changed_is_named_with_the_command_that_helps() {
    let nats = TestNats::start().await;
    let queue = complete(&nats, short()).await;
    let context = raw(&nats).await;
    let mut config = context.get_stream("QA_TASKS").await.unwrap().cached_info().config.clone();
    context.delete_stream("QA_TASKS").await.unwrap();
    config.retention = RetentionPolicy::Limits;
    context.create_stream(config).await.unwrap();
    let error = upkeep().ensure(&queue).await.unwrap_err();
    assert!(matches!(error, TopologyError::Incompatible { .. }), "{error}");
    assert!(error.to_string().contains("nats stream rm QA_TASKS"), "{error}");
}

#[tokio::test]
async fn the_shipped_permissions_allow_all_of_it() {
    let nats = TestNats::shipped().await;
    let queue = queue_of(&nats, Shipped::Coordinator, short()).await;
    assert_eq!(upkeep().ensure(&queue).await.unwrap().len(), 6);
    let name = format!("pool-{}", upkeep().pool.token());
    let (client, _says) = crate::permissions::attacker(&nats, Shipped::Operator).await;
    let stream = async_nats::jetstream::new(client).get_stream("QA_TASKS").await.unwrap();
    let until = std::time::SystemTime::from(qa_shared::clock::now() + Duration::from_secs(3600)).into();
    stream.pause_consumer(&name, until).await.unwrap();
    assert_eq!(notes(&queue).await.len(), 1, "resumed");
    let mut config = stream.consumer_info(&name).await.unwrap().config;
    stream.delete_consumer(&name).await.unwrap();
    config.max_waiting = 1;
    let filter_subject = config.filter_subject;
    let changed =
        pull::Config { durable_name: Some(name), filter_subject, max_waiting: 1, ..Default::default() };
    stream.create_consumer(changed).await.unwrap();
    assert!(!notes(&queue).await.is_empty(), "made again");
    assert_eq!(notes(&queue).await, Vec::<String>::new());
}
