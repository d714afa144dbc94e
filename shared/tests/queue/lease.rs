//! The lease of a job: one holder at a time.

use qa_shared::queue::{AcquireError, Lease, LeaseHolder, RenewError, Timing};
use qa_shared::testing::TestNats;

use crate::fixtures::{instance, job, short, until};

fn holder(random: u32) -> LeaseHolder {
    LeaseHolder {
        instance: instance(random),
        host: "desk".to_owned(),
        directory: "/data/qa".to_owned(),
        pid: random,
        lock: None,
    }
}

#[tokio::test]
async fn a_held_lease_names_its_holder_until_it_is_released() {
    let nats = TestNats::start().await;
    let queue = nats.queue(Timing { presence_age: Timing::default().presence_age, ..short() }).await;
    let first = Lease::acquire(&queue, &job(1), holder(1)).await.unwrap();
    match Lease::acquire(&queue, &job(1), holder(2)).await {
        Err(AcquireError::HeldBy { holder: found, .. }) => assert_eq!(found, holder(1)),
        other => panic!("{other:?}"),
    }
    let other_job = Lease::acquire(&queue, &job(2), holder(2)).await.unwrap();
    first.lease.release().await.unwrap();
    assert_eq!(Lease::holder(&queue, &job(1)).await.unwrap(), None);
    assert_eq!(Lease::holder(&queue, &job(2)).await.unwrap(), Some(holder(2)));
    let second = Lease::acquire(&queue, &job(1), holder(2)).await.unwrap();
    assert!(second.epoch > first.epoch && second.epoch > other_job.epoch);
}

#[tokio::test]
async fn a_renewed_lease_does_not_expire_and_a_forgotten_one_does() {
    let nats = TestNats::start().await;
    let queue = nats.queue(short()).await;
    let mut first = Lease::acquire(&queue, &job(1), holder(1)).await.unwrap().lease;
    let until_then = tokio::time::Instant::now() + 3 * short().presence_age;
    while tokio::time::Instant::now() < until_then {
        first.renew().await.unwrap();
        let error = Lease::acquire(&queue, &job(1), holder(2)).await.unwrap_err();
        assert!(matches!(error, AcquireError::HeldBy { .. }), "{error}");
        tokio::time::sleep(short().renewal()).await;
    }
    until("the expiry", async || Lease::acquire(&queue, &job(1), holder(2)).await.ok()).await;
    let error = first.renew().await.unwrap_err();
    assert!(matches!(&error, RenewError::Lost { holder: found, .. } if *found == holder(2)), "{error}");
    first.release().await.unwrap();
    assert_eq!(Lease::holder(&queue, &job(1)).await.unwrap(), Some(holder(2)), "a loser releases nothing");
}

#[tokio::test]
async fn an_expired_lease_that_nobody_took_is_renewed() {
    let nats = TestNats::start().await;
    let queue = nats.queue(short()).await;
    let mut lease = Lease::acquire(&queue, &job(1), holder(1)).await.unwrap().lease;
    until("the expiry", async || Lease::holder(&queue, &job(1)).await.unwrap().is_none().then_some(())).await;
    lease.renew().await.unwrap();
    assert_eq!(Lease::holder(&queue, &job(1)).await.unwrap(), Some(holder(1)));
}

#[tokio::test]
async fn a_dead_holder_is_taken_over_and_nobody_else() {
    let nats = TestNats::start().await;
    let queue = nats.queue(Timing { presence_age: Timing::default().presence_age, ..short() }).await;
    let dead = Lease::acquire(&queue, &job(1), holder(1)).await.unwrap();
    let taken = Lease::take_over(&queue, &job(1), holder(2), &holder(1)).await.unwrap();
    assert!(taken.epoch > dead.epoch);
    let error = Lease::take_over(&queue, &job(1), holder(3), &holder(1)).await.unwrap_err();
    assert!(matches!(&error, AcquireError::HeldBy { holder: found, .. } if *found == holder(2)), "{error}");
    assert!(error.to_string().contains("/data/qa"), "{error}");
    let mut zombie = dead.lease;
    assert!(matches!(zombie.renew().await, Err(RenewError::Lost { .. })));
}

#[tokio::test]
async fn a_lease_outlives_a_restart_of_the_server() {
    let mut nats = TestNats::start().await;
    let queue = nats.queue(Timing { presence_age: Timing::default().presence_age, ..short() }).await;
    let mut lease = Lease::acquire(&queue, &job(1), holder(1)).await.unwrap().lease;
    nats.restart().await;
    until("the renewal", async || lease.renew().await.ok()).await;
    assert_eq!(Lease::holder(&queue, &job(1)).await.unwrap(), Some(holder(1)));
}
