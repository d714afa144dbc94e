//! What goes wrong when: schedules of faults, made from a seed. Pure: the same seed gives the same schedule.
//! Doing it is [`crate::act`]'s.

use std::fmt;
use std::time::Duration;

/// Longer than the ack wait and the presence age of these fleets.
const LONG: Duration = Duration::from_millis(4500);

/// Model calls that a fleet makes while a copy of the store grows old, and those that are made again before
/// that is noticed.
const CALLS_BETWEEN: u64 = 150;

/// Results of one slot that can wait in the queue while no coordinator takes them: the window is five seconds of
/// work, and a call takes 120 ms.
const WAITING_PER_SLOT: u64 = 5_000 / 120;

/// Where a job runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// A queue server, workers and a coordinator.
    Fleet,
    /// A coordinator with a private queue and an in-process worker.
    OneMachine,
}

/// Who is hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Process {
    Coordinator,
    Worker(usize),
    QueueServer,
}

/// A way between two processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    /// From the coordinator to the queue server.
    Coordinator,
    /// From a worker to the queue server.
    Worker(usize),
    /// From a worker to its LLM server.
    Llm(usize),
}

/// What a network does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Harm {
    /// Everything takes this long, in each direction.
    Slow(Duration),
    /// Nothing gets through, connections are reset and refused.
    Cut,
    /// Nothing gets through, and nobody is told.
    Silent,
    /// The same for what the client sends only.
    HalfOpen,
    /// The same for what the server sends only.
    HalfClosed,
}

/// What an LLM server does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ailment {
    Hangs,
    Garbage,
    Busy,
    CutsStreams,
    Gone,
}

/// A part of the queue that can vanish alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Tasks,
    Results,
    Jobs,
    Presence,
    Poison,
    TaskConsumers,
    ResultConsumers,
}

impl Part {
    pub(crate) const ALL: [Self; 7] = [
        Self::Tasks,
        Self::Results,
        Self::Jobs,
        Self::Presence,
        Self::Poison,
        Self::TaskConsumers,
        Self::ResultConsumers,
    ];

    /// The stream that it is, or that its consumers belong to.
    pub(crate) fn stream(self) -> &'static str {
        match self {
            Self::Tasks | Self::TaskConsumers => "QA_TASKS",
            Self::Results | Self::ResultConsumers => "QA_RESULTS",
            Self::Jobs => "KV_QA_JOBS",
            Self::Presence => "KV_QA_PRESENCE",
            Self::Poison => "KV_QA_POISON",
        }
    }

    pub(crate) fn is_consumers(self) -> bool {
        matches!(self, Self::TaskConsumers | Self::ResultConsumers)
    }
}

/// One thing that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGKILL; started again in the end.
    Kill(Process),
    /// SIGTERM; started again in the end.
    Term(Process),
    /// SIGSTOP; SIGCONT in the end.
    Freeze(Process),
    /// The queue server is killed and its store is lost.
    LoseQueue,
    /// The queue server is killed and comes back with the store that it had when this began, as after a power
    /// cut that took what was not synced.
    SetBackQueue,
    /// An operator deletes one part of the queue.
    LosePart(Part),
    /// An operator pauses the consumers of tasks or of results.
    Pause(Part),
    /// A stranger takes messages of tasks or of results and hands them back with a delay of years.
    Withhold(Part),
    /// A stranger stores messages that are no tasks, no results and no heartbeats.
    Noise,
    Network(Link, Harm),
    Llm(usize, Ailment),
    /// The coordinator's disk is full.
    FullDisk,
    /// Nothing can be made, renamed or removed in the coordinator's directory.
    ReadOnly,
    /// A process' wall clock is wrong by so many milliseconds.
    Clock(Process, i64),
}

impl Fault {
    /// Its kind, for the report.
    pub(crate) fn kind(self) -> String {
        let of = |process| match process {
            Process::Coordinator => "coordinator",
            Process::Worker(_) => "worker",
            Process::QueueServer => "queue server",
        };
        match self {
            Self::Kill(process) => format!("{} killed", of(process)),
            Self::Term(process) => format!("{} told to stop", of(process)),
            Self::Freeze(process) => format!("{} frozen", of(process)),
            Self::LoseQueue => "queue server's store lost".to_owned(),
            Self::LosePart(part) => format!("queue loses {part:?}"),
            Self::Pause(part) => format!("{part:?} paused"),
            Self::Withhold(part) => format!("{part:?} withheld by a stranger"),
            Self::Noise => "noise of a stranger in the queue".to_owned(),
            Self::Network(link, harm) => {
                let link = match link {
                    Link::Coordinator => "coordinator to queue",
                    Link::Worker(_) => "worker to queue",
                    Link::Llm(_) => "worker to LLM server",
                };
                let harm = match harm {
                    Harm::Slow(_) => "slow",
                    Harm::Cut => "cut",
                    Harm::Silent => "silent",
                    Harm::HalfOpen | Harm::HalfClosed => "half open",
                };
                format!("network, {link}: {harm}")
            }
            Self::Llm(_, ailment) => format!("LLM server: {ailment:?}"),
            Self::SetBackQueue => "queue server's store set back".to_owned(),
            Self::FullDisk => "full disk".to_owned(),
            Self::ReadOnly => "unwritable directory".to_owned(),
            Self::Clock(process, _) => format!("{}'s clock jumps", of(process)),
        }
    }

    /// Model calls that it may cost: those that are in flight, of which a slot has the one that runs and the
    /// one whose task it is acknowledging, and with the queue's store the results that wait in it.
    /// Calls that an LLM server spoils are counted where they are spoilt.
    pub(crate) fn may_cost(self, place: Place, slots: Slots) -> u64 {
        let (one, all) = (2 * slots.per_server, 2 * slots.in_all());
        match self {
            Self::LoseQueue | Self::LosePart(Part::Results) => {
                (WAITING_PER_SLOT * slots.in_all()).max(64) + all
            }
            // What was done since the copy was made is queued again until somebody compares.
            Self::SetBackQueue => 64 + all + CALLS_BETWEEN,
            Self::LosePart(Part::Poison | Part::ResultConsumers)
            | Self::Pause(_)
            | Self::Withhold(_)
            | Self::Noise
            | Self::Clock(..) => 0,
            // What is in work is published or delivered again; without job and heartbeats it is handed back.
            Self::LosePart(Part::Tasks | Part::TaskConsumers | Part::Jobs | Part::Presence)
            | Self::Kill(Process::QueueServer)
            | Self::Term(Process::QueueServer)
            | Self::Freeze(Process::QueueServer) => all,
            Self::Kill(Process::Worker(_))
            | Self::Term(Process::Worker(_))
            | Self::Freeze(Process::Worker(_))
            | Self::Network(Link::Worker(_) | Link::Llm(_), _)
            | Self::Llm(..) => one,
            // The worker is a part of it.
            _ if place == Place::OneMachine => all,
            // A task that a slot gets while it is taken back is asked for by both.
            Self::Term(Process::Coordinator) => slots.in_all(),
            Self::Kill(Process::Coordinator)
            | Self::Freeze(Process::Coordinator)
            | Self::Network(Link::Coordinator, _)
            | Self::FullDisk
            | Self::ReadOnly => 0,
        }
    }
}

/// Requests in flight at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slots {
    pub(crate) servers: u64,
    pub(crate) per_server: u64,
}

impl Slots {
    pub(crate) fn in_all(self) -> u64 {
        self.servers * self.per_server
    }
}

/// A fault with its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) at: Duration,
    pub(crate) lasts: Duration,
    pub(crate) fault: Fault,
}

/// What goes wrong in one run of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Schedule {
    pub(crate) seed: u64,
    pub(crate) place: Place,
    /// LLM servers; in a fleet each has its worker.
    pub(crate) servers: usize,
    pub(crate) steps: Vec<Step>,
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}: {:?}, {} LLM servers", self.seed, self.place, self.servers)?;
        for Step { at, lasts, fault } in &self.steps {
            writeln!(f, "  at {:.1} s for {:.1} s: {fault:?}", at.as_secs_f64(), lasts.as_secs_f64())?;
        }
        Ok(())
    }
}

impl Schedule {
    /// The schedule of a seed.
    pub(crate) fn of(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let place = if dice.roll(5) == 0 { Place::OneMachine } else { Place::Fleet };
        let servers = 2 + dice.pick(2);
        let mut at = Duration::from_millis(500 + dice.roll(1000));
        let mut steps = Vec::new();
        for _ in 0..4 + dice.roll(4) {
            let fault = fault(&mut dice, place, servers);
            let lasts = match fault {
                Fault::Freeze(_) => LONG,
                // As long as the ack wait or short.
                Fault::Network(..) if dice.roll(2) == 0 => LONG,
                Fault::Kill(_) | Fault::Term(_) | Fault::LoseQueue if dice.roll(3) > 0 => {
                    Duration::from_millis(dice.roll(300))
                }
                _ => Duration::from_millis(200 + dice.roll(2500)),
            };
            steps.push(Step { at, lasts, fault });
            at += Duration::from_millis(100 + dice.roll(1900));
        }
        Self { seed, place, servers, steps }
    }

    /// A fleet to which something happens every few seconds, but that its coordinator and its first two workers
    /// are not ended by: what they hold is watched.
    pub(crate) fn soak(seed: u64, lasts: Duration) -> Self {
        let (mut dice, servers) = (Dice(seed), 3);
        let (mut at, mut steps) = (Duration::from_secs(2), Vec::new());
        while at < lasts {
            let fault = fault(&mut dice, Place::Fleet, servers);
            let is_watched = |process| matches!(process, Process::Coordinator | Process::Worker(0 | 1));
            let ends_it = match fault {
                Fault::Kill(process) | Fault::Term(process) => is_watched(process),
                Fault::FullDisk | Fault::ReadOnly => true,
                _ => false,
            };
            if !ends_it {
                let lasts = if matches!(fault, Fault::Freeze(_)) { LONG } else { LONG / 2 };
                steps.push(Step { at, lasts, fault });
                at += Duration::from_millis(2000 + dice.roll(8000));
            }
        }
        Self { seed, place: Place::Fleet, servers, steps }
    }

    /// In a fleet each LLM server has its worker.
    pub(crate) fn workers(&self) -> usize {
        if self.place == Place::Fleet { self.servers } else { 0 }
    }

    /// Whether the coordinator's disk will be full.
    pub(crate) fn needs_a_disk(&self) -> bool {
        self.steps.iter().any(|step| matches!(step.fault, Fault::FullDisk | Fault::ReadOnly))
    }

    /// What happens in its order of time: the number of a step, and whether it begins.
    pub(crate) fn timeline(&self) -> Vec<(Duration, usize, bool)> {
        let mut timeline: Vec<_> = self
            .steps
            .iter()
            .enumerate()
            .flat_map(|(number, step)| [(step.at, number, true), (step.at + step.lasts, number, false)])
            .collect();
        timeline.sort_by_key(|(at, number, begins)| (*at, *number, !begins));
        timeline
    }
}

fn fault(dice: &mut Dice, place: Place, servers: usize) -> Fault {
    match place {
        Place::OneMachine => match dice.roll(12) {
            0..=2 => Fault::Kill(Process::Coordinator),
            3 => Fault::Term(Process::Coordinator),
            4 => Fault::Freeze(Process::Coordinator),
            5 => Fault::Kill(Process::QueueServer),
            6 => Fault::Freeze(Process::QueueServer),
            7 => Fault::FullDisk,
            8 => Fault::Network(Link::Llm(dice.pick(servers)), harm(dice)),
            9 => Fault::ReadOnly,
            10 => Fault::Clock(Process::Coordinator, jump(dice)),
            _ => Fault::Llm(dice.pick(servers), ailment(dice)),
        },
        Place::Fleet => match dice.roll(41) {
            0..=3 => Fault::Kill(Process::Coordinator),
            4 => Fault::Term(Process::Coordinator),
            5 => Fault::Freeze(Process::Coordinator),
            6 | 7 => Fault::Kill(Process::Worker(dice.pick(servers))),
            8 => Fault::Term(Process::Worker(dice.pick(servers))),
            9 | 10 => Fault::Freeze(Process::Worker(dice.pick(servers))),
            11 | 12 => Fault::Kill(Process::QueueServer),
            13 if dice.roll(2) == 0 => Fault::Term(Process::QueueServer),
            13 => Fault::Freeze(Process::QueueServer),
            14 => Fault::LoseQueue,
            15 => Fault::FullDisk,
            16 | 17 => Fault::Network(Link::Coordinator, harm(dice)),
            18 | 19 => Fault::Network(Link::Worker(dice.pick(servers)), harm(dice)),
            20 | 21 => Fault::Network(Link::Llm(dice.pick(servers)), harm(dice)),
            22 => Fault::SetBackQueue,
            23 => Fault::ReadOnly,
            24 => Fault::Clock(Process::Coordinator, jump(dice)),
            25 => Fault::Clock(Process::Worker(dice.pick(servers)), jump(dice)),
            26..=33 => Fault::LosePart(Part::ALL[dice.pick(Part::ALL.len())]),
            34 => Fault::Pause(Part::TaskConsumers),
            35 => Fault::Pause(Part::ResultConsumers),
            36 => Fault::Withhold(Part::Tasks),
            37 => Fault::Withhold(Part::Results),
            38 => Fault::Noise,
            _ => Fault::Llm(dice.pick(servers), ailment(dice)),
        },
    }
}

fn harm(dice: &mut Dice) -> Harm {
    match dice.roll(5) {
        0 => Harm::Slow(Duration::from_millis(50 + dice.roll(400))),
        1 => Harm::Silent,
        2 => Harm::HalfOpen,
        3 => Harm::HalfClosed,
        _ => Harm::Cut,
    }
}

/// By seconds or by a day, to either side.
fn jump(dice: &mut Dice) -> i64 {
    let size = [5_000, 90_000, 3_600_000, 86_400_000][dice.pick(4)];
    if dice.roll(2) == 0 { size } else { -size }
}

fn ailment(dice: &mut Dice) -> Ailment {
    let all = [Ailment::Hangs, Ailment::Garbage, Ailment::Busy, Ailment::CutsStreams, Ailment::Gone];
    all[dice.pick(all.len())]
}

/// SplitMix64: small, and the same on every machine and with every version of every crate.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    fn pick(&mut self, sides: usize) -> usize {
        usize::try_from(self.roll(sides as u64)).unwrap()
    }
}

#[test]
fn a_seed_gives_one_schedule_and_many_seeds_give_every_kind_of_fault() {
    assert_eq!(Schedule::of(7), Schedule::of(7));
    assert_ne!(Schedule::of(7).steps, Schedule::of(8).steps);
    let kinds: std::collections::BTreeSet<String> =
        (0..600).flat_map(|seed| Schedule::of(seed).steps).map(|step| step.fault.kind()).collect();
    // Nine of processes, two of the store, seven parts of it, five of operators and strangers, twelve of networks,
    // five of LLM servers, two of the disk, two clocks.
    assert_eq!(kinds.len(), 9 + 2 + 7 + 5 + 12 + 5 + 2 + 2, "{kinds:#?}");
    for seed in 0..300 {
        let schedule = Schedule::of(seed);
        let timeline = schedule.timeline();
        assert!(timeline.is_sorted_by_key(|(at, ..)| *at), "{schedule}");
        assert_eq!(timeline.len(), 2 * schedule.steps.len());
    }
}
