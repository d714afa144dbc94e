//! The queue module against real nats-servers, one for each test.

#![expect(clippy::unwrap_used, reason = "a fixture that fails fails its test")]

mod buckets;
mod connect;
mod deliveries;
mod elsewhere;
mod fixtures;
mod hostile;
mod lease;
mod permissions;
mod remains;
mod results;
mod tasks;
mod topology;
mod upkeep;
