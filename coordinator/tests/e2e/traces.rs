//! One trace per chunk, whole across all processes, whatever happens on the way.

use std::collections::{BTreeMap, BTreeSet};

use qa_shared::model::{DocumentName, TaskKey};
use qa_shared::queue::{Tasks, Timing};
use qa_shared::testing::TestNats;
use qa_shared::testing::fake_ollama::{Behaviour, FakeConfig, FakeOllama};
use qa_shared::testing::otlp_receiver::{OtlpReceiver, ReceivedSpan};

use crate::command_line::Line;
use crate::documents::Document;
use crate::site::Site;

const INTERNAL: i32 = 1;
const CLIENT: i32 = 3;
const PRODUCER: i32 = 4;
const CONSUMER: i32 = 5;

fn key(site: &Site, document: &str, chunk: u32) -> TaskKey {
    TaskKey { job: site.job(), document: DocumentName::new(document).token(), chunk, round: 1 }
}

/// The spans of a chunk's trace, in the order in which they began.
fn trace_of<'a>(spans: &'a [ReceivedSpan], key: &TaskKey) -> Vec<&'a ReceivedSpan> {
    let id = key.trace_id().to_string();
    let mut found: Vec<_> = spans.iter().filter(|span| span.trace == id).collect();
    found.sort_by_key(|span| span.start);
    found
}

fn named<'a>(trace: &[&'a ReceivedSpan], name: &str) -> Vec<&'a ReceivedSpan> {
    trace.iter().copied().filter(|span| span.name == name).collect()
}

fn only<'a>(trace: &[&'a ReceivedSpan], name: &str) -> &'a ReceivedSpan {
    let found = named(trace, name);
    assert_eq!(found.len(), 1, "{name} in {trace:#?}");
    found[0]
}

/// Checks a trace in which everything went well at the first try.
fn check_whole(trace: &[&ReceivedSpan], key: &TaskKey, document: &str, links: &BTreeSet<(String, String)>) {
    let names: Vec<_> = trace.iter().map(|span| span.name.as_str()).collect();
    let phases = ["generate", "read prompt", "load model"];
    let steps: BTreeSet<_> = names.iter().copied().filter(|name| !phases.contains(name)).collect();
    let expected =
        ["publish QA_TASKS", "queue wait", "process QA_TASKS", "chat qwen3:8b", "apply QA_RESULTS"];
    assert_eq!(steps, BTreeSet::from(expected), "{trace:#?}");
    let publish = only(trace, "publish QA_TASKS");
    let (wait, process) = (only(trace, "queue wait"), only(trace, "process QA_TASKS"));
    let (chat, apply) = (only(trace, "chat qwen3:8b"), only(trace, "apply QA_RESULTS"));
    assert_eq!(publish.id, format!("{:016x}", key.root_span_id()));
    let parents: Vec<_> = [publish, wait, process, chat, apply].map(|span| span.parent.as_str()).into();
    assert_eq!(parents, ["", &publish.id, &publish.id, &process.id, &process.id]);
    let kinds = [publish, wait, process, chat, apply].map(|span| span.kind);
    assert_eq!(kinds, [PRODUCER, INTERNAL, CONSUMER, CLIENT, CONSUMER]);
    let services = [publish, wait, process, chat, apply].map(ReceivedSpan::service);
    assert_eq!(services, ["qa-coordinator", "qa-worker", "qa-worker", "qa-worker", "qa-coordinator"]);
    for phase in trace.iter().filter(|span| phases.contains(&span.name.as_str())) {
        assert_eq!(phase.parent, chat.id);
        assert!(phase.start >= chat.start && phase.end <= chat.end, "{phase:#?} in {chat:#?}");
    }
    for span in [publish, apply] {
        let found: BTreeSet<_> = span.links.iter().cloned().collect();
        assert_eq!(found.len(), 2, "run and document: {span:#?}");
        assert!(found.is_subset(links), "{span:#?} is linked to spans that are not there");
    }
    for span in [publish, process, apply] {
        for (name, value) in [
            ("messaging.system", "nats"),
            ("messaging.message.id", &key.to_string()),
            ("qa.job", key.job.as_str()),
            ("qa.chunk", &key.chunk.to_string()),
            ("qa.round", "1"),
        ] {
            assert_eq!(span.get(name), value, "{name} of {span:#?}");
        }
    }
    assert_eq!(publish.get("qa.document"), document);
    for (span, name, kind, stream) in [
        (publish, "publish", "send", "QA_TASKS"),
        (process, "process", "process", "QA_TASKS"),
        (apply, "apply", "process", "QA_RESULTS"),
    ] {
        assert_eq!(span.get("messaging.operation.name"), name);
        assert_eq!(span.get("messaging.operation.type"), kind);
        assert_eq!(span.get("messaging.destination.name"), stream);
        assert!(span.get("messaging.destination.template").contains("{chunk}"));
    }
    assert_eq!((process.get("qa.delivery"), process.get("qa.outcome")), ("1", "completed"));
    assert_eq!((apply.get("qa.outcome"), apply.get("qa.duplicate")), ("completed", ""));
    assert_ne!(process.get("messaging.consumer.group.name"), "");
    for (name, value) in [
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.provider.name", "ollama"),
        ("gen_ai.request.model", "qwen3:8b"),
        ("gen_ai.request.temperature", "0.7"),
        ("gen_ai.request.max_tokens", "2000"),
        ("gen_ai.response.model", "qwen3:8b"),
        ("gen_ai.response.finish_reasons", "stop"),
        ("server.address", "127.0.0.1"),
        ("gen_ai.input.messages", ""),
        ("gen_ai.output.messages", ""),
        ("error.type", ""),
    ] {
        assert_eq!(chat.get(name), value, "{name} of {chat:#?}");
    }
    for name in ["gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens", "server.port"] {
        assert!(chat.get(name).parse::<u64>().unwrap() > 0, "{name} of {chat:#?}");
    }
    assert!(trace.iter().all(|span| span.error.is_none() && span.is_sampled && span.end >= span.start));
}

#[tokio::test]
async fn each_chunk_has_one_whole_trace_across_all_processes_linked_to_run_and_document() {
    let (nats, collector) = (TestNats::start().await, OtlpReceiver::start());
    let documents = [Document::new("concepts", 5), Document::new("FAQ", 3)];
    let (site, server) = (Site::new(&documents), FakeOllama::start(FakeConfig::default()));
    let workers = [1, 2].map(|_| Line::worker(&nats, &[&server]).traced(&collector.url()).start());
    site.generate().fleet(&nats).traced(&collector.url()).run(0).await;
    for worker in workers {
        worker.signal("TERM");
        worker.ends_with(0).await;
    }
    let spans = collector.spans();

    let run = spans.iter().find(|span| span.name == "run").unwrap();
    let of_run: Vec<_> = spans.iter().filter(|span| span.trace == run.trace).collect();
    let mut names: Vec<_> = of_run.iter().map(|span| span.name.as_str()).collect();
    names.sort_unstable();
    let steps = ["combine", "document", "document", "load", "run", "take job", "take over queued", "work"];
    assert_eq!(names, steps);
    assert!(of_run.iter().all(|span| span.name == "run" || span.parent == run.id));
    assert_eq!((run.get("process.exit.code"), run.get("qa.chunks")), ("0", "8"));
    let statuses: Vec<_> = named(&of_run, "document").iter().map(|span| span.get("qa.status")).collect();
    assert_eq!(statuses, ["completed", "completed"]);

    let links = of_run.iter().map(|span| (span.trace.clone(), span.id.clone())).collect();
    let mut left = spans.len() - of_run.len();
    for document in &documents {
        for chunk in 0..document.texts.len() {
            let key = key(&site, &document.name, u32::try_from(chunk).unwrap());
            let trace = trace_of(&spans, &key);
            check_whole(&trace, &key, &document.name, &links);
            left -= trace.len();
        }
    }
    assert_eq!(left, 0, "spans of no chunk and no run");
    let ids: BTreeSet<_> = spans.iter().map(|span| (&span.trace, &span.id)).collect();
    assert_eq!(ids.len(), spans.len(), "two spans have one id");
}

#[tokio::test]
async fn model_calls_that_failed_or_were_asked_again_are_in_the_trace_of_their_chunk() {
    let (nats, collector) = (TestNats::start().await, OtlpReceiver::start());
    let site = Site::new(&[Document::new("one", 1), Document::new("two", 1)]);
    let server = FakeOllama::start(FakeConfig { slots: 1, ..FakeConfig::default() });
    server.fault_next(Behaviour::Text("no pairs at all".to_owned()));
    server.fault_next(Behaviour::Answer);
    server.fault_next(Behaviour::ErrorLine("the model runner has stopped".to_owned()));
    let worker =
        Line::worker(&nats, &[&server]).args(["--concurrency", "1"]).traced(&collector.url()).start();
    site.generate().fleet(&nats).traced(&collector.url()).run(0).await;
    worker.signal("TERM");
    worker.ends_with(0).await;
    let spans = collector.spans();
    let mut seen = BTreeMap::new();
    for document in ["one", "two"] {
        let trace = trace_of(&spans, &key(&site, document, 0));
        let chats = named(&trace, "chat qwen3:8b");
        assert_eq!(chats.len(), 2, "{trace:#?}");
        let processes: BTreeSet<_> =
            named(&trace, "process QA_TASKS").iter().map(|span| span.id.clone()).collect();
        assert!(chats.iter().all(|chat| processes.contains(&chat.parent)));
        assert_eq!(chats.iter().map(|chat| chat.get("qa.call")).collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!((chats[1].get("error.type"), &chats[1].error), ("", &None));
        *seen.entry(chats[0].get("error.type")).or_insert(0) += 1;
        if chats[0].error.is_some() {
            assert!(chats[0].error.as_ref().unwrap().contains("runner has stopped"), "{chats:#?}");
        }
        assert_eq!(only(&trace, "apply QA_RESULTS").get("qa.outcome"), "completed");
    }
    assert_eq!(seen, BTreeMap::from([("", 1), ("server_fault", 1)]));
}

#[tokio::test]
async fn the_coordinators_decision_to_send_a_trace_holds_for_every_process() {
    let (nats, collector) = (TestNats::start().await, OtlpReceiver::start());
    let site = Site::new(&[Document::new("sampled", 40)]);
    let server = FakeOllama::start(FakeConfig { slots: 4, ..FakeConfig::default() });
    let worker = Line::worker(&nats, &[&server]).traced(&collector.url()).start();
    let run = site.generate().fleet(&nats).traced(&collector.url());
    let run =
        run.env("OTEL_TRACES_SAMPLER", "parentbased_traceidratio").env("OTEL_TRACES_SAMPLER_ARG", "0.5");
    run.run(0).await;
    worker.signal("TERM");
    worker.ends_with(0).await;
    let spans = collector.spans();
    let mut sent = 0;
    for chunk in 0..40 {
        let trace = trace_of(&spans, &key(&site, "sampled", chunk));
        if !trace.is_empty() {
            sent += 1;
            for step in ["publish QA_TASKS", "process QA_TASKS", "chat qwen3:8b", "apply QA_RESULTS"] {
                only(&trace, step);
            }
        }
    }
    assert!((5..=35).contains(&sent), "{sent} of 40 traces");
}

#[tokio::test]
async fn a_task_that_outlives_its_worker_goes_on_in_the_same_trace() {
    let (nats, collector) = (TestNats::start().await, OtlpReceiver::start());
    let (site, server) = (Site::new(&[Document::new("orphan", 1)]), FakeOllama::start(FakeConfig::default()));
    server.fault_next(Behaviour::Hang);
    let line = || Line::worker(&nats, &[&server]).impatient().traced(&collector.url());
    let doomed = line().start();
    let run = site.generate().fleet(&nats).impatient().traced(&collector.url()).start();
    server.wait_for(|stats| stats.generating == 1).await;
    // What the worker has sent by then is the wait in the queue.
    collector.wait_for("the wait", |spans| spans.iter().any(|span| span.name == "queue wait")).await;
    doomed.kill().await;
    let heir = line().start();
    run.ends_with(0).await;
    heir.signal("TERM");
    heir.ends_with(0).await;
    let spans = collector.spans();
    let trace = trace_of(&spans, &key(&site, "orphan", 0));
    let (publish, process) = (only(&trace, "publish QA_TASKS"), only(&trace, "process QA_TASKS"));
    assert_eq!((process.get("qa.delivery"), &process.parent), ("2", &publish.id));
    assert_eq!(only(&trace, "chat qwen3:8b").parent, process.id);
    assert_eq!(only(&trace, "apply QA_RESULTS").parent, process.id);
    only(&trace, "queue wait");
}

#[tokio::test]
async fn a_task_that_the_queue_lost_and_that_is_published_again_stays_in_its_trace() {
    let (nats, collector) = (TestNats::start().await, OtlpReceiver::start());
    let (site, server) = (Site::new(&[Document::new("lost", 1)]), FakeOllama::start(FakeConfig::default()));
    let mut run = site.generate().fleet(&nats).impatient().traced(&collector.url()).start();
    collector.wait_for("the task", |spans| spans.iter().any(|span| span.name == "publish QA_TASKS")).await;
    let queue = nats.connect(Timing::default()).await;
    Tasks::new(&queue).purge_job(&site.job()).await.unwrap();
    run.says("the queue lost tasks").await;
    let worker = Line::worker(&nats, &[&server]).impatient().traced(&collector.url()).start();
    run.ends_with(0).await;
    worker.signal("TERM");
    worker.ends_with(0).await;
    let (spans, key) = (collector.spans(), key(&site, "lost", 0));
    let trace = trace_of(&spans, &key);
    let published = named(&trace, "publish QA_TASKS");
    assert_eq!(published.len(), 2, "{trace:#?}");
    assert_eq!(published[0].id, format!("{:016x}", key.root_span_id()));
    assert_eq!((published[0].parent.as_str(), &published[1].parent), ("", &published[0].id));
    assert_eq!(only(&trace, "process QA_TASKS").parent, published[1].id);
    only(&trace, "apply QA_RESULTS");
}

#[tokio::test]
async fn a_chunk_that_fails_says_why_and_a_second_round_is_a_trace_of_its_own() {
    let (nats, collector) = (TestNats::start().await, OtlpReceiver::start());
    let (site, server) = (Site::new(&[Document::new("poor", 1)]), FakeOllama::start(FakeConfig::default()));
    server.respond_with(|_| Behaviour::Text("nothing".to_owned()));
    let worker = Line::worker(&nats, &[&server]).traced(&collector.url()).start();
    site.generate().fleet(&nats).traced(&collector.url()).run(1).await;
    server.respond_with(|_| Behaviour::Answer);
    site.generate().arg("--resume").fleet(&nats).traced(&collector.url()).run(0).await;
    worker.signal("TERM");
    worker.ends_with(0).await;
    let spans = collector.spans();
    let first = key(&site, "poor", 0);
    let trace = trace_of(&spans, &first);
    assert_eq!(named(&trace, "chat qwen3:8b").len(), 3);
    let (process, apply) = (only(&trace, "process QA_TASKS"), only(&trace, "apply QA_RESULTS"));
    assert_eq!((process.get("qa.outcome"), process.get("error.type")), ("failed", "no_usable_answer"));
    // To apply it did not fail.
    assert_eq!((apply.get("qa.outcome"), apply.get("qa.reason")), ("failed", "no_usable_answer"));
    let chats: Vec<_> =
        named(&trace, "chat qwen3:8b").iter().map(|chat| chat.get("qa.asked_again").to_owned()).collect();
    assert_eq!(chats, ["", "unusable_answer", "unusable_answer"]);
    let second = trace_of(&spans, &TaskKey { round: 2, ..first }).len();
    assert!(second >= 5, "{second} spans of the second round");
}

#[tokio::test]
async fn local_mode_has_whole_traces_too() {
    let collector = OtlpReceiver::start();
    let (site, server) = (Site::new(&[Document::new("alone", 3)]), FakeOllama::start(FakeConfig::default()));
    site.generate().arg("--local").servers(&[&server]).traced(&collector.url()).run(0).await;
    let spans = collector.spans();
    for chunk in 0..3 {
        let trace = trace_of(&spans, &key(&site, "alone", chunk));
        for step in ["publish QA_TASKS", "process QA_TASKS", "chat qwen3:8b", "apply QA_RESULTS"] {
            only(&trace, step);
        }
    }
}

#[tokio::test]
async fn tasks_taken_over_by_a_coordinator_without_traces_are_traced_by_their_workers() {
    let (nats, collector) = (TestNats::start().await, OtlpReceiver::start());
    let (site, server) = (Site::new(&[Document::new("half", 2)]), FakeOllama::start(FakeConfig::default()));
    let worker = Line::worker(&nats, &[&server]).traced(&collector.url()).start();
    site.generate().fleet(&nats).run(0).await;
    worker.signal("TERM");
    worker.ends_with(0).await;
    let spans = collector.spans();
    for chunk in 0..2 {
        let trace = trace_of(&spans, &key(&site, "half", chunk));
        assert_eq!(only(&trace, "process QA_TASKS").parent, "");
        only(&trace, "chat qwen3:8b");
    }
}
