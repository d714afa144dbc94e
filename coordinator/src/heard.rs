//! Which workers still give signs of life: a heartbeat that is not renewed counts for a bounded time (PURE).
//!
//! The queue server's bucket forgets old heartbeats by an age that others may have set, or taken away. Without a bound
//! here, heartbeats of workers that are long gone, or that never were, would count as slots to the end of the run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use qa_shared::model::{InstanceId, WorkerPresence};

/// How long a heartbeat counts. Far longer than any renewal, so that no other job's settings make workers come and go.
const LONGEST_SILENCE: Duration = Duration::from_secs(300);

type Workers = Arc<BTreeMap<InstanceId, WorkerPresence>>;

/// Each worker's last heartbeat, and when it was first seen.
#[derive(Debug, Default)]
pub(crate) struct Heard(BTreeMap<InstanceId, (u64, Instant)>);

impl Heard {
    /// Those of these workers that were heard of lately. While the queue server is away nobody can be heard.
    pub(crate) fn fresh(&mut self, now: Instant, workers: Workers, is_connected: bool) -> Workers {
        self.0.retain(|instance, _| workers.contains_key(instance));
        for (instance, worker) in workers.iter() {
            let heard = self.0.entry(instance.clone()).or_insert((worker.beat, now));
            if heard.0 != worker.beat || !is_connected {
                *heard = (worker.beat, now);
            }
        }
        let is_fresh = |instance: &InstanceId| {
            let heard = self.0.get(instance);
            heard.is_some_and(|(_, at)| now.saturating_duration_since(*at) < LONGEST_SILENCE)
        };
        if workers.keys().all(is_fresh) {
            return workers;
        }
        let fresh = workers.iter().filter(|(instance, _)| is_fresh(instance));
        Arc::new(fresh.map(|(instance, worker)| (instance.clone(), worker.clone())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workers(beats: &[(u32, u64)]) -> Workers {
        let worker = |number, beat| {
            let instance = InstanceId::new("gpu", number, 1);
            let presence = WorkerPresence {
                instance: instance.clone(),
                host: "gpu".to_owned(),
                pid: number,
                version: "1".to_owned(),
                servers: Vec::new(),
                pools: Vec::new(),
                named_pools: Vec::new(),
                draining: false,
                beat,
            };
            (instance, presence)
        };
        Arc::new(beats.iter().map(|&(number, beat)| worker(number, beat)).collect())
    }

    #[test]
    fn a_heartbeat_that_is_not_renewed_counts_for_a_bounded_time() {
        let (start, mut heard) = (Instant::now(), Heard::default());
        let mut after = |seconds: u64, beats: &[(u32, u64)], is_connected| {
            heard.fresh(start + Duration::from_secs(seconds), workers(beats), is_connected).len()
        };
        assert_eq!(after(0, &[(1, 1), (2, 1)], true), 2);
        assert_eq!(after(299, &[(1, 1), (2, 7)], true), 2);
        assert_eq!(after(301, &[(1, 1), (2, 8)], true), 1, "one was not heard of again");
        assert_eq!(after(302, &[(1, 2), (2, 8)], true), 2, "it is back");
        assert_eq!(after(900, &[(1, 2), (2, 8)], false), 2, "the queue server is away");
        assert_eq!(after(1000, &[(1, 2), (2, 8)], true), 2);
        assert_eq!(after(1300, &[(1, 2), (2, 8)], true), 0);
    }
}
