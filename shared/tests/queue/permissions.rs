//! The configuration in `deploy/nats`: what each user is refused, one attempt at a time, against a server that
//! runs with exactly that file. That everything else works is shown by a whole job in the end-to-end tests.

use std::time::Duration;

use async_nats::jetstream::{self, stream};
use async_nats::{Client, Event, HeaderMap};
use qa_shared::model::{JobId, PoolName};
use qa_shared::queue::{ConnectOptions, Queue, QueueError, Results, Tasks, Timing, ensure};
use qa_shared::secret::Secret;
use qa_shared::testing::{Shipped, TestNats};
use tokio::sync::mpsc;

use crate::fixtures::{instance, job, key, result, short, soon, task};

const STREAMS: [&str; 5] = ["QA_TASKS", "QA_RESULTS", "KV_QA_JOBS", "KV_QA_PRESENCE", "KV_QA_POISON"];

fn options(nats: &TestNats, who: Shipped) -> ConnectOptions {
    let program = who.user();
    ConnectOptions {
        url: nats.url(),
        name: "test".to_owned(),
        inbox_prefix: Some(format!("_INBOX.{program}")),
        user: Some(program.to_owned()),
        password: Some(Secret::new(who.password())),
        ..ConnectOptions::default()
    }
}

pub(crate) async fn queue_of(nats: &TestNats, who: Shipped, timing: Timing) -> Queue {
    Queue::connect(&options(nats, who), timing).await.unwrap()
}

/// A client that may try anything, and what the server says to it.
pub(crate) async fn attacker(nats: &TestNats, who: Shipped) -> (Client, mpsc::UnboundedReceiver<String>) {
    let (said, says) = mpsc::unbounded_channel();
    let client = async_nats::ConnectOptions::new()
        .user_and_password(who.user().to_owned(), who.password().to_owned())
        .custom_inbox_prefix(format!("_INBOX.{}", who.user()))
        .event_callback(move |event| {
            if let Event::ServerError(error) = event {
                drop(said.send(error.to_string()));
            }
            async {}
        })
        .connect(nats.url())
        .await
        .unwrap();
    (client, says)
}

/// A server with streams, one queued task, one stored result and a heartbeat.
async fn at_work(nats: &TestNats) -> (JobId, PoolName) {
    let coordinator = queue_of(nats, Shipped::Coordinator, short()).await;
    ensure(&coordinator, None).await.unwrap();
    let (job, pool) = (job(1), PoolName::new("p"));
    let tasks = Tasks::new(&coordinator);
    tasks.ensure_pool(&pool).await.unwrap();
    tasks.publish(&task(&pool, key(&job, 0), "text"), None).await.unwrap();
    let worker = queue_of(nats, Shipped::Worker, short()).await;
    Results::new(&worker).publish(&result(key(&job, 1), "why"), None).await.unwrap();
    (job, pool)
}

/// Everything that the streams hold and are.
async fn state(nats: &TestNats) -> Vec<(stream::Config, u64, u64)> {
    let (client, _) = attacker(nats, Shipped::Operator).await;
    let context = jetstream::new(client);
    let mut all = Vec::new();
    for name in STREAMS {
        let info = context.get_stream(name).await.unwrap().cached_info().clone();
        all.push((info.config, info.state.messages, info.state.last_sequence));
    }
    all
}

/// Publications that are refused to either program: destruction, and what they have no use for.
fn refused_to_both(job: &JobId) -> Vec<String> {
    let mut subjects = vec![
        "$JS.API.STREAM.CREATE.OTHER".to_owned(),
        "$JS.API.STREAM.NAMES".to_owned(),
        "$JS.API.STREAM.LIST".to_owned(),
        "$JS.API.CONSUMER.CREATE.KV_QA_JOBS.x".to_owned(),
        "$JS.API.CONSUMER.DURABLE.CREATE.QA_RESULTS.x".to_owned(),
        "$JS.API.STREAM.MSG.DELETE.QA_RESULTS".to_owned(),
        "$JS.API.STREAM.MSG.DELETE.KV_QA_JOBS".to_owned(),
        "$JS.API.ACCOUNT.PURGE.QA".to_owned(),
        "$SYS.REQ.SERVER.PING".to_owned(),
        "anything.else".to_owned(),
        format!("$KV.QA_PRESENCE.other.{job}"),
    ];
    for stream in STREAMS {
        for verb in
            ["STREAM.DELETE", "STREAM.SNAPSHOT", "STREAM.RESTORE", "STREAM.LEADER.STEPDOWN", "DIRECT.GET"]
        {
            subjects.push(format!("$JS.API.{verb}.{stream}"));
        }
    }
    subjects
}

fn refused_to_worker(job: &JobId, pool: &PoolName) -> Vec<String> {
    let mut subjects = vec![
        format!("qa.task.v1.{}.{}", pool.token(), key(job, 7)),
        "$JS.API.CONSUMER.CREATE.QA_TASKS.mine".to_owned(),
        format!("$JS.API.CONSUMER.CREATE.QA_TASKS.mine.qa.task.v1.{}.>", pool.token()),
        format!("$JS.API.CONSUMER.CREATE.QA_RESULTS.mine.qa.result.v1.{job}.>"),
        format!("$JS.API.CONSUMER.MSG.NEXT.QA_RESULTS.results-{job}-1"),
        format!("$JS.API.CONSUMER.DELETE.QA_RESULTS.results-{job}-1"),
        format!("$JS.API.CONSUMER.DELETE.QA_TASKS.pool-{}", pool.token()),
        format!("$JS.API.CONSUMER.PAUSE.QA_TASKS.pool-{}", pool.token()),
        "$JS.API.CONSUMER.NAMES.QA_RESULTS".to_owned(),
        "$JS.API.STREAM.MSG.DELETE.QA_TASKS".to_owned(),
        "$JS.API.STREAM.MSG.GET.QA_TASKS".to_owned(),
        format!("$JS.ACK.QA_RESULTS.results-{job}-1.1.1.1.1.0"),
        format!("$JS.ACK._.hash.QA_RESULTS.results-{job}-1.1.1.1.1.0.token"),
        // In the older form the fifth token is a number: this is no way around.
        format!("$JS.ACK.QA_RESULTS.results-{job}-1.QA_TASKS.1.1.1.0"),
        format!("$KV.QA_JOBS.{job}"),
        format!("$KV.QA_PRESENCE.lease.{job}"),
        "_INBOX.qa-coordinator.guess.1".to_owned(),
    ];
    for stream in STREAMS {
        for verb in ["STREAM.CREATE", "STREAM.UPDATE", "STREAM.PURGE"] {
            subjects.push(format!("$JS.API.{verb}.{stream}"));
        }
    }
    subjects
}

fn refused_to_coordinator(job: &JobId, pool: &PoolName) -> Vec<String> {
    vec![
        format!("qa.result.v1.{}", key(job, 7)),
        format!("$JS.API.CONSUMER.MSG.NEXT.QA_TASKS.pool-{}", pool.token()),
        format!("$JS.ACK.QA_TASKS.pool-{}.1.1.1.1.0", pool.token()),
        format!("$KV.QA_PRESENCE.worker.{}", instance(1).as_str()),
        format!("$KV.QA_POISON.{}.x", key(job, 7)),
        "_INBOX.qa-worker.guess.1".to_owned(),
    ]
}

/// A JetStream request that would succeed if it were permitted.
fn body(subject: &str, job: &JobId) -> String {
    match subject {
        "$JS.API.STREAM.MSG.DELETE.QA_TASKS" => r#"{"seq":1}"#.to_owned(),
        _ if subject.contains("CONSUMER.CREATE") => {
            let stream = subject.split('.').nth(4).unwrap();
            let filter = format!("qa.result.v1.{job}.>");
            format!(
                r#"{{"stream_name":"{stream}","config":{{"durable_name":"mine","ack_policy":"explicit","filter_subject":"{filter}"}}}}"#
            )
        }
        _ => String::new(),
    }
}

#[tokio::test]
async fn each_program_is_refused_what_is_not_its_business() {
    let nats = TestNats::shipped().await;
    let (job, pool) = at_work(&nats).await;
    let before = state(&nats).await;
    for (who, own) in [
        (Shipped::Worker, refused_to_worker(&job, &pool)),
        (Shipped::Coordinator, refused_to_coordinator(&job, &pool)),
    ] {
        let (client, mut says) = attacker(&nats, who).await;
        for subject in refused_to_both(&job).into_iter().chain(own) {
            let reply = client.new_inbox();
            client.publish_with_reply(subject.clone(), reply, body(&subject, &job).into()).await.unwrap();
            let said = soon(&format!("a refusal of {subject} to {who:?}"), says.recv()).await.unwrap();
            assert!(said.contains(&format!("Permissions Violation for Publish to \"{subject}\"")), "{said}");
        }
        let other = if who == Shipped::Worker { "qa-coordinator" } else { "qa-worker" };
        let foreign = format!("_INBOX.{other}.>");
        for subject in [">", "_INBOX.>", &foreign, "qa.>", "qa.task.v1.>", "qa.result.v1.>", "$JS.>", "$KV.>"]
        {
            // The handle stays until the server has answered.
            let _subscription = client.subscribe(subject.to_owned()).await.unwrap();
            let said = soon(&format!("a refusal of {subject} to {who:?}"), says.recv()).await.unwrap();
            let expected = format!("Permissions Violation for Subscription to \"{subject}\"");
            assert!(said.contains(&expected), "{said}");
        }
    }
    assert_eq!(state(&nats).await, before);
}

#[tokio::test]
async fn headers_and_reply_subjects_are_no_way_around() {
    let nats = TestNats::shipped().await;
    let (job, pool) = at_work(&nats).await;
    let (client, _says) = attacker(&nats, Shipped::Worker).await;
    let coordinator = queue_of(&nats, Shipped::Coordinator, short()).await;
    let before = state(&nats).await;

    // A roll-up of the whole bucket would remove the leases of all jobs.
    let own = format!("$KV.QA_PRESENCE.worker.{}", instance(1).as_str());
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Rollup", "all");
    let context = jetstream::new(client.clone());
    let published = context.publish_with_headers(own, headers, "x".into()).await.unwrap().await;
    assert!(published.is_err(), "{published:?}");

    // What the server sends to a reply subject would count there like any message: an answer as a task or as a
    // request to remove everything, a task as a job.
    let next = format!("$JS.API.CONSUMER.MSG.NEXT.QA_TASKS.pool-{}", pool.token());
    for reply in [
        format!("qa.task.v1.{}.{}", pool.token(), key(&job, 9)),
        format!("$KV.QA_JOBS.{job}"),
        "$JS.API.STREAM.PURGE.QA_TASKS".to_owned(),
        "$JS.API.STREAM.DELETE.QA_RESULTS".to_owned(),
    ] {
        for subject in ["$JS.API.INFO", "$JS.API.STREAM.INFO.KV_QA_JOBS", &next] {
            client.publish_with_reply(subject.to_owned(), reply.clone(), "".into()).await.unwrap();
        }
    }
    // Handled after all of these.
    context.query_account().await.unwrap();
    Tasks::new(&coordinator).pool_depth(&pool).await.unwrap();
    assert_eq!(state(&nats).await, before);
}

#[tokio::test]
async fn a_missing_permission_is_told_at_once_by_its_subject() {
    let nats = TestNats::shipped().await;
    let (job, pool) = at_work(&nats).await;
    // Each of these would wait for this long if the refusal were not seen.
    let patient = Timing { request: Duration::from_secs(600), ..short() };
    let worker = queue_of(&nats, Shipped::Worker, patient).await;
    let refusals = [
        soon("a refusal", ensure(&worker, None)).await.unwrap_err().to_string(),
        soon("a refusal", Tasks::new(&worker).purge_job(&job)).await.unwrap_err().to_string(),
        soon("a refusal", Tasks::new(&worker).is_stored(&pool, &key(&job, 0))).await.unwrap_err().to_string(),
        soon("a refusal", Tasks::new(&worker).publish(&task(&pool, key(&job, 5), "t"), None))
            .await
            .unwrap_err()
            .to_string(),
    ];
    for (text, subject) in refusals.iter().zip([
        "$JS.API.STREAM.INFO.QA_TASKS",
        "$JS.API.STREAM.PURGE.QA_TASKS",
        "$JS.API.STREAM.MSG.GET.QA_TASKS",
        "qa.task.v1.",
    ]) {
        assert!(text.contains("no permission to publish to") && text.contains(subject), "{text}");
    }
    let error = ensure(&worker, None).await.unwrap_err();
    assert!(matches!(error, qa_shared::queue::TopologyError::Queue(QueueError::Refused { .. })), "{error}");
}
