//! Soak: one job at full speed with a fault every few seconds, and what its processes hold meanwhile.
//!
//! `QA_SOAK_CHUNKS` says how many chunks (2,000); `QA_CHAOS_SEED` makes the faults. The queue server may be
//! replaced during the run; the coordinator and two workers live through it, as far as they are allowed to.

use std::io::Write as _;
use std::time::{Duration, Instant};

use crate::act::play;
use crate::documents::Document;
use crate::schedule::Schedule;
use crate::stage::Scene;
use crate::{number, room};

/// Chunks of one document.
const CHUNKS: u64 = 100;
/// Columns of the report.
const PARTS: u32 = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_processes_hold_does_not_grow() {
    let _room = room().acquire().await.unwrap();
    let chunks = number("QA_SOAK_CHUNKS", 2000);
    let documents = (0..chunks / CHUNKS).map(|number| Document::new(&format!("document-{number:05}"), 100));
    let scene = Scene { documents: documents.collect(), call: Duration::from_millis(5) };
    // More faults than there is time for: the end of the job ends them.
    let lasts = Duration::from_secs(20 + chunks / 10);
    let begun = Instant::now();
    let schedule = Schedule::soak(number("QA_CHAOS_SEED", 1), lasts);
    let outcome = play(&schedule, &scene, None, None, lasts).await;
    let text = format!(
        "\nsoak: {chunks} chunks in {:.0} s with {} faults; {} model calls repeated, at most {} may be\n\
         MiB/descriptors, the most in each tenth of the time:\n{}",
        begun.elapsed().as_secs_f64(),
        outcome.injected.values().sum::<usize>(),
        outcome.repeated.0,
        outcome.repeated.1,
        outcome.held.table(PARTS)
    );
    std::io::stdout().lock().write_all(text.as_bytes()).unwrap();
    for (name, parts) in outcome.held.parts(2) {
        let (early, late) = (parts[0], parts[1]);
        assert!(late.descriptors <= early.descriptors + 24, "{name} holds more and more descriptors:{text}");
        assert!(late.memory <= early.memory + early.memory / 2 + 48, "{name} grows:{text}");
    }
}
