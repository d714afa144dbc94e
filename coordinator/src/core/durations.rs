//! How long a chunk takes, on each server and on the whole fleet: medians of the latest.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Of a server the latest so many count.
const OF_SERVER: usize = 15;
/// Of the fleet.
const OF_FLEET: usize = 101;
/// Servers that are remembered at most; a worker that is started again brings new ones.
const MOST_SERVERS: usize = 4096;

/// The durations of the latest answers.
#[derive(Debug, Default)]
pub struct Durations {
    servers: BTreeMap<(String, String), VecDeque<Duration>>,
    fleet: VecDeque<Duration>,
}

impl Durations {
    /// A server of a worker has answered a chunk.
    pub fn add(&mut self, worker: &str, server: &str, took: Duration) {
        let name = (worker.to_owned(), server.to_owned());
        if self.servers.len() >= MOST_SERVERS && !self.servers.contains_key(&name) {
            self.servers.clear();
        }
        for (latest, most) in
            [(self.servers.entry(name).or_default(), OF_SERVER), (&mut self.fleet, OF_FLEET)]
        {
            latest.push_back(took);
            if latest.len() > most {
                latest.pop_front();
            }
        }
    }

    /// How long a chunk takes there; nothing before the first answer.
    pub fn typical(&self, worker: &str, server: &str) -> Option<Duration> {
        self.servers.get(&(worker.to_owned(), server.to_owned())).and_then(median)
    }

    /// How long a chunk takes anywhere.
    pub fn usual(&self) -> Option<Duration> {
        median(&self.fleet)
    }
}

fn median(latest: &VecDeque<Duration>) -> Option<Duration> {
    let mut sorted: Vec<_> = latest.iter().copied().collect();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_has_its_own_and_the_latest_count() {
        let mut durations = Durations::default();
        assert_eq!(durations.usual(), None);
        for number in 0..40 {
            durations.add("w", "slow", Duration::from_secs(if number < 20 { 1 } else { 40 }));
            durations.add("w", "fast", Duration::from_secs(10));
        }
        assert_eq!(durations.typical("w", "slow"), Some(Duration::from_secs(40)));
        assert_eq!(durations.typical("w", "fast"), Some(Duration::from_secs(10)));
        assert_eq!(durations.typical("other", "fast"), None);
        assert_eq!(durations.usual(), Some(Duration::from_secs(10)));
    }
}
