//! Whether a task that is a second round beside a stuck one had better be done elsewhere (PURE).

use std::time::Duration;

use qa_shared::model::SecondRound;

/// So many deliveries may be declined: there may be no other server any more.
const MOST_DECLINED: u64 = 10;

/// One that is of no use here comes again after this time, to whoever asks then.
pub(crate) fn declined_for(deliveries: u64) -> Duration {
    Duration::from_millis(if deliveries <= MOST_DECLINED { 200 } else { 2000 })
}

/// Whether it is of no use here, where a chunk usually takes this long: too slow.
pub(crate) fn is_declined(second: &SecondRound, typical: Option<Duration>, deliveries: u64) -> bool {
    let is_slow = typical.is_some_and(|typical| typical > Duration::from_millis(second.within_ms));
    deliveries <= MOST_DECLINED && is_slow
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_too_slow_declines_for_a_while() {
        let second = SecondRound { not_server: None, within_ms: 20_000 };
        let declines =
            |seconds, deliveries| is_declined(&second, Some(Duration::from_secs(seconds)), deliveries);
        assert!(declines(21, 1) && !declines(20, 1));
        assert!(declines(21, 10) && !declines(21, 11));
        assert!(!is_declined(&second, None, 1), "nobody knows yet how long it takes");
    }
}
