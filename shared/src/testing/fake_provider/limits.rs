//! Limits per minute: buckets that refill evenly, as the services describe theirs.

use std::time::{Duration, Instant};

use super::config::FakeProviderConfig;

const MINUTE: f64 = 60.0;

/// What is left of a limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Level {
    pub(super) limit: u64,
    pub(super) remaining: u64,
    /// Until nothing is missing.
    pub(super) reset: Duration,
}

/// What is left of both limits, where there are any.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Levels {
    pub(super) requests: Option<Level>,
    pub(super) tokens: Option<Level>,
}

/// A limit that does not let a call pass.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Exceeded {
    pub(super) of: &'static str,
    pub(super) limit: u64,
    /// When there is enough again.
    pub(super) wait: Duration,
}

/// Both limits of one life of a service.
#[derive(Debug, Default)]
pub(super) struct Limits {
    requests: Bucket,
    tokens: Bucket,
}

impl Limits {
    /// Takes one request; refused ones count too.
    pub(super) fn take_request(&mut self, config: &FakeProviderConfig, now: Instant) -> Result<(), Exceeded> {
        self.requests.take(config.requests_per_minute, 1, now).map_err(|(limit, wait)| Exceeded {
            of: "requests",
            limit,
            wait,
        })
    }

    /// Takes the tokens of a prompt.
    pub(super) fn take_tokens(
        &mut self,
        config: &FakeProviderConfig,
        tokens: usize,
        now: Instant,
    ) -> Result<(), Exceeded> {
        self.tokens.take(config.tokens_per_minute, tokens as u64, now).map_err(|(limit, wait)| Exceeded {
            of: "tokens",
            limit,
            wait,
        })
    }

    /// Takes the tokens of an answer, which are gone in any case.
    pub(super) fn spend_tokens(&mut self, config: &FakeProviderConfig, tokens: usize, now: Instant) {
        self.tokens.refill(config.tokens_per_minute, now);
        self.tokens.level -= tokens as f64;
    }

    pub(super) fn levels(&mut self, config: &FakeProviderConfig, now: Instant) -> Levels {
        Levels {
            requests: self.requests.level(config.requests_per_minute, now),
            tokens: self.tokens.level(config.tokens_per_minute, now),
        }
    }
}

#[derive(Debug, Default)]
struct Bucket {
    /// The limit with which it was filled.
    limit: Option<u64>,
    level: f64,
    at: Option<Instant>,
}

impl Bucket {
    fn refill(&mut self, limit: Option<u64>, now: Instant) {
        let full = limit.unwrap_or(0) as f64;
        match self.at {
            Some(at) if self.limit == limit => {
                let passed = now.saturating_duration_since(at).as_secs_f64();
                self.level = (self.level + full * passed / MINUTE).min(full);
            }
            _ => self.level = full,
        }
        (self.limit, self.at) = (limit, Some(now));
    }

    /// Fails with the limit and the wait.
    fn take(&mut self, limit: Option<u64>, count: u64, now: Instant) -> Result<(), (u64, Duration)> {
        self.refill(limit, now);
        let Some(limit) = limit else { return Ok(()) };
        let missing = count as f64 - self.level;
        if missing > 0.0 {
            return Err((limit, time_for(missing, limit)));
        }
        self.level -= count as f64;
        Ok(())
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count from 0")]
    fn level(&mut self, limit: Option<u64>, now: Instant) -> Option<Level> {
        self.refill(limit, now);
        let limit = limit?;
        let remaining = self.level.max(0.0).floor() as u64;
        Some(Level { limit, remaining, reset: time_for(limit as f64 - self.level, limit) })
    }
}

fn time_for(missing: f64, limit: u64) -> Duration {
    Duration::try_from_secs_f64(missing / (limit.max(1) as f64) * MINUTE).unwrap_or(Duration::MAX)
}
