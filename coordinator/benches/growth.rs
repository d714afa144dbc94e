//! How the coordinator's cost grows with the job: time and memory per chunk, bytes written per byte of output,
//! start-up and resume; in many small documents, in few large ones and in a single one, at full speed and at the
//! pace of real models.
//!
//! A run is rehearsed: the real core and the real files, without queue and workers, with a clock of its own. Each
//! one has a process to itself, so that its memory and what it writes can be told from the others'.
#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on says so by a panic")]
#![allow(dead_code, reason = "what other benchmarks need too")]

#[path = "support/corpus.rs"]
mod corpus;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use qa_coordinator::rehearsal::{Rehearsal, Rehearsed};
use qa_shared::testing::bench::{Bench, Measure, ProcessUsage};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::corpus::{Shape, bytes_of};

const BASELINES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/baselines");
/// The first argument of a process that rehearses one run; then directory, results per second (0: as many as
/// possible), and results after which it is gone (0: never).
const REHEARSE: &str = "rehearse";

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if let [word, directory, per_second, killed_after] = &arguments[..]
        && word == REHEARSE
    {
        rehearse(Path::new(directory), per_second.parse().unwrap(), killed_after.parse().unwrap());
        return ExitCode::SUCCESS;
    }
    let what = "the coordinator's cost as jobs grow";
    let mut bench = match Bench::begin("growth", what, BASELINES) {
        Ok(bench) => bench,
        Err(code) => return code,
    };
    if bench.is_short() {
        for shape in Shape::ALL {
            paced(&mut bench, shape, 200, 1);
            paced(&mut bench, shape, 200, 5);
        }
        full_speed(&mut bench, Shape::Single, 1000, None);
        resume(&mut bench, Shape::FewLarge, 1000);
        return bench.finish();
    }
    for shape in Shape::ALL {
        let mut small = None;
        for chunks in sizes(&bench, shape) {
            let costs = full_speed(&mut bench, shape, chunks, small);
            if chunks == 10_000 {
                small = Some(costs);
            }
        }
        // A single document of 1,065 chunks is the worst: its file is written with 710 and again with all.
        for chunks in [1_065, 10_000] {
            paced(&mut bench, shape, chunks, 1);
        }
        paced(&mut bench, shape, 10_000, 5);
        resume(&mut bench, shape, 100_000);
    }
    paced(&mut bench, Shape::Single, 100_000, 5);
    bench.finish()
}

fn sizes(bench: &Bench, shape: Shape) -> Vec<u32> {
    let mut sizes = vec![1_000, 10_000, 100_000];
    if bench.is_long() && shape != Shape::Single {
        sizes.push(1_000_000);
    }
    sizes
}

/// Microseconds per chunk: by the clock, and of the processor.
fn full_speed(bench: &mut Bench, shape: Shape, chunks: u32, small: Option<[f64; 2]>) -> [f64; 2] {
    bench.section(&format!("{chunks} chunks in {} at full speed", shape.name()));
    let site = Site::new(shape, chunks);
    let run = site.run(0, 0);
    let costs = [run.work_seconds, run.cpu_seconds].map(|seconds| seconds * 1e6 / f64::from(chunks));
    for (at, name) in ["time per chunk", "processor time per chunk"].into_iter().enumerate() {
        let cost = Measure::timed(name, costs[at], "µs");
        bench.add(match small {
            Some(small) => cost.of("with 10,000 chunks", small[at]).at_most(1.2),
            None => cost,
        });
    }
    bench.add(Measure::timed("most memory", run.peak_megabytes, "MB").at_most(300.0));
    bench.add(Measure::timed("start-up", run.start_up_seconds, "s"));
    written(bench, &site, run.written, false);
    costs
}

fn paced(bench: &mut Bench, shape: Shape, chunks: u32, per_second: u32) {
    bench.section(&format!("{chunks} chunks in {}, {per_second} a second", shape.name()));
    let site = Site::new(shape, chunks);
    let run = site.run(per_second, 0);
    bench.add(Measure::timed("time per chunk", run.work_seconds * 1e6 / f64::from(chunks), "µs"));
    bench.add(Measure::timed("most memory", run.peak_megabytes, "MB").at_most(300.0));
    bench.add(Measure::counted("Q&A files written", run.snapshots as f64, "files"));
    written(bench, &site, run.written, true);
}

fn resume(bench: &mut Bench, shape: Shape, chunks: u32) {
    bench.section(&format!("{chunks} chunks in {}, killed after half of them", shape.name()));
    let site = Site::new(shape, chunks);
    let half = site.run(0, u64::from(chunks / 2));
    assert_eq!(half.results, u64::from(chunks / 2));
    let gigabytes = site.bytes_to_read() as f64 / 1e9;
    let rest = site.run(0, 0);
    bench.add(Measure::timed("resume", rest.start_up_seconds, "s"));
    let speed = Measure::timed("resume of one gigabyte", rest.start_up_seconds / gigabytes, "s");
    bench.add(speed.at_most(10.0));
    bench.add(Measure::timed("most memory", rest.peak_megabytes, "MB").at_most(300.0));
    // Nothing that is in the journal is asked for again.
    bench.add(Measure::counted("chunks done by both runs", (half.results + rest.results) as f64, "chunks"));
}

/// What depends on when the seconds ended is not the same twice.
fn written(bench: &mut Bench, site: &Site, written: Option<u64>, is_counted: bool) {
    let Some(written) = written else { return bench.note("this system does not tell what a process writes") };
    let ratio = written as f64 / bytes_of(&site.qa_dir(), "_qa.json") as f64;
    let (name, unit) = ("bytes written", "per byte of Q&A files");
    let measure = if is_counted {
        Measure::counted(name, ratio, unit).within(0.02)
    } else {
        Measure::timed(name, ratio, unit)
    };
    bench.add(measure.at_most(4.0));
}

/// A job's directories.
struct Site(TempDir);

/// What a process that rehearsed a run tells.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    start_up_seconds: f64,
    work_seconds: f64,
    cpu_seconds: f64,
    peak_megabytes: f64,
    /// Bytes that were handed to the system; absent where it does not tell.
    written: Option<u64>,
    results: u64,
    snapshots: u64,
}

impl Site {
    fn new(shape: Shape, chunks: u32) -> Self {
        let site = Self(qa_shared::testing::temporary_folder());
        corpus::write(&chunks_dir(site.0.path()), shape, chunks);
        std::fs::create_dir(site.qa_dir()).unwrap();
        site
    }

    fn qa_dir(&self) -> PathBuf {
        qa_dir(self.0.path())
    }

    fn run(&self, per_second: u32, killed_after: u64) -> Told {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg(REHEARSE).arg(self.0.path()).args([per_second.to_string(), killed_after.to_string()]);
        let output = command.stderr(Stdio::inherit()).output().unwrap();
        assert!(output.status.success(), "the rehearsal failed");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// What a resume has to read.
    fn bytes_to_read(&self) -> u64 {
        let journal = bytes_of(&self.qa_dir().join(".qa-fleet"), ".jsonl");
        bytes_of(&chunks_dir(self.0.path()), ".json") + bytes_of(&self.qa_dir(), "_qa.json") + journal
    }
}

fn chunks_dir(site: &Path) -> PathBuf {
    site.join("chunks")
}

fn qa_dir(site: &Path) -> PathBuf {
    site.join("qa")
}

/// Rehearses one run and tells how it went.
#[expect(clippy::print_stdout, reason = "what the other process reads")]
fn rehearse(site: &Path, per_second: u32, killed_after: u64) {
    let before = bytes_written();
    let rehearsal = Rehearsal {
        chunks_dir: &chunks_dir(site),
        qa_dir: &qa_dir(site),
        per_second: (per_second > 0).then_some(per_second),
        killed_after: (killed_after > 0).then_some(killed_after),
    };
    let Rehearsed { start_up, work, results, snapshots, outstanding } =
        rehearsal.run(corpus::answer).unwrap_or_else(|problem| panic!("{problem}"));
    assert!(outstanding == 0 || killed_after > 0, "{outstanding} chunks are left");
    let used = ProcessUsage::of(std::process::id()).unwrap_or_default();
    let told = Told {
        start_up_seconds: start_up.as_secs_f64(),
        work_seconds: work.as_secs_f64(),
        cpu_seconds: used.cpu_seconds,
        peak_megabytes: used.peak_bytes as f64 / 1e6,
        written: bytes_written().and_then(|after| Some(after - before?)),
        results,
        snapshots,
    };
    println!("{}", serde_json::to_string(&told).unwrap());
}

/// What this process has handed to the system to write.
fn bytes_written() -> Option<u64> {
    let io = std::fs::read_to_string("/proc/self/io").ok()?;
    io.lines().find_map(|line| line.strip_prefix("wchar: "))?.parse().ok()
}
