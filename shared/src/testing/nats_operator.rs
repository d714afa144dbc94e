//! What an operator, or a stranger with the permission, can do to a queue while programs work with it.

use std::time::Duration;

use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::stream::{Config, Stream};
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

    /// Connects to a test's server, if it takes connections now.
    pub async fn connect(nats: &TestNats) -> Option<Self> {
        Some(Self(jetstream::new(async_nats::connect(nats.url()).await.ok()?)))
    }

    /// Deletes a stream if it is there; whether it was.
    pub async fn loses_stream(&self, name: &str) -> bool {
        self.0.delete_stream(name).await.is_ok_and(|deleted| deleted.success)
    }

    /// Deletes all consumers of a stream; how many.
    pub async fn delete_consumers(&self, stream: &str) -> usize {
        let Ok(found) = self.0.get_stream(stream).await else { return 0 };
        let mut deleted = 0;
        for name in found.consumer_names().filter_map(async |name| name.ok()).collect::<Vec<_>>().await {
            deleted += usize::from(found.delete_consumer(&name).await.is_ok());
        }
        deleted
    }

    /// Pauses all consumers of a stream for years; how many.
    pub async fn pause_consumers(&self, stream: &str) -> usize {
        let Ok(found) = self.0.get_stream(stream).await else { return 0 };
        let until = std::time::SystemTime::from(crate::clock::now() + YEARS).into();
        let mut paused = 0;
        for name in found.consumer_names().filter_map(async |name| name.ok()).collect::<Vec<_>>().await {
            paused += usize::from(found.pause_consumer(&name, until).await.is_ok());
        }
        paused
    }

    /// Takes at most so many messages of a stream's first consumer and hands them back with a delay of years; how
    /// many.
    pub async fn withholds(&self, stream: &str, most: usize) -> usize {
        let Ok(found) = self.0.get_stream(stream).await else { return 0 };
        let Some(Ok(name)) = found.consumer_names().next().await else { return 0 };
        let Ok(consumer) = found.get_consumer::<pull::Config>(&name).await else { return 0 };
        let pull = consumer.batch().max_messages(most).expires(Duration::from_millis(500)).messages().await;
        let Ok(mut messages) = pull else { return 0 };
        let mut withheld = 0;
        while let Some(Ok(message)) = messages.next().await {
            withheld += usize::from(message.double_ack_with(AckKind::Nak(Some(YEARS))).await.is_ok());
        }
        withheld
    }

    /// Stores a message if the stream is there to take it; whether it did.
    pub async fn stores(&self, stream: &str, subject: String, payload: &'static [u8]) -> bool {
        let Ok(stored) = self.0.publish(subject, payload.into()).await else { return false };
        stored.await.is_ok_and(|ack| ack.stream == stream)
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

    /// Changes a stream's settings.
    pub async fn change_stream(&self, name: &str, change: impl FnOnce(&mut Config)) {
        let mut config = self.stream(name).await.cached_info().config.clone();
        change(&mut config);
        self.0.update_stream(config).await.expect("the stream's settings can be changed");
    }

    /// Stores messages in a stream of its own whenever the server takes one more. Never ends.
    pub async fn keep_full(&self, stream: &str) {
        let config =
            Config { name: stream.to_owned(), subjects: vec![stream.to_owned()], ..Config::default() };
        self.0.create_stream(config).await.expect("the stream can be made");
        loop {
            for bytes in [16 * 1024, 256, 0] {
                let store = async || {
                    let sent = self.0.publish(stream.to_owned(), vec![0; bytes].into()).await;
                    sent.expect("the message can be sent").await
                };
                while store().await.is_ok() {}
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
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
