//! What is known at the end of a run, heartbeat by heartbeat.

use serde_json::json;

use super::*;

fn task(chunk: u32) -> TaskRef {
    TaskRef { document: 0, chunk, round: 1 }
}

#[test]
fn what_was_published_before_a_task_that_was_begun_is_begun_by_then() {
    let (start, mut order) = (Instant::now(), Order::default());
    (0..4).for_each(|chunk| order.published(task(chunk)));
    assert_eq!(order.begun_by(task(0)), None);
    order.begun(task(1), start);
    assert_eq!((order.begun_by(task(0)), order.begun_by(task(2))), (Some(start), None));
    let later = start + Duration::from_secs(1);
    order.begun(task(3), later);
    assert_eq!((order.begun_by(task(0)), order.begun_by(task(2))), (Some(start), Some(later)));
}

#[test]
fn a_task_that_is_published_again_begins_anew() {
    let (start, mut order) = (Instant::now(), Order::default());
    (0..2).for_each(|chunk| order.published(task(chunk)));
    order.begun(task(1), start);
    order.published(task(0));
    assert_eq!(order.begun_by(task(0)), None);
}

/// A heartbeat of this time, with so many busy slots of which so many tell their tasks.
fn told(at: Instant, busy: u32, running: u32) -> Told {
    let job = JobId::from_random(1);
    let running: Vec<_> = (0..running)
        .map(|chunk| {
            let document = DocumentName::new("d").token();
            json!({"key": TaskKey { job: job.clone(), document, chunk, round: 1 }, "for_ms": 1})
        })
        .collect();
    let server = json!({"url": "http://gpu1:11434", "provider": "local", "reachable": true, "models": [],
                        "slots": 4, "busy": busy, "finished": 0, "running": running});
    let presence = json!({"instance": InstanceId::new("gpu1", 1, 1), "host": "gpu1", "pid": 1,
                          "version": "1", "servers": [server], "pools": []});
    Told { presence: serde_json::from_value(presence).unwrap(), at }
}

#[test]
fn a_task_is_nowhere_once_every_worker_has_told_all_that_it_works_on() {
    let (begun, second) = (Instant::now(), Duration::from_secs(1));
    let is_nowhere = |heartbeats: Vec<Told>| {
        let instances = (1..).map(|number| InstanceId::new("gpu", number, 1));
        let tail = Tail { told: instances.zip(heartbeats).collect(), ..Tail::default() };
        tail.is_nowhere_since(begun)
    };
    assert!(is_nowhere(vec![told(begun + second, 2, 2), told(begun + second, 0, 0)]));
    assert!(!is_nowhere(vec![]), "nobody is there to have it told");
    assert!(!is_nowhere(vec![told(begun + second, 2, 2), told(begun, 2, 2)]), "one was heard too early");
    assert!(!is_nowhere(vec![told(begun + second, 2, 1)]), "one has tasks that it does not tell");
}

#[test]
fn a_task_that_is_nowhere_is_chosen_unless_its_result_may_be_waiting() {
    let start = Instant::now();
    let now = start + Duration::from_secs(2);
    let pool = PoolName::new("p");
    let free = || {
        let mut told = told(now, 0, 0);
        told.presence.pools = vec![pool.clone()];
        told
    };
    let chosen = |results_wait: bool| {
        let told = BTreeMap::from([(InstanceId::new("gpu1", 1, 1), free())]);
        let mut tail = Tail { told, since: Some(start), results_wait, ..Tail::default() };
        tail.durations.add("gpu1", "http://gpu1:11434", Duration::from_secs(1));
        let chosen = tail.choose(now, [task(0)].into_iter(), &pool, 1, Duration::from_secs(20));
        chosen.into_iter().map(|(choice, _)| choice.task).collect::<Vec<_>>()
    };
    assert_eq!(chosen(false), [task(0)]);
    assert_eq!(chosen(true), []);
}

#[test]
fn a_task_that_a_worker_let_go_is_nowhere_only_when_everybody_has_told_anew() {
    let (start, pool) = (Instant::now(), PoolName::new("p"));
    let mut tail = Tail { since: Some(start), ..Tail::default() };
    tail.durations.add("gpu1", "http://gpu1:11434", Duration::from_secs(1));
    let [one, other] = [1, 2].map(|number| InstanceId::new("gpu", number, 1));
    let mut chosen = |after: u64, running: u32| {
        let now = start + Duration::from_secs(after);
        let presence = |running| {
            let presence = told(now, running, running).presence;
            WorkerPresence { pools: vec![pool.clone()], beat: after, ..presence }
        };
        let workers = BTreeMap::from([(one.clone(), presence(running)), (other.clone(), presence(0))]);
        tail.hear(now, &workers, |key| Some(task(key.chunk)));
        tail.choose(now, [task(0)].into_iter(), &pool, 1, Duration::from_secs(20)).len()
    };
    assert_eq!(chosen(2, 1), 0, "one has it");
    assert_eq!(chosen(3, 0), 0, "somebody may have taken it over since");
    assert_eq!(chosen(4, 0), 1);
}

#[test]
fn a_second_round_is_coming_until_a_worker_tells_that_it_has_it_or_it_is_over() {
    let place = Place {
        worker: InstanceId::new("gpu1", 1, 1),
        server: "http://gpu1:11434".to_owned(),
        since: Instant::now(),
    };
    let tail = Tail { in_work: BTreeMap::from([(task(0), place)]), ..Tail::default() };
    let rounds = [task(0), task(1), task(2)];
    assert_eq!(tail.coming(rounds.iter(), |_| true), 2);
    assert_eq!(tail.coming(rounds.iter(), |round| *round == task(1)), 1);
}

#[test]
fn only_tasks_that_are_out_can_be_with_a_worker() {
    let task = |round| TaskRef { document: 0, chunk: 1, round };
    assert!(is_out(Some((ChunkState::Published, 3)), task(3)));
    assert!(is_out(Some((ChunkState::Published, 3)), task(2)), "the one beside a second round");
    for round in [0, 1, 4, u32::MAX] {
        assert!(!is_out(Some((ChunkState::Published, 3)), task(round)), "{round}");
    }
    assert!(!is_out(Some((ChunkState::Waiting, 3)), task(3)));
    assert!(!is_out(None, task(3)), "no such chunk");
}

#[test]
fn forged_heartbeats_with_other_tasks_each_time_leave_nothing_behind() {
    let (start, instance) = (Instant::now(), InstanceId::new("evil", 1, 1));
    let mut tail = Tail::default();
    let is_out = |task: &TaskRef| task.chunk < 2;
    for beat in 0..50_u32 {
        let mut presence = told(start, 64, 64).presence;
        presence.beat = beat.into();
        for running in &mut presence.servers[0].running {
            running.key.chunk += beat * 64;
        }
        let workers = BTreeMap::from([(instance.clone(), presence)]);
        tail.forget(is_out);
        tail.hear(start, &workers, |key| Some(task(key.chunk)).filter(is_out));
    }
    assert_eq!((tail.in_work.len(), tail.let_go.len()), (0, 2));
    tail.forget(|_| false);
    assert!(tail.let_go.is_empty());
}
