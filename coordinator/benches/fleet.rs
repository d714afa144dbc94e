//! How busy a fleet is kept: `cargo bench -p qa-coordinator --bench fleet`, five minutes.
//!
//! Real coordinator, workers and nats-server; fake Ollama servers with slots, and a time for each call that
//! depends on the chunk (30 % up or down) and on the server's speed. One server stalls, one vanishes with its
//! worker, one joins late.
//!
//! The limit is the ideal makespan: the time at which the slots that were there, each at its server's speed and
//! never idle, have done the work of all chunks: the smallest T with Σ slots · speed · (time there within T) =
//! Σ work of the chunks. A server that stalls or vanishes is there until then. Calls that it spoils were not for
//! nothing in the ideal, and a chunk can be divided among all slots at the end: nobody can reach it. Beside it
//! stands what dividing the chunks among the slots beforehand would take at best: until the slowest slot has done
//! its part, not counting what the lost servers leave.
//!
//! The makespan is from the first model call to the coordinator's end, its combined file included.
#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on says so by a panic")]

#[path = "support/e2e.rs"]
mod e2e;

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use qa_shared::model::TextHash;
use qa_shared::testing::TestNats;
use qa_shared::testing::bench::{Bench, Measure};
use qa_shared::testing::fake_ollama::{Behaviour, FakeConfig, FakeOllama};
use tokio::time::{Instant, sleep_until};

use crate::e2e::command_line::Line;
use crate::e2e::documents::Document;
use crate::e2e::processes::Running;
use crate::e2e::site::Site;

const BASELINES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/baselines");
/// A run that takes longer is stuck.
const LIMIT: Duration = Duration::from_secs(400);

/// What happens to a server, at so many seconds after the first call.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Lasts,
    /// Its calls take this long from then on, in seconds.
    Stalls(f64, f64),
    /// It vanishes with its worker.
    Vanishes(f64),
    Joins(f64),
}

/// How a fleet is run.
#[derive(Debug, Clone, Copy)]
struct Manner {
    name: &'static str,
    /// The workers find the number of slots; else they are told.
    measures: bool,
    speculates: bool,
}

const AS_IT_IS: Manner = Manner { name: "as it is", measures: true, speculates: true };
const TOLD: Manner = Manner { name: "with --concurrency as there are slots", measures: false, ..AS_IT_IS };
const NO_SECOND_ROUNDS: Manner = Manner { name: "... and with --no-speculation", speculates: false, ..TOLD };

#[derive(Debug, Clone, Copy)]
struct Machine {
    speed: u32,
    slots: u32,
    fate: Fate,
}

/// A fleet and its work.
struct Scene {
    machines: Vec<Machine>,
    chunks: usize,
    /// How long an average chunk takes at speed 1, in seconds.
    work: f64,
}

impl Scene {
    fn of(is_short: bool) -> Self {
        let machine = |speed, slots, fate| Machine { speed, slots, fate };
        if is_short {
            let machines = vec![
                machine(1, 1, Fate::Lasts),
                machine(4, 4, Fate::Lasts),
                machine(2, 2, Fate::Stalls(1.0, 600.0)),
                machine(4, 2, Fate::Joins(1.5)),
            ];
            return Self { machines, chunks: 150, work: 0.4 };
        }
        let machines = vec![
            machine(1, 1, Fate::Lasts),
            machine(2, 2, Fate::Lasts),
            machine(4, 4, Fate::Lasts),
            machine(2, 2, Fate::Stalls(20.0, 60.0)),
            machine(2, 2, Fate::Vanishes(25.0)),
            machine(4, 4, Fate::Joins(30.0)),
        ];
        Self { machines, chunks: 1900, work: 1.2 }
    }

    fn documents(&self) -> Vec<Document> {
        (0..self.chunks.div_ceil(50))
            .map(|number| Document::new(&format!("guide {number}"), 50.min(self.chunks - number * 50)))
            .collect()
    }

    /// How long a chunk takes at speed 1, in seconds.
    fn work_of(&self, text: &str) -> f64 {
        let digits = TextHash::of(text).to_string();
        let share = f64::from(u32::from_str_radix(&digits[..4], 16).unwrap()) / 65535.0;
        self.work * (0.7 + 0.6 * share)
    }

    fn total_work(&self) -> f64 {
        self.documents().iter().flat_map(|document| &document.texts).map(|text| self.work_of(text)).sum()
    }

    /// See above.
    fn ideal(&self) -> f64 {
        let done = |until: f64| -> f64 {
            let there = self.machines.iter().map(|machine| {
                let time = match machine.fate {
                    Fate::Lasts => until,
                    Fate::Stalls(at, _) | Fate::Vanishes(at) => until.min(at),
                    Fate::Joins(at) => (until - at).max(0.0),
                };
                f64::from(machine.speed * machine.slots) * time
            });
            there.sum()
        };
        let (mut low, mut high) = (0.0, LIMIT.as_secs_f64());
        for _ in 0..60 {
            let middle = f64::midpoint(low, high);
            if done(middle) < self.total_work() { low = middle } else { high = middle }
        }
        high
    }

    /// See above.
    fn divided_beforehand(&self) -> f64 {
        let at_start = self.machines.iter().filter(|machine| !matches!(machine.fate, Fate::Joins(_)));
        let slots: u32 = at_start.map(|machine| machine.slots).sum();
        let lasting = self.machines.iter().filter(|machine| machine.fate == Fate::Lasts);
        let slowest = lasting.map(|machine| machine.speed).min().unwrap();
        self.total_work() / f64::from(slots) / f64::from(slowest)
    }
}

/// A model call.
struct Call {
    server: usize,
    chunk: String,
    /// When it came, in seconds after the first.
    at: f64,
    /// How long it was to take, in seconds.
    takes: f64,
}

/// The calls of a run as they came.
type Calls = Arc<Mutex<Vec<Call>>>;

/// What a run showed.
struct Shown {
    makespan: f64,
    /// When the last chunk was begun, in seconds.
    all_begun: f64,
    /// The share of the time until then in which the slots of servers that last were at a call.
    busy: f64,
    calls: u64,
    speculation: Speculation,
    answered: usize,
}

#[derive(Debug, Default)]
struct Speculation {
    started: u64,
    won: u64,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let what = "makespan of a fleet of unequal servers, of which some stall, vanish or join late";
    let mut bench = match Bench::begin("fleet", what, BASELINES) {
        Ok(bench) => bench,
        Err(code) => return code,
    };
    let scene = Scene::of(bench.is_short());
    let (ideal, divided) = (scene.ideal(), scene.divided_beforehand());
    for machine in &scene.machines {
        bench.note(&format!("speed {}, {} slots: {:?}", machine.speed, machine.slots, machine.fate));
    }
    bench.note(&format!("{} chunks, {:.0} s of work at speed 1", scene.chunks, scene.total_work()));
    bench.add(Measure::timed("ideal over chunks divided beforehand", ideal / divided * 100.0, "%"));
    let manners: &[Manner] = if bench.is_short() { &[AS_IT_IS] } else { &[AS_IT_IS, TOLD, NO_SECOND_ROUNDS] };
    for manner in manners {
        let shown = run(&scene, manner).await;
        bench.section(manner.name);
        bench.add(Measure::timed("makespan", shown.makespan, "s"));
        let ratio = Measure::timed("ideal makespan over makespan", ideal / shown.makespan * 100.0, "%");
        let goal = manner.speculates && !bench.is_short();
        bench.add(if goal { ratio.at_least(97.0) } else { ratio });
        bench.add(Measure::timed("last chunk begun", shown.all_begun, "s"));
        bench.add(Measure::timed("slots busy until then", shown.busy * 100.0, "%"));
        bench.add(Measure::timed(
            "calls beyond one for each chunk",
            (shown.calls - scene.chunks as u64) as f64,
            "",
        ));
        bench.add(Measure::timed("second rounds", shown.speculation.started as f64, ""));
        bench.add(Measure::timed("answered first by them", shown.speculation.won as f64, ""));
        bench.add(Measure::counted("chunks with all their pairs", shown.answered as f64, ""));
        let most = if manner.speculates { (scene.chunks as u64 * 3 / 100).max(1) } else { 0 };
        let beyond = shown.speculation.started.saturating_sub(most);
        bench.add(Measure::counted("second rounds beyond 3 % of the chunks", beyond as f64, "").at_most(0.0));
    }
    bench.finish()
}

async fn run(scene: &Scene, manner: &Manner) -> Shown {
    let nats = TestNats::start().await;
    let site = Site::new(&scene.documents());
    let works: BTreeMap<String, f64> = scene
        .documents()
        .iter()
        .flat_map(|document| document.texts.clone())
        .map(|text| (text.clone(), scene.work_of(&text)))
        .collect();
    let (begun, calls) = (Arc::new(OnceLock::<Instant>::new()), Calls::default());
    let servers: Vec<FakeOllama> = (0..)
        .zip(&scene.machines)
        .map(|(index, machine)| server((index, *machine), works.clone(), &begun, &calls))
        .collect();
    let worker = |index: usize| {
        let line = Line::worker(&nats, &[&servers[index]]);
        let slots = scene.machines[index].slots.to_string();
        if manner.measures { line.measuring() } else { line.arg("--concurrency").arg(slots) }.start()
    };
    let joins = |machine: &Machine| matches!(machine.fate, Fate::Joins(_));
    let mut workers: Vec<Option<Running>> =
        (0..servers.len()).map(|index| (!joins(&scene.machines[index])).then(|| worker(index))).collect();
    for running in workers.iter_mut().flatten() {
        running.says("LLM server is reachable").await;
    }
    let mut line = site.generate().speculating().fleet(&nats);
    if !manner.speculates {
        line = line.arg("--no-speculation");
    }
    let coordinator = line.start();
    while begun.get().is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let begun = *begun.get().unwrap();
    let fates = async {
        let mut fates: Vec<(f64, usize)> = Vec::new();
        for (index, machine) in scene.machines.iter().enumerate() {
            if let Fate::Vanishes(at) | Fate::Joins(at) = machine.fate {
                fates.push((at, index));
            }
        }
        fates.sort_by(|one, other| one.0.total_cmp(&other.0));
        for (at, index) in fates {
            sleep_until(begun + Duration::from_secs_f64(at)).await;
            if let Some(running) = workers[index].take() {
                running.kill().await;
                servers[index].disappear();
            } else {
                workers[index] = Some(worker(index));
            }
        }
        std::future::pending::<()>().await;
    };
    let ended = tokio::select! {
        ended = coordinator.ends_within(LIMIT) => ended.ok().unwrap(),
        () = fates => unreachable!("it waits for the end"),
    };
    let makespan = begun.elapsed().as_secs_f64();
    site.check();
    let summary = site.summary();
    let figure = |name: &str| summary["speculation"][name].as_u64().unwrap_or(0);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let calls = calls.lock().unwrap();
    let mut chunks = BTreeSet::new();
    let first_calls = calls.iter().filter(|call| chunks.insert(&call.chunk));
    let all_begun = first_calls.last().unwrap().at;
    let mut at_work = 0.0;
    let mut slots = 0;
    for (index, machine) in
        scene.machines.iter().enumerate().filter(|(_, machine)| machine.fate == Fate::Lasts)
    {
        let its_calls = calls.iter().filter(|call| call.server == index);
        at_work += time_at_work(its_calls, machine.slots, all_begun);
        slots += machine.slots;
    }
    Shown {
        makespan,
        all_begun,
        busy: at_work / f64::from(slots) / all_begun,
        calls: servers.iter().map(|server| server.stats().chat_calls).sum(),
        speculation: Speculation { started: figure("started"), won: figure("won") },
        answered: usize::try_from(summary["chunks"]["completed"].as_u64().unwrap()).unwrap(),
    }
}

/// How long the slots of a server were at a call until then, all together: calls are begun in the order in which
/// they come (when, for how long), each in the slot that is free first.
fn time_at_work<'a>(calls: impl Iterator<Item = &'a Call>, slots: u32, until: f64) -> f64 {
    let mut free = vec![0.0; slots as usize];
    let mut at_work = 0.0;
    for Call { at, takes, .. } in calls {
        let slot = free.iter_mut().min_by(|one, other| f64::total_cmp(one, other)).unwrap();
        let begun = slot.max(*at);
        *slot = begun + takes;
        at_work += (slot.min(until) - begun).max(0.0);
    }
    at_work
}

fn server(
    (index, machine): (usize, Machine),
    works: BTreeMap<String, f64>,
    begun: &Arc<OnceLock<Instant>>,
    calls: &Calls,
) -> FakeOllama {
    let slots = machine.slots as usize;
    let server = FakeOllama::start(FakeConfig { slots, ..FakeConfig::default() });
    let (begun, calls) = (Arc::clone(begun), Arc::clone(calls));
    server.respond_with(move |call| {
        let begun = *begun.get_or_init(Instant::now);
        let seconds = match machine.fate {
            Fate::Stalls(at, lasts) if begun.elapsed().as_secs_f64() >= at => lasts,
            _ => works.get(&call.chunk).copied().unwrap_or(0.0) / f64::from(machine.speed),
        };
        let (chunk, at) = (call.chunk.clone(), begun.elapsed().as_secs_f64());
        calls.lock().unwrap().push(Call { server: index, chunk, at, takes: seconds });
        Behaviour::Slow(Duration::from_secs_f64(seconds))
    });
    server
}
