//! What a test's nats-server says about itself on its monitoring port.

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::TestNats;

/// The monitoring port of a server.
#[derive(Debug)]
pub struct Monitor {
    address: String,
}

impl Monitor {
    /// What a server's configuration needs for it.
    pub const CONFIGURATION: &'static str = "http: \"127.0.0.1:-1\"\n";

    /// The port of a server that was started with [`Self::CONFIGURATION`].
    ///
    /// # Panics
    ///
    /// When the server has none.
    pub fn of(nats: &TestNats) -> Self {
        let url = nats.other_url("monitoring");
        Self { address: url.trim_start_matches("http://").trim_end_matches('/').to_owned() }
    }

    /// Messages that clients have sent to the server, its own answers not counted.
    ///
    /// # Panics
    ///
    /// When the server does not answer.
    pub async fn messages_in(&self) -> u64 {
        self.get("/varz").await["in_msgs"].as_u64().expect("the server counts messages")
    }

    /// Subscriptions that exist, the server's own included.
    ///
    /// # Panics
    ///
    /// When the server does not answer.
    pub async fn subscriptions(&self) -> u64 {
        self.get("/varz").await["subscriptions"].as_u64().expect("the server counts subscriptions")
    }

    async fn get(&self, path: &str) -> Value {
        let mut connection = TcpStream::connect(&self.address).await.expect("the monitoring port is open");
        let request = format!("GET {path} HTTP/1.0\r\n\r\n");
        connection.write_all(request.as_bytes()).await.expect("the request can be sent");
        let mut reply = String::new();
        connection.read_to_string(&mut reply).await.expect("the reply can be read");
        let (_, body) = reply.split_once("\r\n\r\n").expect("the reply has a body");
        serde_json::from_str(body).expect("the reply is JSON")
    }
}
