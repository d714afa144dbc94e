//! Where a schedule is played: a job's directories, queue server, LLM servers, workers and a coordinator as
//! processes, and the networks between them. It knows how each is harmed and healed, not when.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use qa_shared::failpoint::Mistake;
use qa_shared::testing::fake_ollama::{Behaviour, FakeConfig, FakeOllama};

use crate::command_line::Line;
use crate::documents::Document;
use crate::processes::{Ended, Running, processes_in, signal};
use crate::proxy::Proxy;
use crate::queue_server::QueueServer;
use crate::schedule::{Ailment, Link, Place, Process, Schedule, Slots};
use crate::site::Site;
use crate::small_disk::SmallDisk;

/// Requests that each LLM server gets at once.
const PER_SERVER: usize = 2;
/// What a job is about.
pub(crate) struct Scene {
    pub(crate) documents: Vec<Document>,
    /// How long a model call takes.
    pub(crate) call: Duration,
}

impl Scene {
    /// That of every schedule.
    pub(crate) fn usual() -> Self {
        Self { documents: documents(), call: Duration::from_millis(120) }
    }
}

pub(crate) fn documents() -> Vec<Document> {
    vec![
        Document::new("concepts", 70),
        Document::pdf("guide", 60, 7),
        Document::new("FAQ", 40),
        Document::new("Übersicht", 30),
        Document::pdf("release notes.v2", 25, 4),
        Document::new("single", 15),
    ]
}

/// An LLM server that may be ill.
pub(crate) struct Llm {
    pub(crate) fake: FakeOllama,
    pub(crate) way: Proxy,
    ailment: Arc<Mutex<Option<Ailment>>>,
}

impl Llm {
    async fn start(call: Duration, spoilt: &Arc<AtomicU64>) -> Self {
        let fake = FakeOllama::start(FakeConfig { slots: 2 * PER_SERVER, ..FakeConfig::default() });
        let ailment: Arc<Mutex<Option<Ailment>>> = Arc::default();
        let (now, spoilt) = (Arc::clone(&ailment), Arc::clone(spoilt));
        fake.respond_with(move |_| {
            let bad = match *now.lock().unwrap() {
                None | Some(Ailment::Gone) => return Behaviour::Slow(call),
                Some(Ailment::Hangs) => Behaviour::Hang,
                Some(Ailment::Garbage) => Behaviour::Text("I would rather talk about soup.".to_owned()),
                Some(Ailment::Busy) => Behaviour::Status(503, "overloaded".to_owned()),
                Some(Ailment::CutsStreams) => Behaviour::DropMidStream,
            };
            spoilt.fetch_add(1, Ordering::Relaxed);
            bad
        });
        Self { way: Proxy::to(&fake.url()).await, fake, ailment }
    }

    pub(crate) fn set(&self, ailment: Option<Ailment>) {
        *self.ailment.lock().unwrap() = ailment;
        match ailment {
            Some(Ailment::Gone) => self.fake.disappear(),
            _ => self.fake.come_back(),
        }
    }

    fn url(&self) -> String {
        format!("http://{}", self.way.address())
    }
}

/// A process' wall clock, which a file says how to read.
pub(crate) struct Clock(PathBuf);

impl Clock {
    /// It is wrong by so many milliseconds from now on.
    pub(crate) fn set(&self, offset: i64) {
        fs::write(&self.0, offset.to_string()).unwrap();
    }

    fn failpoint(&self) -> String {
        format!("clock:{}", self.0.display())
    }
}

/// Everything that a schedule can harm.
pub(crate) struct Stage {
    pub(crate) place: Place,
    pub(crate) queue: Option<QueueServer>,
    pub(crate) llms: Vec<Llm>,
    pub(crate) coordinator: Option<Running>,
    pub(crate) workers: Vec<Option<Running>>,
    /// Workers that were told to stop.
    pub(crate) leaving: Vec<Running>,
    pub(crate) disk: Option<SmallDisk>,
    /// Why there is none where one is needed.
    pub(crate) no_disk: Option<String>,
    /// Model calls that ill servers spoilt.
    pub(crate) spoilt: Arc<AtomicU64>,
    /// Whether the number of slots is measured, as in every other schedule.
    measures: bool,
    mistake: Option<Mistake>,
    pub(crate) site: Site,
}

impl Stage {
    pub(crate) async fn set(schedule: &Schedule, scene: &Scene, mistake: Option<Mistake>) -> Self {
        let site = Site::new(&scene.documents);
        let disk = schedule.needs_a_disk().then(|| SmallDisk::under(&site.qa_dir()));
        let (disk, no_disk) = match disk {
            Some(Err(reason)) => (None, Some(reason)),
            disk => (disk.and_then(Result::ok), None),
        };
        let spoilt = Arc::default();
        let mut llms = Vec::new();
        for _ in 0..schedule.servers {
            llms.push(Llm::start(scene.call, &spoilt).await);
        }
        let queue = match schedule.place {
            Place::OneMachine => None,
            Place::Fleet => Some(QueueServer::for_workers(llms.len()).await),
        };
        let mut stage = Self {
            place: schedule.place,
            queue,
            llms,
            coordinator: None,
            workers: Vec::new(),
            leaving: Vec::new(),
            disk,
            no_disk,
            spoilt,
            measures: schedule.seed % 2 == 1,
            mistake,
            site,
        };
        stage.workers.resize_with(schedule.workers(), || None);
        stage.start_workers();
        stage.start_coordinator();
        stage
    }

    pub(crate) fn slots(&self) -> Slots {
        let most = self.llms.iter().map(|llm| llm.fake.stats().max_in_flight).max().unwrap_or(0);
        let per_server = if self.measures { most.max(PER_SERVER as u64) } else { PER_SERVER as u64 };
        Slots { servers: self.llms.len() as u64, per_server }
    }

    /// Starts what does not run.
    pub(crate) fn start_workers(&mut self) {
        let Some(queue) = &self.queue else { return };
        for (number, (way, llm)) in queue.workers.iter().zip(&self.llms).enumerate() {
            if self.workers[number].is_none() {
                let line = Line::bare_worker().arg("--nats-url").arg(format!("nats://{}", way.address()));
                let line = self.hasty(line.arg("--ollama-base-url").arg(llm.url()));
                let clock = self.clock(Process::Worker(number));
                self.workers[number] = Some(line.env("QA_FAILPOINTS", clock.failpoint()).start());
            }
        }
    }

    /// Goes on with the job if nobody does.
    pub(crate) fn start_coordinator(&mut self) {
        if self.coordinator.is_some() {
            return;
        }
        let mut line = self.hasty(self.site.generate().arg("--resume"));
        match &self.queue {
            Some(queue) => {
                line = line.arg("--nats-url").arg(format!("nats://{}", queue.coordinator.address()));
            }
            None => {
                for llm in &self.llms {
                    line = line.arg("--ollama-base-url").arg(llm.url());
                }
            }
        }
        let failpoint = match self.mistake {
            Some(mistake) => format!("mistake:{mistake:?}"),
            None => self.clock(Process::Coordinator).failpoint(),
        };
        self.coordinator = Some(line.env("QA_FAILPOINTS", failpoint).start());
    }

    /// The wall clock of a process of ours.
    pub(crate) fn clock(&self, process: Process) -> Clock {
        let name = match process {
            Process::Worker(number) => format!("clock-{number}"),
            _ => "clock".to_owned(),
        };
        Clock(self.site.root().join(name))
    }

    /// How the coordinator ended, if it did.
    pub(crate) async fn ended_coordinator(&mut self) -> Option<Ended> {
        let has_ended = self.coordinator.as_mut().is_some_and(|coordinator| !coordinator.is_running());
        if !has_ended {
            return None;
        }
        Some(self.coordinator.take()?.ended_at_once().await)
    }

    pub(crate) fn way(&self, link: Link) -> Option<&Proxy> {
        match link {
            Link::Coordinator => self.queue.as_ref().map(|queue| &queue.coordinator),
            Link::Worker(number) => self.queue.as_ref().and_then(|queue| queue.workers.get(number)),
            Link::Llm(number) => self.llms.get(number).map(|llm| &llm.way),
        }
    }

    /// The private queue server of one machine, by its process id.
    pub(crate) fn private_queue_server(&self) -> Option<u32> {
        let lines = processes_in(self.site.root());
        let line =
            lines.iter().find(|line| line.contains("nats-server ") && !line.contains("qa-coordinator"));
        line.and_then(|line| line.split_once(':')?.0.parse().ok())
    }

    /// Everything is well from now on.
    pub(crate) async fn heal(&mut self) {
        if let Some(queue) = &mut self.queue {
            queue.start().await;
            queue.signal("CONT");
            for way in queue.workers.iter().chain([&queue.coordinator]) {
                way.set(None);
            }
        } else if let Some(pid) = self.private_queue_server() {
            signal(pid, "CONT");
        }
        for llm in &self.llms {
            llm.set(None);
            llm.way.set(None);
        }
        if let Some(disk) = &mut self.disk {
            disk.allow();
            disk.empty();
        }
        self.clock(Process::Coordinator).set(0);
        for number in 0..self.workers.len() {
            self.clock(Process::Worker(number)).set(0);
        }
        let processes = self.workers.iter().flatten().chain(&self.leaving).chain(&self.coordinator);
        for process in processes {
            signal(process.pid(), "CONT");
        }
        self.start_workers();
    }
    /// With limits so short that a schedule sees them pass.
    fn hasty(&self, line: Line) -> Line {
        let slots = if self.measures { "auto".to_owned() } else { PER_SERVER.to_string() };
        let line = line.impatient().speculating().env("QA_CONCURRENCY", slots);
        // Nothing may need a folder for temporary files.
        let line = line.env("TMPDIR", self.site.root().join("no-such-folder"));
        line.env("QA_REQUEST_TIMEOUT", "6s").env("QA_IDLE_TIMEOUT", "3s").env("QA_DRAIN_TIMEOUT", "3s")
    }
}
