//! What the fleet itself costs: models that answer at once, so that whatever time a chunk takes is ours.
//!
//! Real programs and a real nats-server: files → tasks → worker → results → files. Beside it stands what the same
//! nats-server can do at best with the messages that the chunks need. Coordinator, worker, nats-server and the
//! LLM server share this machine's processors; what each of them used is told.
#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on says so by a panic")]

#[path = "support/e2e.rs"]
mod e2e;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use qa_shared::model::{JobId, Pair, Provider, TextHash, Usage};
use qa_shared::testing::bench::{
    BareQueue, Bench, InstantOllama, Measure, ProcessUsage, ProcessWatch, nats_bench,
};
use qa_shared::testing::{Monitor, TestNats, TestNatsOptions, samples};
use qa_shared::wire;

use crate::e2e::command_line::Line;
use crate::e2e::documents::Document;
use crate::e2e::site::Site;

const BASELINES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/baselines");
/// Calls at once at the LLM server.
const SLOTS: u32 = 64;
const DOCUMENTS: u32 = 10;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let what = "chunks through the whole pipeline with models that answer at once";
    let mut bench = match Bench::begin("own_cost", what, BASELINES) {
        Ok(bench) => bench,
        Err(code) => return code,
    };
    for sync_always in [false, true] {
        // Enough that starting and ending, a second together, do not matter.
        let chunks = match (bench.is_short(), sync_always) {
            (true, _) => 500,
            (false, false) => 50_000,
            (false, true) => 10_000,
        };
        let sync = if sync_always { "always" } else { "the server's default (2 minutes)" };
        bench.section(&format!("{chunks} chunks of 0.9 kB in {DOCUMENTS} documents, sync_interval: {sync}"));
        let pipeline = pipeline(chunks, sync_always).await;
        let queue = bare_queue(chunks, sync_always);
        let (bare, guarded) = (queue.measure().await, queue.measure_guarded(SLOTS as usize).await);
        let rate = Measure::timed("whole pipeline", pipeline.chunks_per_second, "chunks/s");
        bench.add(rate.of("bare queue, as pipelined as possible", bare.chunks_per_second).at_least(0.7));
        let rate = Measure::timed("the same", pipeline.chunks_per_second, "chunks/s");
        let name = "bare queue, one task a slot, confirmed acks";
        bench.add(rate.of(name, guarded.chunks_per_second));
        if !bench.is_short() {
            let sizes = [queue.task.len(), queue.result.len()];
            match nats_bench(chunks, sizes, sync_always).await {
                Some(tool) => {
                    let rate = Measure::timed(
                        "bare queue, as pipelined as possible",
                        bare.chunks_per_second,
                        "chunks/s",
                    );
                    bench.add(rate.of("`nats bench`, one operation after the other", tool));
                }
                None => bench.note("no `nats` on PATH: not compared with `nats bench`"),
            }
        }
        for (name, usage) in pipeline.used.iter().chain([
            &("nats-server of the bare queue", bare.server),
            &("the same with the guarantees", guarded.server),
        ]) {
            show(&mut bench, name, usage, chunks);
        }
        let messages = pipeline.messages as f64 / f64::from(chunks);
        bench.add(Measure::counted("messages to the nats-server", messages, "a chunk").within(0.1));
        bench.add(Measure::counted("model calls", pipeline.calls as f64, "calls"));
    }
    bench.finish()
}

fn show(bench: &mut Bench, name: &str, usage: &ProcessUsage, chunks: u32) {
    let cpu = usage.cpu_seconds * 1000.0 / f64::from(chunks);
    bench.add(Measure::timed(&format!("{name}: processor"), cpu, "s per 1,000 chunks"));
    bench.add(Measure::timed(&format!("{name}: most memory"), usage.peak_bytes as f64 / 1e6, "MB"));
}

/// What a run of the real programs came to.
struct Pipeline {
    chunks_per_second: f64,
    used: [(&'static str, ProcessUsage); 4],
    messages: u64,
    calls: u64,
}

async fn pipeline(chunks: u32, sync_always: bool) -> Pipeline {
    let more = Monitor::CONFIGURATION.to_owned();
    let nats = TestNats::start_with(TestNatsOptions { sync_always, more, ..Default::default() }).await;
    let server = InstantOllama::start(&pairs());
    let documents: Vec<_> = (0..DOCUMENTS)
        .map(|number| Document::new(&format!("part-{number:03}"), (chunks / DOCUMENTS) as usize))
        .collect();
    let site = Site::new(&documents);
    let worker = Line::worker_at(&nats.url(), &[]).arg("--ollama-base-url").arg(server.url());
    let mut worker = worker.arg("--concurrency").arg(SLOTS.to_string()).start();
    worker.says("LLM server is reachable").await;
    let begun = Instant::now();
    let before = ProcessUsage::of(std::process::id()).unwrap_or_default();
    let run = site.generate().fleet(&nats).start();
    let watched = [run.pid(), worker.pid(), nats.pid()];
    let watch = ProcessWatch::start(&watched);
    let Ok(ended) = run.ends_within(Duration::from_secs(300)).await else { panic!("the run does not end") };
    let took = begun.elapsed();
    assert_eq!(ended.code, 0, "the run failed:\n{}\n{}", ended.stderr, ended.stdout);
    let messages = Monitor::of(&nats).messages_in().await;
    let after = ProcessUsage::of(std::process::id()).unwrap_or_default();
    let llm = ProcessUsage { cpu_seconds: after.cpu_seconds - before.cpu_seconds, ..after };
    for document in &documents {
        let summary = &site.qa(&document.name)["summary"];
        let found = ["completed_chunks", "total_qa_pairs"].map(|figure| summary[figure].as_u64().unwrap());
        let chunks = document.texts.len() as u64;
        assert_eq!(found, [chunks, 3 * chunks], "{} is not complete", document.name);
    }
    let [coordinator, worker, queue] = watched.map(|pid| watch.usage(pid));
    Pipeline {
        chunks_per_second: f64::from(chunks) / took.as_secs_f64(),
        used: [
            ("coordinator", coordinator),
            ("worker", worker),
            ("nats-server", queue),
            ("LLM server and this watch", llm),
        ],
        messages,
        calls: server.calls(),
    }
}

/// The same messages as those of the pipeline.
fn bare_queue(chunks: u32, sync_always: bool) -> BareQueue {
    let document = Document::new("part-000", 1);
    let (pool, job) = (Provider::Local.pool("qwen3:8b"), JobId::from_random(1));
    let task = samples::task(&pool, samples::key(&job, 0), &document.texts[0]);
    let mut result = samples::result(task.key.clone(), pairs());
    result.text_hash = Some(TextHash::of(&task.text));
    result.server = Some("http://127.0.0.1:11434".to_owned());
    result.provider = Some(Provider::Local);
    result.model = Some("qwen3:8b".to_owned());
    result.usage = Usage { output_tokens: 120, ..Usage::default() };
    BareQueue {
        chunks,
        task: wire::encode(&task).unwrap().into(),
        result: wire::encode(&result).unwrap().into(),
        sync_always,
    }
}

/// What the model says to every chunk: three pairs of a usual length.
fn pairs() -> Vec<Pair> {
    let pair = |topic: &str| Pair {
        question: format!("What does the documentation say about the {topic} of a stream in this section?"),
        answer: format!(
            "It says that the {topic} of a stream is set when the stream is made, that it can be changed later \
             as long as no consumer depends on it, and that the server tells what it is."
        ),
    };
    ["retention", "storage", "size"].map(pair).to_vec()
}
