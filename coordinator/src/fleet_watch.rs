//! Watches who works: counts the slots that serve the job's pool, and says when nobody does or something
//! about the fleet is odd. Pure but for the log lines.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use qa_shared::base_url::{is_loopback, server_identity};
use qa_shared::model::{
    InstanceId, Obstacle, PoolName, Provider, ServedModel, ServerPresence, WorkerPresence, is_same_model,
    normalised_model,
};

use crate::format::{duration, line};
use crate::heard::Heard;
use crate::waiting;

/// How long to wait for a worker before saying that there is none.
const PATIENCE: Duration = Duration::from_secs(8);
/// Slots that count, over all workers: the queue gives out no more tasks of a pool at a time.
const MOST_SLOTS: u32 = 10_000;
/// How often to say so again.
const REPEAT: Duration = Duration::from_secs(300);

/// What was seen and said.
#[derive(Debug)]
pub(crate) struct FleetWatch {
    /// Whose heartbeats count.
    pub(crate) heard: Heard,
    provider: Provider,
    model: String,
    nobody_since: Option<Instant>,
    said_at: Option<Instant>,
    /// How long no server may be able to serve, for reasons that stay, before the run ends.
    patience: Option<Duration>,
    /// Since when that is so, and the reasons.
    hopeless: Option<(Instant, String)>,
    known: BTreeMap<InstanceId, String>,
    said: BTreeSet<String>,
    /// The command that adds a worker, for the message.
    help: String,
    is_local: bool,
}

impl FleetWatch {
    pub(crate) fn new(provider: Provider, model: &str, help: String, is_local: bool) -> Self {
        Self {
            heard: Heard::default(),
            provider,
            model: normalised_model(provider, model),
            nobody_since: None,
            said_at: None,
            patience: None,
            hopeless: None,
            known: BTreeMap::new(),
            said: BTreeSet::new(),
            help,
            is_local,
        }
    }

    /// The same for a run that ends when no server can serve for so long.
    pub(crate) fn giving_up_after(self, patience: Option<Duration>) -> Self {
        Self { patience, ..self }
    }

    /// Why the run should end: no server has been able to serve for long, for reasons that stay.
    pub(crate) fn gives_up(&self) -> Option<String> {
        let (since, causes) = self.hopeless.as_ref()?;
        (since.elapsed() >= self.patience?).then(|| causes.clone())
    }

    /// When the run ends unless something changes, as a further line.
    fn announced_end(&self) -> String {
        let Some(patience) = self.patience.filter(|_| self.hopeless.is_some()) else { return String::new() };
        let patience = duration(patience.as_secs_f64());
        format!("\nthe run ends when this lasts for {patience} (exit code 7; --wait keeps waiting)")
    }

    /// Takes the workers of this moment; returns the slots that serve the pool.
    pub(crate) fn look(
        &mut self,
        workers: &BTreeMap<InstanceId, WorkerPresence>,
        pool: &PoolName,
        has_work: bool,
    ) -> u32 {
        self.tell_changes(workers);
        for oddity in oddities(workers, &self.model) {
            if self.said.insert(oddity.clone()) {
                tracing::warn!("{oddity}");
            }
        }
        let serving = workers.values().filter(|worker| !worker.draining && worker.pools.contains(pool));
        let slots = serving
            .flat_map(|worker| &worker.servers)
            .filter(|server| server.reachable)
            .fold(0_u32, |sum, server| sum.saturating_add(server.slots))
            .min(MOST_SLOTS);
        let serving = waiting::is_served(workers, pool, self.provider);
        let causes =
            if serving || !has_work { None } else { waiting::lasting_causes(workers, pool, self.provider) };
        let since = self.hopeless.take().map_or_else(Instant::now, |(since, _)| since);
        self.hopeless = causes.map(|causes| (since, causes));
        if serving || !has_work {
            self.nobody_since = None;
            self.said_at = None;
        } else {
            let since = *self.nobody_since.get_or_insert_with(Instant::now);
            let is_due = self.said_at.is_none_or(|said| said.elapsed() >= REPEAT);
            if since.elapsed() >= PATIENCE && is_due {
                self.said_at = Some(Instant::now());
                let text =
                    nobody_serves(workers, pool, (self.provider, &self.model), &self.help, self.is_local);
                tracing::warn!("{text}{}", self.announced_end());
            }
        }
        slots
    }

    fn tell_changes(&mut self, workers: &BTreeMap<InstanceId, WorkerPresence>) {
        for (instance, worker) in workers {
            if !self.known.contains_key(instance) {
                let slots: u32 = worker.servers.iter().map(|server| server.slots).sum();
                if !self.is_local {
                    let servers = served_by(worker);
                    tracing::info!(host = %worker.host, servers, slots, "worker is present");
                }
                self.known.insert(instance.clone(), worker.host.clone());
            }
        }
        let is_local = self.is_local;
        self.known.retain(|instance, host| {
            let is_there = workers.contains_key(instance);
            if !is_there && !is_local {
                tracing::info!(host, "worker is gone; what it had goes to others");
            }
            is_there
        });
    }
}

/// The addresses of a worker's LLM servers.
fn served_by(worker: &WorkerPresence) -> String {
    let urls: Vec<_> = worker.servers.iter().map(|server| line(&server.url, 80)).collect();
    if urls.is_empty() { "none".to_owned() } else { urls.join(",") }
}

/// Why nobody serves the pool, and what helps.
fn nobody_serves(
    workers: &BTreeMap<InstanceId, WorkerPresence>,
    pool: &PoolName,
    (provider, model): (Provider, &str),
    help: &str,
    is_local: bool,
) -> String {
    if workers.is_empty() {
        return format!("no worker is running: tasks wait. {help}");
    }
    let mut lines =
        vec![format!("no worker serves pool `{pool}` (model `{model}`): tasks wait. Present are:")];
    let mut hindrances = Vec::new();
    for worker in workers.values() {
        for server in &worker.servers {
            let found = waiting::hindrance(server, pool);
            hindrances.extend(found.filter(|_| server.provider == provider).map(|found| found.obstacle));
            lines.push(waiting::server_line(server, &worker.host, found));
        }
        // In local mode the worker is ours, and so is its pool.
        if !worker.named_pools.is_empty() && !is_local {
            let names: Vec<_> = worker.named_pools.iter().map(|pool| line(pool.as_str(), 80)).collect();
            lines.push(format!("  {} only takes tasks of pool {}", worker.host, names.join(", ")));
        }
    }
    lines.extend(advice(workers, &hindrances, (provider, model), help, is_local));
    lines.join("\n")
}

/// What helps, where no server's words say it.
fn advice(
    workers: &BTreeMap<InstanceId, WorkerPresence>,
    hindrances: &[Obstacle],
    (provider, model): (Provider, &str),
    help: &str,
    is_local: bool,
) -> Option<String> {
    let of_provider = |server: &&ServerPresence| server.provider == provider;
    let servers = || workers.values().flat_map(|worker| &worker.servers).filter(of_provider);
    if servers().next().is_none() && !is_local {
        return Some(format!("none of them works for provider {provider}: {help}"));
    }
    if let Some(remedy) = hindrances.iter().find_map(|obstacle| waiting::remedy(*obstacle, provider)) {
        return Some(remedy.to_owned());
    }
    let has_model = |server: &ServerPresence| {
        server.reachable
            && server.unserved.is_empty()
            && server.models.iter().any(|served| is_same_model(provider, &served.name, model))
    };
    if servers().any(has_model) {
        return Some("a server that has the model is loading it, or is busy with another pool".to_owned());
    }
    if servers().all(|server| server.obstacle.is_some() || !server.unserved.is_empty()) {
        return None;
    }
    let is_reachable = servers().any(|server| server.reachable);
    Some(match (provider, is_reachable) {
        (Provider::Local, true) => format!(
            "run `ollama pull {model}` on a GPU host (or use --pull), or choose one of the models above with --model"
        ),
        (Provider::Local, false) => {
            "start Ollama there (`ollama serve`), or correct --ollama-base-url; the run goes on when it answers"
                .to_owned()
        }
        (_, true) => "choose a model that one of them has with --model, or start a worker for one that does; \
                      `qa-worker check` tells what works"
            .to_owned(),
        (_, false) => "mend what is told above; `qa-worker check` tries it, the run goes on by itself".to_owned(),
    })
}

/// What is odd about the fleet, one sentence each.
pub(crate) fn oddities(workers: &BTreeMap<InstanceId, WorkerPresence>, model: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut digests: BTreeMap<&str, &str> = BTreeMap::new();
    let mut servers: BTreeMap<(Option<&str>, String), &str> = BTreeMap::new();
    for worker in workers.values() {
        for server in &worker.servers {
            // Each host has its own this machine. An account is shared on purpose, and its limits are.
            let host = is_loopback(&server.url).then_some(worker.host.as_str());
            if server.account.is_none()
                && let Some(other) =
                    servers.insert((host, server_identity(&server.url)), worker.instance.as_str())
                && other != worker.instance.as_str()
            {
                found.push(format!(
                    "two workers ({other} and {}) use the LLM server {}: stop one, its slots count twice",
                    worker.instance, server.url
                ));
            }
            let is_meant = |served: &&ServedModel| is_same_model(server.provider, &served.name, model);
            let Some(served) = server.models.iter().find(is_meant) else { continue };
            if let Some(digest) = served.digest.as_deref() {
                digests.insert(digest, &worker.host);
            }
            if let Some(percent) = served.gpu_percent.filter(|percent| *percent < 100) {
                let place = match percent {
                    0 => "runs on the CPU".to_owned(),
                    percent => format!("is only to {percent} % in GPU memory"),
                };
                found.push(format!(
                    "model `{model}` at {} ({}) {place}: it will be slow",
                    server.url, worker.host
                ));
            }
        }
    }
    if digests.len() > 1 {
        let short =
            |digest: &str| -> String { digest.trim_start_matches("sha256:").chars().take(12).collect() };
        let list: Vec<_> =
            digests.iter().map(|(digest, host)| format!("{} on {host}", short(digest))).collect();
        found.push(format!(
            "model `{model}` is not the same everywhere ({}): `ollama pull {model}` on each host",
            list.join(", ")
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use qa_shared::testing::samples;

    use super::*;

    fn worker(host: &str, url: &str, digest: &str) -> (InstanceId, WorkerPresence) {
        let instance = InstanceId::new(host, 1, 1);
        let model =
            ServedModel { name: "m:latest".into(), digest: Some(digest.into()), gpu_percent: Some(100) };
        let server = ServerPresence { models: vec![model], ..samples::server_presence(url) };
        let presence = WorkerPresence {
            pools: vec![PoolName::new("ollama/m:latest")],
            ..samples::worker_presence(instance.clone(), host, vec![server])
        };
        (instance, presence)
    }

    #[test]
    fn equal_hosts_with_their_own_servers_are_not_odd() {
        let local = "http://127.0.0.1:11434";
        let workers = [worker("gpu1", local, "sha256:aa"), worker("gpu2", local, "sha256:aa")].into();
        assert_eq!(oddities(&workers, "m:latest"), Vec::<String>::new());
    }

    #[test]
    fn one_tag_with_different_weights_is_odd() {
        let local = "http://127.0.0.1:11434";
        let workers = [worker("gpu1", local, "sha256:aa"), worker("gpu2", local, "sha256:bb")].into();
        let found = oddities(&workers, "m:latest");
        assert!(found.len() == 1 && found[0].contains("aa on gpu1, bb on gpu2"), "{found:?}");
    }

    #[test]
    fn two_workers_on_one_server_are_odd() {
        let shared = "http://10.0.0.9:11434";
        let workers = [worker("gpu1", shared, "aa"), worker("gpu2", shared, "aa")].into();
        let found = oddities(&workers, "m:latest");
        assert!(found.len() == 1 && found[0].contains("slots count twice"), "{found:?}");
    }

    #[test]
    fn two_workers_of_a_host_on_its_own_server_are_odd_whatever_they_call_it() {
        let (one, mut other) =
            (worker("gpu1", "http://localhost:11434", "aa"), worker("gpu1", "http://127.0.0.1:11434", "aa"));
        other.0 = InstanceId::new("gpu1", 2, 2);
        other.1.instance = other.0.clone();
        let found = oddities(&[one, other].into(), "m:latest");
        assert!(found.len() == 1 && found[0].contains("slots count twice"), "{found:?}");
    }

    #[test]
    fn a_model_partly_on_the_cpu_is_odd() {
        let (instance, mut slow) = worker("gpu1", "http://127.0.0.1:11434", "aa");
        slow.servers[0].models[0].gpu_percent = Some(40);
        let found = oddities(&[(instance, slow)].into(), "m:latest");
        assert!(found.len() == 1 && found[0].contains("only to 40 %"), "{found:?}");
    }

    #[test]
    fn slots_count_where_the_pool_is_served() {
        let mut watch = FleetWatch::new(Provider::Local, "m", String::new(), true);
        let (instance, mut one) = worker("gpu1", "http://127.0.0.1:11434", "aa");
        let pool = one.pools[0].clone();
        assert_eq!(watch.look(&[(instance.clone(), one.clone())].into(), &pool, true), 2);
        one.draining = true;
        assert_eq!(watch.look(&[(instance, one)].into(), &pool, true), 0);
    }

    #[test]
    fn a_run_gives_up_when_no_server_can_serve_for_reasons_that_stay() {
        use crate::waiting::tests::{pool, server, workers};
        let lasting = workers(vec![server(Some(Obstacle::OutOfMemory), "no memory")]);
        let passing = workers(vec![server(Some(Obstacle::Other), "busy")]);
        let watch =
            |patience| FleetWatch::new(Provider::Local, "m", String::new(), true).giving_up_after(patience);
        let mut waits = watch(None);
        waits.look(&lasting, &pool(), true);
        assert_eq!(waits.gives_up(), None);
        let mut patient = watch(Some(Duration::from_secs(3600)));
        patient.look(&lasting, &pool(), true);
        let since = patient.hopeless.as_ref().unwrap().0;
        patient.look(&lasting, &pool(), true);
        assert_eq!((patient.gives_up(), patient.hopeless.as_ref().unwrap().0), (None, since));
        patient.look(&passing, &pool(), true);
        assert_eq!(patient.hopeless, None, "the time counts anew");
        let mut hasty = watch(Some(Duration::ZERO));
        for (workers, has_work, gives_up) in
            [(&passing, true, false), (&lasting, false, false), (&lasting, true, true)]
        {
            hasty.look(workers, &pool(), has_work);
            assert_eq!(hasty.gives_up().is_some(), gives_up);
        }
        assert!(hasty.gives_up().unwrap().contains("no memory"));
    }

    #[test]
    fn a_servers_own_words_say_why_tasks_wait() {
        use crate::waiting::tests::{pool, server, workers};
        let words =
            "http://gpu1:11434 answered 500: model requires more system memory: choose a smaller model";
        for obstacle in [Obstacle::OutOfMemory, Obstacle::Other] {
            let present = workers(vec![server(Some(obstacle), words)]);
            let text = nobody_serves(&present, &pool(), (Provider::Local, "m:latest"), "", true);
            assert!(text.contains("tasks wait"), "{text}");
            assert!(text.contains("answered 500: model requires more system memory"), "{text}");
            assert!(!text.contains("is loading it") && !text.contains("ollama pull"), "{text}");
        }
    }

    #[test]
    fn slots_are_bounded_however_many_workers_tell_of_them() {
        let mut watch = FleetWatch::new(Provider::Local, "m", String::new(), true);
        let workers = (0..20).map(|host| {
            let (instance, mut worker) = worker(&format!("gpu{host}"), "http://127.0.0.1:11434", "aa");
            worker.servers[0].slots = u32::MAX;
            (instance, worker)
        });
        let pool = PoolName::new("ollama/m:latest");
        assert_eq!(watch.look(&workers.collect(), &pool, true), MOST_SLOTS);
    }

    #[test]
    fn who_serves_nothing_is_told_what_there_is_and_what_helps() {
        let (instance, mut other) = worker("gpu1", "http://gpu1:11434", "aa");
        let pool = PoolName::new("ollama/x:latest");
        let text = nobody_serves(
            &[(instance.clone(), other.clone())].into(),
            &pool,
            (Provider::Local, "x:latest"),
            "",
            false,
        );
        assert!(
            text.contains("http://gpu1:11434 (gpu1): has m:latest") && text.contains("ollama pull x:latest")
        );
        other.servers[0].reachable = false;
        other.servers[0].problem = Some("connection refused".into());
        let text =
            nobody_serves(&[(instance, other)].into(), &pool, (Provider::Local, "x:latest"), "", false);
        assert!(text.contains("connection refused") && text.contains("ollama serve"), "{text}");
        let text = nobody_serves(&BTreeMap::new(), &pool, (Provider::Local, "x:latest"), "start one", false);
        assert!(text.contains("no worker is running") && text.contains("start one"), "{text}");
    }
}
