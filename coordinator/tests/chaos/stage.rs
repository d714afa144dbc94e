//! Where a schedule is played: a job's directories, queue server, LLM servers, workers and a coordinator as
//! processes, and the networks between them. It knows how each is harmed and healed, not when.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use qa_shared::failpoint::Mistake;
use qa_shared::testing::TestNats;
use qa_shared::testing::fake_ollama::{Behaviour, FakeConfig, FakeOllama};

use crate::command_line::Line;
use crate::documents::Document;
use crate::processes::{Ended, Running, processes_in, signal};
use crate::proxy::Proxy;
use crate::schedule::{Ailment, Link, Place, Schedule, Slots};
use crate::site::Site;

/// Requests that each LLM server gets at once.
const PER_SERVER: usize = 2;
/// How long a model call takes.
const CALL: Duration = Duration::from_millis(120);

/// The documents of every schedule.
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
    async fn start(spoilt: &Arc<AtomicU64>) -> Self {
        let fake = FakeOllama::start(FakeConfig { slots: 2 * PER_SERVER, ..FakeConfig::default() });
        let ailment: Arc<Mutex<Option<Ailment>>> = Arc::default();
        let (now, spoilt) = (Arc::clone(&ailment), Arc::clone(spoilt));
        fake.respond_with(move |_| {
            let bad = match *now.lock().unwrap() {
                None | Some(Ailment::Gone) => return Behaviour::Slow(CALL),
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

/// The queue server of a fleet.
pub(crate) struct QueueServer {
    pub(crate) nats: TestNats,
    is_up: bool,
    lost: bool,
    coordinator: Proxy,
    workers: Vec<Proxy>,
}

impl QueueServer {
    pub(crate) fn kill(&mut self, and_lose_the_store: bool) -> bool {
        self.lost |= and_lose_the_store;
        self.nats.kill();
        std::mem::replace(&mut self.is_up, false)
    }

    pub(crate) async fn start(&mut self) {
        if !std::mem::replace(&mut self.is_up, true) {
            if std::mem::take(&mut self.lost) {
                self.nats.wipe_and_restart().await;
            } else {
                self.nats.restart().await;
            }
        }
    }

    pub(crate) fn signal(&self, name: &str) -> bool {
        if self.is_up {
            signal(self.nats.pid(), name);
        }
        self.is_up
    }
}

/// A disk of its own under a directory, so that it can be full.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    /// The reason where this process cannot mount.
    fn under(directory: &Path) -> Result<Self, String> {
        fs::create_dir(directory).unwrap();
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", "size=192m", "qa-chaos"]).arg(directory).output();
        match mounted {
            Ok(mounted) if mounted.status.success() => Ok(Self(directory.to_owned())),
            Ok(mounted) => Err(String::from_utf8_lossy(&mounted.stderr).trim().to_owned()),
            Err(error) => Err(format!("mount: {error}")),
        }
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }

    pub(crate) fn fill(&self) {
        let mut ballast = File::create(self.ballast()).unwrap();
        let zeros = vec![0; 64 * 1024];
        while ballast.write_all(&zeros).is_ok() {}
    }

    pub(crate) fn empty(&self) {
        drop(fs::remove_file(self.ballast()));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A failure leaves a mount in a temporary directory; there is nobody to tell.
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
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
    mistake: Option<Mistake>,
    pub(crate) site: Site,
}

impl Stage {
    pub(crate) async fn set(schedule: &Schedule, mistake: Option<Mistake>) -> Self {
        let site = Site::new(&documents());
        let disk = schedule.needs_a_disk().then(|| SmallDisk::under(&site.qa_dir()));
        let (disk, no_disk) = match disk {
            Some(Err(reason)) => (None, Some(reason)),
            disk => (disk.and_then(Result::ok), None),
        };
        let spoilt = Arc::default();
        let mut llms = Vec::new();
        for _ in 0..schedule.servers {
            llms.push(Llm::start(&spoilt).await);
        }
        let queue = match schedule.place {
            Place::OneMachine => None,
            Place::Fleet => {
                let nats = TestNats::start().await;
                let mut workers = Vec::new();
                for _ in &llms {
                    workers.push(Proxy::to(&nats.url()).await);
                }
                let coordinator = Proxy::to(&nats.url()).await;
                Some(QueueServer { nats, is_up: true, lost: false, coordinator, workers })
            }
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
            mistake,
            site,
        };
        stage.workers.resize_with(schedule.workers(), || None);
        stage.start_workers();
        stage.start_coordinator();
        stage
    }

    pub(crate) fn slots(&self) -> Slots {
        Slots { servers: self.llms.len() as u64, per_server: PER_SERVER as u64 }
    }

    /// Starts what does not run.
    pub(crate) fn start_workers(&mut self) {
        let Some(queue) = &self.queue else { return };
        for ((worker, way), llm) in self.workers.iter_mut().zip(&queue.workers).zip(&self.llms) {
            if worker.is_none() {
                let line = Line::bare_worker().arg("--nats-url").arg(format!("nats://{}", way.address()));
                *worker = Some(hasty(line.arg("--ollama-base-url").arg(llm.url())).start());
            }
        }
    }

    /// Goes on with the job if nobody does.
    pub(crate) fn start_coordinator(&mut self) {
        if self.coordinator.is_some() {
            return;
        }
        let mut line = hasty(self.site.generate().arg("--resume"));
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
        if let Some(mistake) = self.mistake {
            line = line.env("QA_FAILPOINTS", format!("mistake:{mistake:?}"));
        }
        self.coordinator = Some(line.start());
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
        if let Some(disk) = &self.disk {
            disk.empty();
        }
        let processes = self.workers.iter().flatten().chain(&self.leaving).chain(&self.coordinator);
        for process in processes {
            signal(process.pid(), "CONT");
        }
        self.start_workers();
    }
}

/// With limits so short that a schedule sees them pass.
fn hasty(line: Line) -> Line {
    let line = line.impatient().env("QA_CONCURRENCY", PER_SERVER.to_string());
    line.env("QA_REQUEST_TIMEOUT", "6s").env("QA_IDLE_TIMEOUT", "3s").env("QA_DRAIN_TIMEOUT", "3s")
}
