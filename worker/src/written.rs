//! How much of an answer has come while it is being written, for people who wait for the first result.
//!
//! Who works on a task lends a counter for as long as that takes; whatever reads an answer piece by piece counts, and
//! need not know who looks. A server that streams sends about one token a piece.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

tokio::task_local! {
    static COUNTER: Counter;
}

/// The tokens of the answer that a task is getting.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counter(Arc<AtomicU64>);

impl Counter {
    /// How many there are.
    pub(crate) fn tokens(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts what is read while this work goes on.
    pub(crate) async fn during<T>(self, work: impl Future<Output = T>) -> T {
        COUNTER.scope(self, work).await
    }
}

/// Another answer begins.
pub(crate) fn begin() {
    // Without a counter nobody looks.
    COUNTER.try_with(|counter| counter.0.store(0, Ordering::Relaxed)).ok();
}

/// A piece of the answer has come.
pub(crate) fn piece() {
    COUNTER.try_with(|counter| counter.0.fetch_add(1, Ordering::Relaxed)).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pieces_count_for_the_task_that_reads_them() {
        let (one, other) = (Counter::default(), Counter::default());
        let write = |counter: &Counter, pieces: u64| {
            counter.clone().during(async move {
                begin();
                for _ in 0..pieces {
                    piece();
                    tokio::task::yield_now().await;
                }
            })
        };
        tokio::join!(write(&one, 812), write(&other, 3));
        assert_eq!((one.tokens(), other.tokens()), (812, 3));
        write(&one, 5).await;
        assert_eq!(one.tokens(), 5, "a further answer counts anew");
        piece();
        assert_eq!((one.tokens(), other.tokens()), (5, 3));
    }
}
