//! What the server does not permit. It says so beside the request, whose answer never comes: here the two
//! meet, so that a missing permission is told by its subject instead of by a silence.

use async_nats::{Event, ServerError};
use tokio::sync::broadcast;

/// How many refusals may come at once before the oldest are forgotten; the request then ends by its time limit.
const KEPT: usize = 256;

/// What this connection was not permitted, as it is refused.
#[derive(Debug, Clone)]
pub(super) struct Refusals {
    refused: broadcast::Sender<Refusal>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Refusal {
    Publish(String),
    Subscribe(String),
}

impl Refusals {
    pub(super) fn new() -> Self {
        Self { refused: broadcast::Sender::new(KEPT) }
    }

    /// Takes what the server says.
    pub(super) fn note(&self, event: &Event) {
        if let Event::ServerError(ServerError::Other(text)) = event
            && let Some(refusal) = Refusal::read(text)
        {
            // An error means that nobody waits for an answer at the moment.
            drop(self.refused.send(refusal));
        }
    }

    /// Completes with the reason when a publication to this subject, or the way for its answer, is refused from
    /// now on.
    pub(super) fn of(&self, subject: &str) -> impl Future<Output = String> + use<> {
        let (mut refused, subject) = (self.refused.subscribe(), subject.to_owned());
        async move {
            loop {
                match refused.recv().await {
                    Ok(Refusal::Publish(one)) if one == subject => {
                        return format!(
                            "this NATS user has no permission to publish to {subject}; \
                             deploy/nats/README.md tells what each program needs"
                        );
                    }
                    Ok(Refusal::Subscribe(inbox)) if inbox.starts_with("_INBOX.") => {
                        return format!(
                            "this NATS user has no permission to receive answers on {inbox}: is it the user of the \
                             other program? deploy/nats/README.md tells what each needs"
                        );
                    }
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
                }
            }
        }
    }
}

impl Refusal {
    /// Reads the server's words, such as `Permissions Violation for Publish to "SUBJECT"`.
    fn read(text: &str) -> Option<Self> {
        let (_, rest) = text.split_once("Permissions Violation for ")?;
        let (what, rest) = rest.split_once(" to \"")?;
        let subject = rest.split('"').next()?.to_owned();
        match what {
            "Publish" => Some(Self::Publish(subject)),
            "Subscription" => Some(Self::Subscribe(subject)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subject_is_read_from_the_servers_words() {
        let purge = "$JS.API.STREAM.PURGE.QA_TASKS";
        let text = format!("Permissions Violation for Publish to \"{purge}\"");
        assert_eq!(Refusal::read(&text), Some(Refusal::Publish(purge.to_owned())));
        let text = "Permissions Violation for Subscription to \"a\" using queue \"b\"";
        assert_eq!(Refusal::read(text), Some(Refusal::Subscribe("a".to_owned())));
        assert_eq!(Refusal::read("maximum payload exceeded"), None);
    }
}
