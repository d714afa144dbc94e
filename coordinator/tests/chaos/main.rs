//! Chaos: schedules of faults, made from seeds, played against real processes, with the files checked from
//! outside afterwards.
//!
//! `QA_CHAOS_SCHEDULES` says how many (20), `QA_CHAOS_SEED` with which seed they begin (1), and
//! `QA_CHAOS_AT_ONCE` how many are played at the same time (3). A schedule that
//! fails shows its seed: that seed with one schedule repeats it, as far as the machine's timing lets it.
#![cfg(debug_assertions)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by a panic")]
#![allow(dead_code, reason = "the helpers are those of the end-to-end tests, which need more of them")]

mod act;
#[path = "../e2e/checker.rs"]
mod checker;
#[path = "../e2e/command_line.rs"]
mod command_line;
#[path = "../e2e/documents.rs"]
mod documents;
mod held;
mod mistakes;
#[path = "../e2e/processes.rs"]
mod processes;
#[path = "../e2e/programs.rs"]
mod programs;
mod proxy;
mod queue_server;
mod reference;
mod report;
mod schedule;
mod silence;
#[path = "../e2e/site.rs"]
mod site;
mod small_disk;
mod soak;
#[path = "../e2e/spent.rs"]
mod spent;
mod stage;
mod stranger;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::reference::Reference;
use crate::report::Report;
use crate::schedule::{Ailment, Fault, Place, Schedule, Step};
use crate::stage::Scene;

/// For schedules that are played at the same time: most of it is waiting.
fn room() -> &'static Semaphore {
    static ROOM: OnceLock<Semaphore> = OnceLock::new();
    ROOM.get_or_init(|| Semaphore::new(usize::try_from(number("QA_CHAOS_AT_ONCE", 3)).unwrap()))
}

/// How long after the last fault a job may need.
const PATIENCE: Duration = Duration::from_secs(100);
/// How long a job may stand still before its coordinator says why.
const MAX_SILENCE: Duration = Duration::from_secs(30);

fn number(variable: &str, default: u64) -> u64 {
    #[expect(clippy::disallowed_methods, reason = "a test has no settings object")]
    let value = std::env::var(variable).ok().filter(|value| !value.is_empty());
    value.map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{variable}={value} is no number")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_goes_wrong_each_chunk_is_there_once_in_the_end() {
    let (first, count) = (number("QA_CHAOS_SEED", 1), number("QA_CHAOS_SCHEDULES", 20));
    let begun = Instant::now();
    let reference = Arc::new(Reference::make().await);
    let mut acts = JoinSet::new();
    for seed in first..first + count {
        let reference = Arc::clone(&reference);
        acts.spawn(async move {
            let _room = room().acquire().await.unwrap();
            let schedule = Schedule::of(seed);
            let played =
                async { act::play(&schedule, &Scene::usual(), Some(&reference), None, PATIENCE).await };
            let caught = futures_util::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(played)).await;
            (schedule.clone(), caught.map_err(drop))
        });
    }
    let mut report = Report::default();
    while let Some(act) = acts.join_next().await {
        let (schedule, outcome) = act.unwrap();
        report.add(&schedule, outcome);
    }
    report.show(begun.elapsed());
    assert!(report.failed().is_empty(), "defects, seen above; each again with one of:\n{}", report.failed());
}

/// What seed 31 found: only the queue server writes while its disk is full, and then never again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_queue_whose_disk_was_full_for_a_moment_does_not_hold_the_job() {
    let _room = room().acquire().await.unwrap();
    let step =
        |at, lasts, fault| Step { at: Duration::from_millis(at), lasts: Duration::from_millis(lasts), fault };
    let steps = vec![
        step(1500, 3500, Fault::Llm(0, Ailment::Hangs)),
        step(1500, 3500, Fault::Llm(1, Ailment::Hangs)),
        step(3000, 1500, Fault::FullDisk),
    ];
    let schedule = Schedule { seed: 0, place: Place::OneMachine, servers: 2, steps };
    act::play(&schedule, &Scene::usual(), Some(&Reference::make().await), None, PATIENCE).await;
}
