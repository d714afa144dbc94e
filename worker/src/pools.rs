//! Which pool a server works for (PURE).
//!
//! A server works for one model at a time, since loading another costs minutes: it stays with its pool
//! until that is empty or another one has waited long, and changes only when nothing is in flight.

use std::collections::BTreeMap;
use std::time::Duration;

use qa_shared::model::{JobEntry, JobId, JobState, PoolName, Provider, is_same_model, normalised_model};

/// How long another pool with work waits before a server leaves its own for it.
pub const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// A pool that has active jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedPool {
    /// Its name.
    pub pool: PoolName,
    /// The kind of service it needs.
    pub provider: Provider,
    /// The model it needs, normalised.
    pub model: String,
    /// The context that its most demanding job needs, in tokens.
    pub context_tokens: u32,
    /// The context that every one of its jobs fixes, in tokens: the largest; nothing where one leaves it open.
    pub num_ctx: Option<u32>,
}

/// What this worker may serve.
#[derive(Debug, Clone, Default)]
pub struct Restrictions {
    /// Pools given by `--pool`; when there are any, only these.
    pub pools: Vec<PoolName>,
    /// Models given by `--models`: the name in jobs and the name on the servers. When there are any, only
    /// these.
    pub models: Vec<(String, String)>,
}

impl Restrictions {
    /// The name under which a pool's model is served here, if it may be served at all.
    pub fn served_name(&self, pool: &WantedPool) -> Option<String> {
        if self.models.is_empty() {
            return Some(pool.model.clone());
        }
        let normal = |name: &str| normalised_model(pool.provider, name);
        let is_meant = |(name, _): &&(String, String)| is_same_model(pool.provider, name, &pool.model);
        self.models.iter().find(is_meant).map(|(_, served)| normal(served))
    }

    fn allows(&self, pool: &PoolName) -> bool {
        self.pools.is_empty() || self.pools.contains(pool)
    }
}

/// The pools that have active jobs and that the restrictions allow, in name order.
pub fn wanted(jobs: &BTreeMap<JobId, JobEntry>, restrictions: &Restrictions) -> Vec<WantedPool> {
    let mut pools: BTreeMap<PoolName, WantedPool> = BTreeMap::new();
    for job in jobs.values().filter(|job| job.state == JobState::Active && restrictions.allows(&job.pool)) {
        let is_first = !pools.contains_key(&job.pool);
        let entry = pools.entry(job.pool.clone()).or_insert_with(|| WantedPool {
            pool: job.pool.clone(),
            provider: job.provider,
            model: normalised_model(job.provider, &job.model),
            context_tokens: 0,
            num_ctx: job.num_ctx,
        });
        if !is_first {
            entry.num_ctx = entry.num_ctx.zip(job.num_ctx).map(|(one, other)| one.max(other));
        }
        entry.context_tokens = entry.context_tokens.max(job.context_tokens);
    }
    pools.into_values().collect()
}

/// A pool that a server could work for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub pool: PoolName,
    /// Tasks that wait in it.
    pub pending: u64,
    /// How long tasks have been waiting there with no server working for it.
    pub waited: Duration,
}

/// What a server should do about its pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// Go on as it is.
    Stay,
    /// Take no more tasks until nothing is in flight, then choose again.
    Drain,
    /// Work for this pool from now on.
    Work(PoolName),
    /// There is nothing to work for.
    Rest,
}

/// Chooses for a server that works for `current` and has `busy` requests in flight. Another pool with work
/// waits for `patience` before it gets its turn.
pub fn choose(current: Option<&PoolName>, busy: u32, candidates: &[Candidate], patience: Duration) -> Choice {
    let others = || candidates.iter().filter(|candidate| Some(&candidate.pool) != current);
    let longest_waiting = others().filter(|other| other.pending > 0).max_by_key(|other| other.waited);
    let mine = current.and_then(|pool| candidates.iter().find(|candidate| candidate.pool == *pool));
    match (mine, longest_waiting) {
        // Whatever it works for next, what is in flight ends first.
        (None, _) if busy > 0 => Choice::Drain,
        (None, Some(other)) => Choice::Work(other.pool.clone()),
        (None, None) => match (candidates.first(), current) {
            (Some(first), _) => Choice::Work(first.pool.clone()),
            (None, Some(_) | None) => Choice::Rest,
        },
        (Some(mine), Some(other)) if mine.pending == 0 || other.waited >= patience => {
            if busy > 0 {
                Choice::Drain
            } else {
                Choice::Work(other.pool.clone())
            }
        }
        (Some(_), _) => Choice::Stay,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(name: &str, pending: u64, waited: u64) -> Candidate {
        Candidate { pool: PoolName::new(name), pending, waited: Duration::from_secs(waited) }
    }

    fn choice(current: Option<&str>, busy: u32, candidates: &[Candidate]) -> Choice {
        choose(current.map(PoolName::new).as_ref(), busy, candidates, PATIENCE)
    }

    fn job(id: u64, pool: &str, model: &str, state: JobState, context_tokens: u32) -> (JobId, JobEntry) {
        let job = JobId::from_random(id);
        let entry = JobEntry {
            job: job.clone(),
            state,
            pool: PoolName::new(pool),
            provider: Provider::Local,
            model: model.into(),
            context_tokens,
            num_ctx: None,
            host: "h".into(),
            directory: "d".into(),
            dropped: Vec::new(),
            updated_at_ms: 0,
        };
        (job, entry)
    }

    #[test]
    fn active_jobs_make_a_pool_wanted_and_the_most_demanding_one_its_context() {
        let jobs = [
            job(1, "a", "m", JobState::Active, 3000),
            job(2, "a", "m:latest", JobState::Active, 5000),
            job(3, "b", "m", JobState::Interrupted, 9000),
            job(4, "c", "x", JobState::Cancelled, 9000),
        ];
        let wanted = wanted(&jobs.into(), &Restrictions::default());
        let pool = PoolName::new("a");
        assert_eq!(
            wanted,
            [WantedPool {
                pool,
                provider: Provider::Local,
                model: "m:latest".into(),
                context_tokens: 5000,
                num_ctx: None
            }]
        );
    }

    #[test]
    fn a_context_is_fixed_only_where_every_job_fixes_it() {
        let fixed = |id, num_ctx| {
            let (job, entry) = job(id, "a", "m", JobState::Active, 3000);
            (job, JobEntry { num_ctx, ..entry })
        };
        let of = |jobs: [(JobId, JobEntry); 2]| wanted(&jobs.into(), &Restrictions::default())[0].num_ctx;
        assert_eq!(of([fixed(1, Some(2048)), fixed(2, Some(8192))]), Some(8192));
        assert_eq!(of([fixed(1, Some(2048)), fixed(2, None)]), None);
        assert_eq!(of([fixed(1, None), fixed(2, Some(2048))]), None);
    }

    #[test]
    fn restrictions_keep_pools_out_and_rename_models() {
        let restrictions =
            Restrictions { pools: vec![PoolName::new("b")], models: vec![("m".into(), "m:q4".into())] };
        let jobs = [job(1, "a", "m", JobState::Active, 1), job(2, "b", "m", JobState::Active, 1)];
        let pools: Vec<_> = wanted(&jobs.into(), &restrictions).into_iter().map(|pool| pool.pool).collect();
        assert_eq!(pools, [PoolName::new("b")]);
        let pool = |provider, model: &str| WantedPool {
            pool: PoolName::new("b"),
            provider,
            model: model.to_owned(),
            context_tokens: 1,
            num_ctx: None,
        };
        let served = |provider, model| restrictions.served_name(&pool(provider, model));
        assert_eq!(served(Provider::Local, "m:latest").as_deref(), Some("m:q4"));
        assert_eq!(served(Provider::Local, "registry.ollama.ai/library/M:latest").as_deref(), Some("m:q4"));
        assert_eq!(served(Provider::OpenAi, "m").as_deref(), Some("m:q4"));
        assert_eq!(served(Provider::Local, "other:latest"), None);
    }

    #[test]
    fn a_free_server_takes_the_pool_that_has_work() {
        let pools = [candidate("a", 0, 0), candidate("b", 3, 0)];
        assert_eq!(choice(None, 0, &pools), Choice::Work(PoolName::new("b")));
        assert_eq!(choice(None, 0, &pools[..1]), Choice::Work(PoolName::new("a")));
        assert_eq!(choice(None, 0, &[]), Choice::Rest);
    }

    #[test]
    fn a_server_stays_with_its_loaded_model() {
        let pools = [candidate("a", 5, 0), candidate("b", 9, 600)];
        assert_eq!(choice(Some("a"), 1, &pools), Choice::Stay);
    }

    #[test]
    fn an_empty_pool_is_left_once_nothing_is_in_flight() {
        let pools = [candidate("a", 0, 0), candidate("b", 9, 1)];
        assert_eq!(choice(Some("a"), 1, &pools), Choice::Drain);
        assert_eq!(choice(Some("a"), 0, &pools), Choice::Work(PoolName::new("b")));
    }

    #[test]
    fn a_pool_that_waited_long_gets_its_turn() {
        let pools = [candidate("a", 5, 0), candidate("b", 1, 900), candidate("c", 1, 1000)];
        assert_eq!(choice(Some("a"), 2, &pools), Choice::Drain);
        assert_eq!(choice(Some("a"), 0, &pools), Choice::Work(PoolName::new("c")));
    }

    #[test]
    fn a_draining_server_chooses_nothing_before_it_is_idle() {
        let pools = [candidate("a", 5, 0), candidate("b", 1, 900)];
        assert_eq!(choice(None, 1, &pools), Choice::Drain);
        assert_eq!(choice(None, 0, &pools), Choice::Work(PoolName::new("b")));
    }

    #[test]
    fn a_pool_that_is_no_longer_wanted_is_left() {
        assert_eq!(choice(Some("a"), 1, &[]), Choice::Drain);
        assert_eq!(choice(Some("a"), 0, &[]), Choice::Rest);
        let pools = [candidate("b", 0, 0)];
        assert_eq!(choice(Some("a"), 0, &pools), Choice::Work(PoolName::new("b")));
    }
}
