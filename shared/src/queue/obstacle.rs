//! What keeps this program from the queue while it waits: credentials that the server does not take any more, a
//! server that came back without JetStream or in an old version. It is told with what to do, again and again while
//! it lasts, and ends by itself when that is mended.
//!
//! The client tries to connect for ever and tells each failure by its kind only, so that no secret is in it.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use async_nats::{ClientError, Event, ServerError};
use tokio::sync::watch;

use super::ServerVersion;
use super::connect::{InDomain, Inner};
use super::error::chain;
use super::topology::MIN_SERVER_VERSION;

/// How often what lasts is told again.
const REPEAT: Duration = Duration::from_secs(300);
/// How often JetStream is asked for a sign of life while it answers.
const LOOK: Duration = Duration::from_secs(30);
/// The same while it does not.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// JetStream is told missing after this many questions in a row: a server that starts may take a moment.
const QUESTIONS: u32 = 2;

/// What stands in the way now. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Obstacles {
    servers: String,
    current: Arc<watch::Sender<Current>>,
}

#[derive(Debug, Default)]
struct Current {
    connection: Obstacle,
    jetstream: Obstacle,
}

#[derive(Debug, Default)]
struct Obstacle {
    text: Option<String>,
    told: Option<Instant>,
}

impl Obstacle {
    /// Whether this is to be told now.
    fn is(&mut self, now: Instant, text: &str) -> bool {
        let is_news = self.text.as_deref() != Some(text);
        let is_due = is_news || self.told.is_none_or(|told| now.duration_since(told) >= REPEAT);
        if is_due {
            self.told = Some(now);
        }
        self.text = Some(text.to_owned());
        is_due
    }
}

impl Obstacles {
    pub(super) fn new(servers: &str) -> Self {
        Self { servers: servers.to_owned(), current: Arc::new(watch::Sender::default()) }
    }

    /// What stands in the way, in words.
    pub(super) fn current(&self) -> Option<String> {
        let current = self.current.borrow();
        current.connection.text.clone().or_else(|| current.jetstream.text.clone())
    }

    /// Takes what the client says.
    pub(super) fn note(&self, event: &Event) {
        match event {
            Event::Connected => self.clear(|current| &mut current.connection),
            Event::ClientError(ClientError::Other(kind)) => {
                if let Some(reason) = reason_of(kind, &self.servers) {
                    self.set(|current| &mut current.connection, &reason);
                }
            }
            Event::ServerError(ServerError::AuthorizationViolation) => {
                if let Some(reason) = reason_of("authorization violation", &self.servers) {
                    self.set(|current| &mut current.connection, &reason);
                }
            }
            _ => {}
        }
    }

    fn set(&self, which: impl Fn(&mut Current) -> &mut Obstacle, text: &str) {
        let mut is_due = false;
        self.current.send_modify(|current| is_due = which(current).is(Instant::now(), text));
        if is_due {
            tracing::warn!("{text}");
        }
    }

    fn clear(&self, which: impl Fn(&mut Current) -> &mut Obstacle) {
        let mut was = None;
        self.current.send_if_modified(|current| {
            was = std::mem::take(which(current)).text;
            was.is_some()
        });
        if was.is_some() {
            tracing::info!(servers = self.servers, "the queue server can be used again");
        }
    }
}

/// What keeps the client from connecting, by the kind that it tells; nothing for what a lost connection says
/// already.
fn reason_of(kind: &str, servers: &str) -> Option<String> {
    let kind = kind.trim_start_matches("nats: ");
    if kind.contains("authorization violation") || kind.contains("authentication") {
        return Some(format!(
            "NATS server at {servers} refuses authentication ({kind}): its credentials were changed; give the server \
             the old ones back, or start this program again with the new token, user and password, or credentials"
        ));
    }
    kind.contains("TLS").then(|| {
        format!(
            "NATS server at {servers}: TLS fails now ({kind}); check the server's certificate, QA_NATS_CA, \
             QA_NATS_CERT and QA_NATS_KEY"
        )
    })
}

/// Asks after each reconnect, and now and then, whether JetStream is there. Ends with the queue.
pub(super) async fn watch_jetstream(queue: Weak<Inner>, mut reconnects: watch::Receiver<u64>) {
    let (mut unanswered, mut wait) = (0, LOOK);
    loop {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            changed = reconnects.changed() => if changed.is_err() { return },
        }
        let Some(inner) = queue.upgrade() else { return };
        if !*inner.connected.borrow() {
            // A lost connection is told by itself.
            (unanswered, wait) = (0, LOOK);
            continue;
        }
        match missing(&inner).await {
            None => {
                (unanswered, wait) = (0, LOOK);
                inner.obstacles.clear(|current| &mut current.jetstream);
            }
            Some(text) => {
                (unanswered, wait) = (unanswered + 1, LOOK_AGAIN);
                if unanswered >= QUESTIONS {
                    inner.obstacles.set(|current| &mut current.jetstream, &text);
                }
            }
        }
    }
}

/// What the server lacks.
async fn missing(inner: &Inner) -> Option<String> {
    let servers = &inner.servers;
    let found = inner.context.client().server_info().version;
    if ServerVersion::parse(&found).is_none_or(|version| version < MIN_SERVER_VERSION) {
        return Some(format!(
            "NATS server at {servers} came back with version {found}, expected {MIN_SERVER_VERSION} or newer: update it"
        ));
    }
    let refused = inner.refusals.of(&format!("{}.INFO", inner.api_prefix));
    tokio::select! {
        asked = inner.context.query_account() => {
            let reason = chain(&asked.err()?);
            let domain = InDomain(inner.domain.clone());
            Some(format!(
                "NATS server at {servers} has no JetStream{domain} for this account now: {reason}; start it with \
                 --jetstream and its store, and the work goes on"
            ))
        }
        // Whoever may not ask is not told what it cannot know.
        _ = refused => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_a_client_from_connecting_has_a_remedy() {
        for kind in ["authorization violation", "authentication error"] {
            let text = reason_of(kind, "nats://q:4222").unwrap();
            assert!(text.contains("nats://q:4222 refuses authentication") && text.contains(kind), "{text}");
        }
        assert!(reason_of("TLS error", "q").unwrap().contains("QA_NATS_CA"));
        assert_eq!(reason_of("timed out", "q"), None);
    }

    #[test]
    fn what_lasts_is_told_again_after_a_while_and_news_at_once() {
        let (mut obstacle, now) = (Obstacle::default(), Instant::now());
        assert!(obstacle.is(now, "one") && !obstacle.is(now + REPEAT / 2, "one"));
        assert!(obstacle.is(now + REPEAT, "one") && obstacle.is(now + REPEAT, "other"));
    }
}
