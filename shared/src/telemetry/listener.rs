//! What others may ask this process over HTTP: `/metrics` in Prometheus' format, `/healthz` whether it lives,
//! `/readyz` whether it can do its work now. It must not know what is measured.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
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
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

use super::pipeline::TelemetryError;

/// Connections at a time; Prometheus and a prober need two.
const MOST_CONNECTIONS: usize = 32;
/// How long a connection may last.
const LONGEST_CONNECTION: Duration = Duration::from_secs(30);

/// What keeps parts of this process from their work; nothing if all can work.
static OBSTACLES: Mutex<BTreeMap<&'static str, String>> = Mutex::new(BTreeMap::new());

/// Says what keeps this part of the process from its work, for `/readyz`; nothing if it can work. In local mode
/// a coordinator and a worker are parts of one process.
pub fn set_obstacle(part: &'static str, obstacle: Option<String>) {
    let mut obstacles = OBSTACLES.lock().unwrap_or_else(PoisonError::into_inner);
    match obstacle {
        Some(obstacle) => obstacles.insert(part, obstacle),
        None => obstacles.remove(part),
    };
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
    let app = Router::new()
        .route("/metrics", get(move || async move { metrics(&registry) }))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(|| async { readiness() }));
    let listener = Guarded { listener, room: Arc::new(Semaphore::new(MOST_CONNECTIONS)) };
    tokio::spawn(async move {
        // Ends with the runtime only.
        drop(axum::serve(listener, app).await);
    });
    Ok(())
}

/// Takes so many connections at a time and no more: the work needs file descriptors too.
struct Guarded {
    listener: tokio::net::TcpListener,
    room: Arc<Semaphore>,
}

/// A connection that ends after a while, whether its client does or not.
struct Connection {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl Listener for Guarded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            if let Ok(place) = Arc::clone(&self.room).acquire_owned().await
                && let Ok((stream, client)) = self.listener.accept().await
            {
                let end = Box::pin(tokio::time::sleep(LONGEST_CONNECTION));
                return (Connection { stream, end, _place: place }, client);
            }
            // No descriptor is free, say.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.end.as_mut().poll(context).is_ready() {
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
