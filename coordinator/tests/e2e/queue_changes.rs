//! The queue server comes back as another one: both programs say what is wrong with it, and go on without a restart
//! when that is mended.

use std::time::Duration;

use qa_shared::testing::fake_ollama::{Behaviour, FakeConfig, FakeOllama};
use qa_shared::testing::{TestNats, TestNatsOptions};

use crate::command_line::Line;
use crate::documents::Document;
use crate::site::Site;

const TOKEN: &str = "of-before-the-change";

/// A run is in the middle of its work when the server changes and is set back.
async fn survives(change: impl Fn(&mut TestNats), set_back: impl Fn(&mut TestNats), says: &str) {
    let token = Some(TOKEN.to_owned());
    let mut nats = TestNats::start_with(TestNatsOptions { token, ..TestNatsOptions::default() }).await;
    let site = Site::new(&[Document::new("changed", 40)]);
    let server = FakeOllama::start(FakeConfig { slots: 4, ..FakeConfig::default() });
    server.respond_with(|_| Behaviour::Slow(Duration::from_millis(200)));
    let identified = |line: Line| line.env("QA_NATS_TOKEN", TOKEN).impatient();
    let mut worker = identified(Line::worker(&nats, &[&server])).start();
    let mut run = identified(site.generate().fleet(&nats)).start();
    server.wait_for(|stats| stats.chat_calls > 6).await;
    change(&mut nats);
    nats.restart().await;
    run.says(says).await;
    worker.says(says).await;
    set_back(&mut nats);
    nats.restart().await;
    let ended = run.ends_with(0).await;
    site.check();
    worker.signal("TERM");
    let worker = worker.ends_with(0).await;
    for output in [ended.stderr, worker.stderr, worker.stdout] {
        assert!(!output.contains(TOKEN), "{output}");
    }
}

#[tokio::test]
async fn changed_credentials_are_named_and_the_run_goes_on_when_they_are_set_back() {
    let change = |nats: &mut TestNats| nats.set_token("another-one");
    survives(change, |nats| nats.set_token(TOKEN), "refuses authentication (authorization violation)").await;
}

#[tokio::test]
async fn a_server_without_jetstream_is_named_and_the_run_goes_on_when_it_has_it_again() {
    let change = |nats: &mut TestNats| nats.set_jetstream(false);
    survives(change, |nats| nats.set_jetstream(true), "has no JetStream for this account now").await;
}
