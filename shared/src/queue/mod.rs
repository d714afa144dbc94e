//! The only code that names async-nats.
//!
//! [`Queue`] is a connection; [`topology`] shows streams, consumers, buckets and their settings on one screen.
//! On it stand [`Tasks`] and [`Results`] (what is published), [`TaskSource`] and [`ResultsConsumer`] (what is
//! received and acknowledged), and the buckets: [`Jobs`], [`Presence`], [`Lease`], [`PoisonNotes`].
//!
//! Nothing here decides what a result means, when to publish or when to give up, and no type of async-nats
//! leaves this module. Every operation may be repeated: a timeout means "unknown", never "not done".

mod ack;
mod address;
mod api;
mod border;
mod bucket;
mod certificates;
mod connect;
mod deliveries;
mod error;
mod jobs;
mod lease;
mod migrate;
mod obstacle;
mod poison;
mod presence;
mod pull;
mod refusals;
mod remains;
mod results;
mod results_consumer;
pub(crate) mod subjects;
mod tasks;
mod timing;
pub mod topology;
mod trace;
mod upkeep;
mod version;
mod watched;
mod write_probe;

pub use ack::AckError;
pub use connect::{ConnectError, ConnectOptions, InDomain, Queue};
pub use deliveries::{BeatGuard, Delivery, SourceError, TaskSource};
pub use error::{PublishError, QueueError};
pub use jobs::{Jobs, JobsError, Renewal};
pub use lease::{AcquireError, Acquired, Lease, LeaseHolder, LockId, RenewError};
pub use migrate::{TopologyError, TopologyNote, ensure};
pub use poison::PoisonNotes;
pub use presence::Presence;
pub use remains::{Remains, Removed, dead_jobs, forget_job, remains};
pub use results::Results;
pub use results_consumer::{Receipt, ReceivedResult, ResultsConsumer, ResultsError};
pub use subjects::InvalidSubject;
pub use tasks::{PoolDepth, Stored, StoredTask, TakenBack, Tasks};
pub use timing::Timing;
pub use topology::{RESULTS, TASKS};
pub use trace::Traceparent;
pub use upkeep::Upkeep;
pub use version::ServerVersion;
pub use watched::Watched;
pub use write_probe::{has_room, stores_messages};
