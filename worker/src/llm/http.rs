//! The one HTTP client for LLM servers, what its failures mean, and reading an answer line by line.
//!
//! It must not know any provider's format.

use std::error::Error;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use qa_shared::base_url::is_loopback;
use tokio::time::{Instant, timeout, timeout_at};

use super::repetition::Watch;
use super::reply::Reply;
use super::{LlmError, LlmErrorKind, sse, way};
use crate::written;

/// A line longer than this is no answer, in bytes.
const MAX_LINE_BYTES: usize = 16 * 1024 * 1024;
/// A reply about the server itself, such as its list of models, is no longer than this, in bytes. A gateway lists
/// tens of thousands of models.
pub(crate) const MAX_INFO_BYTES: u64 = 32 * 1024 * 1024;
/// An answer that comes in pieces is no longer than this with everything around the pieces, in bytes. Some servers
/// send a hundred bytes around each token.
pub(crate) const MAX_STREAM_BYTES: u64 = 256 * 1024 * 1024;
/// Of an error reply this much is read, in bytes.
const MAX_ERROR_BYTES: usize = 64 * 1024;
/// The content type of an answer in pieces.
const EVENTS: &str = "text/event-stream";
/// Idle connections are closed before common proxies and servers close them.
const POOL_IDLE: Duration = Duration::from_secs(30);

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// To open a connection.
    pub connect: Duration,
    /// A whole model call: waiting at the server, loading the model, the prompt and the answer.
    pub request: Duration,
    /// Between two pieces of an answer that has begun.
    pub idle: Duration,
    /// A warm-up: loading a large model from a slow disk takes many minutes.
    pub load: Duration,
    /// A question about the server itself, such as its version.
    pub info: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            request: Duration::from_secs(600),
            idle: Duration::from_secs(120),
            load: Duration::from_secs(1800),
            info: Duration::from_secs(30),
        }
    }
}

/// Why no client can be made.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The extra certificate authority is not readable.
    #[error("the certificates of QA_LLM_CA cannot be used: {0}; expected PEM")]
    RootCertificate(String),
    /// The rest of the TLS set-up.
    #[error("no HTTPS client can be made: {0}; are CA certificates installed?")]
    Client(String),
}

/// Whether these are certificates of authorities (PEM) that [`client`] takes.
pub fn check_root_certificates(pem: &[u8]) -> Result<(), HttpError> {
    root_certificates(pem).map(drop)
}

fn root_certificates(pem: &[u8]) -> Result<Vec<reqwest::Certificate>, HttpError> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let unusable = |reason: &dyn std::fmt::Display| HttpError::RootCertificate(reason.to_string());
    let (mut found, mut store) = (Vec::new(), rustls::RootCertStore::empty());
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|_| unusable(&"a certificate is damaged"))?;
        found.push(reqwest::Certificate::from_der(&certificate).map_err(|error| unusable(&chain(&error)))?);
        store.add(certificate).map_err(|error| unusable(&error))?;
    }
    if found.is_empty() { Err(unusable(&"it holds no certificate")) } else { Ok(found) }
}

/// Makes the client for one server. `root_ca_pem` is an extra certificate authority (PEM).
///
/// Proxies are taken from the environment, except for a server on this machine.
pub fn client(
    base_url: &str,
    timeouts: &Timeouts,
    root_ca_pem: Option<&[u8]>,
) -> Result<reqwest::Client, HttpError> {
    // A provider that is already installed is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("qa-fleet/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(timeouts.connect)
        .pool_idle_timeout(POOL_IDLE)
        .tcp_nodelay(true)
        // A redirected POST becomes a GET: better an error that names the status.
        .redirect(reqwest::redirect::Policy::none());
    if is_loopback(base_url) {
        builder = builder.no_proxy();
    }
    let roots = root_ca_pem.map(root_certificates).transpose()?.unwrap_or_default();
    builder = if base_url.starts_with("https://") {
        builder.tls_certs_merge(roots)
    } else {
        // Bare containers have no CA certificates, and plain HTTP needs none.
        builder.tls_certs_only(roots)
    };
    builder.build().map_err(|error| HttpError::Client(chain(&error)))
}

/// Classifies a failure of the transport. `began` says whether an answer had begun.
pub(crate) fn transport_error(server: &str, error: reqwest::Error, began: bool) -> LlmError {
    let error = error.without_url();
    let kind = if error.is_builder() {
        LlmErrorKind::Rejected
    } else if began {
        LlmErrorKind::ServerFault
    } else {
        LlmErrorKind::Unreachable
    };
    let reason = chain(&error);
    // Several layers wrap the error of TLS; its words are all that comes through.
    let help = if reason.contains("invalid peer certificate") {
        "; if its authority is your own, name its certificate with QA_LLM_CA"
    } else if server.starts_with("https://") && reason.contains("InvalidContentType") {
        // What rustls says about an answer that is no TLS.
        "; it does not speak TLS, try http://"
    } else {
        ""
    };
    let what = if began { "broke off its answer" } else { "does not answer" };
    let proxy = if began { String::new() } else { way::about_proxy(server) };
    LlmError::new(kind, format!("{server} {what}: {reason}{help}{proxy}"))
}

/// Sends a request and waits for the reply's head, at most until `deadline`.
pub(crate) async fn send(
    server: &str,
    request: reqwest::RequestBuilder,
    deadline: Instant,
) -> Result<reqwest::Response, LlmError> {
    match timeout_at(deadline, request.send()).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(error)) => Err(transport_error(server, error, false)),
        Err(_) => Err(too_slow(server)),
    }
}

/// A whole reply, whatever its status. An answer of more than `most` bytes is none; of an error reply the
/// beginning is enough.
pub(crate) async fn read_reply(
    server: &str,
    mut response: reqwest::Response,
    idle: Duration,
    deadline: Instant,
    most: usize,
) -> Result<Reply, LlmError> {
    let mut body = Vec::new();
    let mut reply = head(&response);
    reply.body = if response.status().is_success() {
        while let Some(piece) = next_piece(server, &mut response, idle, deadline).await? {
            body.extend_from_slice(&piece);
            if body.len() > most {
                return Err(too_large(server, most));
            }
        }
        body
    } else {
        error_body(response, deadline).await.into_bytes()
    };
    Ok(reply)
}

/// An answer in one piece or as a stream of events, as [`read_reply`] reads it. Reading ends where the answer only
/// repeats itself: closing the connection ends the generation on servers of one's own.
pub(crate) async fn read_answer(
    server: &str,
    mut response: reqwest::Response,
    idle: Duration,
    deadline: Instant,
    most: usize,
) -> Result<Reply, LlmError> {
    if !response.status().is_success() {
        return read_reply(server, response, idle, deadline, most).await;
    }
    let mut reply = head(&response);
    let (mut incoming, mut watch, mut repeats) = (sse::Incoming::default(), Watch::default(), false);
    // Of a stream the head comes at once, and the first word when the server's queue and the prompt are done.
    let mut waits = reply.headers.get("content-type").is_some_and(|kind| kind.starts_with(EVENTS));
    written::begin();
    loop {
        let patience = if waits { deadline.saturating_duration_since(Instant::now()) } else { idle };
        let Some(piece) = next_piece(server, &mut response, patience.max(idle), deadline).await? else {
            break;
        };
        let added = incoming.take(&piece);
        waits &= added.is_empty();
        if !added.is_empty() {
            written::piece();
        }
        if incoming.len() > most {
            return Err(too_large(server, most));
        }
        repeats = watch.repeats(&added);
        if repeats {
            break;
        }
    }
    reply.body = incoming.finish(repeats);
    Ok(reply)
}

/// A reply without its body.
fn head(response: &reqwest::Response) -> Reply {
    let headers = response
        .headers()
        .iter()
        .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())))
        .collect();
    Reply { status: response.status().as_u16(), headers, body: Vec::new() }
}

fn too_large(server: &str, most: usize) -> LlmError {
    LlmError::new(LlmErrorKind::Malformed, format!("{server} sent an answer of more than {most} bytes"))
}

/// The text of an error reply, as far as it comes.
pub(crate) async fn error_body(mut response: reqwest::Response, deadline: Instant) -> String {
    let mut body = Vec::new();
    while body.len() < MAX_ERROR_BYTES {
        match timeout_at(deadline, response.chunk()).await {
            Ok(Ok(Some(bytes))) => body.extend_from_slice(&bytes),
            Ok(Ok(None) | Err(_)) | Err(_) => break,
        }
    }
    body.truncate(MAX_ERROR_BYTES);
    String::from_utf8_lossy(&body).into_owned()
}

pub(crate) fn too_slow(server: &str) -> LlmError {
    LlmError::new(
        LlmErrorKind::Timeout,
        format!("{server} gave no complete answer in time; raise --request-timeout if it is just slow"),
    )
}

/// How long a reply may be, and how long it may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReplyLimits {
    /// All of its bytes.
    pub(crate) bytes: u64,
    /// Between two pieces.
    pub(crate) idle: Duration,
    /// When it must have ended.
    pub(crate) deadline: Instant,
}

/// The lines of a reply as they arrive.
pub(crate) struct Lines<'a> {
    server: &'a str,
    response: reqwest::Response,
    buffer: BytesMut,
    /// The buffer's beginning that holds no line end.
    searched: usize,
    /// Bytes that have arrived.
    received: u64,
    limits: ReplyLimits,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(server: &'a str, response: reqwest::Response, limits: ReplyLimits) -> Self {
        Self { server, response, buffer: BytesMut::new(), searched: 0, received: 0, limits }
    }

    /// The next line that is not blank; nothing at the end. The last one needs no line end.
    pub(crate) async fn next(&mut self) -> Result<Option<BytesMut>, LlmError> {
        loop {
            if let Some(at) = self.buffer[self.searched..].iter().position(|&byte| byte == b'\n') {
                let line = self.buffer.split_to(self.searched + at);
                self.buffer.advance(1);
                self.searched = 0;
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return Ok(Some(line));
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > MAX_LINE_BYTES {
                return Err(LlmError::new(
                    LlmErrorKind::Malformed,
                    format!("{} sent a line of more than {MAX_LINE_BYTES} bytes", self.server),
                ));
            }
            match self.piece().await? {
                Some(bytes) => self.buffer.extend_from_slice(&bytes),
                None if self.buffer.trim_ascii().is_empty() => return Ok(None),
                None => {
                    self.searched = 0;
                    return Ok(Some(self.buffer.split()));
                }
            }
        }
    }

    async fn piece(&mut self) -> Result<Option<bytes::Bytes>, LlmError> {
        let ReplyLimits { bytes, idle, deadline } = self.limits;
        let piece = next_piece(self.server, &mut self.response, idle, deadline).await?;
        self.received += piece.as_ref().map_or(0, |piece| piece.len() as u64);
        if self.received > bytes {
            let message = format!("{} sent a reply of more than {bytes} bytes", self.server);
            return Err(LlmError::new(LlmErrorKind::Malformed, message));
        }
        Ok(piece)
    }
}

async fn next_piece(
    server: &str,
    response: &mut reqwest::Response,
    idle: Duration,
    deadline: Instant,
) -> Result<Option<bytes::Bytes>, LlmError> {
    match timeout_at(deadline, timeout(idle, response.chunk())).await {
        Ok(Ok(Ok(piece))) => Ok(piece),
        Ok(Ok(Err(error))) => Err(transport_error(server, error, true)),
        Ok(Err(_)) => Err(LlmError::new(
            LlmErrorKind::IdleTimeout,
            format!("{server} began an answer and then sent nothing for {} s", idle.as_secs_f64()),
        )),
        Err(_) => Err(too_slow(server)),
    }
}

/// An error with its causes on one line: the outermost alone says only "error sending request".
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_file_without_a_certificate_is_refused() {
        for pem in ["", "not PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            for url in ["http://gpu1:11434", "https://gpu1"] {
                let made = client(url, &Timeouts::default(), Some(pem.as_bytes()));
                assert!(made.is_err(), "{url} {pem:?}");
            }
        }
        assert!(client("http://gpu1:11434", &Timeouts::default(), None).is_ok());
    }
}
