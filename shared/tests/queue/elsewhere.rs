//! Queue servers that are not one's own: a JetStream domain behind a leaf node, WebSockets, accounts with limits.

use std::time::Duration;

use qa_shared::model::PoolName;
use qa_shared::queue::{
    ConnectOptions, Jobs, Lease, LeaseHolder, Presence, Queue, Results, ResultsConsumer, TaskSource, Tasks,
    ensure,
};
use qa_shared::testing::certificates::Authority;
use qa_shared::testing::{NatsOperator, TestNats, TestNatsOptions};

use crate::fixtures::{instance, job, key, raw, result, short, soon, task, until};

fn to(url: String) -> ConnectOptions {
    ConnectOptions { url, name: "test".to_owned(), ..ConnectOptions::default() }
}

/// A task goes out, is done, and its result comes back, as in a run.
async fn works(queue: &Queue) {
    ensure(queue, None).await.unwrap();
    let (pool, job) = (PoolName::new("p"), job(1));
    let tasks = Tasks::new(queue);
    tasks.ensure_pool(&pool).await.unwrap();
    let holder = LeaseHolder {
        instance: instance(1),
        host: "h".to_owned(),
        directory: "d".to_owned(),
        pid: 1,
        lock: None,
    };
    let mut acquired = Lease::acquire(queue, &job, holder).await.unwrap();
    let results = ResultsConsumer::create(queue, &job, acquired.epoch).await.unwrap();
    tasks.publish(&task(&pool, key(&job, 0), "text"), None).await.unwrap();
    let source = TaskSource::for_pool(queue, &pool).await.unwrap().unwrap();
    let delivery = soon("a delivery", source.next(Duration::from_secs(20))).await.unwrap().unwrap();
    assert_eq!(delivery.key, Ok(key(&job, 0)));
    Results::new(queue).publish(&result(key(&job, 0), "why"), None).await.unwrap();
    delivery.ack().await.unwrap();
    let received = soon("a result", results.next_batch(1, Duration::from_secs(20))).await.unwrap();
    results.ack(&received[0].receipt).await.unwrap();
    assert!(tasks.stored(&job).await.unwrap().is_empty());
    acquired.lease.renew().await.unwrap();
    acquired.lease.release().await.unwrap();
    assert!(Presence::new(queue).workers().await.unwrap().is_empty());
    assert!(Jobs::new(queue).all().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_domain_behind_a_leaf_node_carries_a_whole_run() {
    let more = "leafnodes { listen: \"127.0.0.1:-1\" }\n".to_owned();
    let domain = Some("hub".to_owned());
    let hub = TestNats::start_with(TestNatsOptions { more, domain, ..TestNatsOptions::default() }).await;
    let more = format!("leafnodes {{ remotes: [{{ url: \"{}\" }}] }}\n", hub.leaf_url());
    let domain = Some("leaf".to_owned());
    let leaf = TestNats::start_with(TestNatsOptions { more, domain, ..TestNatsOptions::default() }).await;
    let (there, here) = (NatsOperator::new(&hub).await, NatsOperator::new(&leaf).await);
    // The leaf node connects to its hub by itself.
    until("the hub's domain", async || {
        let domain = Some("hub".to_owned());
        Queue::connect(&ConnectOptions { domain, ..to(leaf.url()) }, short()).await.ok().map(drop)
    })
    .await;
    let domain = Some("hub".to_owned());
    let queue = Queue::connect(&ConnectOptions { domain, ..to(leaf.url()) }, short()).await.unwrap();
    works(&queue).await;
    assert!(there.has_stream("QA_TASKS").await && !here.has_stream("QA_TASKS").await, "it is in the hub");
    let domain = Some("other".to_owned());
    let wrong =
        Queue::connect(&ConnectOptions { domain, ..to(leaf.url()) }, short()).await.map(drop).unwrap_err();
    assert!(wrong.to_string().contains("has no JetStream domain `other`"), "{wrong}");
}

#[tokio::test]
async fn web_sockets_carry_a_whole_run() {
    let more = "websocket { listen: \"127.0.0.1:-1\", no_tls: true }\n".to_owned();
    let nats = TestNats::start_with(TestNatsOptions { more, ..TestNatsOptions::default() }).await;
    let url = nats.other_url("websocket");
    assert!(url.starts_with("ws://"), "{url}");
    works(&Queue::connect(&to(url), short()).await.unwrap()).await;
}

#[tokio::test]
async fn web_sockets_over_tls_carry_a_whole_run() {
    let folder = qa_shared::testing::temporary_folder();
    let authority = Authority::new("qa-fleet test authority");
    let files = authority.issue(folder.path(), "server", &["127.0.0.1"]);
    let more = format!(
        "websocket {{ listen: \"127.0.0.1:-1\", tls {{ cert_file: \"{}\", key_file: \"{}\" }} }}\n",
        files.certificate.display(),
        files.key.display()
    );
    let nats = TestNats::start_with(TestNatsOptions { more, ..TestNatsOptions::default() }).await;
    let url = nats.other_url("websocket");
    assert!(url.starts_with("wss://"), "{url}");
    let tls_ca = Some(authority.write(folder.path(), "authority.pem"));
    works(&Queue::connect(&ConnectOptions { tls_ca, ..to(url.clone()) }, short()).await.unwrap()).await;
    let unknown = Queue::connect(&to(url), short()).await.map(drop).unwrap_err();
    assert!(unknown.to_string().contains("certificate"), "{unknown}");
}

#[tokio::test]
async fn an_account_that_demands_a_size_for_each_stream_gets_it_and_is_named_where_none_is_set() {
    let more = "accounts { A { jetstream { max_file: 100M, max_bytes_required: true }, \
                users: [{ user: a, password: a }] } }\nno_auth_user: a\n";
    let nats =
        TestNats::start_with(TestNatsOptions { more: more.to_owned(), ..TestNatsOptions::default() }).await;
    let queue = Queue::connect(&to(nats.url()), short()).await.unwrap();
    let refused = ensure(&queue, None).await.unwrap_err().to_string();
    assert!(refused.contains("QA_NATS_MAX_BYTES"), "{refused}");
    let sized = |max_bytes| ConnectOptions { max_bytes: Some(max_bytes), ..to(nats.url()) };
    let queue = Queue::connect(&sized(10 << 20), short()).await.unwrap();
    works(&queue).await;
    let config = raw(&nats).await.get_stream("QA_TASKS").await.unwrap().cached_info().config.clone();
    assert_eq!(config.max_bytes, 10 << 20);
    // Another size changes what is there; none leaves it.
    let queue = Queue::connect(&sized(5 << 20), short()).await.unwrap();
    assert_eq!(ensure(&queue, None).await.unwrap().len(), 5);
    let queue = Queue::connect(&to(nats.url()), short()).await.unwrap();
    assert_eq!(ensure(&queue, None).await.unwrap(), []);
}

#[tokio::test]
async fn the_documents_say_how_many_streams_and_consumers_a_run_needs() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/nats/README.md");
    let text = std::fs::read_to_string(path).unwrap();
    let row = |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap_or_default();
    let nats = TestNats::start().await;
    let queue = nats.queue(short()).await;
    let operator = NatsOperator::new(&nats).await;
    let streams = operator.streams().await;
    assert!(row("| streams |").contains(&format!("| {}: ", streams.len())), "{streams:?}");
    for stream in &streams {
        assert!(row("| streams |").contains(&format!("`{stream}`")), "{stream}");
    }
    // One consumer for each pool, one for each job, and no other.
    for name in ["p", "q"] {
        Tasks::new(&queue).ensure_pool(&PoolName::new(name)).await.unwrap();
    }
    let consumer = ResultsConsumer::create(&queue, &job(1), 1).await.unwrap();
    let _watched = (Presence::new(&queue).watch(), Jobs::new(&queue).watch());
    works(&queue).await;
    let mut found = Vec::new();
    for stream in &streams {
        for consumer in operator.consumers(stream).await {
            assert!(
                row(&format!("| consumers of `{stream}` |")).contains(consumer.split('-').next().unwrap())
            );
            found.push(consumer);
        }
    }
    // That of the first job was replaced by the one that `works` made for it.
    assert_eq!(found.len(), 3, "two pools and one job: {found:?}");
    drop(consumer);
}
