//! What an operator, or a stranger with the permission, can do to a queue while programs work with it.

use std::time::Duration;

use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::stream::Stream;
use async_nats::jetstream::{self, AckKind, Context};
use futures_util::StreamExt;

use super::TestNats;

/// Longer than any run.
const YEARS: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A client that can do anything.
#[derive(Debug)]
pub struct NatsOperator(Context);

#[expect(clippy::missing_panics_doc, reason = "a test that cannot go on says so by a panic")]
impl NatsOperator {
    /// Connects to a test's server.
    pub async fn new(nats: &TestNats) -> Self {
        let client = async_nats::connect(nats.url()).await.expect("the test's nats-server takes connections");
        Self(jetstream::new(client))
    }

    async fn stream(&self, name: &str) -> Stream {
        self.0.get_stream(name).await.expect("the stream is there")
    }

    /// Whether a stream is there.
    pub async fn has_stream(&self, name: &str) -> bool {
        self.0.get_stream(name).await.is_ok()
    }

    /// Deletes a stream with all that it holds.
    pub async fn delete_stream(&self, name: &str) {
        self.0.delete_stream(name).await.expect("the stream can be deleted");
    }

    /// Removes everything that a stream holds.
    pub async fn purge(&self, name: &str) {
        self.stream(name).await.purge().await.expect("the stream can be purged");
    }

    /// How many messages a stream holds.
    pub async fn messages(&self, name: &str) -> u64 {
        self.stream(name).await.cached_info().state.messages
    }

    /// The names of all streams.
    pub async fn streams(&self) -> Vec<String> {
        let names: Vec<_> = self.0.stream_names().collect().await;
        names.into_iter().map(|name| name.expect("streams can be listed")).collect()
    }

    /// The names of a stream's consumers.
    pub async fn consumers(&self, stream: &str) -> Vec<String> {
        let names: Vec<_> = self.stream(stream).await.consumer_names().collect().await;
        names.into_iter().map(|name| name.expect("consumers can be listed")).collect()
    }

    /// The only consumer of a stream.
    pub async fn consumer(&self, stream: &str) -> String {
        let names = self.consumers(stream).await;
        let [name] = names.as_slice() else { panic!("expected one consumer, found {names:?}") };
        name.clone()
    }

    /// Deletes a stream's only consumer; its name.
    pub async fn delete_consumer(&self, stream: &str) -> String {
        let name = self.consumer(stream).await;
        self.stream(stream).await.delete_consumer(&name).await.expect("the consumer can be deleted");
        name
    }

    /// Pauses a stream's only consumer; its name.
    pub async fn pause_consumer(&self, stream: &str) -> String {
        let name = self.consumer(stream).await;
        let until = std::time::SystemTime::from(crate::clock::now() + YEARS).into();
        let paused = self.stream(stream).await.pause_consumer(&name, until).await;
        assert!(paused.expect("the consumer can be paused").paused);
        name
    }

    /// Takes so many messages of a stream's only consumer and hands them back with a delay of years.
    pub async fn withhold(&self, stream: &str, count: usize) {
        let name = self.consumer(stream).await;
        let consumer = self.stream(stream).await.get_consumer::<pull::Config>(&name).await;
        let consumer = consumer.expect("the consumer is there");
        let mut messages = consumer.fetch().max_messages(count).messages().await.expect("a pull can be sent");
        let mut withheld = 0;
        while let Some(message) = messages.next().await {
            let message = message.expect("a message is delivered");
            message.double_ack_with(AckKind::Nak(Some(YEARS))).await.expect("the server confirms");
            withheld += 1;
        }
        assert_eq!(withheld, count);
    }
}
