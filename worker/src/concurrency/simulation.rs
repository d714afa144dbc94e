//! A simulated LLM server and the slots that work with it, on a clock of their own: the same seed gives the same
//! run.

use std::time::Duration;

use super::{Answered, Begun, Concurrency};

/// Tokens that an answer has on average.
const TOKENS: f64 = 400.0;
/// What a prompt costs, in generated tokens.
const PROMPT: f64 = 40.0;

/// How many tokens a second the server makes with so many requests in work.
#[derive(Debug, Clone, Copy)]
pub(super) enum Curve {
    /// So many for each request.
    Linear(f64),
    /// So many for a single request, and ever less is gained by a further one: with so many requests each is
    /// half as fast.
    Saturating(f64, f64),
    /// So many together, however many there are.
    Flat(f64),
}

impl Curve {
    fn each(self, requests: usize) -> f64 {
        let requests = requests.max(1) as f64;
        match self {
            Self::Linear(speed) => speed,
            Self::Saturating(speed, half) => speed / (1.0 + (requests - 1.0) / half),
            Self::Flat(speed) => speed / requests,
        }
    }

    fn all(self, requests: u32) -> f64 {
        self.each(requests as usize) * f64::from(requests)
    }
}

/// The server.
#[derive(Debug, Clone)]
pub(super) struct Server {
    /// Requests that it works on at once.
    pub(super) parallel: usize,
    pub(super) curve: Curve,
    /// Whether answers tell how long they waited.
    pub(super) tells_waits: bool,
    /// What each request takes on its way, in seconds.
    pub(super) overhead: f64,
    /// How much a request's speed differs from another's: 0.2 is up to a fifth more or less.
    pub(super) jitter: f64,
    /// Requests of somebody else that are always there.
    pub(super) others: usize,
    /// Nothing goes on before this moment.
    pub(super) stalled_until: f64,
}

impl Server {
    pub(super) fn ollama(parallel: usize) -> Self {
        Self {
            parallel,
            curve: Curve::Linear(50.0),
            tells_waits: true,
            overhead: 0.03,
            jitter: 0.2,
            others: 0,
            stalled_until: 0.0,
        }
    }

    pub(super) fn compatible(parallel: usize, curve: Curve) -> Self {
        Self { tells_waits: false, curve, ..Self::ollama(parallel) }
    }

    /// The most tokens a second that it can make, answers only.
    pub(super) fn best(&self) -> f64 {
        let most = u32::try_from(self.parallel).unwrap();
        let best = (1..=most).map(|requests| self.curve.all(requests)).fold(0.0, f64::max);
        best * TOKENS / (TOKENS + PROMPT)
    }
}

#[derive(Debug)]
struct Flight {
    /// Nothing for somebody else's.
    begun: Option<Begun>,
    at: f64,
    /// When it reaches the server's queue.
    arrives: f64,
    worked_on_since: Option<f64>,
    tokens: u64,
    left: f64,
    pace: f64,
}

/// What a stretch of the run was like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stretch {
    /// Tokens a second, of our answers.
    pub(super) speed: f64,
    /// Our requests that waited at the server, on average.
    pub(super) waiting: f64,
    /// How often the number of slots changed.
    pub(super) changes: u32,
    /// Slots, on average over the answers.
    pub(super) slots: f64,
    /// The most slots.
    pub(super) most: u32,
    /// The fewest.
    pub(super) fewest: u32,
}

/// A run.
pub(super) struct Simulation {
    pub(super) slots: Concurrency,
    pub(super) server: Server,
    /// Seconds between two requests of a slot: fetching a task, storing a result.
    pub(super) gap: f64,
    /// A task comes every so many seconds; 0: there are always enough.
    pub(super) task_every: f64,
    now: f64,
    next_task: f64,
    flights: Vec<Flight>,
    /// When slots that are between two requests send the next one.
    returning: Vec<f64>,
    random: u64,
}

impl Simulation {
    pub(super) fn new(slots: Concurrency, server: Server, seed: u64) -> Self {
        Self {
            slots,
            server,
            gap: 0.03,
            task_every: 0.0,
            now: 0.0,
            next_task: 0.0,
            flights: Vec::new(),
            returning: Vec::new(),
            random: seed,
        }
    }

    /// Goes on until so many requests were answered.
    pub(super) fn run(&mut self, answers: u32) -> Stretch {
        let begin = self.now;
        let (mut tokens, mut waiting, mut slots) = (0.0, 0.0, 0.0);
        let (mut changes, mut most, mut fewest) = (0, self.slots.slots(), self.slots.slots());
        let mut answered = 0;
        while answered < answers {
            let before = self.slots.slots();
            let (passed, finished) = self.step();
            waiting += passed * self.waiting() as f64;
            if let Some(of_answer) = finished {
                answered += 1;
                tokens += of_answer;
                slots += f64::from(self.slots.slots());
            }
            changes += u32::from(self.slots.slots() != before);
            most = most.max(self.slots.slots());
            fewest = fewest.min(self.slots.slots());
        }
        let seconds = self.now - begin;
        Stretch {
            speed: tokens / seconds,
            waiting: waiting / seconds,
            changes,
            slots: slots / f64::from(answers),
            most,
            fewest,
        }
    }

    pub(super) fn stall(&mut self, seconds: f64) {
        self.server.stalled_until = self.now + seconds;
    }

    fn waiting(&self) -> usize {
        self.flights
            .iter()
            .filter(|flight| flight.begun.is_some() && flight.worked_on_since.is_none())
            .count()
    }

    /// To the next event: how long that took, and the tokens of one of our answers if it was one.
    fn step(&mut self) -> (f64, Option<f64>) {
        self.fill();
        let active = self.flights.iter().filter(|flight| flight.worked_on_since.is_some()).count();
        let each = self.server.curve.each(active);
        let begins = self.now.max(self.server.stalled_until);
        let ends = |flight: &Flight| begins + flight.left / (each * flight.pace);
        let working = self.flights.iter().enumerate().filter(|(_, flight)| flight.worked_on_since.is_some());
        let first = working.map(|(index, flight)| (ends(flight), index)).min_by(|a, b| a.0.total_cmp(&b.0));
        let arrivals =
            self.flights.iter().filter(|flight| flight.arrives > self.now).map(|flight| flight.arrives);
        let other =
            self.returning.iter().copied().chain(arrivals).fold(f64::INFINITY, f64::min).max(self.now);
        let until = first.map_or(other, |(ends, _)| ends.min(other));
        assert!(until.is_finite(), "the simulation stands still");
        let worked = (until - begins).max(0.0);
        for flight in self.flights.iter_mut().filter(|flight| flight.worked_on_since.is_some()) {
            flight.left -= worked * each * flight.pace;
        }
        let passed = until - self.now;
        self.now = until;
        let finished = first.filter(|(ends, _)| *ends <= until).map(|(_, index)| index);
        (passed, finished.and_then(|index| self.finish(index)))
    }

    fn finish(&mut self, index: usize) -> Option<f64> {
        let flight = self.flights.remove(index);
        let begun = flight.begun?;
        let queued = flight.worked_on_since.unwrap_or(self.now) - flight.at;
        let answer = Answered {
            tokens: flight.tokens,
            waited: self.server.tells_waits.then(|| Duration::from_secs_f64(queued)),
            loading: Duration::ZERO,
        };
        self.slots.answered(begun, Duration::from_secs_f64(self.now), &answer);
        self.returning.push(self.now + self.gap);
        Some(flight.tokens as f64)
    }

    /// Lets slots send requests, and the server take them into work.
    fn fill(&mut self) {
        let ours = self.flights.iter().filter(|flight| flight.begun.is_some()).count();
        let open = self.slots.slots() as usize;
        self.returning.truncate(open.saturating_sub(ours));
        while self.returning.len() + ours < open {
            self.returning.push(self.now + self.gap);
        }
        for slot in std::mem::take(&mut self.returning) {
            if slot > self.now {
                self.returning.push(slot);
            } else if self.task_every > 0.0 && self.next_task > self.now {
                self.returning.push(self.next_task);
            } else {
                self.next_task = self.next_task.max(self.now - 1.0) + self.task_every;
                let begun = self.slots.begin(Duration::from_secs_f64(self.now));
                self.send(Some(begun));
            }
        }
        while self.flights.iter().filter(|flight| flight.begun.is_none()).count() < self.server.others {
            self.send(None);
        }
        let mut active = self.flights.iter().filter(|flight| flight.worked_on_since.is_some()).count();
        let now = self.now;
        for flight in &mut self.flights {
            if active < self.server.parallel && flight.worked_on_since.is_none() && flight.arrives <= now {
                flight.worked_on_since = Some(now);
                active += 1;
            }
        }
    }

    fn send(&mut self, begun: Option<Begun>) {
        let length = if self.chance() < 0.05 { 3.0 } else { 0.4 + self.chance() };
        let tokens = u64::from(super::rounded(TOKENS * length));
        let pace = 1.0 + self.server.jitter * (2.0 * self.chance() - 1.0);
        let arrives = self.now + self.server.overhead;
        let left = tokens as f64 + PROMPT;
        self.flights.push(Flight { begun, at: self.now, arrives, worked_on_since: None, tokens, left, pace });
    }

    /// From 0 to 1 (SplitMix64).
    pub(super) fn chance(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}
