//! Workers with one key share its limits; those with another do not count.

use std::sync::Arc;
use std::time::Duration;

use qa_shared::model::InstanceId;
use qa_shared::queue::{ConnectOptions, Presence, Queue, Timing, ensure};
use qa_shared::shutdown::Shutdown;
use qa_shared::testing::TestNats;
use qa_shared::testing::fake_provider::{FakeProvider, FakeProviderConfig, FakeService};
use qa_worker::config::Slots;
use qa_worker::disposition::Limits;
use qa_worker::driver::{self, WorkerSetup};
use qa_worker::llm::client::Client;
use qa_worker::llm::http::Timeouts;
use qa_worker::llm::rate_limit::PerMinute;
use qa_worker::pools::Restrictions;
use qa_worker::server::Server;

use crate::support::client_with;

fn setup(fake: &FakeProvider, number: u32) -> (WorkerSetup, Arc<Server>) {
    let limits = PerMinute { requests: Some(60), tokens: None };
    let client = client_with(fake, FakeService::OpenAi, Timeouts::default(), limits);
    let server = Arc::new(Server::new(Client::Remote(client), Slots::Fixed(1)));
    let setup = WorkerSetup {
        instance: InstanceId::new("test", 1, number),
        host: "test".to_owned(),
        servers: vec![Arc::clone(&server)],
        restrictions: Restrictions::default(),
        pull: false,
        limits: Limits::default(),
        task_timeout: Duration::from_secs(60),
        drain_timeout: Duration::ZERO,
        tells_progress: false,
    };
    (setup, server)
}

async fn share_becomes(server: &Server, workers: u32) {
    let waiting = async {
        while server.client.share() != Some(workers) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let became = tokio::time::timeout(Duration::from_secs(30), waiting).await;
    assert!(became.is_ok(), "it is shared by {:?}, not by {workers}", server.client.share());
}

#[tokio::test]
async fn limits_are_divided_among_the_workers_that_are_present() {
    let nats = TestNats::start().await;
    let fake = FakeProvider::start(FakeProviderConfig::open_ai());
    let options = ConnectOptions { url: nats.url(), ..ConnectOptions::default() };
    let timing = Timing { presence_age: Duration::from_secs(3), ..Timing::default() };
    let mut running = Vec::new();
    for number in 0..3 {
        let queue = Queue::connect(&options, timing.clone()).await.unwrap();
        // What a coordinator does before anything else.
        ensure(&queue, None).await.unwrap();
        let (setup, server) = setup(&fake, number);
        let shutdown = Shutdown::new();
        let driver = tokio::spawn(driver::run(setup, queue.clone(), shutdown.clone()));
        running.push((server, shutdown, driver, queue));
    }
    for (server, ..) in &running {
        share_becomes(server, 3).await;
    }
    let (_, shutdown, driver, queue) = running.pop().unwrap();
    shutdown.stop();
    driver.await.unwrap();
    let left = Presence::new(&queue).workers().await.unwrap();
    assert_eq!(left.len(), 2, "a worker that ends says goodbye");
    for (server, ..) in &running {
        share_becomes(server, 2).await;
    }
}
