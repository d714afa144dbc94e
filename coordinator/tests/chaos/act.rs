//! Plays a schedule: harms and heals at its times, goes on with the job until it is done, and looks at what
//! came out. Panics with every defect.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use qa_shared::failpoint::Mistake;
use qa_shared::queue::{QueueError, Tasks, Timing};
use tokio::time::Instant;

use crate::checker::{Check, defects};
use crate::held::Held;
use crate::processes::{Ended, no_process_is_left_in, signal};
use crate::queue_server::QueueServer;
use crate::reference::Reference;
use crate::schedule::{Fault, Process, Schedule, Step};
use crate::silence::{Silence, TICK};
use crate::small_disk::SmallDisk;
use crate::spent::texts;
use crate::stage::{Scene, Stage};
use crate::{MAX_SILENCE, stranger};

/// How long a worker that was told to stop may take.
const GOODBYE: Duration = Duration::from_secs(45);
/// Resumes after the last fault; chunks that ill servers spoilt need one.
const RESUMES: usize = 6;

/// What a schedule came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Faults that hit something, by kind.
    pub(crate) injected: BTreeMap<String, usize>,
    /// Faults that hit nothing, such as the death of a process that was dead.
    pub(crate) missed: usize,
    /// Why no disk could be filled.
    pub(crate) no_disk: Option<String>,
    /// From the end of the last fault to the finished job.
    pub(crate) recovery: Duration,
    /// Model calls over one per chunk, and how many there may be.
    pub(crate) repeated: (u64, u64),
    /// What the processes held meanwhile.
    pub(crate) held: Held,
    /// The longest time without progress and without a warning.
    pub(crate) silence: Duration,
}

/// A schedule being played.
struct Act<'a> {
    schedule: &'a Schedule,
    stage: Stage,
    injected: Vec<Fault>,
    missed: usize,
    /// How coordinators ended, with their last words.
    ends: Vec<String>,
    done: bool,
    held: Held,
    silence: Silence,
}

/// Plays a schedule; the job must be done this long after the last fault.
pub(crate) async fn play(
    schedule: &Schedule,
    scene: &Scene,
    reference: Option<&Reference>,
    mistake: Option<Mistake>,
    patience: Duration,
) -> Outcome {
    let stage = Stage::set(schedule, scene, mistake).await;
    let mut act = Act {
        schedule,
        stage,
        injected: Vec::new(),
        missed: 0,
        ends: Vec::new(),
        done: false,
        held: Held::default(),
        silence: Silence::new(),
    };
    let begun = Instant::now();
    for (at, number, begins) in schedule.timeline() {
        act.wait_until(begun + at).await;
        act.look_after_coordinator().await;
        if act.done {
            break;
        }
        act.held.look(begun.elapsed(), &act.stage);
        let step = schedule.steps[number];
        if !begins {
            act.end(step).await;
        } else if act.begin(step.fault).await {
            act.injected.push(step.fault);
        } else {
            act.missed += 1;
        }
        act.silence.begins_again();
    }
    act.stage.heal().await;
    act.silence.begins_again();
    let healed = Instant::now();
    act.finish(patience).await;
    let recovery = healed.elapsed();
    let chunks = texts(&scene.documents).len() as u64;
    act.verdict(chunks, reference, recovery).await
}

impl Act<'_> {
    /// Whether it hit something.
    async fn begin(&mut self, fault: Fault) -> bool {
        let stage = &mut self.stage;
        match fault {
            Fault::Kill(Process::Coordinator) => {
                let Some(running) = stage.coordinator.take() else { return false };
                let ended = running.ended_at_once().await;
                self.note(&ended);
                self.done = is_done(&ended);
            }
            Fault::Term(Process::Coordinator) => return tell(stage.coordinator.as_mut(), "TERM"),
            Fault::Freeze(Process::Coordinator) => return tell(stage.coordinator.as_mut(), "STOP"),
            Fault::Kill(Process::Worker(number)) => {
                let Some(running) = stage.workers[number].take() else { return false };
                running.kill().await;
            }
            Fault::Term(Process::Worker(number)) => {
                let Some(running) = stage.workers[number].take() else { return false };
                running.signal("TERM");
                stage.leaving.push(running);
            }
            Fault::Freeze(Process::Worker(number)) => return tell(stage.workers[number].as_mut(), "STOP"),
            Fault::Kill(Process::QueueServer) => match &mut stage.queue {
                Some(queue) => return queue.kill(false),
                None => return self.tell_private_queue_server("KILL"),
            },
            Fault::Term(Process::QueueServer) => match &mut stage.queue {
                Some(queue) => return queue.signal("TERM"),
                None => return self.tell_private_queue_server("TERM"),
            },
            Fault::Freeze(Process::QueueServer) => match &mut stage.queue {
                Some(queue) => return queue.signal("STOP"),
                None => return self.tell_private_queue_server("STOP"),
            },
            Fault::LoseQueue => return stage.queue.as_mut().is_some_and(|queue| queue.kill(true)),
            Fault::SetBackQueue => return stage.queue.as_mut().is_some_and(QueueServer::copy_store),
            Fault::LosePart(_) | Fault::Pause(_) | Fault::Withhold(_) | Fault::Noise => {
                let Some(queue) = &stage.queue else { return false };
                return stranger::interferes(queue, &stage.site, fault).await;
            }
            Fault::Network(link, harm) => {
                let Some(way) = stage.way(link) else { return false };
                way.set(Some(harm));
            }
            Fault::Llm(number, ailment) => stage.llms[number].set(Some(ailment)),
            Fault::FullDisk => {
                return stage.disk.as_mut().is_some_and(SmallDisk::fill);
            }
            Fault::ReadOnly => return stage.disk.as_mut().is_some_and(SmallDisk::forbid),
            Fault::Clock(process, jump) => stage.clock(process).set(jump),
        }
        true
    }

    async fn end(&mut self, step: Step) {
        let stage = &mut self.stage;
        match step.fault {
            Fault::Kill(Process::Coordinator) => stage.start_coordinator(),
            Fault::Term(Process::Coordinator) => {
                if let Some(leaving) = stage.coordinator.take() {
                    signal(leaving.pid(), "CONT");
                    // With its queue away it may take until all is well; then it is asked again.
                    match leaving.ends_within(Duration::from_secs(10)).await {
                        Ok(ended) => self.judge(&ended),
                        Err(leaving) => self.stage.coordinator = Some(leaving),
                    }
                }
                if !self.done {
                    self.stage.start_coordinator();
                }
            }
            Fault::Freeze(Process::Coordinator) => drop(tell(stage.coordinator.as_mut(), "CONT")),
            Fault::Kill(Process::Worker(_)) | Fault::Term(Process::Worker(_)) => stage.start_workers(),
            Fault::Freeze(Process::Worker(number)) => drop(tell(stage.workers[number].as_mut(), "CONT")),
            Fault::Kill(Process::QueueServer) | Fault::LoseQueue => {
                if let Some(queue) = &mut stage.queue {
                    queue.start().await;
                }
            }
            Fault::SetBackQueue => {
                if let Some(queue) = &mut stage.queue {
                    queue.set_back();
                    queue.start().await;
                }
            }
            Fault::Term(Process::QueueServer) => {
                if let Some(queue) = &mut stage.queue {
                    queue.kill(false);
                    queue.start().await;
                }
            }
            Fault::Freeze(Process::QueueServer) => match &stage.queue {
                Some(queue) => drop(queue.signal("CONT")),
                None => drop(self.tell_private_queue_server("CONT")),
            },
            // The programs mend them.
            Fault::LosePart(_) | Fault::Pause(_) | Fault::Withhold(_) | Fault::Noise => {}
            Fault::Network(link, _) => {
                if let Some(way) = stage.way(link) {
                    way.set(None);
                }
            }
            Fault::Llm(number, _) => stage.llms[number].set(None),
            Fault::FullDisk => {
                if let Some(disk) = &stage.disk {
                    disk.empty();
                }
            }
            Fault::ReadOnly => {
                if let Some(disk) = &mut stage.disk {
                    disk.allow();
                }
            }
            Fault::Clock(process, _) => stage.clock(process).set(0),
        }
    }

    fn tell_private_queue_server(&self, name: &str) -> bool {
        self.stage.private_queue_server().is_some_and(|pid| try_signal(pid, name))
    }

    fn note(&mut self, ended: &Ended) {
        let lines: Vec<_> = ended.stderr.lines().collect();
        let last = lines[lines.len().saturating_sub(12)..].join("\n    ");
        self.ends.push(format!("a coordinator ended with {}:\n    {last}", ended.code));
    }

    /// Which exit codes a fault may lead to; anything else is a defect.
    fn judge(&mut self, ended: &Ended) {
        self.note(ended);
        let has_bad_disk =
            self.injected.iter().any(|fault| matches!(fault, Fault::FullDisk | Fault::ReadOnly));
        let is_known = match ended.code {
            // Finished, failed chunks, interrupted, failure rate, queue, second signal.
            0 | 1 | 3 | 4 | 5 | 130 => true,
            6 => has_bad_disk,
            -1 => was_too_young(ended),
            _ => false,
        };
        assert!(is_known, "exit code {}\n{}\n{}", ended.code, self.schedule, self.ends.join("\n"));
        self.done = is_done(ended);
    }

    async fn look_after_coordinator(&mut self) {
        if let Some(ended) = self.stage.ended_coordinator().await {
            self.judge(&ended);
            if !self.done {
                self.stage.start_coordinator();
            }
        }
    }

    async fn wait_until(&mut self, moment: Instant) {
        while Instant::now() < moment {
            tokio::time::sleep_until(moment.min(Instant::now() + TICK)).await;
            self.silence.look(&self.stage);
        }
    }

    /// The coordinator's end, if it ends until then.
    async fn end_of_coordinator(&mut self, until: Instant) -> Option<Ended> {
        while Instant::now() < until {
            match self.stage.coordinator.take()?.ends_within(TICK).await {
                Ok(ended) => return Some(ended),
                Err(running) => self.stage.coordinator = Some(running),
            }
            self.silence.look(&self.stage);
        }
        None
    }

    /// Goes on until the job is done.
    async fn finish(&mut self, patience: Duration) {
        let until = Instant::now() + patience;
        for _ in 0..RESUMES {
            if self.done {
                return;
            }
            self.stage.start_coordinator();
            if let Some(ended) = self.end_of_coordinator(until).await {
                self.judge(&ended);
            } else {
                let Some(running) = self.stage.coordinator.take() else { return };
                let ended = running.ended_at_once().await;
                self.note(&ended);
                break;
            }
        }
        assert!(
            self.done,
            "the job is not done {patience:?} and {RESUMES} resumes after the last fault\n{}\n{}",
            self.schedule,
            self.ends.join("\n")
        );
    }

    /// Chunks that seemed stuck and were given to a second server, in all runs: each may cost one more task.
    fn second_rounds(&self) -> u64 {
        let events = std::fs::read_to_string(self.stage.site.job_folder().join("events.jsonl"));
        events.unwrap_or_default().matches(r#""event":"second_round""#).count() as u64
    }

    /// Looks at everything from outside.
    async fn verdict(mut self, chunks: u64, reference: Option<&Reference>, recovery: Duration) -> Outcome {
        let mut found = defects(&Check::new(&self.stage.site));
        found.extend(reference.into_iter().flat_map(|reference| reference.differences(&self.stage.site)));
        let calls: u64 = self.stage.llms.iter().map(|llm| llm.fake.stats().chat_calls).sum();
        let (place, slots) = (self.stage.place, self.stage.slots());
        let allowed = self.stage.spoilt.load(Ordering::Relaxed)
            + self.second_rounds()
            + self.injected.iter().map(|fault| fault.may_cost(place, slots)).sum::<u64>();
        if calls < chunks || calls > chunks + allowed {
            found.push(format!("{calls} model calls for {chunks} chunks, {allowed} may be repeated"));
        }
        let silence = self.silence.worst;
        if silence > MAX_SILENCE {
            found.push(format!("the job stood still for {silence:?} and nothing said why"));
        }
        if let Some(queue) = &self.stage.queue {
            let left = Tasks::new(&queue.nats.connect(Timing::default()).await);
            match left.stored(&self.stage.site.job()).await {
                Ok(left) if left.is_empty() => {}
                Ok(left) => found.push(format!("{} tasks are left in the queue", left.len())),
                // The store was lost when nothing was left to do, and nobody needed it any more.
                Err(QueueError::Missing { .. }) => {}
                Err(error) => found.push(format!("the queue cannot be asked what is left: {error}")),
            }
        }
        let workers = self.stage.workers.iter_mut().filter_map(Option::take);
        let mut leaving: Vec<_> = workers.inspect(|worker| worker.signal("TERM")).collect();
        leaving.append(&mut self.stage.leaving);
        for worker in leaving {
            match worker.ends_within(GOODBYE).await {
                Ok(ended) if ended.code == 0 || was_too_young(&ended) => {}
                Ok(ended) => found.push(format!("a worker ended with {}: {}", ended.code, ended.stderr)),
                Err(worker) => {
                    let words = worker.ended_at_once().await.stderr;
                    found.push(format!("a worker does not end within {GOODBYE:?}: {words}"));
                }
            }
        }
        no_process_is_left_in(self.stage.site.root()).await;
        assert!(
            found.is_empty(),
            "defects after\n{}{}\n{}",
            self.schedule,
            self.ends.join("\n"),
            found.join("\n")
        );
        let mut injected = BTreeMap::new();
        for fault in &self.injected {
            *injected.entry(fault.kind()).or_default() += 1;
        }
        let (missed, no_disk) = (self.missed, self.stage.no_disk.take());
        let repeated = (calls - chunks, allowed);
        Outcome { injected, missed, no_disk, recovery, repeated, held: self.held, silence }
    }
}

/// A disk that went away when every file was written is no failure, but leaves something for a resume.
fn is_done(ended: &Ended) -> bool {
    ended.code == 0 && !ended.stderr.contains("the journal could not be closed")
}

/// SIGTERM came before it had begun to listen, and so ended it: it has not said a word.
fn was_too_young(ended: &Ended) -> bool {
    ended.code == -1 && ended.stderr.is_empty()
}

/// Whether it runs, and so was told.
fn tell(process: Option<&mut crate::processes::Running>, name: &str) -> bool {
    let Some(process) = process else { return false };
    let is_running = process.is_running();
    if is_running {
        process.signal(name);
    }
    is_running
}

/// A process that nobody here holds may be gone by now.
fn try_signal(pid: u32, name: &str) -> bool {
    let mut shell = std::process::Command::new("/bin/sh");
    let sent = shell.args(["-c", "kill -s \"$1\" \"$2\" 2>/dev/null", "sh", name, &pid.to_string()]).status();
    sent.is_ok_and(|sent| sent.success())
}
