//! Ends a child that was started as the head of a process group of its own, with all that it has started.
//!
//! It must not know what the child does.

use rustix::process::{Pid, Signal, kill_process_group};

/// How insistent a signal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Insistence {
    /// It may still put things in order.
    Ask,
    /// It ends at once.
    Force,
}

/// Sends a signal to the group that the process with this id heads. To be called while that process has not
/// been waited for, so that its id cannot be somebody else's.
pub fn end_group(head: u32, insistence: Insistence) -> std::io::Result<()> {
    let pid = i32::try_from(head).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| std::io::Error::other("no process has this id"))?;
    let signal = match insistence {
        Insistence::Ask => Signal::TERM,
        Insistence::Force => Signal::KILL,
    };
    Ok(kill_process_group(pid, signal)?)
}
