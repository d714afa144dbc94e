//! The certificates of a connection, looked at before they are used: the client would report what is wrong
//! with a file as a failed connection, and what is wrong with a certificate as a lost one.
//!
//! It must not connect.

use std::error::Error;
use std::io;
use std::path::Path;

use async_nats::rustls::pki_types::pem::PemObject;
use async_nats::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use async_nats::rustls::{self, ClientConfig, RootCertStore};

use super::{ConnectError, ConnectOptions};

/// Checks that each file can be read and holds what it is for, and that certificate and key belong together.
pub(super) async fn check(options: &ConnectOptions) -> Result<(), ConnectError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = &options.tls_ca {
        const WHAT: &str = "CA certificates file";
        for certificate in certificates(WHAT, path).await? {
            roots.add(certificate).map_err(|error| unusable(WHAT, path, &error))?;
        }
    }
    match (&options.tls_cert, &options.tls_key) {
        (None, None) => Ok(()),
        (Some(certificate), Some(key)) => {
            const WHAT: &str = "client certificate file";
            let chain = certificates(WHAT, certificate).await?;
            let file = read("client key file", key).await?;
            let key = PrivateKeyDer::from_pem_slice(&file)
                .map_err(|_| unusable("client key file", key, &"it holds no private key in PEM"))?;
            ClientConfig::builder()
                .with_root_certificates(roots)
                .with_client_auth_cert(chain, key)
                .map(drop)
                .map_err(|error| unusable(WHAT, certificate, &error))
        }
        (Some(_), None) | (None, Some(_)) => Err(ConnectError::HalfCertificate),
    }
}

/// Whether a connection failed because TLS could not be agreed on.
pub(super) fn is_tls_error(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let inner = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if error.is::<rustls::Error>() || inner.is_some() {
            return true;
        }
        cause = error.source();
    }
    false
}

async fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    let file = read(what, path).await?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&file).collect();
    match found {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) | Err(_) => Err(unusable(what, path, &"it holds no certificate in PEM")),
    }
}

async fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, ConnectError> {
    tokio::fs::read(path).await.map_err(|error| unusable(what, path, &error))
}

fn unusable(what: &'static str, path: &Path, reason: &dyn std::fmt::Display) -> ConnectError {
    ConnectError::File { what, path: path.to_owned(), reason: reason.to_string() }
}
