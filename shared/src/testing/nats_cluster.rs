//! Three real nats-servers that form a cluster, any of which may be killed.

use std::net::TcpListener;
use std::time::Duration;

use async_nats::jetstream;
use futures_util::StreamExt;
use tokio::time::Instant;

use super::nats_server::{TestNats, TestNatsOptions};

const LIMIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(100);

/// A cluster of three servers with JetStream.
#[derive(Debug)]
pub struct TestCluster {
    /// The servers.
    pub servers: Vec<TestNats>,
}

impl TestCluster {
    /// Starts it, and waits until it can keep streams.
    ///
    /// # Panics
    ///
    /// When it does not come about.
    pub async fn start() -> Self {
        // Held until all are known, so that they differ.
        let held: Vec<TcpListener> =
            (0..3).map(|_| TcpListener::bind("127.0.0.1:0").expect("the system has free ports")).collect();
        let ports: Vec<u16> =
            held.iter().filter_map(|held| held.local_addr().ok()).map(|address| address.port()).collect();
        drop(held);
        let routes: Vec<_> = ports.iter().map(|port| format!("\"nats://127.0.0.1:{port}\"")).collect();
        let routes = routes.join(", ");
        let starting = ports.iter().map(|port| {
            let more = format!(
                "server_name: n{port}\ncluster {{ name: test, listen: \"127.0.0.1:{port}\", routes: [{routes}] }}\n"
            );
            TestNats::start_with(TestNatsOptions { more, ..TestNatsOptions::default() })
        });
        let cluster = Self { servers: futures_util::future::join_all(starting).await };
        let until = Instant::now() + LIMIT;
        while !cluster.is_ready().await {
            assert!(Instant::now() < until, "the cluster has no leader after {LIMIT:?}");
            tokio::time::sleep(PAUSE).await;
        }
        cluster
    }

    /// The addresses of all servers, as a setting.
    pub fn url(&self) -> String {
        self.servers.iter().map(TestNats::url).collect::<Vec<_>>().join(",")
    }

    /// Which server leads a stream, and how many hold it.
    pub async fn leader_of(&self, stream: &str) -> Option<(usize, usize)> {
        let addresses: Vec<String> = self.servers.iter().map(TestNats::url).collect();
        let client = async_nats::connect(addresses).await.ok()?;
        let stream = jetstream::new(client).get_stream(stream).await.ok()?;
        let cluster = stream.cached_info().cluster.clone()?;
        Some((self.position(&cluster.leader?)?, cluster.replicas.len() + 1))
    }

    /// Which server leads a stream's first consumer.
    pub async fn leader_of_consumer(&self, stream: &str) -> Option<usize> {
        let addresses: Vec<String> = self.servers.iter().map(TestNats::url).collect();
        let client = async_nats::connect(addresses).await.ok()?;
        let stream = jetstream::new(client).get_stream(stream).await.ok()?;
        let consumer = stream.consumers().next().await?.ok()?;
        self.position(&consumer.cluster?.leader?)
    }

    fn position(&self, name: &str) -> Option<usize> {
        let line = format!("server_name: {name}\n");
        self.servers.iter().position(|server| server.configuration().contains(&line))
    }

    /// Waits until every server holds all of a stream again.
    ///
    /// # Panics
    ///
    /// When that does not come about.
    pub async fn wait_until_whole(&self, stream: &str) {
        let until = Instant::now() + LIMIT;
        while !self.is_whole(stream).await {
            assert!(Instant::now() < until, "{stream} has not all its replicas after {LIMIT:?}");
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn is_whole(&self, stream: &str) -> bool {
        let addresses: Vec<String> = self.servers.iter().map(TestNats::url).collect();
        let Ok(client) = async_nats::connect(addresses).await else { return false };
        let Ok(stream) = jetstream::new(client).get_stream(stream).await else { return false };
        let Some(cluster) = &stream.cached_info().cluster else { return false };
        let current = cluster.replicas.iter().filter(|replica| replica.current && !replica.offline).count();
        cluster.leader.is_some() && current + 1 == self.servers.len()
    }

    async fn is_ready(&self) -> bool {
        for server in &self.servers {
            let Ok(client) = async_nats::connect(server.url()).await else { return false };
            let mut context = jetstream::new(client);
            context.set_timeout(Duration::from_secs(1));
            // Only a cluster with a leader answers this.
            let config = jetstream::stream::Config {
                name: "READY".to_owned(),
                subjects: vec!["ready".to_owned()],
                num_replicas: 3,
                ..jetstream::stream::Config::default()
            };
            if context.get_or_create_stream(config).await.is_err() {
                return false;
            }
        }
        true
    }
}
