//! End to end: the real programs, real nats-server children, and fake Ollama servers in this process.
//!
//! Each file of scenarios is about one promise of the design. Nothing here looks into the programs: what
//! counts is their files, their output, their exit codes, the model calls that were paid for, and the queue.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by a panic")]

mod authentication;
mod bad_input;
mod budget;
mod checker;
mod checker_tests;
mod cluster;
mod command_line;
#[cfg(debug_assertions)]
mod crash_points;
mod crashes;
mod documents;
mod dry_run;
mod fleet;
mod full_store;
mod hosted;
mod hostile;
mod liveness;
mod local;
mod metrics;
mod on_terminal;
mod one_at_a_time;
mod parts;
mod permissions;
mod places;
mod poison;
mod private_authority;
mod processes;
mod programs;
mod python;
mod queue_changes;
mod resume;
mod site;
mod slots;
mod spent;
mod stops;
mod tail;
mod telemetry;
mod terminal;
mod tonight;
mod traces;
