//! What others may ask this process over HTTP: `/metrics` in Prometheus' format, `/healthz` whether it lives,
//! `/readyz` whether it can do its work now. It must not know what is measured.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::Listener;
use prometheus::{Registry, TextEncoder};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::Sleep;

use super::pipeline::TelemetryError;

/// Connections at a time; Prometheus and a prober need two. One more ends the oldest: whoever holds idle connections
/// must not keep a prober out, which would have the process killed.
const MOST_CONNECTIONS: usize = 64;
/// How long a connection may last.
const LONGEST_CONNECTION: Duration = Duration::from_secs(30);

/// What keeps parts of this process from their work; nothing if all can work.
static OBSTACLES: Mutex<BTreeMap<&'static str, String>> = Mutex::new(BTreeMap::new());

static IS_LISTENING: AtomicBool = AtomicBool::new(false);

/// Says what keeps this part of the process from its work, for `/readyz`; nothing if it can work. In local mode
/// a coordinator and a worker are parts of one process.
pub fn set_obstacle(part: &'static str, obstacle: Option<String>) {
    let mut obstacles = OBSTACLES.lock().unwrap_or_else(PoisonError::into_inner);
    match obstacle {
        Some(obstacle) => obstacles.insert(part, obstacle),
        None => obstacles.remove(part),
    };
}

/// Whether this process serves `/readyz`.
pub fn is_listening() -> bool {
    IS_LISTENING.load(Ordering::Relaxed)
}

/// Answers from now on, within the program's runtime, until the program ends.
pub(super) fn listen(
    part: &'static str,
    address: SocketAddr,
    registry: Registry,
) -> Result<(), TelemetryError> {
    set_obstacle(part, Some("starting".to_owned()));
    let bound = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        tokio::net::TcpListener::from_std(listener)
    });
    let listener = bound.map_err(|error| TelemetryError::listener(format!("{address}: {error}")))?;
    IS_LISTENING.store(true, Ordering::Relaxed);
    let app = Router::new()
        .route("/metrics", get(move || async move { metrics(&registry) }))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(|| async { readiness() }));
    let listener = Guarded { listener, open: VecDeque::new() };
    tokio::spawn(async move {
        // Ends with the runtime only.
        drop(axum::serve(listener, app).await);
    });
    Ok(())
}

/// Keeps so many connections at a time and no more: the work needs file descriptors too.
struct Guarded {
    listener: tokio::net::TcpListener,
    /// What ends each connection that is open, the oldest first.
    open: VecDeque<oneshot::Sender<()>>,
}

/// A connection that ends after a while, or for a newer one, whether its client does or not.
struct Connection {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
    displaced: oneshot::Receiver<()>,
}

impl Guarded {
    fn admit(&mut self, stream: TcpStream) -> Connection {
        self.open.retain(|connection| !connection.is_closed());
        if self.open.len() >= MOST_CONNECTIONS
            && let Some(oldest) = self.open.pop_front()
        {
            // An error means that it has just ended by itself.
            let _was_open = oldest.send(()).is_ok();
        }
        let (sender, displaced) = oneshot::channel();
        self.open.push_back(sender);
        Connection { stream, end: Box::pin(tokio::time::sleep(LONGEST_CONNECTION)), displaced }
    }
}

impl Listener for Guarded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            if let Ok((stream, client)) = self.listener.accept().await {
                return (self.admit(stream), client);
            }
            // No descriptor is free, say.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Connection {
    fn is_over(&mut self, context: &mut Context<'_>) -> bool {
        self.end.as_mut().poll(context).is_ready()
            || self.displaced.is_terminated()
            || Pin::new(&mut self.displaced).poll(context).is_ready()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_over(context) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        // A client that does not read must not hold its place either.
        if self.is_over(context) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

fn metrics(registry: &Registry) -> Response {
    match TextEncoder::new().encode_to_string(&registry.gather()) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

fn readiness() -> Response {
    let obstacles = OBSTACLES.lock().unwrap_or_else(PoisonError::into_inner);
    if obstacles.is_empty() {
        return "ready\n".into_response();
    }
    let lines: Vec<_> = obstacles.iter().map(|(part, obstacle)| format!("{part}: {obstacle}\n")).collect();
    (StatusCode::SERVICE_UNAVAILABLE, lines.concat()).into_response()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn health(address: SocketAddr) -> String {
        let mut connection = TcpStream::connect(address).await.unwrap();
        connection.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").await.unwrap();
        let mut reply = String::new();
        connection.read_to_string(&mut reply).await.unwrap();
        reply
    }

    #[tokio::test]
    async fn idle_connections_keep_no_prober_out() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new().route("/healthz", get(|| async { "ok\n" }));
        let guarded = Guarded { listener, open: VecDeque::new() };
        tokio::spawn(async move { axum::serve(guarded, app).await });
        let mut idle = Vec::new();
        for _ in 0..3 * MOST_CONNECTIONS {
            let mut connection = TcpStream::connect(address).await.unwrap();
            // Half a request is no more than none.
            connection.write_all(b"GET /heal").await.unwrap();
            idle.push(connection);
        }
        assert!(health(address).await.ends_with("ok\n"));
        // The oldest one had to go.
        assert!(matches!(idle[0].read(&mut [0; 8]).await, Ok(0) | Err(_)));
    }
}
