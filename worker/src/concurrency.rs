//! How many requests to keep in flight at one LLM server, found from what its answers tell.
//!
//! PURE: time is an argument, as the duration since any fixed moment. No API tells how many requests a server
//! works on at once. Where answers tell how long they waited before anybody worked on them, one waiting request
//! is the aim: with fewer the server may run dry between two requests, with more they only wait. Elsewhere
//! `climb` compares tokens per second. Both judge full windows of answers, and only where the slots were in
//! use: that there is nothing to do is no lack of slots. It must not know what is asked, nor how it is sent.

use std::time::Duration;

use climb::Climb;

mod climb;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

/// A window has this many answers per slot,
const ANSWERS_PER_SLOT: u32 = 2;
/// and at least so many.
const LEAST_ANSWERS: u32 = 8;
/// On average fewer requests than this wait at the server: it may have room for more.
const FEWEST_WAITING: f64 = 0.5;
/// On average more requests than this wait at the server: fewer would do.
const MOST_WAITING: f64 = 2.0;
/// Of the slots so much was in use, on average, or more of them would be of no use.
const IN_USE: f64 = 0.75;
/// Of the requests in flight so much remains when the server says that they are too many.
const AFTER_OVERLOAD: f64 = 0.7;

/// What an answer tells.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Answered {
    /// Generated tokens.
    pub tokens: u64,
    /// How long it waited before anybody worked on it; nothing where nobody can tell.
    pub waited: Option<Duration>,
    /// How long the model was being loaded for it.
    pub loading: Duration,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unanswered {
    /// The server has more requests than it takes.
    Overloaded,
    /// Something that says nothing about the number of requests.
    Other,
}

/// A request in flight; it ends by [`Concurrency::answered`] or [`Concurrency::unanswered`].
#[derive(Debug)]
#[must_use = "a request that does not end counts as in flight for ever"]
pub struct Begun {
    at: Duration,
    window: u64,
}

/// Finds the number of slots of one server.
#[derive(Debug, Clone)]
pub struct Concurrency {
    slots: u32,
    most: u32,
    in_flight: u32,
    window: Window,
    /// So many slots are added next.
    step: u32,
    /// It is known how many requests are too many: from there on the number grows by one at a time.
    is_careful: bool,
    /// The shortest wait so far: what each request takes on its way, without anybody before it.
    shortest_wait: Option<Duration>,
    climb: Climb,
}

/// What was measured with one number of slots.
#[derive(Debug, Clone, Default)]
struct Window {
    number: u64,
    since: Duration,
    /// More requests are in flight than there are slots: nothing is measured until they have ended.
    is_draining: bool,
    /// Seconds in flight, summed over all requests, until `counted_until`.
    in_flight: f64,
    counted_until: Duration,
    answers: u32,
    /// How many of them told how long they waited.
    told: u32,
    tokens: f64,
    /// Seconds that answers took, without loading.
    took: f64,
    /// Seconds of these that they waited, beyond what every request takes.
    waited: f64,
}

impl Window {
    fn load(&self, now: Duration) -> f64 {
        self.in_flight / now.saturating_sub(self.since).as_secs_f64().max(f64::EPSILON)
    }

    fn tells_waits(&self) -> bool {
        self.told * 2 >= self.answers
    }
}

impl Concurrency {
    /// Begins with a number of slots; never gives more than `most`.
    pub fn new(first: u32, most: u32) -> Self {
        let most = most.max(1);
        Self {
            slots: first.clamp(1, most),
            most,
            in_flight: 0,
            window: Window::default(),
            step: 1,
            is_careful: false,
            shortest_wait: None,
            climb: Climb::default(),
        }
    }

    /// How many slots are open.
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// The server may be another one now, or have another model: goes on with the number that there is, and
    /// looks for a better one as if for the first time.
    pub fn forget(&mut self, now: Duration) {
        (self.step, self.is_careful, self.shortest_wait) = (1, false, None);
        self.climb = Climb::default();
        self.begin_window(now);
    }

    /// A request goes out.
    pub fn begin(&mut self, now: Duration) -> Begun {
        self.count(now);
        self.in_flight += 1;
        let is_counted = !self.window.is_draining && self.in_flight <= self.slots;
        Begun { at: now, window: if is_counted { self.window.number } else { u64::MAX } }
    }

    /// A request has its answer.
    #[expect(clippy::needless_pass_by_value, reason = "a request ends once")]
    pub fn answered(&mut self, begun: Begun, now: Duration, answer: &Answered) {
        self.end(now);
        if begun.window != self.window.number {
            return;
        }
        let took = now.saturating_sub(begun.at).saturating_sub(answer.loading);
        if let Some(waited) = answer.waited {
            let shortest = self.shortest_wait.map_or(waited, |shortest| shortest.min(waited));
            self.shortest_wait = Some(shortest);
            self.window.told += 1;
            self.window.waited += waited.saturating_sub(shortest).min(took).as_secs_f64();
        }
        self.window.answers += 1;
        self.window.tokens += answer.tokens as f64;
        self.window.took += took.as_secs_f64();
        let (per_slot, least) = if self.window.tells_waits() {
            (ANSWERS_PER_SLOT, LEAST_ANSWERS)
        } else {
            (climb::ANSWERS_PER_SLOT, climb::LEAST_ANSWERS)
        };
        if self.window.answers >= least.max(per_slot * self.slots) {
            self.judge(now);
        }
    }

    /// A request has ended without an answer.
    #[expect(clippy::needless_pass_by_value, reason = "a request ends once")]
    pub fn unanswered(&mut self, begun: Begun, now: Duration, why: Unanswered) {
        let in_flight = self.in_flight;
        self.end(now);
        if why == Unanswered::Overloaded && begun.window == self.window.number {
            // Others of this window meet the same; it counts once.
            self.is_careful = true;
            self.climb.rest();
            let fewer = in_flight.min(self.slots).saturating_sub(1);
            self.change(now, fewer.min(rounded(f64::from(in_flight) * AFTER_OVERLOAD)));
        }
    }

    fn judge(&mut self, now: Duration) {
        let load = self.window.load(now);
        let is_in_use = load >= IN_USE * f64::from(self.slots);
        let slots = if self.window.tells_waits() {
            self.by_waits(load, is_in_use)
        } else if is_in_use && self.window.took > 0.0 {
            // By Little's law, and without the noise of what is not finished at the window's ends.
            let speed = load * self.window.tokens / self.window.took;
            self.climb.next(self.slots, self.most, speed)
        } else {
            self.slots
        };
        self.change(now, slots);
    }

    /// Of what is in flight, on average, so much waits as of the time of a request is waiting.
    fn by_waits(&mut self, load: f64, is_in_use: bool) -> u32 {
        let waiting = load * self.window.waited / self.window.took.max(f64::EPSILON);
        if waiting > MOST_WAITING {
            self.step = 1;
            self.slots.min(rounded(load - waiting) + 1)
        } else if waiting < FEWEST_WAITING && is_in_use {
            let step = self.step;
            self.step = if self.is_careful { 1 } else { (2 * step).min(self.most) };
            self.slots + step
        } else {
            self.step = 1;
            self.slots
        }
    }

    fn change(&mut self, now: Duration, slots: u32) {
        self.slots = slots.clamp(1, self.most);
        self.begin_window(now);
    }

    fn begin_window(&mut self, now: Duration) {
        self.window = Window {
            number: self.window.number + 1,
            since: now,
            counted_until: now,
            is_draining: self.in_flight > self.slots,
            ..Window::default()
        };
    }

    fn end(&mut self, now: Duration) {
        self.count(now);
        self.in_flight = self.in_flight.saturating_sub(1);
        if self.window.is_draining && self.in_flight <= self.slots {
            self.begin_window(now);
        }
    }

    fn count(&mut self, now: Duration) {
        let seconds = now.saturating_sub(self.window.counted_until).as_secs_f64();
        self.window.in_flight += f64::from(self.in_flight) * seconds;
        self.window.counted_until = self.window.counted_until.max(now);
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the range before")]
fn rounded(number: f64) -> u32 {
    number.round().clamp(0.0, f64::from(u32::MAX)) as u32
}
