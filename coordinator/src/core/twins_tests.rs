//! What can happen to a chunk with two rounds at work, one scenario a test. The older round is 1, the newer 2.

use super::test_run::{TestRun, budget, failure, plan, success};
use super::{ChunkState, Effect, Event, FileStatus, Finish, Speculation, StopCause, TaskRef};

const OLDER: TaskRef = TaskRef { document: 0, chunk: 0, round: 1 };
const NEWER: TaskRef = TaskRef { document: 0, chunk: 0, round: 2 };

/// A run of one chunk whose two rounds are out.
fn with_two_rounds() -> TestRun {
    let mut run = TestRun::new(plan(&[1]));
    run.start(9);
    run.send(Event::Speculate(vec![OLDER]));
    run.flush();
    assert!(run.queue.contains(&OLDER) && run.queue.contains(&NEWER));
    run
}

fn tally(run: &TestRun) -> Speculation {
    run.core.tally().speculation
}

#[test]
fn a_second_round_is_published_only_when_its_beginning_is_on_disk() {
    let mut run = TestRun::new(plan(&[1]));
    run.start(9);
    run.send(Event::Speculate(vec![OLDER]));
    assert_eq!(run.rounds, [NEWER]);
    assert_eq!(run.queue.iter().copied().collect::<Vec<_>>(), [OLDER]);
    assert_eq!(run.core.published_tasks().collect::<Vec<_>>(), [OLDER], "nobody looks for it in the queue");
    run.flush();
    assert_eq!(run.core.published_tasks().collect::<Vec<_>>(), [NEWER, OLDER]);
    assert_eq!(tally(&run).started, 1);
}

#[test]
fn a_withheld_task_is_replaced_by_a_new_round_that_alone_decides() {
    let mut run = TestRun::new(plan(&[1]));
    run.start(9);
    run.queue.remove(&OLDER);
    run.send(Event::Withheld(vec![OLDER]));
    assert_eq!((run.rounds.as_slice(), run.queue.len()), ([NEWER].as_slice(), 0), "not before it is on disk");
    run.flush();
    assert_eq!(run.core.published_tasks().collect::<Vec<_>>(), [NEWER]);
    assert_eq!((tally(&run).started, run.core.tally().republished), (0, 1));
    run.receive_copy(failure(OLDER));
    run.settle();
    assert_eq!(run.states()[0][0], (ChunkState::Published, 2), "the withheld one has no say any more");
    run.receive(success(NEWER));
    run.settle();
    assert_eq!(run.finished, [Finish::Complete]);
}

#[test]
fn a_task_that_was_answered_while_it_seemed_withheld_gets_no_new_round() {
    let mut run = TestRun::new(plan(&[1]));
    run.start(9);
    run.receive(success(OLDER));
    run.send(Event::Withheld(vec![OLDER]));
    run.settle();
    assert_eq!((run.rounds.len(), run.finished.as_slice()), (0, [Finish::Complete].as_slice()));
}

#[test]
fn the_first_success_wins_and_the_other_is_withdrawn() {
    for (winner, loser) in [(OLDER, NEWER), (NEWER, OLDER)] {
        let mut run = with_two_rounds();
        run.receive(success(winner));
        assert!(run.withdrawn.contains(&loser));
        let late = run.receive(success(loser));
        run.settle();
        assert_eq!(run.finished, [Finish::Complete]);
        assert_eq!(run.journal, [success(winner)]);
        assert_eq!(run.states()[0][0], (ChunkState::Completed { got: 3 }, winner.round));
        assert!(!run.acked.contains(&late), "it came before the winner was durable");
        let (won, lost) = (u64::from(winner == NEWER), u64::from(winner == OLDER));
        assert_eq!(tally(&run), Speculation { started: 1, won, lost });
    }
}

#[test]
fn a_success_counts_whichever_round_has_failed_before() {
    for (fails, succeeds) in [(OLDER, NEWER), (NEWER, OLDER)] {
        let mut run = with_two_rounds();
        run.receive(failure(fails));
        run.settle();
        assert_eq!(run.states()[0][0].0, ChunkState::Published, "the other one may succeed");
        run.receive(success(succeeds));
        run.settle();
        assert_eq!(run.finished, [Finish::Complete]);
        assert_eq!(run.core.totals().completed, 1);
        assert_eq!(run.unacked(), 0);
        assert!(run.withdrawn.is_empty(), "nothing is out");
    }
}

#[test]
fn a_chunk_fails_when_both_rounds_have_failed_and_the_newer_ones_failure_is_its_own() {
    for order in [[OLDER, NEWER], [NEWER, OLDER]] {
        let mut run = with_two_rounds();
        for task in order {
            run.receive(failure(task));
        }
        run.settle();
        assert_eq!(run.finished, [Finish::Complete]);
        assert_eq!(run.journal, [failure(NEWER)]);
        assert_eq!(run.files[&0], FileStatus::Failed);
        assert_eq!((run.core.tally().failed, run.unacked()), (1, 0));
        assert_eq!(tally(&run), Speculation { started: 1, won: 0, lost: 0 });
    }
}

#[test]
fn a_failure_that_waits_is_not_counted_twice_when_it_is_delivered_again() {
    let mut run = with_two_rounds();
    run.share = 50;
    run.receive(failure(NEWER));
    let spent = run.core.spent();
    run.receive_copy(failure(NEWER));
    assert_eq!(run.core.spent(), spent);
    run.receive(success(OLDER));
    run.settle();
    assert_eq!((run.finished.len(), run.unacked()), (1, 1), "the first copy of the message is gone");
}

#[test]
fn an_older_round_that_the_queue_lost_leaves_the_newer_one_alone() {
    let mut run = with_two_rounds();
    run.queue.remove(&OLDER);
    run.send(Event::Lost(vec![OLDER]));
    assert_eq!(run.core.published_tasks().collect::<Vec<_>>(), [NEWER]);
    run.receive(failure(NEWER));
    run.settle();
    assert_eq!((run.finished.len(), run.core.totals().failed), (1, 1));
}

#[test]
fn a_failure_that_waits_counts_when_the_queue_has_lost_the_older_round() {
    let mut run = with_two_rounds();
    run.receive(failure(NEWER));
    run.queue.remove(&OLDER);
    run.send(Event::Lost(vec![OLDER]));
    run.settle();
    assert_eq!((run.finished.len(), run.core.totals().failed, run.unacked()), (1, 1, 0));
}

#[test]
fn a_second_round_that_the_queue_lost_is_published_again() {
    let mut run = with_two_rounds();
    run.queue.remove(&NEWER);
    run.send(Event::Lost(vec![NEWER]));
    assert!(run.queue.contains(&NEWER));
    run.receive(success(NEWER));
    run.settle();
    assert_eq!(run.finished, [Finish::Complete]);
}

#[test]
fn a_round_that_is_not_needed_any_more_is_never_published() {
    let mut run = TestRun::new(plan(&[1]));
    run.start(9);
    run.send(Event::Speculate(vec![OLDER]));
    run.receive(success(OLDER));
    run.settle();
    assert!(run.queue.is_empty() && run.withdrawn.is_empty());
    assert_eq!((run.finished.len(), tally(&run)), (1, Speculation::default()));
}

#[test]
fn a_stop_does_not_wait_with_a_failure_but_takes_a_success_that_comes_yet() {
    let mut run = with_two_rounds();
    run.receive(failure(NEWER));
    run.send(Event::Stop(StopCause::Signal));
    run.flush();
    assert_eq!((run.core.totals().failed, run.unacked()), (1, 0));
    run.receive(success(OLDER));
    run.send(Event::Drained { taken_back: vec![] });
    run.settle();
    assert_eq!((run.core.totals().completed, run.finished.len()), (1, 1));
}

#[test]
fn a_resume_asks_for_the_newer_round_and_takes_the_older_ones_success() {
    let run = with_two_rounds();
    let mut resumed = TestRun::new(run.plan_of_resume(plan(&[1])));
    resumed.start(9);
    assert_eq!(resumed.queue.iter().copied().collect::<Vec<_>>(), [NEWER]);
    let late = resumed.receive_copy(failure(OLDER));
    assert!(resumed.acked.contains(&late));
    resumed.receive_copy(success(OLDER));
    assert!(resumed.withdrawn.contains(&NEWER));
    resumed.settle();
    assert_eq!(resumed.finished, [Finish::Complete]);
}

#[test]
fn a_chunk_gets_one_second_round_and_a_run_no_more_than_its_share() {
    let mut run = TestRun::new(plan(&[5]));
    run.start(9);
    let all: Vec<_> = run.queue.iter().copied().collect();
    run.send(Event::Speculate([&all[..1], &all[..1], &all[..]].concat()));
    assert_eq!(run.rounds.len(), 2, "40 % of 5");
    run.run_to_the_end();
    assert_eq!((run.finished.len(), tally(&run).started), (1, 2));
}

#[test]
fn without_a_share_there_are_no_second_rounds() {
    let mut core = super::Core::new(plan(&[3]), &super::CoreSettings::default());
    drop(core.apply(Event::Start));
    drop(core.apply(Event::Window(3)));
    let effects = core.apply(Event::Speculate(vec![OLDER]));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Begin(_))), "{effects:?}");
}

#[test]
fn a_second_round_that_does_not_fit_into_the_budget_is_not_begun() {
    let mut run = TestRun::with_settings(plan(&[1]), &budget(Some(215), None));
    run.start(9);
    run.send(Event::Speculate(vec![OLDER]));
    assert!(run.rounds.is_empty());
    run.run_to_the_end();
    assert_eq!(run.finished, [Finish::Complete]);
}
