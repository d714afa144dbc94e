//! What can happen to a run, one scenario a test.

use qa_shared::model::{FailureReason, Usage};

use super::test_run::{TestRun, budget, fact, failure, hash, plan, success};
use super::{
    ChunkState, Event, FailureLimits, FileStatus, Finish, ResultFact, Sample, StopCause, TaskRef, Verdict,
};

fn task(document: u32, chunk: u32) -> TaskRef {
    TaskRef { document, chunk, round: 1 }
}

#[test]
fn a_run_publishes_within_its_window_and_finishes_once() {
    let mut run = TestRun::new(plan(&[3, 2]));
    run.start(2);
    assert_eq!(run.queue.len(), 2);
    run.run_to_the_end();
    assert_eq!(run.finished, [Finish::Complete]);
    assert_eq!(run.files.values().copied().collect::<Vec<_>>(), [FileStatus::Completed; 2]);
    assert_eq!(run.core.totals().pairs, 15);
}

#[test]
fn a_result_is_acked_only_when_it_is_durable() {
    let mut run = TestRun::new(plan(&[1]));
    run.start(1);
    let receipt = run.receive(success(task(0, 0)));
    assert!(!run.acked.contains(&receipt));
    run.flush();
    assert!(run.acked.contains(&receipt));
    assert!(run.finished.is_empty(), "the file is not written yet");
    run.settle();
    assert_eq!(run.finished, [Finish::Complete]);
}

#[test]
fn a_second_copy_is_not_acked_while_the_first_is_not_durable() {
    let mut run = TestRun::new(plan(&[2]));
    run.start(2);
    run.receive(success(task(0, 0)));
    let copy = run.receive_copy(success(task(0, 0)));
    assert!(!run.acked.contains(&copy), "its delivery must survive a crash before the flush");
    run.flush();
    let again = run.receive_copy(success(task(0, 0)));
    assert!(run.acked.contains(&again));
}

#[test]
fn failures_from_before_the_run_do_not_stop_it() {
    let mut run = TestRun::with_limits(plan(&[30]), Some(FailureLimits::default()));
    run.start(30);
    for chunk in 0..20 {
        run.receive(ResultFact { is_of_this_run: false, ..failure(task(0, chunk)) });
    }
    assert!(!run.take_back_asked);
}

#[test]
fn success_beats_failure_in_either_order() {
    for order in [[true, false], [false, true]] {
        let mut run = TestRun::new(plan(&[1, 1]));
        run.start(9);
        for succeeds in order {
            let fact = if succeeds { success(task(0, 0)) } else { failure(task(0, 0)) };
            run.receive(fact);
            run.settle();
        }
        assert_eq!(run.states()[0][0].0, ChunkState::Completed { got: 3 });
        assert_eq!(run.files[&0], FileStatus::Completed);
    }
}

#[test]
fn a_failure_of_an_old_round_does_not_count() {
    let mut plan = plan(&[1]);
    plan[0].chunks[0].round = 2;
    let mut run = TestRun::new(plan);
    run.start(1);
    let receipt = run.receive_copy(failure(task(0, 0)));
    assert!(run.acked.contains(&receipt));
    assert_eq!(run.states()[0][0].0, ChunkState::Published);
    run.receive_copy(success(task(0, 0)));
    assert_eq!(run.states()[0][0].0, ChunkState::Completed { got: 3 }, "a late success is as good as any");
}

#[test]
fn a_result_for_another_text_is_acked_and_ignored() {
    let mut run = TestRun::new(plan(&[1]));
    run.start(1);
    let mut other = success(task(0, 0));
    other.text_hash = Some(hash(7, 7));
    let receipt = run.receive_copy(other);
    assert!(run.acked.contains(&receipt));
    assert_eq!(run.core.tally().ignored, 1);
    assert_eq!(run.states()[0][0].0, ChunkState::Published);
}

#[test]
fn results_nobody_asked_for_are_acked_and_counted() {
    let mut run = TestRun::new(plan(&[1]));
    run.start(1);
    for stray in [task(9, 0), task(0, 9)] {
        let receipt = run.receive_copy(success(stray));
        assert!(run.acked.contains(&receipt));
    }
    assert_eq!(run.core.tally().ignored, 2);
}

#[test]
fn a_completed_result_without_pairs_does_not_complete_a_chunk() {
    let mut run = TestRun::new(plan(&[1]));
    run.start(1);
    run.receive_copy(fact(task(0, 0), Verdict::Completed { got: 0 }));
    assert_eq!(run.states()[0][0].0, ChunkState::Published);
}

#[test]
fn what_was_asked_for_counts_failed_chunks_too() {
    let mut run = TestRun::new(plan(&[3]));
    run.start(3);
    run.receive(success(task(0, 0)));
    run.receive(fact(task(0, 1), Verdict::Failed { reason: FailureReason::NoUsableAnswer }));
    assert_eq!((run.core.tally().asked, run.core.tally().pairs), (6, 3));
    // What comes twice was not asked for twice.
    run.receive_copy(success(task(0, 0)));
    assert_eq!(run.core.tally().asked, 6);
}

#[test]
fn a_wiped_queue_costs_only_a_second_publication() {
    let mut run = TestRun::new(plan(&[4]));
    run.start(4);
    run.receive(success(task(0, 1)));
    let lost: Vec<_> = std::mem::take(&mut run.queue).into_iter().collect();
    run.send(Event::Lost(lost));
    assert_eq!(run.core.tally().republished, 3);
    run.run_to_the_end();
    assert_eq!(run.finished, [Finish::Complete]);
    assert_eq!(run.journal.len(), 4);
}

#[test]
fn tasks_that_are_still_queued_are_not_published_again() {
    let mut run = TestRun::new(plan(&[3]));
    run.queue.insert(task(0, 1));
    run.send(Event::Start);
    run.send(Event::AlreadyQueued(vec![task(0, 1)]));
    run.send(Event::Window(10));
    assert_eq!(run.queue.len(), 3);
}

#[test]
fn a_stop_takes_back_drains_and_leaves_interrupted_files() {
    let mut run = TestRun::new(plan(&[4, 1]));
    run.start(3);
    run.receive(success(task(0, 0)));
    run.send(Event::Stop(StopCause::Signal));
    assert!(run.take_back_asked);
    run.receive(success(task(0, 1)));
    let taken_back = std::mem::take(&mut run.queue).into_iter().collect();
    run.send(Event::Drained { taken_back });
    assert!(run.finished.is_empty(), "results are not on disk yet");
    run.settle();
    assert_eq!(run.finished, [Finish::Stopped(StopCause::Signal)]);
    assert_eq!(run.files[&0], FileStatus::Interrupted);
    assert_eq!(run.files.get(&1), None, "a document without results has no file");
    assert!(run.queue.is_empty(), "nothing is published after a stop");
}

#[test]
fn a_stop_when_everything_is_answered_is_a_complete_run() {
    let mut run = TestRun::new(plan(&[1]));
    run.start(1);
    run.send(Event::Stop(StopCause::Signal));
    run.receive(success(task(0, 0)));
    run.send(Event::Drained { taken_back: vec![] });
    run.settle();
    assert_eq!(run.finished, [Finish::Complete]);
}

#[test]
fn too_many_failures_stop_the_run() {
    let mut run = TestRun::with_limits(plan(&[30]), Some(FailureLimits::default()));
    run.start(12);
    for chunk in 0..10 {
        run.receive(failure(task(0, chunk)));
    }
    assert!(run.take_back_asked);
    let taken_back = std::mem::take(&mut run.queue).into_iter().collect();
    run.send(Event::Drained { taken_back });
    run.settle();
    assert!(matches!(&run.finished[..], [Finish::Stopped(StopCause::FailureRate(_))]));
    assert_eq!(run.core.totals().outstanding(), 20);
}

#[test]
fn failures_that_the_input_causes_do_not_stop_the_run() {
    let mut run = TestRun::with_limits(plan(&[30]), Some(FailureLimits::default()));
    run.start(12);
    for chunk in 0..10 {
        let verdict = Verdict::Failed { reason: FailureReason::InvalidChunk };
        run.receive(ResultFact { verdict, ..failure(task(0, chunk)) });
    }
    assert!(!run.take_back_asked);
    assert_eq!(run.core.tally().failed, 10);
}

#[test]
fn chunks_that_are_done_apart_are_published_last() {
    let mut documents = plan(&[3, 2]);
    documents[0].chunks[1].tokens = 40_000;
    let mut run = TestRun::new(documents);
    run.core.do_apart(10_000);
    run.start(1);
    let mut published = Vec::new();
    while let Some(task) = run.queue.pop_first() {
        published.push((task.document, task.chunk));
        assert_eq!(run.core.has_more_to_publish(), published.len() + run.queue.len() < 5);
        run.receive(success(task));
        run.settle();
    }
    assert_eq!(published, [(0, 0), (0, 2), (1, 0), (1, 1), (0, 1)]);
    assert_eq!(run.finished, [Finish::Complete]);
}

#[test]
fn a_sample_leaves_the_rest_for_a_resume() {
    let mut run = TestRun::new(plan(&[3, 3]));
    run.core.select_only(&[(0, 2), (1, 1)].into());
    run.start(10);
    assert_eq!(run.queue.iter().copied().collect::<Vec<_>>(), [task(0, 2), task(1, 1)]);
    run.run_to_the_end();
    assert_eq!(run.finished, [Finish::Sampled]);
    assert_eq!(run.files[&1], FileStatus::Interrupted);
}

#[test]
fn the_figures_of_a_sample_are_those_of_its_chunks() {
    let mut run = TestRun::new(plan(&[3, 3]));
    assert_eq!(run.core.sample(), None, "a whole job is no sample");
    run.core.select_only(&[(0, 2), (1, 0), (1, 1)].into());
    run.start(10);
    let sample = |completed, failed| Some(Sample { chunks: 3, completed, failed });
    assert_eq!(run.core.sample(), sample(0, 0));
    run.receive(success(task(0, 2)));
    run.receive(failure(task(1, 0)));
    assert_eq!(run.core.sample(), sample(1, 1));
    assert_eq!(run.core.sample().unwrap().outstanding(), 1);
}

#[test]
fn a_sample_has_nothing_more_to_publish_once_its_own_chunks_are_out() {
    let mut run = TestRun::new(plan(&[3, 3]));
    run.core.select_only(&[(0, 2), (1, 1)].into());
    run.start(1);
    assert!(run.core.has_more_to_publish());
    run.send(Event::Window(u32::MAX));
    assert_eq!(run.queue.iter().copied().collect::<Vec<_>>(), [task(0, 2), task(1, 1)]);
    assert!(!run.core.has_more_to_publish(), "the unselected chunks stay for a resume");
}

#[test]
fn documents_without_chunks_complete_at_once() {
    let mut run = TestRun::new(plan(&[0, 1]));
    run.start(1);
    run.run_to_the_end();
    assert_eq!(run.files[&0], FileStatus::Completed);
    assert_eq!(run.finished, [Finish::Complete]);
}

#[test]
fn a_document_whose_chunks_all_fail_is_failed() {
    let mut run = TestRun::new(plan(&[2]));
    run.start(2);
    run.receive(failure(task(0, 0)));
    run.receive(failure(task(0, 1)));
    run.settle();
    assert_eq!(run.files[&0], FileStatus::Failed);
    assert_eq!(run.finished, [Finish::Complete]);
}

#[test]
fn a_completed_document_stays_completed_while_its_failures_are_retried() {
    let mut plan = plan(&[2]);
    plan[0].file_status = Some(FileStatus::Completed);
    plan[0].is_complete = true;
    plan[0].chunks[0].state = ChunkState::Completed { got: 3 };
    plan[0].chunks[1].round = 2;
    plan[0].needs_rewrite = true;
    let mut run = TestRun::new(plan);
    run.start(1);
    run.settle();
    assert_eq!(run.files[&0], FileStatus::Completed);
    run.receive(failure(TaskRef { document: 0, chunk: 1, round: 2 }));
    run.settle();
    assert_eq!(run.files[&0], FileStatus::Completed);
    assert_eq!(run.finished, [Finish::Complete]);
}

#[test]
fn a_broken_document_does_not_hold_up_the_others() {
    let mut run = TestRun::new(plan(&[2, 1]));
    run.start(3);
    run.receive(success(task(0, 0)));
    run.flush();
    run.send(Event::DocumentBroken { document: 0, error: "edited".into() });
    run.snapshots.clear();
    run.receive(success(task(1, 0)));
    run.settle();
    assert_eq!(run.finished, [Finish::Complete]);
    assert_eq!(run.core.totals().documents_broken, 1);
    assert_eq!(run.files.get(&0), None);
}

#[test]
fn a_document_unreadable_from_the_start_is_counted_and_never_asked_for() {
    let mut plan = plan(&[0, 1]);
    plan[0].error = Some("not JSON".into());
    let mut run = TestRun::new(plan);
    run.start(1);
    run.run_to_the_end();
    assert_eq!(run.finished, [Finish::Complete]);
    assert_eq!(run.core.totals().documents_broken, 1);
    assert_eq!(run.files.get(&0), None);
}

#[test]
fn a_large_document_is_rewritten_a_few_times_only() {
    let mut run = TestRun::new(plan(&[1000]));
    run.start(1);
    let (mut written, mut snapshots) = (0, 0);
    while let Some(task) = run.queue.pop_first() {
        run.receive(success(task));
        run.flush();
        while run.write_next_snapshot() {
            snapshots += 1;
            written += run.core.documents()[0].saved;
        }
    }
    assert_eq!(run.finished, [Finish::Complete]);
    assert!(snapshots < 30, "{snapshots} snapshots");
    assert!(written < 4 * 1000, "{written} chunks written for 1000");
}

#[test]
fn failed_chunks_get_a_new_round_when_they_are_retried() {
    let mut plan = plan(&[3]);
    plan[0].chunks[0].state = ChunkState::Failed { reason: FailureReason::NoUsableAnswer };
    plan[0].chunks[1].state = ChunkState::Failed { reason: FailureReason::EmptyChunk };
    let mut run = TestRun::new(plan);
    let begun = run.core.retry_failed(|reason| !reason.caused_by_input());
    assert_eq!(begun, [TaskRef { document: 0, chunk: 0, round: 2 }]);
    run.start(9);
    run.run_to_the_end();
    assert_eq!(run.core.totals().failed, 1);
    assert_eq!(run.core.totals().completed, 2);
}

#[test]
fn changed_settings_give_every_waiting_chunk_a_new_round() {
    let mut plan = plan(&[2]);
    plan[0].chunks[0].state = ChunkState::Completed { got: 1 };
    let mut run = TestRun::new(plan);
    assert_eq!(run.core.renew_waiting(), [TaskRef { document: 0, chunk: 1, round: 2 }]);
}

/// Chunks of 10, 20, 30 ... estimated tokens; a task takes 100 tokens and one for each of these at most.
fn with_budget(sizes: &[u32], max_tokens: u64) -> TestRun {
    TestRun::with_settings(plan(sizes), &budget(Some(max_tokens), None))
}

fn used(task: TaskRef, tokens: u64) -> ResultFact {
    let usage = Usage { input_tokens: tokens, ..Usage::default() };
    ResultFact { usage, ..success(task) }
}

#[test]
fn a_budget_lets_out_what_fits_and_waits_for_what_is_freed() {
    let mut run = with_budget(&[4], 250);
    run.start(9);
    assert_eq!(run.queue.len(), 2, "110 and 120 tokens fit, 130 more do not");
    run.receive(used(task(0, 0), 30));
    assert!(!run.take_back_asked && run.queue.len() == 1, "30 + 120 + 130 do not fit either");
    run.receive(used(task(0, 1), 20));
    assert_eq!(run.queue.iter().copied().collect::<Vec<_>>(), [task(0, 2)], "50 + 130 fit, 140 more do not");
    run.receive(used(task(0, 2), 20));
    run.receive(used(task(0, 3), 10));
    run.settle();
    assert_eq!(run.finished, [Finish::Complete]);
    assert_eq!(run.core.spent().usage.tokens(), 80);
}

#[test]
fn a_spent_budget_stops_the_run_when_nothing_is_out() {
    let mut run = with_budget(&[4], 250);
    run.start(9);
    run.receive(used(task(0, 0), 110));
    assert!(!run.take_back_asked);
    run.receive(used(task(0, 1), 120));
    assert!(run.take_back_asked);
    run.send(Event::Drained { taken_back: vec![] });
    run.settle();
    let [Finish::Stopped(StopCause::Budget(why))] = &run.finished[..] else { panic!("{:?}", run.finished) };
    assert_eq!(
        why,
        "no further chunk fits into the budget: 230 of 250 tokens used (--max-tokens-total), the next one may take \
         up to 130"
    );
    assert_eq!(run.files[&0], FileStatus::Interrupted);
}

#[test]
fn what_earlier_runs_spent_counts() {
    let mut run = with_budget(&[1], 250);
    let usage = Usage { output_tokens: 141, ..Usage::default() };
    let mut spent = run.core.spent();
    spent.add(7, usage, None);
    run.core.set_spent(spent);
    run.start(9);
    assert!(run.queue.is_empty() && run.take_back_asked);
}

#[test]
fn a_task_that_was_lost_frees_its_part_of_the_budget() {
    let mut run = with_budget(&[3], 120);
    run.start(9);
    let lost: Vec<_> = std::mem::take(&mut run.queue).into_iter().collect();
    assert_eq!(lost, [task(0, 0)]);
    run.send(Event::Lost(lost));
    assert_eq!(run.queue.iter().copied().collect::<Vec<_>>(), [task(0, 0)], "it is published again");
}

#[test]
fn the_tasks_of_a_broken_document_stay_in_the_account_until_they_are_answered() {
    let mut run = with_budget(&[1, 3], 370);
    run.start(2);
    assert_eq!(run.queue.iter().copied().collect::<Vec<_>>(), [task(0, 0), task(1, 0)]);
    run.send(Event::DocumentBroken { document: 0, error: "edited".into() });
    assert_eq!(run.core.committed().tokens, 110 + 110 + 120, "the next one goes out beside them");
    run.receive(used(task(1, 0), 100));
    assert_eq!(run.queue.len(), 2, "100 + 110 + 120 + 130 do not fit");
    run.receive(used(task(0, 0), 10));
    assert!(run.queue.contains(&task(1, 2)));
}

#[test]
fn work_that_was_done_twice_counts_twice_but_not_before_the_first_is_durable() {
    let mut run = with_budget(&[2], 1000);
    run.start(9);
    run.receive(used(task(0, 0), 50));
    run.receive_copy(used(task(0, 0), 50));
    assert_eq!(run.core.spent().usage.tokens(), 50);
    run.flush();
    let copy = run.receive_copy(used(task(0, 0), 50));
    assert!(!run.acked.contains(&copy), "the account is not on disk yet");
    run.flush();
    assert!(run.acked.contains(&copy));
    assert_eq!((run.core.spent().usage.tokens(), run.core.tally().usage.tokens()), (100, 50));
}

#[test]
fn queued_tasks_of_an_earlier_run_are_affordable_one_after_the_other() {
    let mut run = with_budget(&[4], 250);
    let all = [0, 1, 2, 3].map(|chunk| task(0, chunk));
    assert_eq!(run.core.affordable(all), [task(0, 0), task(0, 1)].into());
    run.queue.insert(task(0, 3));
    run.send(Event::AlreadyQueued(vec![task(0, 3)]));
    assert_eq!(run.core.committed().tokens, 140);
    run.start(9);
    assert_eq!(run.queue.len(), 2, "only the first chunk fits beside it");
}
