//! A chunk that ends its worker every time must not end the fleet.

use qa_shared::testing::TestNats;
use qa_shared::testing::fake_ollama::{Behaviour, FakeConfig, FakeOllama};

use crate::checker::{Check, check};
use crate::command_line::Line;
use crate::documents::Document;
use crate::site::Site;

#[tokio::test]
async fn a_chunk_that_kills_its_worker_again_and_again_is_given_up_and_the_rest_is_done() {
    let nats = TestNats::start().await;
    let document = Document::new("deadly", 8);
    let site = Site::new(std::slice::from_ref(&document));
    let server = FakeOllama::start(FakeConfig { slots: 8, ..FakeConfig::default() });
    let deadly = document.texts[3].clone();
    server.respond_with(move |call| if call.chunk == deadly { Behaviour::Hang } else { Behaviour::Answer });
    let start = || {
        let line = Line::worker(&nats, &[&server]).args(["--concurrency", "1"]);
        line.env("QA_ACK_WAIT", "2s").env("QA_PRESENCE_AGE", "2s").start()
    };
    let line = site.generate().fleet(&nats).env("QA_ACK_WAIT", "2s").env("QA_PRESENCE_AGE", "2s");
    let run = line.start();
    // The first delivery leaves no note, so that it takes six workers to leave five.
    for victim in 1..=6 {
        let worker = start();
        server.wait_for(|stats| stats.calls_for(&document.texts[3]) == victim).await;
        worker.kill().await;
    }
    let last = start();
    run.ends_with(1).await;
    check(&Check::new(&site).failed("deadly", [3]));
    let records = site.qa("deadly")["chunks"].as_array().unwrap().clone();
    let record = records.iter().find(|record| record["chunk"] == 3).unwrap();
    assert_eq!(record["error"]["reason"], "poison");
    assert_eq!(server.stats().calls_for(&document.texts[3]), 6);
    drop(last);
}
