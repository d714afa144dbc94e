//! Tasks and results with everything in them that a test does not care about.

use crate::model::{
    DocumentName, GenerationSettings, InstanceId, JobId, OllamaOptions, Outcome, Pair, PoolName,
    PromptSettings, Provider, ServerPresence, Task, TaskKey, TaskResult, TextHash, Usage, WorkerPresence,
};

/// The key of a chunk of the document `guide`, first round.
pub fn key(job: &JobId, chunk: u32) -> TaskKey {
    TaskKey { job: job.clone(), document: DocumentName::new("guide").token(), chunk, round: 1 }
}

/// Settings with the defaults of the programs.
pub fn settings(provider: Provider, model: &str) -> GenerationSettings {
    GenerationSettings {
        provider,
        model: model.to_owned(),
        questions_per_chunk: 3,
        temperature: 0.7,
        max_tokens: 2000,
        reasoning: None,
        prompt: PromptSettings::default(),
        ollama: OllamaOptions::default(),
    }
}

/// A task of the document `guide` for model `m` at Ollama.
pub fn task(pool: &PoolName, key: TaskKey, text: &str) -> Task {
    Task {
        key,
        document: DocumentName::new("guide"),
        pool: pool.clone(),
        text: text.to_owned(),
        text_hash: TextHash::of(text),
        settings: settings(Provider::Local, "m"),
        max_calls: None,
        num_ctx: None,
        second: None,
        published_at_ms: 1,
    }
}

/// A reachable Ollama with two free slots and no model.
pub fn server_presence(url: &str) -> ServerPresence {
    ServerPresence {
        url: url.to_owned(),
        provider: Provider::Local,
        account: None,
        version: None,
        reachable: true,
        problem: None,
        obstacle: None,
        unserved: Vec::new(),
        models: Vec::new(),
        slots: 2,
        auto: false,
        busy: 0,
        finished: 0,
        tokens_per_second: 0.0,
        running: Vec::new(),
    }
}

/// A worker that serves no pool yet.
pub fn worker_presence(instance: InstanceId, host: &str, servers: Vec<ServerPresence>) -> WorkerPresence {
    WorkerPresence {
        instance,
        host: host.to_owned(),
        pid: 1,
        version: "1".to_owned(),
        servers,
        pools: Vec::new(),
        named_pools: Vec::new(),
        draining: false,
        beat: 0,
    }
}

/// A result with these pairs.
pub fn result(key: TaskKey, pairs: Vec<Pair>) -> TaskResult {
    TaskResult {
        key,
        text_hash: None,
        outcome: Outcome::Completed { pairs },
        asked: 3,
        worker: InstanceId::new("gpu1", 4711, 1),
        host: "gpu1".to_owned(),
        server: None,
        provider: None,
        model: None,
        attempts: 1,
        usage: Usage::default(),
        started_at_ms: 0,
        duration_ms: 1,
        deliveries: 0,
        unusable: Vec::new(),
    }
}
