//! Why tasks wait: what keeps each LLM server from the job's pool, as text, and whether that stays so (PURE).
//!
//! Each server's own words come from its worker, with one remedy for each cause. It must not know how long it is
//! waited.

use std::collections::BTreeMap;

use qa_shared::model::{InstanceId, Obstacle, PoolName, Provider, ServerPresence, WorkerPresence};

use crate::format::line;

/// Of a server's words so much is shown, in characters.
const MOST_WORDS: usize = 500;

/// What keeps a server from the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hindrance<'a> {
    pub(crate) obstacle: Obstacle,
    /// The server's words, as they came.
    words: Option<&'a str>,
    /// It is being tried again at this moment.
    is_tried: bool,
}

/// What keeps this server from the pool, if its worker says so.
pub(crate) fn hindrance<'a>(server: &'a ServerPresence, pool: &PoolName) -> Option<Hindrance<'a>> {
    let is_tried = server.busy > 0;
    if !server.reachable {
        let obstacle = server.obstacle.unwrap_or(Obstacle::Other);
        return Some(Hindrance { obstacle, words: server.problem.as_deref(), is_tried });
    }
    let unserved = server.unserved.iter().find(|unserved| unserved.pool == *pool)?;
    let is_tried = is_tried || unserved.trying;
    Some(Hindrance { obstacle: unserved.obstacle, words: Some(&unserved.words), is_tried })
}

/// A server's words on one line, without its address, which stands before them.
pub(crate) fn own_words(url: &str, words: &str) -> String {
    let words = words.strip_prefix(url).unwrap_or(words).trim_start();
    line(words, MOST_WORDS)
}

/// Whether a server works for the pool.
pub(crate) fn is_served(
    workers: &BTreeMap<InstanceId, WorkerPresence>,
    pool: &PoolName,
    provider: Provider,
) -> bool {
    let is_in_pool = |worker: &&WorkerPresence| !worker.draining && worker.pools.contains(pool);
    let mut servers = workers.values().filter(is_in_pool).flat_map(|worker| &worker.servers);
    servers.any(|server| server.provider == provider && hindrance(server, pool).is_none())
}

/// The words of every server, where each is kept from the pool by something that stays.
pub(crate) fn lasting_causes(
    workers: &BTreeMap<InstanceId, WorkerPresence>,
    pool: &PoolName,
    provider: Provider,
) -> Option<String> {
    let servers: Vec<_> = workers
        .values()
        .filter(|worker| !worker.draining)
        .flat_map(|worker| worker.servers.iter().map(move |server| (&worker.host, server)))
        .filter(|(_, server)| server.provider == provider)
        .collect();
    let mut lines = Vec::new();
    for (host, server) in &servers {
        let hindrance = hindrance(server, pool)?;
        if !hindrance.obstacle.is_lasting() || hindrance.is_tried {
            return None;
        }
        lines.push(server_line(server, host, Some(hindrance)));
        lines.extend(remedy(hindrance.obstacle, provider).map(|remedy| format!("  {remedy}")));
    }
    lines.dedup();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// A server and what keeps it from the pool, or what it has.
pub(crate) fn server_line(server: &ServerPresence, host: &str, hindrance: Option<Hindrance<'_>>) -> String {
    let words = hindrance.and_then(|hindrance| hindrance.words).or(server.problem.as_deref());
    let state = match words {
        Some(words) => own_words(&server.url, words),
        None if !server.reachable => "not reachable".to_owned(),
        None if server.models.is_empty() => "no models".to_owned(),
        None => {
            let names: Vec<_> = server.models.iter().map(|model| model.name.as_str()).collect();
            line(&format!("has {}", names.join(", ")), MOST_WORDS)
        }
    };
    format!("  {} ({}): {state}", line(&server.url, 200), line(host, 80))
}

/// What helps where the server cannot say it itself.
pub(crate) fn remedy(obstacle: Obstacle, provider: Provider) -> Option<&'static str> {
    match (obstacle, provider) {
        (Obstacle::NothingListens, Provider::Local) => Some(
            "start Ollama there (`ollama serve`), or correct --ollama-base-url; the run goes on when it answers",
        ),
        (Obstacle::NothingListens, _) => {
            Some("start the server there, or correct its address; the run goes on when it answers")
        }
        // Their words hold the remedy.
        (
            Obstacle::ModelUnknown
            | Obstacle::OutOfMemory
            | Obstacle::SubscriptionRequired
            | Obstacle::CredentialsRefused
            | Obstacle::Other,
            _,
        ) => None,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use qa_shared::model::{ServedModel, UnservedPool};
    use qa_shared::testing::samples;

    use super::*;

    pub(crate) const URL: &str = "http://gpu1:11434";

    pub(crate) fn pool() -> PoolName {
        PoolName::new("ollama/m:latest")
    }

    pub(crate) fn server(obstacle: Option<Obstacle>, words: &str) -> ServerPresence {
        let unserved = obstacle.map(|obstacle| UnservedPool {
            pool: pool(),
            obstacle,
            words: words.to_owned(),
            trying: false,
        });
        ServerPresence {
            unserved: unserved.into_iter().collect(),
            models: vec![ServedModel { name: "m:latest".to_owned(), digest: None, gpu_percent: None }],
            ..samples::server_presence(URL)
        }
    }

    pub(crate) fn workers(servers: Vec<ServerPresence>) -> BTreeMap<InstanceId, WorkerPresence> {
        let instance = InstanceId::new("gpu1", 1, 1);
        let worker = WorkerPresence {
            pools: vec![pool()],
            ..samples::worker_presence(instance.clone(), "gpu1", servers)
        };
        BTreeMap::from([(instance, worker)])
    }

    fn lasting(servers: Vec<ServerPresence>) -> Option<String> {
        lasting_causes(&workers(servers), &pool(), Provider::Local)
    }

    fn unreachable(obstacle: Option<Obstacle>) -> ServerPresence {
        let problem = Some(format!("{URL} does not answer: connection refused"));
        ServerPresence { reachable: false, obstacle, problem, ..server(None, "") }
    }

    #[test]
    fn only_causes_that_stay_are_lasting() {
        for obstacle in [
            Obstacle::ModelUnknown,
            Obstacle::OutOfMemory,
            Obstacle::SubscriptionRequired,
            Obstacle::CredentialsRefused,
        ] {
            let text = lasting(vec![server(Some(obstacle), "its own words")]).unwrap();
            assert!(text.contains("http://gpu1:11434 (gpu1): its own words"), "{text}");
        }
        assert_eq!(lasting(vec![server(Some(Obstacle::Other), "429 slow down")]), None);
        assert_eq!(lasting(vec![server(None, "")]), None);
        assert_eq!(lasting(Vec::new()), None);
        let text = lasting(vec![unreachable(Some(Obstacle::NothingListens))]).unwrap();
        assert!(text.contains("connection refused") && text.contains("ollama serve"), "{text}");
        // A proxy without its server, and a worker of an older version, may come back.
        assert_eq!(lasting(vec![unreachable(Some(Obstacle::Other))]), None);
        assert_eq!(lasting(vec![unreachable(None)]), None);
    }

    #[test]
    fn one_server_that_may_serve_keeps_the_run_going() {
        let memory = || server(Some(Obstacle::OutOfMemory), "no memory");
        assert!(lasting(vec![memory(), unreachable(Some(Obstacle::NothingListens))]).is_some());
        assert_eq!(lasting(vec![memory(), server(None, "")]), None);
        let mut tried = memory();
        tried.unserved[0].trying = true;
        assert_eq!(lasting(vec![tried]), None, "it is loading the model");
        assert_eq!(lasting(vec![ServerPresence { busy: 1, ..memory() }]), None, "it has a task to try");
        let other_provider = ServerPresence { provider: Provider::OpenAi, ..server(None, "") };
        assert!(lasting(vec![memory(), other_provider]).is_some());
    }

    #[test]
    fn an_obstacle_to_the_pool_means_that_it_is_not_served() {
        let served = |servers| is_served(&workers(servers), &pool(), Provider::Local);
        assert!(served(vec![server(None, "")]));
        assert!(!served(vec![server(Some(Obstacle::Other), "busy")]));
        assert!(!served(vec![unreachable(None)]));
        let mut other = server(Some(Obstacle::OutOfMemory), "no memory");
        other.unserved[0].pool = PoolName::new("another");
        assert!(served(vec![other]));
    }

    #[test]
    fn words_are_one_bounded_line_without_the_address() {
        let words = own_words(URL, &format!("{URL} answered 500:\n\u{1b}[2J no memory {}", "x".repeat(2000)));
        assert!(words.starts_with("answered 500:"), "{words}");
        assert!(
            !words.contains('\n') && !words.contains('\u{1b}') && words.chars().count() <= MOST_WORDS + 3
        );
    }
}
