//! Notices what the event log should know about fleet and queue: who is lost and back, whether the queue is
//! there, whether results still come (PURE: it is told the time).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use qa_shared::model::{InstanceId, WorkerPresence};

use crate::format::line;
use crate::happening::Happening;

/// No result for this long is a stall, unless results take long in this run anyway.
const PATIENCE: Duration = Duration::from_secs(180);
/// Moved tasks are counted and told at most this often.
const MOVED_EVERY: Duration = Duration::from_secs(60);
/// Figures are told this often.
const FIGURES_EVERY: Duration = Duration::from_secs(300);
/// Hosts and servers that are followed at most.
const MOST: usize = 10_000;

/// What was noticed so far.
#[derive(Debug)]
pub(crate) struct EventWatch {
    /// How long after an outage of the queue workers may need until they are present again.
    grace: Duration,
    queue_lost: Option<Instant>,
    queue_back: Option<Instant>,
    known: BTreeMap<InstanceId, Known>,
    /// Hosts that have lost workers, and when.
    away: BTreeMap<String, Vec<Instant>>,
    /// LLM servers that do not answer, by worker, since when, and on which host.
    unreachable: BTreeMap<(InstanceId, String), (Instant, String)>,
    results: u64,
    last_result: Instant,
    longest_gap: Duration,
    stalled: bool,
    told_moved: (u64, u64),
    moved_told_at: Option<Instant>,
    figures_told_at: Instant,
}

#[derive(Debug)]
struct Known {
    host: String,
    draining: bool,
}

/// One look at the run.
pub(crate) struct Moment<'a> {
    pub(crate) now: Instant,
    pub(crate) workers: &'a BTreeMap<InstanceId, WorkerPresence>,
    pub(crate) is_connected: bool,
    /// Results that have come so far.
    pub(crate) results: u64,
    /// Whether tasks are out.
    pub(crate) is_waiting: bool,
    /// Results so far of tasks that were delivered more than once.
    pub(crate) redelivered: u64,
    /// Tasks published again so far.
    pub(crate) republished: u64,
}

impl EventWatch {
    pub(crate) fn new(now: Instant, grace: Duration) -> Self {
        Self {
            grace,
            queue_lost: None,
            queue_back: None,
            known: BTreeMap::new(),
            away: BTreeMap::new(),
            unreachable: BTreeMap::new(),
            results: 0,
            last_result: now,
            longest_gap: Duration::ZERO,
            stalled: false,
            told_moved: (0, 0),
            moved_told_at: None,
            figures_told_at: now,
        }
    }

    /// What has happened since the last look.
    pub(crate) fn look(&mut self, moment: &Moment<'_>) -> Vec<Happening> {
        let mut happened = Vec::new();
        self.look_at_queue(moment, &mut happened);
        let is_settled = self.queue_back.is_none_or(|back| moment.now.duration_since(back) >= self.grace);
        // While the queue is away, nobody can give a sign of life.
        if self.queue_lost.is_none() {
            self.look_at_workers(moment, is_settled, &mut happened);
            self.look_at_servers(moment, &mut happened);
        }
        self.look_at_results(moment, &mut happened);
        let is_due = self.moved_told_at.is_none_or(|told| moment.now.duration_since(told) >= MOVED_EVERY);
        if is_due {
            happened.extend(self.moved(moment));
        }
        happened
    }

    /// What is still to be told at the end of the run.
    pub(crate) fn last_words(&mut self, moment: &Moment<'_>) -> Option<Happening> {
        self.moved(moment)
    }

    /// Whether the figures should be told again; then they count as told.
    pub(crate) fn are_figures_due(&mut self, now: Instant) -> bool {
        let is_due = now.duration_since(self.figures_told_at) >= FIGURES_EVERY;
        if is_due {
            self.figures_told_at = now;
        }
        is_due
    }

    fn look_at_queue(&mut self, moment: &Moment<'_>, happened: &mut Vec<Happening>) {
        match (moment.is_connected, self.queue_lost) {
            (false, None) => {
                self.queue_lost = Some(moment.now);
                happened.push(Happening::QueueLost);
            }
            (true, Some(since)) => {
                self.queue_lost = None;
                self.queue_back = Some(moment.now);
                happened.push(Happening::QueueBack { seconds: seconds(moment.now, since) });
            }
            (true, None) | (false, Some(_)) => {}
        }
    }

    fn look_at_workers(&mut self, moment: &Moment<'_>, is_settled: bool, happened: &mut Vec<Happening>) {
        for (instance, worker) in moment.workers {
            if let Some(known) = self.known.get_mut(instance) {
                known.draining = worker.draining;
                continue;
            }
            if self.known.len() >= MOST {
                continue;
            }
            let host = line(&worker.host, 120);
            self.known.insert(instance.clone(), Known { host: host.clone(), draining: worker.draining });
            let lost = self.away.get_mut(&host).and_then(Vec::pop);
            happened.push(match lost {
                Some(since) => Happening::WorkerBack { host, seconds: seconds(moment.now, since) },
                None => {
                    Happening::WorkerPresent { host, slots: worker.servers.iter().map(|s| s.slots).sum() }
                }
            });
        }
        if !is_settled {
            return;
        }
        self.away.retain(|_, lost| !lost.is_empty());
        let away = &mut self.away;
        self.known.retain(|instance, known| {
            let is_there = moment.workers.contains_key(instance);
            if !is_there {
                let host = known.host.clone();
                happened.push(if known.draining {
                    Happening::WorkerLeft { host }
                } else {
                    if away.len() < MOST {
                        away.entry(host.clone()).or_default().push(moment.now);
                    }
                    Happening::WorkerLost { host }
                });
            }
            is_there
        });
    }

    fn look_at_servers(&mut self, moment: &Moment<'_>, happened: &mut Vec<Happening>) {
        for (instance, worker) in moment.workers {
            for server in &worker.servers {
                let key = (instance.clone(), server.url.clone());
                let (host, url) = (line(&worker.host, 120), line(&server.url, 200));
                if server.reachable {
                    if let Some((since, _)) = self.unreachable.remove(&key) {
                        let seconds = seconds(moment.now, since);
                        happened.push(Happening::ServerBack { host, url, seconds });
                    }
                } else if self.unreachable.len() < MOST && !self.unreachable.contains_key(&key) {
                    self.unreachable.insert(key, (moment.now, host.clone()));
                    let problem = server.problem.as_deref().map(|problem| line(problem, 200));
                    happened.push(Happening::ServerLost { host, url, problem });
                }
            }
        }
        // A worker that is gone takes its servers' troubles with it, and is told itself.
        self.unreachable.retain(|(instance, url), (since, host)| {
            let is_there = moment.workers.contains_key(instance);
            if !is_there {
                let (host, url, seconds) = (host.clone(), line(url, 200), seconds(moment.now, *since));
                happened.push(Happening::ServerBack { host, url, seconds });
            }
            is_there
        });
    }

    /// Where single results take long, longer pauses are no news.
    fn look_at_results(&mut self, moment: &Moment<'_>, happened: &mut Vec<Happening>) {
        let quiet = moment.now.duration_since(self.last_result);
        if moment.results != self.results || !moment.is_waiting {
            if self.stalled {
                self.stalled = false;
                happened.push(Happening::StallEnded { seconds: quiet.as_secs_f64() });
            }
            if moment.results != self.results {
                self.longest_gap = self.longest_gap.max(quiet);
            }
            self.results = moment.results;
            self.last_result = moment.now;
        } else if !self.stalled && quiet >= PATIENCE.max(self.longest_gap * 2) {
            self.stalled = true;
            happened.push(Happening::StallBegan { seconds: quiet.as_secs_f64() });
        }
    }

    fn moved(&mut self, moment: &Moment<'_>) -> Option<Happening> {
        let (redelivered, republished) =
            (moment.redelivered - self.told_moved.0, moment.republished - self.told_moved.1);
        if redelivered == 0 && republished == 0 {
            return None;
        }
        self.told_moved = (moment.redelivered, moment.republished);
        self.moved_told_at = Some(moment.now);
        Some(Happening::TasksMoved { redelivered, republished })
    }
}

fn seconds(now: Instant, since: Instant) -> f64 {
    // A tenth of a second says enough.
    (now.duration_since(since).as_secs_f64() * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use qa_shared::testing::samples;

    use super::*;

    struct Scene {
        watch: EventWatch,
        begun: Instant,
        workers: BTreeMap<InstanceId, WorkerPresence>,
        is_connected: bool,
        results: u64,
        is_waiting: bool,
        moved: (u64, u64),
    }

    impl Scene {
        fn new() -> Self {
            let begun = Instant::now();
            Self {
                watch: EventWatch::new(begun, Duration::from_secs(30)),
                begun,
                workers: BTreeMap::new(),
                is_connected: true,
                results: 0,
                is_waiting: true,
                moved: (0, 0),
            }
        }

        /// The events' names at this second, with their seconds where they have any.
        fn at(&mut self, second: u64) -> Vec<String> {
            let moment = Moment {
                now: self.begun + Duration::from_secs(second),
                workers: &self.workers,
                is_connected: self.is_connected,
                results: self.results,
                is_waiting: self.is_waiting,
                redelivered: self.moved.0,
                republished: self.moved.1,
            };
            let happened = self.watch.look(&moment);
            let told = happened.iter().map(|happening| {
                let value = serde_json::to_value(happening).unwrap();
                let name = value["event"].as_str().unwrap().to_owned();
                value["seconds"].as_f64().map_or(name.clone(), |seconds| format!("{name} {seconds}"))
            });
            told.collect()
        }

        fn add(&mut self, host: &str, number: u32) -> InstanceId {
            let instance = InstanceId::new(host, number, 1);
            let server = samples::server_presence(&format!("http://{host}:11434"));
            let worker = WorkerPresence {
                pid: number,
                ..samples::worker_presence(instance.clone(), host, vec![server])
            };
            self.workers.insert(instance.clone(), worker);
            instance
        }
    }

    #[test]
    fn a_host_is_lost_and_back_with_another_process() {
        let mut scene = Scene::new();
        let first = scene.add("gpu1", 1);
        assert_eq!(scene.at(0), ["worker_present"]);
        assert!(scene.at(1).is_empty());
        scene.workers.remove(&first);
        assert_eq!(scene.at(10), ["worker_lost"]);
        scene.add("gpu2", 7);
        assert_eq!(scene.at(12), ["worker_present"]);
        scene.add("gpu1", 2);
        assert_eq!(scene.at(70), ["worker_back 60.0"].map(|text| text.trim_end_matches(".0")));
        scene.add("gpu1", 3);
        assert_eq!(scene.at(71), ["worker_present"]);
    }

    #[test]
    fn who_drains_leaves_in_good_order() {
        let mut scene = Scene::new();
        let worker = scene.add("gpu1", 1);
        scene.at(0);
        scene.workers.get_mut(&worker).unwrap().draining = true;
        assert!(scene.at(1).is_empty());
        scene.workers.clear();
        assert_eq!(scene.at(2), ["worker_left"]);
    }

    #[test]
    fn nobody_is_lost_because_the_queue_was_away() {
        let mut scene = Scene::new();
        let worker = scene.add("gpu1", 1);
        scene.at(0);
        scene.is_connected = false;
        assert_eq!(scene.at(10), ["queue_lost"]);
        let presence = scene.workers.remove(&worker).unwrap();
        assert!(scene.at(15).is_empty());
        scene.is_connected = true;
        assert_eq!(scene.at(50), ["queue_back 40"]);
        assert!(scene.at(60).is_empty(), "its next heartbeat may take a while");
        scene.workers.insert(worker, presence);
        assert!(scene.at(70).is_empty());
        scene.workers.clear();
        assert_eq!(scene.at(81), ["worker_lost"]);
    }

    #[test]
    fn a_server_that_stops_answering_is_told_once_and_when_it_is_back() {
        let mut scene = Scene::new();
        let worker = scene.add("gpu1", 1);
        scene.at(0);
        scene.workers.get_mut(&worker).unwrap().servers[0].reachable = false;
        assert_eq!(scene.at(5), ["server_lost"]);
        assert!(scene.at(6).is_empty());
        scene.workers.get_mut(&worker).unwrap().servers[0].reachable = true;
        assert_eq!(scene.at(25), ["server_back 20"]);
    }

    #[test]
    fn a_stall_begins_after_patience_and_ends_with_a_result() {
        let mut scene = Scene::new();
        scene.results = 1;
        assert!(scene.at(5).is_empty());
        assert!(scene.at(100).is_empty());
        assert_eq!(scene.at(190), ["stall_began 185"]);
        assert!(scene.at(191).is_empty());
        scene.results = 2;
        assert_eq!(scene.at(305), ["stall_ended 300"]);
        // That is how long it may take in this run.
        assert!(scene.at(800).is_empty());
        assert_eq!(scene.at(906), ["stall_began 601"]);
        scene.is_waiting = false;
        assert_eq!(scene.at(907), ["stall_ended 602"]);
        assert!(scene.at(5000).is_empty(), "nothing is out");
    }

    #[test]
    fn moved_tasks_are_counted_and_told_now_and_then() {
        let mut scene = Scene::new();
        scene.moved = (3, 0);
        assert_eq!(scene.at(1), ["tasks_moved"]);
        scene.moved = (900, 12);
        assert!(scene.at(30).is_empty());
        assert_eq!(scene.at(61), ["tasks_moved"]);
        assert!(scene.at(200).iter().all(|event| event != "tasks_moved"));
    }
}
