//! Properties: whatever happens in whatever order, the files come out the same.

use proptest::prelude::*;

use super::test_run::{TestRun, budget, failure, hash, plan, success};
use super::{ChunkState, DocumentPlan, Event, Finish, ResultFact, StopCause, TaskRef};

/// One thing that happens to a run; numbers choose among what is there.
#[derive(Debug, Clone)]
enum Happening {
    Success(usize),
    Failure(usize),
    Doubled(usize),
    OldRoundFailure(usize),
    ForeignText(usize),
    Unknown(u32, u32),
    WipedQueue,
    Withheld(usize),
    Speculate(usize),
    LateLoser(usize, bool),
    Flush,
    Snapshot,
    Window(u32),
    MostBytes(u64),
    TakenBack(usize),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        6 => any::<usize>().prop_map(Happening::Success),
        2 => any::<usize>().prop_map(Happening::Failure),
        2 => any::<usize>().prop_map(Happening::Doubled),
        1 => any::<usize>().prop_map(Happening::OldRoundFailure),
        1 => any::<usize>().prop_map(Happening::ForeignText),
        1 => (0..9_u32, 0..9_u32).prop_map(|(document, chunk)| Happening::Unknown(document + 100, chunk)),
        1 => Just(Happening::WipedQueue),
        1 => any::<usize>().prop_map(Happening::Withheld),
        4 => any::<usize>().prop_map(Happening::Speculate),
        1 => (any::<usize>(), any::<bool>()).prop_map(|(choice, succeeds)| Happening::LateLoser(choice, succeeds)),
        3 => Just(Happening::Flush),
        3 => Just(Happening::Snapshot),
        1 => (0..8_u32).prop_map(Happening::Window),
        1 => (0..6000_u64).prop_map(Happening::MostBytes),
        1 => any::<usize>().prop_map(Happening::TakenBack),
    ]
}

/// Every chunk starts in round 2, so that there are old rounds.
fn plan_of(sizes: &[u32]) -> Vec<DocumentPlan> {
    let mut plan = plan(sizes);
    for chunk in plan.iter_mut().flat_map(|document| &mut document.chunks) {
        chunk.round = 2;
    }
    plan
}

fn run_of(sizes: &[u32]) -> TestRun {
    TestRun::new(plan_of(sizes))
}

fn resumed(run: &TestRun, sizes: &[u32]) -> TestRun {
    TestRun::new(run.plan_of_resume(plan_of(sizes)))
}

fn pick(run: &TestRun, choice: usize) -> Option<TaskRef> {
    run.queue.iter().copied().nth(choice % run.queue.len().max(1))
}

fn perform(run: &mut TestRun, happening: &Happening) {
    match *happening {
        Happening::Success(choice) => {
            if let Some(task) = pick(run, choice) {
                run.receive(success(task));
            }
        }
        Happening::Failure(choice) => {
            if let Some(task) = pick(run, choice) {
                run.receive(failure(task));
            }
        }
        Happening::Doubled(choice) => {
            if let Some(fact) = run.journal.get(choice % run.journal.len().max(1)).copied() {
                run.receive_copy(fact);
            }
        }
        Happening::OldRoundFailure(choice) => {
            if let Some(task) = pick(run, choice) {
                run.receive_copy(failure(TaskRef { round: 1, ..task }));
            }
        }
        Happening::ForeignText(choice) => {
            if let Some(task) = pick(run, choice) {
                run.receive_copy(ResultFact { text_hash: Some(hash(77, 77)), ..success(task) });
            }
        }
        Happening::Unknown(document, chunk) => {
            run.receive_copy(success(TaskRef { document, chunk, round: 1 }));
        }
        Happening::WipedQueue => {
            let lost = std::mem::take(&mut run.queue).into_iter().collect();
            run.send(Event::Lost(lost));
        }
        Happening::Withheld(choice) => {
            if let Some(task) = pick(run, choice) {
                run.queue.remove(&task);
                run.send(Event::Withheld(vec![task]));
            }
        }
        Happening::Speculate(choice) => {
            if let Some(task) = pick(run, choice) {
                run.send(Event::Speculate(vec![task]));
            }
        }
        Happening::LateLoser(choice, succeeds) => {
            let loser = run.withdrawn.iter().copied().nth(choice % run.withdrawn.len().max(1));
            if let Some(task) = loser {
                run.receive(if succeeds { success(task) } else { failure(task) });
            }
        }
        Happening::Flush => run.flush(),
        Happening::Snapshot => {
            run.write_next_snapshot();
        }
        Happening::Window(window) => run.send(Event::Window(window)),
        Happening::MostBytes(bytes) => run.send(Event::MostBytes(bytes)),
        Happening::TakenBack(choice) => {
            if let Some(task) = pick(run, choice) {
                run.queue.remove(&task);
                run.send(Event::TakenBack(vec![task]));
            }
        }
    }
}

proptest! {
    #[test]
    fn every_chunk_ends_accounted_for_exactly_once(
        sizes in prop::collection::vec(0..6_u32, 1..5),
        happenings in prop::collection::vec(happening(), 0..80),
    ) {
        let mut run = run_of(&sizes);
        run.start(3);
        for happening in &happenings {
            perform(&mut run, happening);
        }
        run.send(Event::Window(3));
        run.run_to_the_end();
        prop_assert_eq!(&run.finished, &[Finish::Complete]);
        let totals = run.core.totals();
        prop_assert_eq!(totals.outstanding(), 0);
        prop_assert_eq!(totals.completed + totals.failed, u64::from(sizes.iter().sum::<u32>()));
        prop_assert!(run.files.len() == sizes.len());
        let speculation = run.core.tally().speculation;
        let chunks = sizes.iter().sum::<u32>();
        prop_assert!(speculation.started <= u64::from((chunks * 40 / 100).max(1)));
        prop_assert!(speculation.won + speculation.lost <= speculation.started);
    }

    #[test]
    fn replay_equals_live(
        sizes in prop::collection::vec(0..6_u32, 1..5),
        happenings in prop::collection::vec(happening(), 0..80),
    ) {
        let mut run = run_of(&sizes);
        run.start(4);
        for happening in &happenings {
            perform(&mut run, happening);
        }
        let mut replayed = resumed(&run, &sizes);
        for fact in &run.journal {
            // Twice: a journal may be read again after a crash in the middle of a start.
            let _ = replayed.core.replay(fact);
            let _ = replayed.core.replay(fact);
        }
        replayed.core.check_invariants().map_err(TestCaseError::fail)?;
        let out_is_waiting = |states: Vec<Vec<(ChunkState, u32)>>| -> Vec<Vec<(ChunkState, u32)>> {
            states
                .into_iter()
                .map(|document| {
                    document
                        .into_iter()
                        .map(|(state, round)| match state {
                            ChunkState::Published => (ChunkState::Waiting, round),
                            state => (state, round),
                        })
                        .collect()
                })
                .collect()
        };
        prop_assert_eq!(out_is_waiting(replayed.states()), out_is_waiting(run.states()));
    }

    #[test]
    fn the_order_of_results_does_not_matter(
        verdicts in prop::collection::vec((any::<bool>(), any::<bool>()), 1..12),
        seed in any::<u64>(),
    ) {
        let size = u32::try_from(verdicts.len()).unwrap();
        let mut facts = Vec::new();
        for ((first_fails, then_succeeds), chunk) in verdicts.iter().zip(0..) {
            let task = TaskRef { document: 0, chunk, round: 2 };
            if *first_fails {
                facts.push(failure(task));
            }
            if *then_succeeds || !*first_fails {
                facts.push(success(task));
            }
        }
        let outcome = |facts: &[ResultFact]| {
            let mut run = run_of(&[size]);
            run.start(size);
            for fact in facts {
                run.receive(*fact);
            }
            run.settle();
            (run.states(), run.files.clone(), run.finished.clone())
        };
        let in_order = outcome(&facts);
        let mut shuffled = facts.clone();
        let mut state = seed;
        for index in (1..shuffled.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            shuffled.swap(index, usize::try_from(state >> 33).unwrap() % (index + 1));
        }
        prop_assert_eq!(outcome(&shuffled), in_order);
    }

    #[test]
    fn a_stop_at_any_moment_and_a_resume_lose_nothing(
        sizes in prop::collection::vec(0..6_u32, 1..4),
        before in prop::collection::vec(happening(), 0..40),
    ) {
        let mut run = run_of(&sizes);
        run.start(3);
        for happening in &before {
            perform(&mut run, happening);
        }
        let complete = !run.finished.is_empty();
        if !complete {
            run.send(Event::Stop(StopCause::Signal));
            let taken_back = std::mem::take(&mut run.queue).into_iter().collect();
            run.send(Event::Drained { taken_back });
            run.settle();
        }
        prop_assert_eq!(run.finished.len(), 1);
        let mut resumed = resumed(&run, &sizes);
        for fact in &run.journal {
            let _ = resumed.core.replay(fact);
        }
        resumed.start(3);
        resumed.run_to_the_end();
        prop_assert_eq!(&resumed.finished, &[Finish::Complete]);
        prop_assert_eq!(resumed.core.totals().outstanding(), 0);
        prop_assert_eq!(resumed.core.totals().completed, u64::from(sizes.iter().sum::<u32>()) - resumed.core.totals().failed);
    }

    #[test]
    fn what_was_published_never_costs_more_than_the_budget(
        sizes in prop::collection::vec(0..6_u32, 1..4),
        happenings in prop::collection::vec((happening(), 0..=100_u64), 0..80),
        limit in 100..1500_u64,
        in_money in any::<bool>(),
        stop_at in 0..160_usize,
    ) {
        let settings = if in_money { budget(None, Some(limit)) } else { budget(Some(limit), None) };
        let plan = plan_of(&sizes);
        let mut run = TestRun::with_settings(plan.clone(), &settings);
        run.start(3);
        for (number, (happening, share)) in happenings.iter().enumerate() {
            if number == stop_at && run.finished.is_empty() && !run.core.is_stopping() {
                // Stop and resume: what the journal and the account hold is what the next run knows.
                let spent = run.core.spent();
                let plan = run.plan_of_resume(plan.clone());
                let (journal, unplanned) = (std::mem::take(&mut run.journal), run.unplanned);
                run = TestRun::with_settings(plan, &settings);
                for fact in &journal {
                    let _ = run.core.replay(fact);
                }
                (run.journal, run.unplanned) = (journal, unplanned);
                run.core.set_spent(spent);
                run.start(3);
            }
            run.share = *share;
            perform(&mut run, happening);
            let total = run.core.spent().usage.tokens() + run.core.committed().tokens;
            let unplanned = run.unplanned;
            prop_assert!(total <= limit + unplanned, "{total} of {limit}, {unplanned} unplanned");
        }
    }
}
