//! The heart: a pure state machine of documents and chunks. Events in, effects out.
//!
//! It knows nothing of time, files, queues or threads: [`Core::apply`] takes an [`Event`] and returns the
//! [`Effect`]s that the driver performs. Live operation, replay of the journal and the tests all go through
//! the same transitions, so a race is an order of events that can be written down as a test.
//!
//! What must always hold is in [`Core::check_invariants`]: above all
//! `completed + failed + outstanding = total`, per document and for the job.

mod budget;
mod document;
mod durations;
mod event;
mod failure_gate;
mod invariants;
mod job;
mod liveness;
mod publishing;
mod results;
mod room;
mod rounds;
mod speculation;
mod tally;
mod twins;

pub use budget::{Amount, BudgetSettings, Spent, TaskBound};
pub use document::{ChunkPlan, ChunkState, Document, DocumentPlan, FileStatus};
pub use durations::Durations;
pub use event::{Applied, Effect, Event, Finish, ReceiptId, ResultFact, StopCause, TaskRef, Verdict};
pub use failure_gate::FailureLimits;
pub use job::{Core, CoreSettings};
pub use liveness::{Liveness, Sign, Tell};
pub use publishing::window;
pub use room::Room;
pub use rounds::Sample;
pub use speculation::{Choice, InWork, ServerLoad, choose};
pub use tally::{Speculation, Tally, Totals};
pub use twins::SPECULATION_PERCENT;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod test_run;
#[cfg(test)]
mod twins_tests;
