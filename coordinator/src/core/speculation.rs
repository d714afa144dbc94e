//! Which tasks get a second round, once nothing waits any more and slots are free.
//!
//! A task is worth a second one only if a free slot would bring its pairs clearly sooner than the server that
//! has it. Durations of calls are judged by medians, which one odd call does not move. Prompts begin alike for
//! every chunk of a job, so a server's cached prefix serves any of them: which document a task is of plays no
//! part in who gets it, neither here nor in the queue.

use std::time::Duration;

use super::TaskRef;

/// What a second round costs beside the call: journal, publication, delivery.
const OVERHEAD: Duration = Duration::from_millis(250);

/// A task that somebody works on.
#[derive(Debug, Clone, PartialEq)]
pub struct InWork {
    /// The task.
    pub task: TaskRef,
    /// For how long at least.
    pub runs_for: Duration,
    /// Whether it is known who has it.
    pub is_placed: bool,
    /// The position of that server, if it serves.
    pub server: Option<usize>,
    /// Its worker gives no sign of life, or no living one has it.
    pub is_silent: bool,
}

/// A server of the pool.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ServerLoad {
    /// Free slots, as its worker last said.
    pub idle: u32,
    /// How long it takes for a chunk; absent before its first results.
    pub typical: Option<Duration>,
}

/// A task that gets a second one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// The task that seems stuck.
    pub task: TaskRef,
    /// A server that needs longer for a chunk is of no help.
    pub within: Duration,
}

/// Chooses among the tasks in work, the most hopeless first, as many as there are free slots. `usual` is how
/// long a chunk takes on this fleet.
///
/// The queue knows at any moment how many slots are free, workers say which, and later: what is free beyond that
/// may be anybody's. One that turns out to be too slow leaves it to others for a while.
pub fn choose(
    in_work: &[InWork],
    servers: &[ServerLoad],
    free_slots: u64,
    usual: Option<Duration>,
) -> Vec<Choice> {
    let Some(usual) = usual else { return Vec::new() };
    let typical = |server: &ServerLoad| server.typical.unwrap_or(usual);
    let mut waits: Vec<_> = in_work
        .iter()
        .map(|work| {
            let own = work.server.and_then(|index| servers.get(index)).map_or(usual, typical);
            (remaining(work, own), work)
        })
        .collect();
    waits.sort_by_key(|(remaining, work)| (std::cmp::Reverse(*remaining), work.task));
    let mut idle: Vec<u32> = servers.iter().map(|server| server.idle).collect();
    let mut anybodys = free_slots.saturating_sub(idle.iter().copied().map(u64::from).sum());
    let mut chosen = Vec::new();
    for (remaining, work) in waits {
        if chosen.len() as u64 >= free_slots {
            break;
        }
        let others = servers.iter().enumerate().filter(|(index, _)| {
            work.server != Some(*index) && (anybodys > 0 || idle.get(*index).is_some_and(|idle| *idle > 0))
        });
        let best = others.min_by_key(|(_, server)| typical(server));
        let Some((index, server)) = best else { continue };
        let within = remaining.saturating_sub(OVERHEAD) * 2 / 3;
        if typical(server) <= within {
            if idle[index] > 0 {
                idle[index] -= 1;
            } else {
                anybodys -= 1;
            }
            // It is meant for that server, or one like it: a slow one that is free too leaves it to them.
            chosen.push(Choice { task: work.task, within: within.min(typical(server) * 2) });
        }
    }
    chosen
}

/// How long a task will yet take where it is, as far as can be told.
fn remaining(work: &InWork, typical: Duration) -> Duration {
    /// Longer than anything that is compared with it.
    const NEVER: Duration = Duration::from_secs(24 * 3600);
    if work.is_silent {
        NEVER
    } else if !work.is_placed {
        // The free slot may be one of the very server that has it.
        Duration::ZERO
    } else if work.runs_for <= typical * 3 / 2 {
        typical.saturating_sub(work.runs_for)
    } else {
        // What has taken so long may well take as long again.
        work.runs_for
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    fn in_work(chunk: u32, runs_for: f64, server: usize) -> InWork {
        let task = TaskRef { document: 0, chunk, round: 1 };
        InWork { task, runs_for: seconds(runs_for), is_placed: true, server: Some(server), is_silent: false }
    }

    fn server(idle: u32, typical: f64) -> ServerLoad {
        ServerLoad { idle, typical: Some(seconds(typical)) }
    }

    fn chunks(chosen: &[Choice]) -> Vec<u32> {
        chosen.iter().map(|choice| choice.task.chunk).collect()
    }

    const USUAL: Option<Duration> = Some(Duration::from_secs(10));

    #[test]
    fn a_fast_idle_server_beats_a_slow_one_that_has_just_begun_but_not_one_that_is_nearly_done() {
        let servers = [server(0, 40.0), server(3, 10.0)];
        let tasks = [in_work(0, 1.0, 0), in_work(1, 20.0, 0), in_work(2, 35.0, 0)];
        assert_eq!(chunks(&choose(&tasks, &servers, 3, USUAL)), [0, 1]);
    }

    #[test]
    fn a_task_that_takes_as_long_as_it_should_is_left_alone() {
        let servers = [server(0, 10.0), server(4, 10.0)];
        let tasks = [in_work(0, 0.0, 0), in_work(1, 9.0, 0), in_work(2, 14.0, 0)];
        assert_eq!(choose(&tasks, &servers, 4, USUAL), []);
    }

    #[test]
    fn a_task_that_is_stuck_is_given_to_another_server_and_never_to_its_own() {
        let stuck = [in_work(0, 30.0, 0)];
        assert_eq!(chunks(&choose(&stuck, &[server(0, 10.0), server(1, 10.0)], 1, USUAL)), [0]);
        assert_eq!(choose(&stuck, &[server(3, 10.0), server(0, 10.0)], 3, USUAL), []);
        assert_eq!(choose(&stuck, &[server(3, 10.0)], 3, USUAL), []);
    }

    #[test]
    fn a_silent_workers_task_is_given_to_any_server_at_once() {
        let silent = InWork { is_placed: false, server: None, is_silent: true, ..in_work(0, 1.0, 0) };
        assert_eq!(chunks(&choose(&[silent], &[server(1, 60.0)], 1, USUAL)), [0]);
    }

    #[test]
    fn a_task_at_a_server_that_does_not_answer_any_more_is_given_to_another() {
        let hangs = InWork { server: None, ..in_work(0, 900.0, 0) };
        assert_eq!(chunks(&choose(&[hangs], &[server(1, 10.0)], 1, USUAL)), [0]);
    }

    #[test]
    fn a_task_that_may_be_anywhere_is_left_alone() {
        let unknown = InWork { is_placed: false, server: None, ..in_work(0, 900.0, 0) };
        assert_eq!(choose(&[unknown], &[server(1, 1.0), server(1, 1.0)], 2, USUAL), []);
    }

    #[test]
    fn no_more_are_chosen_than_there_are_slots_and_the_most_hopeless_first() {
        let servers = [server(0, 10.0), server(2, 10.0)];
        let tasks = [in_work(0, 30.0, 0), in_work(1, 50.0, 0), in_work(2, 40.0, 0)];
        assert_eq!(chunks(&choose(&tasks, &servers, 2, USUAL)), [1, 2]);
        assert_eq!(chunks(&choose(&tasks, &servers, 1, USUAL)), [1]);
        assert_eq!(choose(&tasks, &servers, 0, USUAL), []);
    }

    #[test]
    fn a_second_round_is_for_servers_that_are_nearly_as_fast_as_the_best_free_one() {
        let lost = InWork { is_placed: false, server: None, is_silent: true, ..in_work(0, 900.0, 0) };
        let chosen = choose(&[lost], &[server(1, 10.0), server(1, 60.0)], 2, USUAL);
        assert_eq!(chosen.iter().map(|choice| choice.within).collect::<Vec<_>>(), [seconds(20.0)]);
    }

    #[test]
    fn slots_of_which_no_worker_has_told_yet_are_used_too() {
        let tasks = [in_work(0, 30.0, 0), in_work(1, 50.0, 0), in_work(2, 40.0, 1)];
        let servers = [server(0, 10.0), server(1, 10.0)];
        assert_eq!(chunks(&choose(&tasks, &servers, 2, USUAL)), [1, 2]);
        assert_eq!(chunks(&choose(&tasks, &servers, 8, USUAL)), [1, 2, 0]);
        assert_eq!(choose(&tasks[..2], &servers[..1], 8, USUAL), []);
    }

    #[test]
    fn nothing_is_chosen_before_anybody_knows_how_long_a_chunk_takes() {
        assert_eq!(choose(&[in_work(0, 900.0, 0)], &[server(0, 10.0), server(1, 10.0)], 1, None), []);
    }
}
