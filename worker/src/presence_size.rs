//! A heartbeat that fits into a message, whatever a worker's servers list (PURE).
//!
//! A gateway tells tens of thousands of models. A heartbeat over the queue server's `max_payload` is not stored, and
//! a worker without a stored heartbeat is absent for every coordinator.

use qa_shared::model::{ServedModel, WorkerPresence};
use serde::Serialize;

/// What the message adds to the heartbeat, in bytes.
const ENVELOPE_BYTES: usize = 256;

/// A heartbeat, and what had to be left out of it.
#[derive(Debug, PartialEq)]
pub(crate) struct Trimmed {
    pub(crate) presence: WorkerPresence,
    /// Models of its servers that it does not name.
    pub(crate) models_left_out: usize,
}

/// Leaves out models until the heartbeat takes at most `most` bytes: last those that tasks are taken for at the
/// moment, before them those that are loaded. Running tasks and a server's problem go where that is not enough.
pub(crate) fn trimmed(mut presence: WorkerPresence, most: usize) -> Trimmed {
    let most = most.saturating_sub(ENVELOPE_BYTES);
    if size(&presence) <= most {
        return Trimmed { presence, models_left_out: 0 };
    }
    let lists: Vec<Vec<ServedModel>> =
        presence.servers.iter_mut().map(|server| std::mem::take(&mut server.models)).collect();
    while size(&presence) > most && shorten(&mut presence) {}
    let mut left = most.saturating_sub(size(&presence));
    let mut order: Vec<(u8, usize, usize)> = Vec::new();
    for (server, models) in lists.iter().enumerate() {
        order.extend(models.iter().enumerate().map(|(at, model)| (rank(model, &presence), at, server)));
    }
    // Of equal rank each server's first ones, so that no server's list is lost for another's.
    order.sort_unstable();
    let mut kept: Vec<Vec<bool>> = lists.iter().map(|models| vec![false; models.len()]).collect();
    for (_, at, server) in order {
        let cost = size(&lists[server][at]) + 1;
        if cost <= left {
            left -= cost;
            kept[server][at] = true;
        }
    }
    let models_left_out = kept.iter().flatten().filter(|kept| !**kept).count();
    for ((server, models), kept) in presence.servers.iter_mut().zip(lists).zip(kept) {
        server.models =
            models.into_iter().zip(kept).filter_map(|(model, kept)| kept.then_some(model)).collect();
    }
    Trimmed { presence, models_left_out }
}

/// What is told first.
fn rank(model: &ServedModel, presence: &WorkerPresence) -> u8 {
    let is_wanted = presence.pools.iter().any(|pool| pool.as_str().ends_with(&model.name));
    if is_wanted { 0 } else { 1 + u8::from(model.gpu_percent.is_none()) }
}

/// Whether something else could be left out.
fn shorten(presence: &mut WorkerPresence) -> bool {
    if let Some(server) = presence.servers.iter_mut().max_by_key(|server| server.running.len())
        && !server.running.is_empty()
    {
        // The longest ones come first, and count.
        server.running.truncate(server.running.len() / 2);
        return true;
    }
    if let Some(server) = presence.servers.iter_mut().find(|server| !server.unserved.is_empty()) {
        server.unserved.pop();
        return true;
    }
    let problem =
        presence.servers.iter_mut().find_map(|server| server.problem.take_if(|text| text.len() > 100));
    problem.is_some()
}

fn size(part: &impl Serialize) -> usize {
    serde_json::to_vec(part).map_or(usize::MAX, |text| text.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use qa_shared::model::{InstanceId, Obstacle, PoolName, Provider, ServerPresence, UnservedPool};

    use super::*;

    fn model(name: String, gpu_percent: Option<u8>) -> ServedModel {
        ServedModel { name, digest: Some(format!("sha256:{}", "0".repeat(64))), gpu_percent }
    }

    fn server(models: Vec<ServedModel>) -> ServerPresence {
        ServerPresence {
            url: "http://gpu1:11434".to_owned(),
            provider: Provider::Local,
            account: None,
            version: None,
            reachable: true,
            problem: None,
            obstacle: None,
            unserved: Vec::new(),
            models,
            slots: 2,
            auto: false,
            busy: 0,
            finished: 0,
            tokens_per_second: 0.0,
            running: Vec::new(),
        }
    }

    fn worker(servers: Vec<ServerPresence>) -> WorkerPresence {
        WorkerPresence {
            instance: InstanceId::new("gpu1", 1, 1),
            host: "gpu1".to_owned(),
            pid: 1,
            version: "1".to_owned(),
            servers,
            pools: vec![PoolName::new("ollama/wanted:latest")],
            named_pools: Vec::new(),
            draining: false,
            beat: 0,
        }
    }

    fn many(count: usize) -> Vec<ServedModel> {
        (0..count).map(|at| model(format!("some-model-{at}:{}", "q".repeat(60)), None)).collect()
    }

    #[test]
    fn a_heartbeat_that_fits_is_left_as_it_is() {
        let presence = worker(vec![server(many(20))]);
        let expected = Trimmed { presence: presence.clone(), models_left_out: 0 };
        assert_eq!(trimmed(presence, 128 * 1024), expected);
    }

    #[test]
    fn of_very_many_models_the_wanted_and_the_loaded_ones_are_told_and_the_rest_as_far_as_it_fits() {
        let mut models = many(60_000);
        models.push(model("loaded".to_owned(), Some(100)));
        models.push(model("wanted:latest".to_owned(), None));
        let small = server(vec![model("other".to_owned(), None)]);
        let told = trimmed(worker(vec![server(models), small]), 128 * 1024);
        let names =
            |server: usize| told.presence.servers[server].models.iter().map(|model| model.name.as_str());
        assert!(names(0).any(|name| name == "wanted:latest") && names(0).any(|name| name == "loaded"));
        assert_eq!(names(1).collect::<Vec<_>>(), ["other"]);
        assert_eq!(told.models_left_out, 60_003 - names(0).count() - 1);
        let size = serde_json::to_vec(&told.presence).unwrap().len();
        assert!((120 * 1024..=128 * 1024).contains(&size), "{size}");
    }

    #[test]
    fn running_tasks_and_long_problems_go_where_models_are_not_enough() {
        let key = qa_shared::testing::samples::key(&qa_shared::model::JobId::from_random(1), 1);
        let unserved = UnservedPool {
            pool: PoolName::new("ollama/m:latest"),
            obstacle: Obstacle::Other,
            words: "w".repeat(1000),
            trying: false,
        };
        let running = vec![qa_shared::model::RunningTask { key, for_ms: 1, tokens: 1_000 }; 64];
        let servers = (0..8).map(|_| ServerPresence {
            running: running.clone(),
            problem: Some("p".repeat(4000)),
            unserved: vec![unserved.clone(); 3],
            ..server(many(3))
        });
        let told = trimmed(worker(servers.collect()), 8 * 1024);
        assert!(serde_json::to_vec(&told.presence).unwrap().len() <= 8 * 1024);
    }

    proptest! {
        #[test]
        fn a_heartbeat_never_takes_more_than_it_may(
            lists in prop::collection::vec(prop::collection::vec("[a-z\"\\\\ü]{0,300}", 0..40), 1..4),
            most in 4096_usize..20_000,
        ) {
            let servers = lists.into_iter().map(|names| server(names.into_iter().map(|name| model(name, None)).collect()));
            let told = trimmed(worker(servers.collect()), most);
            prop_assert!(serde_json::to_vec(&told.presence).unwrap().len() <= most);
        }
    }
}
