//! Ends TLS in front of a server that does not speak it.

use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::certificates::Certificate;

/// A proxy; it ends when dropped.
#[derive(Debug)]
pub struct TlsProxy {
    port: u16,
    accepting: JoinHandle<()>,
}

impl TlsProxy {
    /// Starts one for the server at `http://HOST:PORT`, with this certificate.
    ///
    /// # Panics
    ///
    /// When the certificate cannot be used.
    pub async fn start(url: &str, certificate: &Certificate) -> Self {
        let target = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let chain = CertificateDer::pem_file_iter(&certificate.certificate)
            .and_then(Iterator::collect)
            .expect("a certificate of the tests can be read");
        let key = PrivateKeyDer::from_pem_file(&certificate.key).expect("a key of the tests can be read");
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|config| config.with_no_client_auth().with_single_cert(chain, key))
            .expect("a certificate of the tests can be used");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("the system has free ports");
        let port = listener.local_addr().map(|address| address.port()).expect("it is bound");
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (acceptor, target) = (acceptor.clone(), target.clone());
                tokio::spawn(async move {
                    // Whoever does not like the certificate goes.
                    let Ok(mut client) = acceptor.accept(client).await else { return };
                    let Ok(mut server) = TcpStream::connect(target).await else { return };
                    drop(tokio::io::copy_bidirectional(&mut client, &mut server).await);
                });
            }
        });
        Self { port, accepting }
    }

    /// Its address on this machine.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }
}

impl Drop for TlsProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
