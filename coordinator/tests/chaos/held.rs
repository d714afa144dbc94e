//! What the processes of a fleet hold: memory and file descriptors, as the kernel counts them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use crate::stage::Stage;

/// What one process held at one time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Holding {
    /// Resident memory in MiB.
    pub(crate) memory: u64,
    pub(crate) descriptors: u64,
}

impl Holding {
    fn max(self, other: Self) -> Self {
        Self { memory: self.memory.max(other.memory), descriptors: self.descriptors.max(other.descriptors) }
    }
}

/// All that was seen, by process. Nothing where there is no /proc.
#[derive(Debug, Default)]
pub(crate) struct Held(BTreeMap<String, Vec<(Duration, Holding)>>);

impl Held {
    /// Looks at those that run.
    pub(crate) fn look(&mut self, at: Duration, stage: &Stage) {
        let workers = stage.workers.iter().enumerate();
        let mut pids: Vec<_> = workers
            .filter_map(|(number, worker)| Some((format!("worker {number}"), worker.as_ref()?.pid())))
            .collect();
        pids.extend(stage.coordinator.iter().map(|running| ("coordinator".to_owned(), running.pid())));
        pids.extend(stage.queue.iter().map(|queue| ("nats-server".to_owned(), queue.nats.pid())));
        for (name, pid) in pids {
            if let Some(holding) = holding(pid) {
                self.0.entry(name).or_default().push((at, holding));
            }
        }
    }

    /// The most that each process held in each of so many equal parts of the time.
    pub(crate) fn parts(&self, count: u32) -> BTreeMap<String, Vec<Holding>> {
        let end = self.0.values().flatten().map(|(at, _)| *at).max().unwrap_or_default();
        let part = (end / count).max(Duration::from_millis(1));
        let most = |seen: &Vec<(Duration, Holding)>| {
            let mut parts = vec![Holding::default(); count as usize];
            for (at, holding) in seen {
                let number = (at.as_millis() / part.as_millis()).min(u128::from(count) - 1);
                let part = &mut parts[usize::try_from(number).unwrap()];
                *part = part.max(*holding);
            }
            parts
        };
        self.0.iter().map(|(name, seen)| (name.clone(), most(seen))).collect()
    }

    /// For people: MiB and descriptors over time.
    pub(crate) fn table(&self, count: u32) -> String {
        let mut text = String::new();
        for (name, parts) in self.parts(count) {
            let cells = parts.iter().map(|part| format!("{:>4}/{:<3}", part.memory, part.descriptors));
            writeln!(text, "  {name:<12} {}", cells.collect::<Vec<_>>().join(" ")).unwrap();
        }
        text
    }
}

/// Nothing for a process that is gone.
fn holding(pid: u32) -> Option<Holding> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = resident.split_whitespace().next()?.parse().ok()?;
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64;
    Some(Holding { memory: kilobytes / 1024, descriptors })
}
