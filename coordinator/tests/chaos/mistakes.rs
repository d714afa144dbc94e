//! The harness is tested: a coordinator with a deliberate mistake must not get through.

use std::any::Any;
use std::time::Duration;

use qa_shared::failpoint::Mistake;

use crate::act::play;
use crate::reference::Reference;
use crate::schedule::{Fault, Part, Place, Process, Schedule, Step};
use crate::stage::Scene;
use crate::{PATIENCE, room};

/// A job that never ends need not be waited for as long as a good one.
const SHORT: Duration = Duration::from_secs(15);

/// A fleet to which these things happen.
fn fleet(steps: &[(u64, u64, Fault)]) -> Schedule {
    let steps = steps.iter().map(|&(at, lasts, fault)| Step {
        at: Duration::from_millis(at),
        lasts: Duration::from_millis(lasts),
        fault,
    });
    Schedule { seed: 0, place: Place::Fleet, servers: 2, steps: steps.collect() }
}

/// What the harness says about a schedule; nothing if it is content.
async fn complaint(schedule: Schedule, mistake: Option<Mistake>) -> Option<String> {
    let _room = room().acquire().await.unwrap();
    let never_ends = matches!(mistake, Some(Mistake::NoReconciliation | Mistake::NoUpkeep));
    let patience = if never_ends { SHORT } else { PATIENCE };
    let reference = Reference::make().await;
    let played = tokio::spawn(async move {
        play(&schedule, &Scene::usual(), Some(&reference), mistake, patience).await;
    });
    let words = |panic: Box<dyn Any + Send>| match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(_) => "a panic without words".to_owned(),
    };
    played.await.err().map(|error| words(error.into_panic()))
}

fn kills() -> Schedule {
    let kill = Fault::Kill(Process::Coordinator);
    fleet(&[(1700, 50, kill), (3400, 50, kill), (5100, 50, kill), (6700, 50, kill)])
}

fn a_lost_queue() -> Schedule {
    fleet(&[(2500, 100, Fault::LoseQueue)])
}

#[tokio::test]
async fn without_a_mistake_it_is_content() {
    let (kills, loss) = tokio::join!(complaint(kills(), None), complaint(a_lost_queue(), None));
    assert_eq!((kills, loss), (None, None));
}

#[tokio::test]
async fn results_that_are_acknowledged_before_the_journal_are_found() {
    let found = complaint(kills(), Some(Mistake::AckBeforeJournal)).await.unwrap();
    assert!(found.contains("model calls for 240 chunks"), "{found}");
}

#[tokio::test]
async fn a_queue_that_is_never_compared_with_the_files_is_found() {
    let found = complaint(a_lost_queue(), Some(Mistake::NoReconciliation)).await.unwrap();
    assert!(found.contains("the job is not done"), "{found}");
}

#[tokio::test]
async fn a_part_of_the_queue_that_is_never_made_again_is_found() {
    for part in [Part::TaskConsumers, Part::Jobs] {
        let schedule = fleet(&[(2500, 100, Fault::LosePart(part))]);
        let found = complaint(schedule, Some(Mistake::NoUpkeep)).await.unwrap();
        assert!(found.contains("the job is not done"), "{found}");
    }
}

#[tokio::test]
async fn pairs_that_are_applied_twice_are_found() {
    let found = complaint(fleet(&[]), Some(Mistake::PairsTwice)).await.unwrap();
    // The run itself compares the combined file with what it has counted.
    assert!(found.contains("exit code 6") && found.contains("and the run has counted"), "{found}");
}
