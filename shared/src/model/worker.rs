//! What a worker tells about itself while it lives.

use serde::{Deserialize, Serialize};

use super::{InstanceId, PoolName, Provider, TaskKey};

/// A worker's heartbeat.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerPresence {
    /// The process.
    pub instance: InstanceId,
    /// Its host.
    pub host: String,
    /// Its process id.
    pub pid: u32,
    /// The program's version.
    pub version: String,
    /// The LLM servers that it works for.
    pub servers: Vec<ServerPresence>,
    /// Pools whose tasks it takes at the moment.
    pub pools: Vec<PoolName>,
    /// Pool names given by `--pool`; such a worker takes tasks of these pools only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub named_pools: Vec<PoolName>,
    /// Whether it is finishing its tasks and takes no more.
    #[serde(default)]
    pub draining: bool,
    /// The heartbeat's place in the bucket, which tells it from the one before; 0 where it was not read there.
    #[serde(skip)]
    pub beat: u64,
}

/// One LLM server as its worker sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServerPresence {
    /// Its address without credentials.
    pub url: String,
    /// The kind of service.
    pub provider: Provider,
    /// Tells provider accounts apart: workers with the same key share its rate limits. It is a digest from
    /// which the key cannot be had; absent for servers without a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Its version, where it tells one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Whether it answered last time.
    pub reachable: bool,
    /// What is wrong with it, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Why it does not answer as it should, for programs; `problem` says it in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub obstacle: Option<Obstacle>,
    /// Pools whose tasks it would take, but cannot serve.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unserved: Vec<UnservedPool>,
    /// Models that it has.
    pub models: Vec<ServedModel>,
    /// Requests that the worker keeps in flight at most, at the moment.
    pub slots: u32,
    /// Whether it measures how many are best, so that the number may change.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub auto: bool,
    /// Requests in flight.
    pub busy: u32,
    /// Chunks finished since the worker started.
    pub finished: u64,
    /// Generated tokens per second over the last minutes, over all slots; 0 before the first answer.
    #[serde(default)]
    pub tokens_per_second: f64,
    /// What it works on, the longest first; only so many as fit well into a heartbeat.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub running: Vec<RunningTask>,
}

/// Why a server does not serve. A reason that this version does not know reads as [`Obstacle::Other`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Obstacle {
    /// Nothing listens at its address.
    NothingListens,
    /// It does not have the model.
    ModelUnknown,
    /// The model does not fit into its memory.
    OutOfMemory,
    /// The model runs only for accounts with a subscription.
    SubscriptionRequired,
    /// It refuses the credentials, or wants some.
    CredentialsRefused,
    /// Something that may pass by itself: it loads the model, has too much to do, or fails.
    #[serde(other)]
    Other,
}

impl Obstacle {
    /// Whether it stays until a person does something.
    pub fn is_lasting(self) -> bool {
        self != Self::Other
    }
}

/// A pool that a server cannot serve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnservedPool {
    /// The pool.
    pub pool: PoolName,
    /// Why.
    pub obstacle: Obstacle,
    /// The same in the server's words, with what helps; on one line, without credentials.
    pub words: String,
    /// Whether the server is being tried again at this moment, as by loading the model.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub trying: bool,
}

/// A task that a server works on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningTask {
    /// The task.
    pub key: TaskKey,
    /// For how long when the heartbeat was sent, in milliseconds.
    pub for_ms: u64,
    /// Tokens of the answer that is being written, as far as it had come by then; 0 where it is not known.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tokens: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A model on a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServedModel {
    /// Its normalised name.
    pub name: String,
    /// The digest of its weights, where the server tells one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The share of a loaded model that lies in GPU memory in percent; absent when not loaded or not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_percent: Option<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_of_another_version_is_readable() {
        let old = r#"{"url":"http://gpu1:11434","provider":"local","reachable":true,"models":[],"slots":2,"busy":0,"finished":0}"#;
        let server: ServerPresence = serde_json::from_str(old).unwrap();
        assert_eq!((server.obstacle, server.unserved.len()), (None, 0));
        assert!(
            !serde_json::to_string(&server).unwrap().contains("unserved"),
            "nothing is said about nothing"
        );
        let newer = old.replace(
            "\"models\"",
            r#""obstacle":"from_the_future","unserved":[{"pool":"p","obstacle":"out_of_memory","words":"w"}],"models""#,
        );
        let server: ServerPresence = serde_json::from_str(&newer).unwrap();
        assert_eq!(server.obstacle, Some(Obstacle::Other));
        assert!(server.unserved[0].obstacle.is_lasting() && !server.unserved[0].trying);
        assert!(!Obstacle::Other.is_lasting());
    }
}
