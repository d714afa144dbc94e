//! Messages as they were written by versions of the past, as they are written today, and as a later version may
//! write them: workers and coordinators of different versions meet at one queue.
//!
//! A sample is never changed. What today's programs write is compared with `samples/today-*.json`; when that
//! changes, today's sample becomes one of the past, under another name.

#![expect(clippy::unwrap_used, reason = "a test whose preparation fails has to fail")]

use std::fs;
use std::path::PathBuf;

use qa_shared::model::{
    DocumentName, Failure, FailureReason, GenerationSettings, InstanceId, JobEntry, JobId, JobState,
    OllamaOptions, Outcome, Pair, PoolName, PromptSettings, Provider, Reasoning, RunningTask, SecondRound,
    ServedModel, ServerPresence, Task, TaskKey, TaskResult, TextHash, UnusableAnswer, Usage, WorkerPresence,
};
use qa_shared::wire;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/wire/samples").join(format!("{name}.json"))
}

fn sample(name: &str) -> Vec<u8> {
    let path = path(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn read<T: DeserializeOwned>(name: &str) -> T {
    wire::decode(&sample(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// What is written today is today's sample, and reads as what it was.
fn is_todays<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(name: &str, message: &T) {
    let written: Value = serde_json::from_slice(&wire::encode(message).unwrap()).unwrap();
    #[expect(clippy::disallowed_methods, reason = "a switch of the test, not a setting")]
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::write(path(name), serde_json::to_string_pretty(&written).unwrap() + "\n").unwrap();
    }
    let expected: Value = serde_json::from_slice(&sample(name)).unwrap();
    assert_eq!(written, expected, "{name}: keep the old sample under another name, then UPDATE_SNAPSHOTS=1");
    assert_eq!(read::<T>(name), *message);
}

fn key() -> TaskKey {
    let document = DocumentName::new("guide").token();
    TaskKey { job: JobId::from_random(7), document, chunk: 3, round: 2 }
}

fn task() -> Task {
    Task {
        key: key(),
        document: DocumentName::new("guide"),
        pool: PoolName::new("claude/claude-haiku-4-5"),
        text: "Streams store messages.".to_owned(),
        text_hash: TextHash::of("Streams store messages."),
        settings: GenerationSettings {
            provider: Provider::Claude,
            model: "claude-haiku-4-5".to_owned(),
            questions_per_chunk: 3,
            temperature: 0.5,
            max_tokens: 2000,
            reasoning: Some(Reasoning::Low),
            prompt: PromptSettings {
                system_message: Some("Be brief.".to_owned()),
                extra_instructions: Some("No prices.".to_owned()),
                template: Some("{text}".to_owned()),
            },
            ollama: OllamaOptions {
                top_k: Some(40),
                top_p: Some(0.5),
                repeat_penalty: Some(1.5),
                num_predict: Some(500),
                num_ctx: Some(8192),
                keep_alive: Some("1h".to_owned()),
                stop: vec!["<END>".to_owned()],
            },
        },
        max_calls: Some(3),
        num_ctx: Some(20_480),
        second: Some(SecondRound { not_server: Some("http://gpu1:11434".to_owned()), within_ms: 20_000 }),
        published_at_ms: 1_790_000_000_000,
    }
}

fn result(outcome: Outcome) -> TaskResult {
    TaskResult {
        key: key(),
        text_hash: Some(TextHash::of("Streams store messages.")),
        outcome,
        asked: 3,
        worker: InstanceId::new("gpu1", 42, 7),
        host: "gpu1".to_owned(),
        server: Some("https://api.anthropic.com".to_owned()),
        provider: Some(Provider::Claude),
        model: Some("claude-haiku-4-5".to_owned()),
        attempts: 2,
        usage: Usage {
            input_tokens: 900,
            cached_tokens: 400,
            cache_write_tokens: 100,
            output_tokens: 300,
            reasoning_tokens: 50,
            estimated_input_tokens: 900,
            estimated_output_tokens: 300,
            load_ms: 1,
            prompt_ms: 2,
            generation_ms: 3,
        },
        started_at_ms: 1_790_000_000_000,
        duration_ms: 4000,
        deliveries: 2,
        unusable: vec![UnusableAnswer {
            attempt: 1,
            reason: "the answer held no JSON".to_owned(),
            answer: "Sure!".to_owned(),
        }],
    }
}

fn completed() -> TaskResult {
    let pair = Pair { question: "What do streams store?".to_owned(), answer: "Messages.".to_owned() };
    result(Outcome::Completed { pairs: vec![pair] })
}

fn failed() -> TaskResult {
    let failure = Failure { reason: FailureReason::Refused, message: "the model declines".to_owned() };
    result(Outcome::Failed { failure })
}

fn presence() -> WorkerPresence {
    WorkerPresence {
        instance: InstanceId::new("gpu1", 42, 7),
        host: "gpu1".to_owned(),
        pid: 42,
        version: "0.1.0".to_owned(),
        servers: vec![ServerPresence {
            url: "http://gpu1:11434".to_owned(),
            provider: Provider::Local,
            account: Some("0123456789ab".to_owned()),
            version: Some("0.32.15".to_owned()),
            reachable: true,
            problem: Some("slow".to_owned()),
            obstacle: None,
            unserved: Vec::new(),
            models: vec![ServedModel {
                name: "qwen3:8b".to_owned(),
                digest: Some("sha256:ab".to_owned()),
                gpu_percent: Some(100),
            }],
            slots: 4,
            auto: false,
            busy: 1,
            finished: 9,
            tokens_per_second: 61.5,
            running: vec![RunningTask { key: key(), for_ms: 12_500, tokens: 812 }],
        }],
        pools: vec![PoolName::new("ollama/qwen3:8b")],
        named_pools: vec![PoolName::new("night")],
        draining: false,
        beat: 0,
    }
}

fn job() -> JobEntry {
    JobEntry {
        job: JobId::from_random(7),
        state: JobState::Active,
        pool: PoolName::new("ollama/qwen3:8b"),
        provider: Provider::Local,
        model: "qwen3:8b".to_owned(),
        context_tokens: 4000,
        num_ctx: Some(8192),
        host: "desk".to_owned(),
        directory: "/home/me/qa".to_owned(),
        dropped: vec![key()],
        updated_at_ms: 1_790_000_000_000,
    }
}

#[test]
fn what_is_written_today_is_known() {
    is_todays("today-task", &task());
    is_todays("today-result-completed", &completed());
    is_todays("today-result-failed", &failed());
    is_todays("today-presence", &presence());
    is_todays("today-job", &job());
}

#[test]
fn what_the_first_version_wrote_is_read() {
    let first: Task = read("first-task");
    let GenerationSettings { reasoning, .. } = first.settings;
    assert_eq!((first.key, reasoning, first.max_calls), (key(), None, None));
    let first: TaskResult = read("first-result-completed");
    assert_eq!((first.usage.input_tokens, first.usage.cached_tokens), (900, 0));
    assert_eq!(first.outcome, completed().outcome);
    let first: TaskResult = read("first-result-failed");
    assert!(
        matches!(first.outcome, Outcome::Failed { failure } if failure.reason == FailureReason::Rejected)
    );
    let first: WorkerPresence = read("first-presence");
    assert_eq!((first.servers[0].slots, first.servers[0].account.as_deref()), (4, None));
    assert_eq!(read::<JobEntry>("first-job"), JobEntry { dropped: Vec::new(), num_ctx: None, ..job() });
}

#[test]
fn what_was_written_before_there_were_second_rounds_beside_others_is_read() {
    assert_eq!(read::<Task>("without-second-task"), Task { second: None, ..task_without_contexts() });
    let before: WorkerPresence = read("without-running-presence");
    assert_eq!(before.servers[0].running, []);
    let before = JobEntry { dropped: Vec::new(), num_ctx: None, ..job() };
    assert_eq!(read::<JobEntry>("without-dropped-job"), before);
}

fn task_without_contexts() -> Task {
    let mut task = Task { num_ctx: None, ..task() };
    (task.settings.ollama.num_ctx, task.settings.ollama.keep_alive) = (None, None);
    task
}

#[test]
fn what_was_written_before_contexts_could_be_set_is_read() {
    assert_eq!(read::<Task>("without-num-ctx-task"), task_without_contexts());
    assert_eq!(read::<JobEntry>("without-num-ctx-job"), JobEntry { num_ctx: None, ..job() });
}

/// The usage of a server that reports it.
fn reported() -> Usage {
    Usage { estimated_input_tokens: 0, estimated_output_tokens: 0, ..completed().usage }
}

#[test]
fn what_a_worker_wrote_that_did_not_estimate_tokens_is_read() {
    let before: TaskResult = read("without-estimates-result-completed");
    assert_eq!(before, TaskResult { usage: reported(), ..completed() });
}

#[test]
fn what_a_worker_wrote_that_did_not_count_the_tokens_of_an_answer_is_read() {
    let before: WorkerPresence = read("without-tokens-presence");
    assert_eq!((before.servers[0].running[0].for_ms, before.servers[0].running[0].tokens), (12_500, 0));
}

#[test]
fn what_a_worker_wrote_that_did_not_count_deliveries_is_read() {
    let before: TaskResult = read("without-deliveries-result-completed");
    assert_eq!(before, TaskResult { deliveries: 0, usage: reported(), ..completed() });
}

/// What a program of today sees of one that is newer: more members, and words that it does not know.
#[test]
fn what_a_later_version_adds_is_passed_over_or_refused_with_its_reason() {
    let with = |name: &str, change: &dyn Fn(&mut Value)| {
        let mut message: Value = serde_json::from_slice(&sample(name)).unwrap();
        change(&mut message);
        message.to_string().into_bytes()
    };
    let more = |message: &mut Value| {
        message["body"]["later"] = serde_json::json!({"a": [1, 2]});
        message["signature"] = serde_json::json!("x");
    };
    assert_eq!(wire::decode::<Task>(&with("today-task", &more)).unwrap(), task());
    assert_eq!(wire::decode::<TaskResult>(&with("today-result-completed", &more)).unwrap(), completed());
    assert_eq!(wire::decode::<WorkerPresence>(&with("today-presence", &more)).unwrap(), presence());
    let unknown_reason = with("today-result-failed", &|message| {
        message["body"]["outcome"]["failure"]["reason"] = serde_json::json!("eaten_by_a_grue");
    });
    let read: TaskResult = wire::decode(&unknown_reason).unwrap();
    assert!(matches!(read.outcome, Outcome::Failed { failure } if failure.reason == FailureReason::Other));
    let version = with("today-task", &|message| message["v"] = serde_json::json!(2));
    let error = wire::decode::<Task>(&version).unwrap_err().to_string();
    assert!(error.contains("version 2") && error.contains("update the older program"), "{error}");
    let provider = with("today-task", &|message| {
        message["body"]["settings"]["provider"] = serde_json::json!("mistral");
    });
    let error = wire::decode::<Task>(&provider).unwrap_err().to_string();
    assert!(error.contains("mistral"), "a service that nobody here speaks is named: {error}");
}
