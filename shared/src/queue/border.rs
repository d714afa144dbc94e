//! What others sent, made harmless where it comes in: names and messages on one line and of a bounded length,
//! figures within what can be. Pairs stay as they are; they go into files, not to a terminal (PURE).
//!
//! Sizes and depths are bounded before, in [`crate::wire`].

use crate::model::{JobEntry, Outcome, TaskResult, WorkerPresence};
use crate::plain::line;

/// Names of hosts and models, addresses.
const LONGEST_NAME: usize = 256;
/// What went wrong, in words.
const LONGEST_MESSAGE: usize = 4096;
/// LLM servers of one worker, models of one server, dropped tasks of a job.
const MOST: usize = 1024;
/// Pools that one server cannot serve.
const MOST_UNSERVED: usize = 64;
/// Models of one worker; a worker names fewer by itself.
const MOST_MODELS: usize = 4096;
/// Slots of one worker, and tasks that it works on; the settings allow 256 slots of one server.
const MOST_SLOTS: u32 = 1024;
/// A task does not run for longer than this: a week.
const LONGEST_RUN_MS: u64 = 7 * 24 * 3600 * 1000;
/// Model calls of one task.
const MOST_ATTEMPTS: u32 = 1_000_000;
/// Tokens of one task.
const MOST_TOKENS: u64 = 1_000_000_000_000;

/// A heartbeat.
pub(super) fn worker(mut worker: WorkerPresence) -> WorkerPresence {
    name(&mut worker.host);
    name(&mut worker.version);
    worker.pools.truncate(MOST);
    worker.named_pools.truncate(MOST);
    worker.servers.truncate(MOST);
    // In sum: a worker with very many servers would have as much as very many workers.
    let (mut slots, mut busy, mut running, mut models) =
        (MOST_SLOTS, MOST_SLOTS, MOST_SLOTS as usize, MOST_MODELS);
    for server in &mut worker.servers {
        name(&mut server.url);
        server.version.iter_mut().for_each(name);
        server.account.iter_mut().for_each(name);
        server.problem.iter_mut().for_each(message);
        server.slots = server.slots.min(slots);
        slots -= server.slots;
        server.busy = server.busy.min(busy);
        busy -= server.busy;
        server.tokens_per_second = server.tokens_per_second.clamp(0.0, 1e9);
        server.running.truncate(running);
        running -= server.running.len();
        for task in &mut server.running {
            task.for_ms = task.for_ms.min(LONGEST_RUN_MS);
        }
        server.unserved.truncate(MOST_UNSERVED);
        for pool in &mut server.unserved {
            message(&mut pool.words);
        }
        server.models.truncate(MOST.min(models));
        models -= server.models.len();
        for model in &mut server.models {
            name(&mut model.name);
            model.digest.iter_mut().for_each(name);
        }
    }
    worker
}

/// A result.
pub(super) fn result(mut result: TaskResult) -> TaskResult {
    name(&mut result.host);
    result.server.iter_mut().for_each(name);
    result.model.iter_mut().for_each(name);
    if let Outcome::Failed { failure } = &mut result.outcome {
        message(&mut failure.message);
    }
    for unusable in &mut result.unusable {
        message(&mut unusable.reason);
    }
    result.attempts = result.attempts.min(MOST_ATTEMPTS);
    let usage = &mut result.usage;
    for tokens in [
        &mut usage.input_tokens,
        &mut usage.cached_tokens,
        &mut usage.cache_write_tokens,
        &mut usage.output_tokens,
        &mut usage.reasoning_tokens,
        &mut usage.estimated_input_tokens,
        &mut usage.estimated_output_tokens,
    ] {
        *tokens = (*tokens).min(MOST_TOKENS);
    }
    result
}

/// A job's entry.
pub(super) fn job(mut job: JobEntry) -> JobEntry {
    name(&mut job.host);
    name(&mut job.model);
    job.dropped.truncate(MOST);
    job.directory = line(&job.directory, LONGEST_MESSAGE);
    job
}

/// A name that is displayed.
pub(super) fn name(text: &mut String) {
    *text = line(text, LONGEST_NAME);
}

fn message(text: &mut String) {
    *text = line(text, LONGEST_MESSAGE);
}
