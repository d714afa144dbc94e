//! The durations that the queue's promises rest on, in one value, so that tests can shorten them.

use std::time::Duration;

/// Durations of the queue. The defaults are what a fleet runs with; all processes of a fleet must agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// How long a delivered task or result may go without a sign of life before it is delivered again.
    pub ack_wait: Duration,
    /// How long a worker's heartbeat and a coordinator's lease stay valid.
    pub presence_age: Duration,
    /// How long notes about suspicious tasks are kept; must outlive `presence_age` by far.
    pub poison_age: Duration,
    /// How long after its last sign a job without a coordinator counts as dead, so that what it has in the queue is
    /// removed.
    pub dead_after: Duration,
    /// How long to wait for an answer of the server.
    pub request: Duration,
    /// How long to wait for the confirmation of one acknowledgement.
    pub ack_confirmation: Duration,
    /// How often a watched bucket is listed even when no change was announced.
    pub poll: Duration,
}

impl Timing {
    /// How often a task in work shows a sign of life, given its consumer's ack wait.
    pub fn beat(ack_wait: Duration) -> Duration {
        ack_wait / 4
    }

    /// How often to announce a worker and to renew a lease.
    pub fn renewal(&self) -> Duration {
        self.presence_age / 3
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            ack_wait: Duration::from_secs(60),
            presence_age: Duration::from_secs(30),
            poison_age: Duration::from_secs(3 * 24 * 3600),
            dead_after: Duration::from_secs(30 * 24 * 3600),
            request: Duration::from_secs(10),
            ack_confirmation: Duration::from_secs(3),
            poll: Duration::from_secs(5),
        }
    }
}
