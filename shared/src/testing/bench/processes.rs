//! What processes use, from `/proc`; nothing where there is none.
//!
//! A process that ended cannot be asked any more: a thread looks again and again and keeps the last answer.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often processes are looked at: what one uses after its last look is not seen.
const EVERY: Duration = Duration::from_millis(10);
/// Linux tells times in hundredths of a second, whatever its own clock does.
const TICKS_PER_SECOND: f64 = 100.0;

/// What a process has used until it was last looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ProcessUsage {
    /// Processor time of all its threads, its own and the system's for it, in seconds.
    pub cpu_seconds: f64,
    /// The most memory that it held, in bytes.
    pub peak_bytes: u64,
}

impl ProcessUsage {
    /// What a process has used so far; absent when it is gone.
    pub fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        Some(Self { cpu_seconds: cpu_seconds(&stat)?, peak_bytes: peak_bytes(&status)? })
    }
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    // The name may hold blanks; it ends with the last parenthesis.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS_PER_SECOND)
}

fn peak_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// Looks at processes until it is dropped.
#[derive(Debug)]
pub struct ProcessWatch {
    seen: Arc<Mutex<BTreeMap<u32, ProcessUsage>>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl ProcessWatch {
    /// Looks at these processes.
    pub fn start(pids: &[u32]) -> Self {
        let seen: Arc<Mutex<BTreeMap<_, _>>> = Arc::default();
        let is_over = Arc::new(AtomicBool::new(false));
        let (pids, notes, end) = (pids.to_vec(), Arc::clone(&seen), Arc::clone(&is_over));
        let thread = std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                for pid in &pids {
                    if let Some(usage) = ProcessUsage::of(*pid) {
                        notes.lock().unwrap_or_else(PoisonError::into_inner).insert(*pid, usage);
                    }
                }
                std::thread::sleep(EVERY);
            }
        });
        Self { seen, is_over, thread: Some(thread) }
    }

    /// What a process had used when it was last seen.
    pub fn usage(&self, pid: u32) -> ProcessUsage {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(&pid).copied().unwrap_or_default()
    }
}

impl Drop for ProcessWatch {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_memory_are_found_behind_a_name_with_blanks() {
        let stat = "42 (a ) b) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 8 0 1 2 3";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(peak_bytes("Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t 1 kB\n"), Some(2 * 1024 * 1024));
    }

    #[test]
    fn what_is_no_such_file_is_no_usage() {
        assert_eq!(cpu_seconds("42 (a) S 1"), None);
        assert_eq!(peak_bytes("Name:\tkthreadd\n"), None);
    }
}
