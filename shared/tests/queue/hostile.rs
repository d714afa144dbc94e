//! Messages that somebody wrote who means harm, put into the real queue: they are read as errors or made
//! harmless, and hide no other message.

use async_nats::jetstream::Context;
use bytes::Bytes;
use qa_shared::model::{JobEntry, JobId, JobState, Outcome, PoolName, Provider, TaskResult};
use qa_shared::plain::is_unsafe;
use qa_shared::queue::{Jobs, Lease, LeaseHolder, Presence, Results, ResultsConsumer, TaskSource, Tasks};
use qa_shared::testing::TestNats;
use qa_shared::wire;
use serde_json::{Value, json};

use crate::fixtures::{PATIENCE, instance, job, key, raw, result, short};

/// Escape sequences, a bell, a return, a C1 introducer, an override of direction.
const STEERING: &str = "gpu\u{1b}]0;owned\u{7}\u{1b}[2J\rhost\u{9b}2J\u{202e}txt\nerror: all is lost";

/// Bodies that are no result, heartbeat, job or lease at all.
fn noise() -> Vec<(&'static str, Vec<u8>)> {
    let deep = |n: usize| "[".repeat(n) + &"]".repeat(n);
    let within = |body: String| format!(r#"{{"v":1,"body":{body}}}"#).into_bytes();
    vec![
        ("empty", Vec::new()),
        ("not UTF-8", b"{\"v\":1,\"body\":\"\xff\xfe\"}".to_vec()),
        ("no JSON", b"\x00\x1b[2J".to_vec()),
        ("deep", within(deep(200_000))),
        ("deep objects", within(r#"{"a":"#.repeat(100_000))),
        ("a list", within("[1,2]".to_owned())),
        ("null", within("null".to_owned())),
        ("a megabyte of text", within(format!("\"{}\"", "x".repeat(900_000)))),
        ("another version", br#"{"v":4294967295,"body":{}}"#.to_vec()),
        ("a negative version", br#"{"v":-1,"body":{}}"#.to_vec()),
        ("two versions", br#"{"v":1,"v":2,"body":{}}"#.to_vec()),
        ("numbers for texts", within(r#"{"key":1,"host":2,"servers":3,"job":4,"instance":5}"#.to_owned())),
        ("huge numbers", within(r#"{"asked":1e400,"attempts":-1}"#.to_owned())),
    ]
}

async fn put(js: &Context, subject: String, payload: impl Into<Bytes>) {
    js.publish(subject, payload.into()).await.unwrap().await.unwrap();
}

fn holder() -> LeaseHolder {
    LeaseHolder {
        instance: instance(1),
        host: "gpu1".to_owned(),
        directory: "/qa".to_owned(),
        pid: 1,
        lock: None,
    }
}

fn is_plain(text: &str) -> bool {
    !text.chars().any(is_unsafe)
}

#[tokio::test]
async fn noise_on_every_subject_is_an_error_and_hides_nothing() {
    let nats = TestNats::start().await;
    let queue = nats.queue(short()).await;
    let js = raw(&nats).await;
    let pool = PoolName::new("p");
    let tasks = Tasks::new(&queue);
    tasks.ensure_pool(&pool).await.unwrap();
    let noise = noise();
    for (number, (_, payload)) in (0..).zip(&noise) {
        let key = key(&job(1), number);
        put(&js, format!("qa.task.v1.{}.{key}", pool.token()), payload.clone()).await;
        put(&js, format!("qa.result.v1.{key}"), payload.clone()).await;
        put(&js, format!("$KV.QA_PRESENCE.worker.{}", instance(number).as_str()), payload.clone()).await;
        put(&js, format!("$KV.QA_JOBS.{}", job(number.into())), payload.clone()).await;
    }
    let good = result(key(&job(1), 99), "why");
    Results::new(&queue).publish(&good, None).await.unwrap();

    let consumer = ResultsConsumer::create(&queue, &job(1), 1).await.unwrap();
    let mut received = Vec::new();
    while received.len() <= noise.len() {
        received.extend(consumer.next_batch(100, PATIENCE).await.unwrap());
    }
    for one in &received[..noise.len()] {
        let (_, error) = (one.key.as_ref().unwrap(), one.result.as_ref().unwrap_err().to_string());
        assert!(error.len() < 400, "{} bytes: {:.400}", error.len(), error);
    }
    assert_eq!(received[noise.len()].result.as_ref().unwrap(), &good);

    let source = TaskSource::for_pool(&queue, &pool).await.unwrap().unwrap();
    for (name, payload) in &noise {
        let delivery = source.next(PATIENCE).await.unwrap().unwrap();
        assert_eq!(&delivery.payload, payload);
        assert!(wire::decode::<qa_shared::model::Task>(&delivery.payload).is_err(), "{name}");
    }
    assert!(Presence::new(&queue).workers().await.unwrap().is_empty());
    let jobs = Jobs::new(&queue);
    assert!(jobs.all().await.unwrap().is_empty());
    for (number, (_, payload)) in (0..).zip(&noise) {
        assert!(jobs.get(&job(number)).await.is_err());
        // An object takes a state, whatever else it is; nothing panics.
        drop(jobs.set_state(&job(number), JobState::Cancelled).await);
        // A lease that cannot be read is somebody's. It is stored here, since it expires soon.
        put(&js, format!("$KV.QA_PRESENCE.lease.{}", job(number)), payload.clone()).await;
        let error = Lease::acquire(&queue, &job(number), holder()).await.unwrap_err().to_string();
        assert!(error.contains("an unknown host"), "{error}");
    }
}

/// Puts a text in place of each one that is named.
fn steered(body: &mut Value, names: &[&str]) {
    match body {
        Value::Object(fields) => {
            for (name, value) in fields {
                if names.contains(&name.as_str()) {
                    *value = json!(STEERING.to_owned() + &"x".repeat(300_000));
                } else {
                    steered(value, names);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| steered(item, names)),
        _ => {}
    }
}

fn message(body: &Value) -> Vec<u8> {
    wire::encode(body).unwrap()
}

#[tokio::test]
async fn names_and_figures_of_others_are_made_harmless() {
    let nats = TestNats::start().await;
    let queue = nats.queue(short()).await;
    let js = raw(&nats).await;

    let server = json!({
        "url": "u", "provider": "local", "version": "v", "reachable": true, "problem": "p", "account": "a",
        "models": [{ "name": "m", "digest": "d" }], "slots": u32::MAX, "busy": u32::MAX, "finished": u64::MAX,
        "tokens_per_second": 1e308,
        "running": vec![json!({ "key": key(&job(1), 7), "for_ms": u64::MAX }); 700],
    });
    let mut body = json!({
        "instance": instance(1), "host": "h", "pid": 1, "version": "v", "servers": [server, server], "pools": [],
    });
    steered(&mut body, &["host", "url", "version", "problem", "account", "name", "digest"]);
    let subject = |random| format!("$KV.QA_PRESENCE.worker.{}", instance(random).as_str());
    // The message is larger than the server lets through when every text has its full length.
    let mut body = serde_json::to_string(&body).unwrap().replace(&"x".repeat(300_000), &"x".repeat(40_000));
    put(&js, subject(1), format!(r#"{{"v":1,"body":{body}}}"#)).await;
    // In the name of another, and of nobody.
    put(&js, subject(2), format!(r#"{{"v":1,"body":{body}}}"#)).await;
    body = body.replace(instance(1).as_str(), r"gpu\u001b[2J");
    put(&js, subject(3), format!(r#"{{"v":1,"body":{body}}}"#)).await;
    let workers = Presence::new(&queue).workers().await.unwrap();
    assert_eq!(workers.keys().collect::<Vec<_>>(), [&instance(1)]);
    let worker = &workers[&instance(1)];
    let one = &worker.servers[0];
    for text in [&worker.host, &worker.version, &one.url, one.problem.as_ref().unwrap(), &one.models[0].name]
    {
        assert!(is_plain(text) && text.chars().count() <= 4096, "{text:.200}");
    }
    assert_eq!((one.slots, one.busy, worker.servers[1].slots, worker.servers[1].busy), (1024, 1024, 0, 0));
    assert!(one.tokens_per_second <= 1e9);
    assert_eq!(one.running[0].for_ms, 7 * 24 * 3600 * 1000);
    // In sum over its servers.
    assert_eq!(worker.servers.iter().map(|server| server.running.len()).sum::<usize>(), 1024);

    let mut body = serde_json::to_value(result(key(&job(1), 0), "why")).unwrap();
    body["outcome"] = json!({ "status": "failed", "failure": { "reason": "other", "message": "m" } });
    body["server"] = json!("s");
    body["attempts"] = json!(u32::MAX);
    body["usage"]["input_tokens"] = json!(u64::MAX);
    steered(&mut body, &["host", "server", "message"]);
    put(&js, format!("qa.result.v1.{}", key(&job(1), 0)), message(&body)).await;
    let stored: TaskResult = Results::new(&queue).stored(&key(&job(1), 0)).await.unwrap().unwrap().unwrap();
    let Outcome::Failed { failure } = &stored.outcome else { panic!("it failed") };
    for text in [&stored.host, stored.server.as_ref().unwrap(), &failure.message] {
        assert!(is_plain(text) && text.chars().count() <= 4096, "{text:.200}");
    }
    assert!(stored.attempts <= 1_000_000 && stored.usage.input_tokens <= 1_000_000_000_000);

    let entry = JobEntry {
        job: job(1),
        state: JobState::Active,
        pool: PoolName::new(STEERING),
        provider: Provider::Local,
        model: STEERING.to_owned(),
        context_tokens: 1,
        num_ctx: None,
        host: STEERING.to_owned(),
        directory: STEERING.to_owned(),
        dropped: Vec::new(),
        updated_at_ms: 1,
    };
    Jobs::new(&queue).put(&entry).await.unwrap();
    let found = Jobs::new(&queue).get(&job(1)).await.unwrap().unwrap();
    assert!(is_plain(&found.host) && is_plain(&found.directory) && is_plain(&found.model));
    let lease = LeaseHolder { host: STEERING.to_owned(), ..holder() };
    Lease::acquire(&queue, &JobId::from_random(9), lease).await.unwrap();
    let seen = Lease::holder(&queue, &JobId::from_random(9)).await.unwrap().unwrap();
    assert!(is_plain(&seen.host), "{seen:?}");
}
