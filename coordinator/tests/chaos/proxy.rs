//! A small TCP proxy on loopback: the network between two processes, which a test may harm and heal.
//!
//! It must not know what the bytes mean.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::schedule::Harm;

/// A way to a server, open until it is harmed.
pub(crate) struct Proxy {
    address: SocketAddr,
    harm: watch::Sender<Option<Harm>>,
    listener: JoinHandle<()>,
}

impl Proxy {
    /// A way to this address, which may be `http://` or `nats://` something.
    pub(crate) async fn to(url: &str) -> Self {
        let server = url.rsplit('/').next().unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (harm, state) = watch::channel(None);
        Self { address, harm, listener: tokio::spawn(accept(listener, server, state)) }
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// From now on.
    pub(crate) fn set(&self, harm: Option<Harm>) {
        self.harm.send_replace(harm);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listener.abort();
        self.set(Some(Harm::Cut));
    }
}

async fn accept(listener: TcpListener, server: String, state: watch::Receiver<Option<Harm>>) {
    while let Ok((client, _)) = listener.accept().await {
        if *state.borrow() == Some(Harm::Cut) {
            continue;
        }
        let (server, state) = (server.clone(), state.clone());
        tokio::spawn(async move {
            // A server that is gone refuses: so does the way to it.
            let Ok(server) = TcpStream::connect(server).await else { return };
            for socket in [&client, &server] {
                socket.set_nodelay(true).ok();
            }
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            let cut = cut(state.clone());
            tokio::select! {
                () = carry(from_client, to_server, state.clone(), true) => {}
                () = carry(from_server, to_client, state, false) => {}
                () = cut => {}
            }
        });
    }
}

async fn cut(mut state: watch::Receiver<Option<Harm>>) {
    drop(state.wait_for(|harm| *harm == Some(Harm::Cut)).await);
}

/// Carries bytes in one direction until an end closes.
async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut state: watch::Receiver<Option<Harm>>,
    is_from_client: bool,
) {
    let holds = |harm: &Option<Harm>| match harm {
        Some(Harm::Silent) => true,
        Some(Harm::HalfOpen) => is_from_client,
        Some(Harm::HalfClosed) => !is_from_client,
        Some(Harm::Slow(_) | Harm::Cut) | None => false,
    };
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let Ok(harm) = state.wait_for(|harm| !holds(harm)).await.map(|harm| *harm) else { return };
        if let Some(Harm::Slow(delay)) = harm {
            tokio::time::sleep(delay).await;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(150);

    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = client.split();
                    drop(tokio::io::copy(&mut from, &mut to).await);
                });
            }
        });
        address
    }

    #[tokio::test]
    async fn bytes_pass_are_held_and_pass_again_and_a_cut_breaks_connections() {
        let proxy = Proxy::to(&format!("nats://{}", echo().await)).await;
        let mut client = TcpStream::connect(proxy.address()).await.unwrap();
        let mut answer = [0; 2];
        client.write_all(b"ab").await.unwrap();
        client.read_exact(&mut answer).await.unwrap();
        for harm in [Harm::Silent, Harm::HalfOpen, Harm::HalfClosed] {
            proxy.set(Some(harm));
            client.write_all(b"cd").await.unwrap();
            assert!(tokio::time::timeout(SOON, client.read_exact(&mut answer)).await.is_err(), "{harm:?}");
            proxy.set(None);
            client.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"cd");
        }
        proxy.set(Some(Harm::Cut));
        assert!(!matches!(client.read(&mut answer).await, Ok(1..)));
        proxy.set(None);
        let mut client = TcpStream::connect(proxy.address()).await.unwrap();
        client.write_all(b"ef").await.unwrap();
        client.read_exact(&mut answer).await.unwrap();
    }
}
