//! The connection to the queue server: made with one clear error per cause, then kept for ever.
//!
//! It must not know what travels over it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::{Context, ContextBuilder};
use async_nats::{Client, ConnectErrorKind, Event};
use tokio::sync::watch;

use super::address::{Embedded, addresses, shown_servers};
use super::certificates;
use super::error::chain;
use super::obstacle::{Obstacles, watch_jetstream};
use super::refusals::Refusals;
use super::topology::MIN_SERVER_VERSION;
use super::{QueueError, ServerVersion, Timing};
use crate::secret::Secret;

/// How long connecting and the first questions may take together.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// What the subjects of JetStream's requests begin with in a server's own domain.
const API: &str = "$JS.API";
/// A dead peer is noticed after two unanswered pings.
const PING_INTERVAL: Duration = Duration::from_secs(15);
/// Publications that wait for their acknowledgement at the same time.
const MAX_ACK_INFLIGHT: usize = 512;

/// Where the queue server is and how to identify oneself to it.
#[derive(Debug, Clone, Default)]
pub struct ConnectOptions {
    /// One address or several with commas between them; they may hold credentials.
    pub url: String,
    /// The name under which the server lists this connection.
    pub name: String,
    /// What the subjects begin with under which this connection gets answers, so that a server can tell those
    /// of one program from those of another; the client's own where it is absent.
    pub inbox_prefix: Option<String>,
    /// How many servers of a cluster hold each stream; see [`super::ensure`].
    pub replicas: Option<usize>,
    /// How many bytes each stream may hold, where the account wants that to be said; see [`super::ensure`].
    pub max_bytes: Option<u64>,
    /// The JetStream domain that the streams are in, where it is not the one of the server that is connected to.
    pub domain: Option<String>,
    /// A token; beats credentials in the address, as everything below does.
    pub token: Option<Secret>,
    /// A user, with `password`.
    pub user: Option<String>,
    /// The user's password.
    pub password: Option<Secret>,
    /// A file with a JWT and its key.
    pub credentials_file: Option<PathBuf>,
    /// The seed of an nkey.
    pub nkey_seed: Option<Secret>,
    /// A file with certificates of the authorities to trust, instead of the system's.
    pub tls_ca: Option<PathBuf>,
    /// A file with this client's certificate, with `tls_key`.
    pub tls_cert: Option<PathBuf>,
    /// A file with the certificate's key.
    pub tls_key: Option<PathBuf>,
}

/// Why there is no connection. Addresses are shown without credentials.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address cannot be read.
    #[error("NATS address `{address}` is not readable: {reason}; expected nats://HOST:PORT")]
    Address {
        /// The address.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file that identifies this client or its authorities cannot be used.
    #[error("{what} `{path}` for NATS cannot be used: {reason}")]
    File {
        /// What it is for.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// What was given as seed of an NKey is none.
    #[error(
        "the NKey seed for NATS is not one of a user: it is a line that begins with SU, as `nk -gen user` prints it"
    )]
    Seed,
    /// A certificate without key, or a key without certificate.
    #[error("a NATS client certificate needs its key and the key its certificate: give both or none")]
    HalfCertificate,
    /// Nobody answers.
    #[error("NATS server at {servers} is not reachable: {reason}; is it running, and is the address right?")]
    Unreachable {
        /// The addresses that were tried.
        servers: String,
        /// What was seen.
        reason: String,
    },
    /// The server does not accept who we say we are.
    #[error(
        "NATS server at {servers} refused authentication: {reason}; check token, user and password, or credentials"
    )]
    Authentication {
        /// The addresses that were tried.
        servers: String,
        /// What was seen.
        reason: String,
    },
    /// The user that it accepts may not do what is needed.
    #[error("NATS server at {servers} refuses: {reason}")]
    Permission {
        /// The addresses that were tried.
        servers: String,
        /// What is missing.
        reason: String,
    },
    /// No encrypted connection could be agreed on.
    #[error(
        "NATS server at {servers}: TLS failed: {reason}; check QA_NATS_CA, QA_NATS_CERT and QA_NATS_KEY, and the \
         names in the server's certificate"
    )]
    Tls {
        /// The addresses that were tried.
        servers: String,
        /// What was seen.
        reason: String,
    },
    /// The server is too old.
    #[error("NATS server at {servers} has version {found}, expected {expected} or newer: update it")]
    OldServer {
        /// The addresses that were tried.
        servers: String,
        /// Its version.
        found: String,
        /// The oldest that works.
        expected: ServerVersion,
    },
    /// JetStream is switched off, for the server or for this account.
    #[error(
        "NATS server at {servers} has no JetStream{domain} for this account: {reason}; start it with --jetstream \
         --store_dir DIR, or name the domain that has it with QA_NATS_DOMAIN"
    )]
    NoJetStream {
        /// The addresses that were tried.
        servers: String,
        /// What was seen.
        reason: String,
        /// The domain that was asked for.
        domain: InDomain,
    },
}

/// A JetStream domain in a message, if there is one.
#[derive(Debug, Clone)]
pub struct InDomain(pub(super) Option<String>);

impl fmt::Display for InDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |domain| write!(f, " domain `{domain}`"))
    }
}

/// A connection to the queue server. Cheap to clone; reconnects by itself for ever.
#[derive(Clone)]
pub struct Queue {
    inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) context: Context,
    timing: Timing,
    pub(super) connected: watch::Receiver<bool>,
    reconnects: watch::Receiver<u64>,
    pub(super) refusals: Refusals,
    pub(super) obstacles: Obstacles,
    replicas: Option<usize>,
    max_bytes: Option<u64>,
    /// What the subjects of JetStream's requests begin with.
    pub(super) api_prefix: String,
    pub(super) domain: Option<String>,
    pub(super) servers: String,
}

impl Queue {
    /// Connects, and checks that the server can do what is needed. Takes at most 10 s.
    pub async fn connect(options: &ConnectOptions, timing: Timing) -> Result<Self, ConnectError> {
        let servers = shown_servers(&options.url);
        // The client's part of this future takes kilobytes.
        let connecting = Box::pin(Self::connect_unbounded(options, timing, &servers));
        tokio::time::timeout(CONNECT_LIMIT, connecting).await.unwrap_or_else(|_| {
            Err(ConnectError::Unreachable {
                servers: servers.clone(),
                reason: "no answer in time".to_owned(),
            })
        })
    }

    async fn connect_unbounded(
        options: &ConnectOptions,
        timing: Timing,
        servers: &str,
    ) -> Result<Self, ConnectError> {
        let (addresses, embedded) = addresses(&options.url)?;
        let (up, connected) = watch::channel(true);
        let (count, reconnects) = watch::channel(0);
        let place = servers.to_owned();
        let refusals = Refusals::new();
        let obstacles = Obstacles::new(servers);
        let (noted, told) = (refusals.clone(), obstacles.clone());
        let client = client_options(options, embedded)
            .await?
            .connection_timeout(CONNECT_LIMIT / 2)
            .ping_interval(PING_INTERVAL)
            .request_timeout(Some(timing.request))
            .event_callback(move |event| {
                noted.note(&event);
                told.note(&event);
                note_event(&event, &place, &up, &count);
                async {}
            })
            .connect(addresses)
            .await
            .map_err(|error| connect_error(&error, servers))?;
        let found = client.server_info().version;
        if ServerVersion::parse(&found).is_none_or(|version| version < MIN_SERVER_VERSION) {
            let servers = servers.to_owned();
            return Err(ConnectError::OldServer { servers, found, expected: MIN_SERVER_VERSION });
        }
        let api_prefix =
            options.domain.as_ref().map_or_else(|| API.to_owned(), |domain| format!("$JS.{domain}.API"));
        let context = ContextBuilder::new()
            .timeout(timing.request)
            .ack_timeout(timing.request)
            .max_ack_inflight(MAX_ACK_INFLIGHT)
            .api_prefix(&api_prefix)
            .build(client);
        let refused = refusals.of(&format!("{api_prefix}.INFO"));
        let servers = servers.to_owned();
        tokio::select! {
            asked = context.query_account() => if let Err(error) = asked {
                let domain = options.domain.clone();
                return Err(ConnectError::NoJetStream { servers, reason: chain(&error), domain: InDomain(domain) });
            },
            reason = refused => return Err(ConnectError::Permission { servers, reason }),
        }
        let (replicas, max_bytes) = (options.replicas, options.max_bytes);
        let inner = Inner {
            context,
            timing,
            connected,
            reconnects,
            refusals,
            obstacles,
            replicas,
            max_bytes,
            api_prefix,
            domain: options.domain.clone(),
            servers,
        };
        let queue = Self { inner: Arc::new(inner) };
        tokio::spawn(watch_jetstream(Arc::downgrade(&queue.inner), queue.reconnects()));
        Ok(queue)
    }

    /// The server's version, as it told when the connection was made last.
    pub fn server_version(&self) -> String {
        self.client().server_info().version
    }

    /// The largest message that the server takes, in bytes, headers included.
    pub fn max_payload(&self) -> usize {
        self.client().max_payload()
    }

    /// The addresses that were given, without credentials.
    pub fn servers(&self) -> &str {
        &self.inner.servers
    }

    /// The durations that this process works with.
    pub fn timing(&self) -> &Timing {
        &self.inner.timing
    }

    /// Whether the connection stands, now and as it changes.
    pub fn connected(&self) -> watch::Receiver<bool> {
        self.inner.connected.clone()
    }

    /// Whether JetStream answers a question within `limit`.
    pub async fn answers(&self, limit: Duration) -> bool {
        let asked = tokio::time::timeout(limit, self.inner.context.query_account());
        matches!(asked.await, Ok(Ok(_)))
    }

    /// What keeps this program from the queue now, in words.
    pub fn obstacle(&self) -> Option<String> {
        let is_lost = !*self.inner.connected.borrow();
        self.inner
            .obstacles
            .current()
            .or_else(|| is_lost.then(|| "the queue server cannot be reached".to_owned()))
    }

    /// Changes with each reconnect from now on.
    pub(super) fn reconnects(&self) -> watch::Receiver<u64> {
        let mut reconnects = self.inner.reconnects.clone();
        reconnects.mark_unchanged();
        reconnects
    }

    /// Waits until everything that was sent has left this process; call it before the process ends.
    pub async fn flush(&self) -> Result<(), QueueError> {
        const DOING: &str = "flushing the connection";
        match tokio::time::timeout(self.inner.timing.request, self.client().flush()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(QueueError::unavailable(DOING, chain(&error))),
            Err(_) => Err(QueueError::unavailable(DOING, "no answer in time")),
        }
    }

    /// Sends what is waiting and ends the connection; other handles of it are of no use then.
    pub async fn close(&self) {
        let client = self.client();
        let drained = tokio::time::timeout(self.inner.timing.request, client.drain());
        if !matches!(drained.await, Ok(Ok(()))) {
            tracing::debug!("the connection to NATS did not end in good order");
        }
    }

    /// How many servers of a cluster are to hold each stream, as it was given.
    pub fn replicas(&self) -> Option<usize> {
        self.inner.replicas
    }

    /// How many bytes each stream may hold, as it was given.
    pub(super) fn max_bytes(&self) -> Option<u64> {
        self.inner.max_bytes
    }

    /// The subject of a request to JetStream.
    pub(super) fn api_subject(&self, request: &str) -> String {
        format!("{}.{request}", self.inner.api_prefix)
    }

    /// The subject to which a bucket's key is written: those of another domain lie under its requests.
    pub(super) fn bucket_subject(&self, subject: String) -> String {
        if self.inner.api_prefix == API { subject } else { self.api_subject(&subject) }
    }

    pub(super) fn refusals(&self) -> &Refusals {
        &self.inner.refusals
    }

    pub(super) fn context(&self) -> &Context {
        &self.inner.context
    }

    pub(super) fn client(&self) -> Client {
        self.inner.context.client()
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("servers", &self.inner.servers).finish_non_exhaustive()
    }
}

fn note_event(event: &Event, servers: &str, up: &watch::Sender<bool>, connections: &watch::Sender<u64>) {
    match event {
        Event::Connected => {
            // The first connection is announced late, when pulls may wait already.
            let is_reconnect = connections.send_if_modified(|count| {
                *count += 1;
                *count > 1
            });
            up.send_replace(true);
            if is_reconnect {
                tracing::info!(servers, "connected to NATS again");
            }
        }
        Event::Disconnected => {
            up.send_replace(false);
            tracing::warn!(servers, "connection to NATS lost, reconnecting");
        }
        Event::LameDuckMode => tracing::info!(servers, "NATS server is about to shut down"),
        // Failed attempts to reconnect come as client errors, every few seconds.
        Event::ClientError(error) => tracing::debug!(servers, %error, "NATS client error"),
        Event::ServerError(error) => tracing::warn!(servers, %error, "NATS server reports an error"),
        Event::SlowConsumer(_) | Event::Draining | Event::Closed => tracing::debug!(servers, %event, "NATS"),
    }
}

async fn client_options(
    options: &ConnectOptions,
    embedded: Embedded,
) -> Result<async_nats::ConnectOptions, ConnectError> {
    let mut client = async_nats::ConnectOptions::new().name(&options.name);
    if let Some(prefix) = &options.inbox_prefix {
        client = client.custom_inbox_prefix(prefix);
    }
    // Whoever names certificates must not be led to a server without any.
    client = client.require_tls(options.tls_ca.is_some() || options.tls_cert.is_some());
    if let Some(path) = &options.credentials_file {
        client = client.credentials_file(path).await.map_err(|error| ConnectError::File {
            what: "credentials file",
            path: path.clone(),
            reason: error.to_string(),
        })?;
    } else if let Some(seed) = &options.nkey_seed {
        if !is_user_seed(seed.expose()) {
            return Err(ConnectError::Seed);
        }
        client = client.nkey(seed.expose().to_owned());
    } else if let Some(token) = &options.token {
        client = client.token(token.expose().to_owned());
    } else if let Some(user) = &options.user {
        let password = options.password.as_ref().map_or("", Secret::expose);
        client = client.user_and_password(user.clone(), password.to_owned());
    } else {
        client = match embedded {
            Embedded::None => client,
            Embedded::Token(token) => client.token(token),
            Embedded::User(user, password) => client.user_and_password(user, password),
        };
    }
    certificates::check(options).await?;
    if let Some(path) = &options.tls_ca {
        client = client.add_root_certificates(path.clone());
    }
    if let (Some(certificate), Some(key)) = (&options.tls_cert, &options.tls_key) {
        client = client.add_client_certificate(certificate.clone(), key.clone());
    }
    Ok(client)
}

/// The form of a seed: base 32, of a user. Whether its checksum is right is the client's to see.
fn is_user_seed(text: &str) -> bool {
    text.len() == 58
        && text.starts_with("SU")
        && text.bytes().all(|b| b.is_ascii_uppercase() || (b'2'..=b'7').contains(&b))
}

fn connect_error(error: &async_nats::ConnectError, servers: &str) -> ConnectError {
    let servers = servers.to_owned();
    let reason = chain(error);
    match error.kind() {
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
            ConnectError::Authentication { servers, reason }
        }
        ConnectErrorKind::Tls => ConnectError::Tls { servers, reason },
        // The client takes what goes wrong during the handshake for any other trouble with the connection.
        _ if certificates::is_tls_error(error) => ConnectError::Tls { servers, reason },
        ConnectErrorKind::ServerParse => ConnectError::Address { address: servers, reason },
        ConnectErrorKind::Dns
        | ConnectErrorKind::TimedOut
        | ConnectErrorKind::Io
        | ConnectErrorKind::MaxReconnects => ConnectError::Unreachable { servers, reason },
    }
}
