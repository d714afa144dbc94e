//! Results: published once, received, acknowledged, and who may consume them.

use std::time::Duration;

use qa_shared::model::{JobId, TaskResult};
use qa_shared::queue::{
    AckError, Queue, QueueError, ReceivedResult, Results, ResultsConsumer, ResultsError, ensure,
};
use qa_shared::testing::TestNats;

use crate::fixtures::{PATIENCE, job, key, raw, result, short, soon, until};

/// Receives until `count` results are there.
async fn receive(consumer: &ResultsConsumer, count: usize) -> Vec<ReceivedResult> {
    let mut received = Vec::new();
    soon("receiving results", async {
        while received.len() < count {
            received.extend(consumer.next_batch(100, Duration::from_secs(1)).await.unwrap());
        }
    })
    .await;
    received
}

async fn publish(queue: &Queue, job: &JobId, chunks: std::ops::Range<u32>) {
    for chunk in chunks {
        Results::new(queue).publish(&result(key(job, chunk), "why"), None).await.unwrap();
    }
}

fn chunks(received: &[ReceivedResult]) -> Vec<u32> {
    let mut chunks: Vec<u32> = received.iter().map(|one| one.key.as_ref().unwrap().chunk).collect();
    chunks.sort_unstable();
    chunks
}

#[tokio::test]
async fn the_first_result_of_a_task_stays() {
    let mut nats = TestNats::start().await;
    let queue = nats.queue(short()).await;
    let results = Results::new(&queue);
    let first = result(key(&job(1), 0), "first");
    results.publish(&first, None).await.unwrap();
    results.publish(&result(key(&job(1), 0), "second"), None).await.unwrap();
    nats.restart().await;
    let third = result(key(&job(1), 0), "third");
    until("the server's return", async || results.publish(&third, None).await.ok()).await;
    let stored: TaskResult = results.stored(&first.key).await.unwrap().unwrap().unwrap();
    assert_eq!(stored, first);
    assert!(results.stored(&key(&job(1), 1)).await.unwrap().is_none());
    assert_eq!(results.stored_keys(&job(1)).await.unwrap(), [key(&job(1), 0)]);
}

#[tokio::test]
async fn a_result_is_stored_although_the_server_is_away_for_a_while() {
    let mut nats = TestNats::start().await;
    let queue = nats.queue(short()).await;
    let mut connected = queue.connected();
    nats.kill();
    soon("the loss", connected.wait_for(|up| !up)).await.unwrap();
    let publishing = tokio::spawn({
        let queue = queue.clone();
        async move {
            let result = result(key(&job(1), 0), "why");
            Results::new(&queue).publish_until_stored(&result, None, std::future::pending()).await
        }
    });
    nats.restart().await;
    soon("storing", publishing).await.unwrap().unwrap();
    assert!(Results::new(&queue).stored(&key(&job(1), 0)).await.unwrap().is_some());
}

#[tokio::test]
async fn giving_up_on_a_result_ends_with_the_reason() {
    let mut nats = TestNats::start().await;
    let queue = nats.queue(short()).await;
    nats.kill();
    let result = result(key(&job(1), 0), "why");
    let results = Results::new(&queue);
    let given_up = results.publish_until_stored(&result, None, std::future::ready(()));
    assert!(soon("giving up", given_up).await.is_err());
}

#[tokio::test]
async fn acknowledged_results_are_gone_and_others_come_again() {
    let nats = TestNats::start().await;
    let queue = nats.queue(short()).await;
    publish(&queue, &job(1), 0..5).await;
    publish(&queue, &job(2), 0..1).await;
    let consumer = ResultsConsumer::create(&queue, &job(1), 1).await.unwrap();
    let mut received = receive(&consumer, 5).await;
    assert_eq!(chunks(&received), [0, 1, 2, 3, 4]);
    received.sort_by_key(|one| one.key.as_ref().unwrap().chunk);
    let receipts = received.drain(..3).map(|one| one.receipt).collect();
    assert_eq!(consumer.ack_all(receipts).await, []);
    assert_eq!(chunks(&receive(&consumer, 2).await), [3, 4]);
    assert_eq!(Results::new(&queue).stored_keys(&job(1)).await.unwrap().len(), 2);
    assert_eq!(Results::new(&queue).purge_job(&job(1)).await.unwrap(), 2);
    assert_eq!(Results::new(&queue).stored_keys(&job(2)).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_later_holder_ends_the_earlier_one_and_loses_nothing() {
    let nats = TestNats::start().await;
    let queue = nats.queue(short()).await;
    publish(&queue, &job(1), 0..3).await;
    let zombie = ResultsConsumer::create(&queue, &job(1), 1).await.unwrap();
    let taken = receive(&zombie, 3).await;
    let waiting = tokio::spawn({
        let zombie = zombie.clone();
        async move {
            loop {
                if let Err(error) = zombie.next_batch(100, PATIENCE).await {
                    return error;
                }
            }
        }
    });
    // The server forgets a pull that arrives in the moment of the deletion, which then ends 5 s after its time.
    let stream = raw(&nats).await.get_stream("QA_RESULTS").await.unwrap();
    until("the waiting pull", async || {
        let name = format!("results-{}-1", job(1));
        (stream.consumer_info(&name).await.unwrap().num_waiting == 1).then_some(())
    })
    .await;
    let holder = ResultsConsumer::create(&queue, &job(1), 2).await.unwrap();
    let error = soon("the zombie's end", waiting).await.unwrap();
    assert!(matches!(error, ResultsError::LeaseLost { .. }), "{error}");
    let error = zombie.ack(&taken[0].receipt).await.unwrap_err();
    assert!(matches!(error, AckError::Gone), "{error}");
    let receipts: Vec<_> = taken.into_iter().map(|one| one.receipt).collect();
    assert_eq!(zombie.ack_all(receipts.clone()).await.len(), receipts.len());
    let received = receive(&holder, 3).await;
    assert_eq!(chunks(&received), [0, 1, 2]);
    let error = soon("the answer", zombie.next_batch(100, PATIENCE)).await.unwrap_err();
    assert!(matches!(error, ResultsError::LeaseLost { .. }), "{error}");
}

#[tokio::test]
async fn holders_of_different_jobs_do_not_disturb_each_other() {
    let nats = TestNats::start().await;
    let queue = nats.queue(short()).await;
    let one = ResultsConsumer::create(&queue, &job(1), 1).await.unwrap();
    let two = ResultsConsumer::create(&queue, &job(2), 1).await.unwrap();
    publish(&queue, &job(1), 0..1).await;
    publish(&queue, &job(2), 5..6).await;
    assert_eq!(chunks(&receive(&one, 1).await), [0]);
    assert_eq!(chunks(&receive(&two, 1).await), [5]);
    one.close().await.unwrap();
    assert!(two.next_batch(1, Duration::from_millis(100)).await.is_ok());
}

#[tokio::test]
async fn a_wiped_server_is_not_a_lost_lease() {
    let mut nats = TestNats::start().await;
    let queue = nats.queue(short()).await;
    let consumer = ResultsConsumer::create(&queue, &job(1), 1).await.unwrap();
    nats.wipe_and_restart().await;
    until("the missing stream", async || match consumer.next_batch(10, Duration::from_millis(500)).await {
        Err(ResultsError::Queue(QueueError::Missing { .. })) => Some(()),
        Err(ResultsError::LeaseLost { other, .. }) => panic!("lease lost to {other}"),
        Ok(_) | Err(ResultsError::Queue(_)) => None,
    })
    .await;
    ensure(&queue, None).await.unwrap();
    publish(&queue, &job(1), 0..2).await;
    assert_eq!(chunks(&receive(&consumer, 2).await), [0, 1]);
}

#[tokio::test]
async fn results_come_again_after_the_server_was_killed_between_receipt_and_acknowledgement() {
    let mut nats = TestNats::start().await;
    let queue = nats.queue(short()).await;
    let consumer = ResultsConsumer::create(&queue, &job(1), 1).await.unwrap();
    publish(&queue, &job(1), 0..2).await;
    receive(&consumer, 2).await;
    nats.restart().await;
    let again = until("the redelivery", async || {
        consumer.next_batch(10, Duration::from_secs(1)).await.ok().filter(|batch| !batch.is_empty())
    })
    .await;
    assert_eq!(consumer.ack_all(again.into_iter().map(|one| one.receipt).collect()).await, []);
}

#[tokio::test]
async fn an_unreadable_result_is_received_with_its_key() {
    let nats = TestNats::start().await;
    let queue = nats.queue(short()).await;
    let consumer = ResultsConsumer::create(&queue, &job(1), 1).await.unwrap();
    let subject = format!("qa.result.v1.{}", key(&job(1), 3));
    raw(&nats).await.publish(subject, "{".into()).await.unwrap().await.unwrap();
    let received = receive(&consumer, 1).await;
    assert_eq!(received[0].key, Ok(key(&job(1), 3)));
    assert!(received[0].result.is_err());
    consumer.ack(&received[0].receipt).await.unwrap();
    assert!(Results::new(&queue).stored_keys(&job(1)).await.unwrap().is_empty());
}
