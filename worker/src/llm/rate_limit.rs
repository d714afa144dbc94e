//! How many requests and tokens an account may take a minute, so that a limit is kept instead of met.
//!
//! PURE: time is an argument, as the duration since any fixed moment. The limits come from the user and from
//! the service's headers; the smaller one counts. They belong to the account: this worker takes its share of
//! them. It must not know how waiting is done, nor which service it is.

use std::time::Duration;

use jiff::Timestamp;

use super::reply::Headers;
use super::retry_after::reset_after;

/// What may be used up at once after a pause: hardly anything, so that no minute holds more than its limit.
const BURST: Duration = Duration::from_secs(1);
/// The longest that a service's word about a reset closes a limit, and that an empty one is waited for at once.
const LONGEST_CLOSURE: Duration = Duration::from_secs(60);
const MINUTE: f64 = 60.0;

/// Limits per minute; an absent one does not bind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PerMinute {
    /// Requests.
    pub requests: Option<u64>,
    /// Tokens, prompt and answer together.
    pub tokens: Option<u64>,
}

/// What a reply says about one of the account's limits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Told {
    limit: Option<u64>,
    remaining: Option<u64>,
    reset: Option<Duration>,
}

/// What a reply says about the account's limits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ToldLimits {
    requests: Told,
    tokens: Told,
}

impl ToldLimits {
    /// Reads OpenAI's `x-ratelimit-*` and Anthropic's `anthropic-ratelimit-*`.
    pub(crate) fn read(headers: &Headers, now: Timestamp) -> Self {
        let told = |limit: String, remaining: String, reset: String| Told {
            limit: headers.number(&limit).filter(|limit| *limit > 0),
            remaining: headers.number(&remaining),
            reset: headers.get(&reset).and_then(|text| reset_after(text, now)),
        };
        let openai = |what: &str| {
            told(
                format!("x-ratelimit-limit-{what}"),
                format!("x-ratelimit-remaining-{what}"),
                format!("x-ratelimit-reset-{what}"),
            )
        };
        let claude = |what: &str| {
            let name = |property: &str| format!("anthropic-ratelimit-{what}-{property}");
            told(name("limit"), name("remaining"), name("reset"))
        };
        Self {
            requests: openai("requests").or(claude("requests")),
            tokens: openai("tokens")
                .or(claude("tokens"))
                .or(claude("input-tokens"))
                .within(claude("input-tokens"))
                .within(claude("output-tokens")),
        }
    }
}

impl Told {
    fn or(self, other: Self) -> Self {
        if self == Self::default() { other } else { self }
    }

    /// The same where another limit may be nearer: what remains is the less of both.
    fn within(self, other: Self) -> Self {
        let nearer = match (self.remaining, other.remaining) {
            (Some(mine), Some(others)) => others < mine,
            (None, other) => other.is_some(),
            (Some(_), None) => false,
        };
        if nearer { Self { limit: self.limit.or(other.limit), ..other } } else { self }
    }
}

/// A limit that fills steadily. Its level may fall below zero: then there is a wait until it is above.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Bucket {
    wanted: Option<u64>,
    told: Option<u64>,
    level: f64,
    filled_at: Duration,
    closed_until: Duration,
}

impl Bucket {
    fn per_second(&self, share: u32) -> Option<f64> {
        let limit = match (self.wanted, self.told) {
            (Some(wanted), Some(told)) => wanted.min(told),
            (wanted, told) => wanted.or(told)?,
        };
        Some(limit as f64 / MINUTE / f64::from(share.max(1)))
    }

    /// What it holds at most; at least one request always fits.
    fn capacity(rate: f64) -> f64 {
        (rate * BURST.as_secs_f64()).max(1.0)
    }

    fn fill(&mut self, now: Duration, share: u32) {
        if let Some(rate) = self.per_second(share) {
            let gained = rate * now.saturating_sub(self.filled_at).as_secs_f64();
            self.level = (self.level + gained).min(Self::capacity(rate));
        }
        self.filled_at = now;
    }

    /// How long until something may be taken.
    fn wait(&self, now: Duration, share: u32) -> Duration {
        let closed = self.closed_until.saturating_sub(now);
        let Some(rate) = self.per_second(share) else { return closed };
        // What is taken may exceed the level: a large request must not wait for ever.
        let needed = 1.0_f64.min(Self::capacity(rate));
        let missing = (needed - self.level).max(0.0);
        closed.max(Duration::try_from_secs_f64(missing / rate).unwrap_or(LONGEST_CLOSURE * 60))
    }

    fn learn(&mut self, told: Told, now: Duration, share: u32) {
        if let Some(limit) = told.limit {
            if self.told.is_none() && self.wanted.is_none() {
                // The first word about a limit: it begins full.
                self.level = Self::capacity(limit as f64 / MINUTE / f64::from(share.max(1)));
            }
            self.told = Some(limit);
        }
        if let Some(remaining) = told.remaining {
            self.level = self.level.min(remaining as f64 / f64::from(share.max(1)));
            if remaining == 0
                && let Some(reset) = told.reset
            {
                self.closed_until = self.closed_until.max(now + reset.min(LONGEST_CLOSURE));
            }
        }
    }
}

/// The limits of one account in one process.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RateLimit {
    requests: Bucket,
    tokens: Bucket,
    share: u32,
}

impl RateLimit {
    /// Limits as the user set them, for one worker.
    pub(crate) fn new(wanted: PerMinute) -> Self {
        let bucket = |wanted: Option<u64>| Bucket {
            wanted,
            level: wanted.map_or(0.0, |limit| Bucket::capacity(limit as f64 / MINUTE)),
            ..Bucket::default()
        };
        Self { requests: bucket(wanted.requests), tokens: bucket(wanted.tokens), share: 1 }
    }

    /// The account is used by this many workers, this one included.
    pub(crate) fn set_share(&mut self, workers: u32) {
        self.share = workers.max(1);
    }

    /// How many workers use the account.
    pub(crate) fn share(&self) -> u32 {
        self.share
    }

    /// Takes a request of about this many tokens, or says how long to wait before asking again.
    pub(crate) fn take(&mut self, now: Duration, tokens: u64) -> Result<(), Duration> {
        let share = self.share;
        self.requests.fill(now, share);
        self.tokens.fill(now, share);
        let wait = self.requests.wait(now, share).max(self.tokens.wait(now, share));
        if wait > Duration::ZERO {
            return Err(wait);
        }
        self.requests.level -= 1.0;
        self.tokens.level -= tokens as f64;
        Ok(())
    }

    /// Gives back what a request did not use of the tokens taken for it, or takes what it used more.
    pub(crate) fn settle(&mut self, taken: u64, used: u64) {
        self.tokens.level += taken as f64 - used as f64;
    }

    /// Takes what a reply says about the account's limits.
    pub(crate) fn learn(&mut self, told: &ToldLimits, now: Duration) {
        let share = self.share;
        self.requests.learn(told.requests, now, share);
        self.tokens.learn(told.tokens, now, share);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limit(requests: u64, tokens: u64) -> RateLimit {
        let some = |n: u64| (n > 0).then_some(n);
        RateLimit::new(PerMinute { requests: some(requests), tokens: some(tokens) })
    }

    /// How many requests of `tokens` go out in this many seconds.
    fn taken(limit: &mut RateLimit, from: u64, seconds: u64, tokens: u64) -> u64 {
        let mut count = 0;
        let (mut now, end) = (Duration::from_secs(from), Duration::from_secs(from + seconds));
        while now < end {
            match limit.take(now, tokens) {
                Ok(()) => count += 1,
                Err(wait) => now += wait.max(Duration::from_millis(1)),
            }
        }
        count
    }

    #[test]
    fn without_limits_nothing_waits() {
        let mut free = limit(0, 0);
        assert!((0..10_000).all(|_| free.take(Duration::ZERO, 1_000_000).is_ok()));
    }

    #[test]
    fn requests_and_tokens_bind() {
        let by_requests = taken(&mut limit(60, 0), 0, 600, 9);
        assert!((597..=601).contains(&by_requests), "one a second: {by_requests}");
        let by_tokens = taken(&mut limit(6000, 60_000), 0, 600, 1000);
        assert!((597..=603).contains(&by_tokens), "{by_tokens}");
    }

    #[test]
    fn an_account_is_shared_by_its_workers() {
        let mut shared = limit(120, 0);
        shared.set_share(4);
        let taken = taken(&mut shared, 0, 600, 1);
        assert!((297..=303).contains(&taken), "{taken}");
    }

    #[test]
    fn a_request_larger_than_the_burst_goes_out_all_the_same() {
        let mut small = limit(0, 600);
        assert_eq!(small.take(Duration::ZERO, 5000), Ok(()));
        let wait = small.take(Duration::ZERO, 5000).unwrap_err();
        assert!(wait > Duration::from_secs(400), "{wait:?}");
        assert_eq!(small.take(wait + Duration::from_millis(1), 5000), Ok(()));
    }

    #[test]
    fn unused_tokens_come_back() {
        let mut tokens = limit(0, 6000);
        assert_eq!(tokens.take(Duration::ZERO, 2000), Ok(()));
        assert!(tokens.take(Duration::ZERO, 1).is_err());
        tokens.settle(2000, 100);
        assert_eq!(tokens.take(Duration::from_millis(20), 1), Ok(()));
    }

    #[test]
    fn the_services_headers_count() {
        let now: Timestamp = "2026-11-23T10:00:00Z".parse().unwrap();
        let told = |fields: &[(&str, &str)]| ToldLimits::read(&fields.iter().copied().collect(), now);
        let mut openai = limit(0, 0);
        openai.learn(
            &told(&[("x-ratelimit-limit-requests", "60"), ("x-ratelimit-remaining-requests", "59")]),
            Duration::ZERO,
        );
        assert!((57..=61).contains(&taken(&mut openai, 0, 60, 1)));
        openai.learn(
            &told(&[("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "20s")]),
            Duration::from_secs(100),
        );
        let wait = openai.take(Duration::from_secs(100), 1).unwrap_err();
        assert_eq!(wait, Duration::from_secs(20));
        let mut claude = limit(600, 0);
        claude.learn(
            &told(&[
                ("anthropic-ratelimit-requests-limit", "50"),
                ("anthropic-ratelimit-input-tokens-limit", "30000"),
                ("anthropic-ratelimit-input-tokens-remaining", "0"),
                ("anthropic-ratelimit-input-tokens-reset", "2026-11-23T10:00:30Z"),
            ]),
            Duration::ZERO,
        );
        assert_eq!(claude.take(Duration::ZERO, 1).unwrap_err(), Duration::from_secs(30));
        let mut output = limit(0, 0);
        output.learn(
            &told(&[
                ("anthropic-ratelimit-tokens-limit", "90000"),
                ("anthropic-ratelimit-tokens-remaining", "80000"),
                ("anthropic-ratelimit-output-tokens-limit", "8000"),
                ("anthropic-ratelimit-output-tokens-remaining", "0"),
                ("anthropic-ratelimit-output-tokens-reset", "2026-11-23T10:00:09Z"),
            ]),
            Duration::ZERO,
        );
        assert_eq!(output.take(Duration::ZERO, 1).unwrap_err(), Duration::from_secs(9));
    }

    proptest! {
        #[test]
        fn no_schedule_exceeds_the_limit_by_more_than_a_burst(
            steps in proptest::collection::vec((0_u64..5000, 0_u64..3000), 1..200),
            per_minute in 1_u64..2000,
        ) {
            let mut limit = limit(per_minute, 0);
            let (mut now, mut count) = (Duration::ZERO, 0_u64);
            for (pause, tokens) in steps {
                now += Duration::from_millis(pause);
                count += u64::from(limit.take(now, tokens).is_ok());
            }
            let allowed = per_minute as f64 / MINUTE * (now.as_secs_f64() + BURST.as_secs_f64());
            prop_assert!(count as f64 <= allowed.max(1.0) + 1.0);
        }

        #[test]
        fn a_wait_that_was_waited_is_enough(per_minute in 1_u64..2000, share in 1_u32..9) {
            let mut limit = limit(per_minute, 0);
            limit.set_share(share);
            let mut now = Duration::ZERO;
            for _ in 0..300 {
                if let Err(wait) = limit.take(now, 1) {
                    now += wait + Duration::from_micros(1);
                    prop_assert!(limit.take(now, 1).is_ok());
                }
            }
        }
    }
}
