//! Whether a task that is a second round beside a stuck one had better be done elsewhere (PURE).

use std::time::Duration;

use qa_shared::model::{InstanceId, SecondRound};

/// So many deliveries may be declined: there may be no other server any more.
const MOST_DECLINED: u64 = 10;

/// One that is of no use here comes again after this time, to whoever asks then.
pub(crate) fn declined_for(deliveries: u64) -> Duration {
    Duration::from_millis(if deliveries <= MOST_DECLINED { 200 } else { 2000 })
}

/// Whether it is of no use here: this server has the other round, or usually takes too long for a chunk.
pub(crate) fn is_declined(
    second: &SecondRound,
    (worker, server): (&InstanceId, &str),
    typical: Option<Duration>,
    deliveries: u64,
) -> bool {
    let has_other =
        second.not_worker.as_ref() == Some(worker) && second.not_server.as_deref() == Some(server);
    let is_slow = typical.is_some_and(|typical| typical > Duration::from_millis(second.within_ms));
    deliveries <= MOST_DECLINED && (has_other || is_slow)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_that_has_the_other_round_and_a_slow_one_decline_for_a_while() {
        let (own, other) = (InstanceId::new("gpu1", 1, 1), InstanceId::new("gpu2", 2, 2));
        let second = SecondRound {
            not_worker: Some(own.clone()),
            not_server: Some("http://a".to_owned()),
            within_ms: 20_000,
        };
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        let declines =
            |worker, server, typical, deliveries| is_declined(&second, (worker, server), typical, deliveries);
        assert!(declines(&own, "http://a", None, 1));
        assert!(!declines(&own, "http://b", None, 1), "another server of the same worker");
        assert!(!declines(&other, "http://a", None, 1), "the same address means another machine there");
        assert!(
            declines(&other, "http://b", seconds(21), 1) && !declines(&other, "http://b", seconds(20), 1)
        );
        assert!(declines(&own, "http://a", None, 10) && !declines(&own, "http://a", None, 11));
    }
}
