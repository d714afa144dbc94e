//! The controller with simulated servers: where it arrives, how soon, and how calm it is there.

use proptest::prelude::*;

use super::simulation::{Curve, Server, Simulation};
use super::*;

const SEEDS: [u64; 3] = [1, 2, 3];

fn simulation(server: Server, seed: u64) -> Simulation {
    Simulation::new(Concurrency::new(2, 256), server, seed)
}

/// Answers within which a server with so many requests at once is understood: five or six windows, each twice
/// as large as the one before.
fn soon(parallel: usize) -> u32 {
    u32::try_from(40 + 12 * parallel).unwrap()
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

#[test]
fn where_waits_are_told_one_request_waits_and_nothing_changes_any_more() {
    for parallel in [1, 2, 3, 4, 6, 8, 11, 16, 32] {
        for seed in SEEDS {
            let mut run = simulation(Server::ollama(parallel), seed);
            let first = run.run(soon(parallel));
            assert!(first.most as usize <= 2 * parallel + 1, "{parallel}: {first:?}");
            let then = run.run(2000);
            assert_eq!(
                (then.fewest, then.most),
                (run.slots.slots(), run.slots.slots()),
                "{parallel}: {then:?}"
            );
            assert_eq!(then.most as usize, parallel + 1, "{then:?}");
            assert!(then.speed > 0.96 * run.server.best() && then.waiting < 1.1, "{parallel}: {then:?}");
        }
    }
}

#[test]
fn it_does_not_matter_how_the_servers_speed_depends_on_the_number_where_waits_are_told() {
    for curve in [Curve::Flat(60.0), Curve::Saturating(50.0, 4.0)] {
        for overhead in [0.0, 0.3, 1.0] {
            let mut run = simulation(Server { curve, overhead, jitter: 0.5, ..Server::ollama(8) }, 7);
            run.run(soon(8));
            let then = run.run(2000);
            assert!((8..=11).contains(&then.fewest) && then.most <= 11, "{curve:?} {overhead}: {then:?}");
            assert!(then.changes <= 4 && then.waiting < 2.5, "{curve:?} {overhead}: {then:?}");
            assert!(then.speed > 0.85 * run.server.best(), "{curve:?} {overhead}: {then:?}");
        }
    }
}

#[test]
fn long_ways_to_the_queue_are_hidden_by_further_requests() {
    let mut run = simulation(Server::ollama(4), 1);
    run.gap = 2.0;
    run.run(200);
    let then = run.run(2000);
    assert!(then.speed > 0.93 * run.server.best() && then.waiting < 1.5, "{then:?}");
    assert!((5..=7).contains(&then.most) && then.changes <= 4, "{then:?}");
}

#[test]
fn a_server_that_was_started_with_other_settings_is_followed_both_ways() {
    for seed in SEEDS {
        let mut run = simulation(Server::ollama(2), seed);
        run.run(100);
        for parallel in [8, 3, 16, 1, 4] {
            run.server.parallel = parallel;
            run.run(2 * soon(parallel));
            let then = run.run(400);
            assert_eq!((then.changes, then.most as usize), (0, parallel + 1), "{parallel} {then:?}");
        }
    }
}

#[test]
fn somebody_else_on_the_server_gets_a_share_and_leaves_it_again() {
    for seed in SEEDS {
        let mut run = simulation(Server::ollama(8), seed);
        run.run(200);
        run.server.others = 4;
        run.run(200);
        let beside = run.run(1000);
        // Four requests of the other's are always there, seldom waiting: about half of the server is ours.
        let share = beside.speed / run.server.best();
        assert!((0.4..0.75).contains(&share) && beside.waiting < 2.0, "{share} {beside:?}");
        assert!(beside.changes <= 20 && beside.fewest >= 4, "{beside:?}");
        run.server.others = 0;
        // The other's last requests end by themselves, with their slots.
        run.run(200);
        let alone = run.run(1000);
        assert!(alone.speed > 0.96 * run.server.best() && alone.changes == 0, "{alone:?}");
    }
}

#[test]
fn a_pause_of_the_server_changes_little_and_not_for_long() {
    for tells_waits in [true, false] {
        let mut run = simulation(Server { tells_waits, ..Server::ollama(8) }, 3);
        run.run(600);
        for _ in 0..5 {
            run.stall(60.0);
            let beside = run.run(200);
            assert!((4..=20).contains(&beside.fewest) && beside.most <= 20, "{tells_waits} {beside:?}");
        }
        run.run(200);
        let then = run.run(1000);
        assert!(then.speed > 0.9 * run.server.best(), "{tells_waits} {then:?}");
    }
}

#[test]
fn that_there_is_nothing_to_do_is_no_lack_of_slots() {
    for tells_waits in [true, false] {
        let mut run = simulation(Server { tells_waits, ..Server::ollama(16) }, 4);
        // A task every six seconds, of which each takes about nine.
        run.task_every = 6.0;
        let scarce = run.run(500);
        assert!(scarce.most <= 4, "{tells_waits} {scarce:?}");
        run.task_every = 0.0;
        run.run(800);
        let plenty = run.run(1000);
        assert!(plenty.speed > 0.9 * run.server.best(), "{tells_waits} {plenty:?}");
        let before = run.slots.slots();
        run.task_every = 3.0;
        run.run(300);
        assert_eq!(run.slots.slots(), before, "{tells_waits}: what was learned is kept");
    }
}

#[test]
fn where_waits_are_not_told_tokens_per_second_do() {
    for parallel in [1, 2, 3, 4, 6, 8, 12, 16, 32] {
        for seed in SEEDS {
            let mut run = simulation(Server::compatible(parallel, Curve::Linear(50.0)), seed);
            run.run(5 * soon(parallel));
            let then = run.run(3000);
            let parallel = parallel as f64;
            assert!(then.speed > 0.92 * run.server.best(), "{parallel}: {then:?}");
            assert!(then.waiting < 0.3 * parallel + 0.5, "{parallel}: {then:?}");
            assert!(then.slots < 1.3 * parallel + 0.5 && then.changes <= 40, "{parallel}: {then:?}");
        }
    }
}

#[test]
fn a_server_that_batches_gets_many_while_that_brings_something() {
    for (half, least) in [(4.0, 0.7), (16.0, 0.7), (64.0, 0.85)] {
        for seed in SEEDS {
            let mut run = simulation(Server::compatible(200, Curve::Saturating(50.0, half)), seed);
            run.run(2500);
            let then = run.run(5000);
            let share = then.speed / run.server.best();
            assert!(share > least && then.most <= 256, "{half}: {share} {then:?}");
            assert!(then.changes <= 60, "{half}: {then:?}");
        }
    }
}

#[test]
fn without_a_gain_there_is_no_growth() {
    for seed in SEEDS {
        let mut run = simulation(Server::compatible(64, Curve::Flat(60.0)), seed);
        run.run(200);
        let then = run.run(1000);
        assert!(then.slots < 3.0 && then.speed > 0.9 * run.server.best(), "{then:?}");
    }
}

#[test]
fn a_change_of_a_server_that_does_not_tell_waits_is_found_too() {
    for seed in SEEDS {
        let mut run = simulation(Server::compatible(4, Curve::Linear(50.0)), seed);
        run.run(400);
        for parallel in [16, 3, 8] {
            run.server.parallel = parallel;
            run.run(2500);
            let then = run.run(1000);
            assert!(then.speed > 0.88 * run.server.best(), "{parallel} {then:?}");
            assert!(then.slots < 1.7 * parallel as f64, "{parallel} {then:?}");
        }
    }
}

#[test]
fn too_many_for_the_service_are_made_fewer_once_and_more_only_slowly() {
    let mut slots = Concurrency::new(10, 64);
    let begun: Vec<_> = (0..10).map(|_| slots.begin(seconds(0.0))).collect();
    for request in begun {
        slots.unanswered(request, seconds(1.0), Unanswered::Overloaded);
    }
    assert_eq!(slots.slots(), 7, "ten refusals at the same time are one piece of news");
    let answer = Answered { tokens: 100, waited: Some(Duration::ZERO), loading: Duration::ZERO };
    let mut numbers = Vec::new();
    for second in 2..60 {
        let now = seconds(f64::from(second));
        let begun: Vec<_> = (0..slots.slots()).map(|_| slots.begin(now)).collect();
        for request in begun {
            slots.answered(request, now + seconds(0.999), &answer);
        }
        numbers.push(slots.slots());
    }
    assert!(numbers.windows(2).all(|pair| pair[1] <= pair[0] + 1), "{numbers:?}");
    assert!(numbers.last() > Some(&15), "{numbers:?}");
}

/// Slots after so many answers of a service that takes this long, and of which the account's limits allow so many
/// requests a second.
fn slots_of_account(per_second: f64, takes: f64, answers: u32) -> u32 {
    let mut slots = Concurrency::new(8, 64);
    let (mut now, mut next_allowed) = (0.0_f64, 0.0_f64);
    let mut flights: Vec<(f64, f64, Begun)> = Vec::new();
    for _ in 0..answers {
        while flights.len() < slots.slots() as usize {
            let sent = now.max(next_allowed);
            next_allowed = sent + 1.0 / per_second;
            flights.push((sent + takes, sent - now, slots.begin(seconds(now))));
        }
        let first = (0..flights.len()).min_by(|a, b| flights[*a].0.total_cmp(&flights[*b].0)).unwrap();
        let (ends, held, begun) = flights.swap_remove(first);
        now = ends;
        let answer = Answered { tokens: 100, waited: Some(seconds(held)), loading: Duration::ZERO };
        slots.answered(begun, seconds(now), &answer);
    }
    slots.slots()
}

#[test]
fn an_account_gets_as_many_requests_at_once_as_its_limits_let_through() {
    for (per_second, takes) in [(2.0, 5.0), (0.5, 6.0), (0.1, 3.0), (6.0, 8.0)] {
        let slots = f64::from(slots_of_account(per_second, takes, 2000));
        let through = per_second * takes;
        assert!((through..=through + 2.5).contains(&slots), "{through} are under way, {slots} slots");
    }
    assert_eq!(slots_of_account(1000.0, 4.0, 2000), 64, "where nothing is limited");
}

#[test]
fn other_errors_and_what_was_given_up_say_nothing() {
    let mut slots = Concurrency::new(4, 64);
    for second in 0..200 {
        let begun = slots.begin(seconds(f64::from(second)));
        slots.unanswered(begun, seconds(f64::from(second) + 0.9), Unanswered::Other);
    }
    assert_eq!(slots.slots(), 4);
}

#[test]
fn times_of_loading_are_no_waits() {
    let mut slots = Concurrency::new(2, 64);
    let answer = Answered { tokens: 100, waited: Some(Duration::ZERO), loading: seconds(50.0) };
    let mut now = 0.0;
    while now < 1000.0 {
        let begun: Vec<_> = (0..slots.slots()).map(|_| slots.begin(seconds(now))).collect();
        now += 52.0;
        for request in begun {
            slots.answered(request, seconds(now), &answer);
        }
    }
    assert!(slots.slots() > 4, "{slots:?}");
}

proptest! {
    #[test]
    fn the_number_stays_in_its_range_whatever_happens(
        events in proptest::collection::vec((0_u8..8, 0_u32..100_000, 0_u32..200_000), 0..400),
        first in 0_u32..300,
        most in 0_u32..300,
    ) {
        let mut slots = Concurrency::new(first, most);
        let mut begun = Vec::new();
        let mut now = Duration::ZERO;
        for (event, milliseconds, other) in events {
            now += Duration::from_millis(milliseconds.into());
            match event {
                0..=3 => begun.push(slots.begin(now)),
                4 | 5 => if let Some(request) = begun.pop() {
                    let (waited, loading) = (Duration::from_millis(other.into()), Duration::from_millis(other.into()));
                    let waited = (event == 4).then_some(waited);
                    slots.answered(request, now, &Answered { tokens: other.into(), waited, loading });
                },
                6 => if let Some(request) = begun.pop() {
                    let why = if other % 2 == 0 { Unanswered::Overloaded } else { Unanswered::Other };
                    slots.unanswered(request, now, why);
                },
                _ => if other % 50 == 0 { slots.forget(now) },
            }
            prop_assert!((1..=most.max(1)).contains(&slots.slots()));
        }
    }

    #[test]
    fn any_server_is_used_well_and_calmly(
        parallel in 1_usize..24,
        seed in 0_u64..1000,
        overhead in 0.0..0.2_f64,
        gap in 0.0..0.2_f64,
        jitter in 0.0..0.5_f64,
    ) {
        let mut run = simulation(Server { overhead, jitter, ..Server::ollama(parallel) }, seed);
        run.gap = gap;
        run.run(soon(parallel) + 100);
        let then = run.run(600);
        prop_assert!(then.speed > 0.85 * run.server.best(), "{:?}", then);
        // It may go to and fro between two numbers, now and then: one is a little few, the other a little much.
        let is_calm = then.changes <= 3 || then.most - then.fewest <= 1 && then.changes <= 8;
        prop_assert!(is_calm && then.waiting < 2.5, "{:?}", then);
    }
}
