//! Makes a server's streams and buckets be what [`super::topology`] says, without losing what is in them.
//!
//! What is missing is created; what differs is changed where the server can change it, and refused with what
//! was found and what was expected where it cannot. Settings that are the operator's business (limits of
//! size, placement, compression) are left alone.

use std::fmt::{self, Debug};

use async_nats::jetstream::consumer::{Config as ConsumerConfig, IntoConsumerConfig, pull};
use async_nats::jetstream::stream::{Config, Info};
use serde_json::json;

use super::{Queue, QueueError, topology};

const DOING: &str = "setting up streams and buckets";
/// The server's code for a stream of that name with other settings, made by somebody else in this moment.
const NAME_IN_USE: u64 = 10058;

/// What was done to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopologyNote {
    /// A stream or bucket was made.
    Created {
        /// The stream; a bucket's stream is `KV_` and its name.
        stream: String,
    },
    /// A setting was changed.
    Migrated {
        /// The stream.
        stream: String,
        /// The setting.
        setting: &'static str,
        /// What it was.
        found: String,
        /// What it is now.
        now: String,
    },
}

impl fmt::Display for TopologyNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Created { stream } => write!(f, "stream {stream} was created"),
            Self::Migrated { stream, setting, found, now } => {
                write!(f, "stream {stream}: {setting} was changed from {found} to {now}")
            }
        }
    }
}

/// Why the server cannot be used as it is.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// A setting is wrong and cannot be changed.
    #[error(
        "{what} on the NATS server has {setting} {found}, expected {expected}, and the server cannot change that: \
         delete it with `{remedy}` (what was queued is published again from the files) or use another account"
    )]
    Incompatible {
        /// The stream or consumer.
        what: String,
        /// The setting.
        setting: &'static str,
        /// What was found.
        found: String,
        /// What is needed.
        expected: String,
        /// The command that helps.
        remedy: String,
    },
    /// The server could not be asked, or refused.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

struct Difference {
    setting: &'static str,
    found: String,
    expected: String,
    is_changeable: bool,
}

/// Makes streams and buckets be there with the right settings; tells what it did. `replicas` is how many
/// servers hold each of them: `None` leaves what is there and makes new ones with one.
pub async fn ensure(queue: &Queue, replicas: Option<usize>) -> Result<Vec<TopologyNote>, TopologyError> {
    let mut notes = Vec::new();
    for mut config in topology::streams(queue.timing()) {
        if let Some(replicas) = replicas {
            config.num_replicas = replicas;
        }
        // Settings of streams are large values; the caller's future need not hold them.
        Box::pin(ensure_stream(queue, config, replicas.is_some(), &mut notes)).await?;
    }
    Ok(notes)
}

async fn ensure_stream(
    queue: &Queue,
    expected: Config,
    with_replicas: bool,
    notes: &mut Vec<TopologyNote>,
) -> Result<(), TopologyError> {
    let stream = expected.name.clone();
    let found = match stream_config(queue, &stream).await {
        Ok(found) => found,
        Err(QueueError::Missing { .. }) => {
            let created = queue.api::<Info>(DOING, format!("STREAM.CREATE.{stream}"), &expected).await;
            match created {
                Ok(_) => {
                    notes.push(TopologyNote::Created { stream });
                    return Ok(());
                }
                Err(QueueError::Refused { code: NAME_IN_USE, .. }) => stream_config(queue, &stream).await?,
                Err(error) => return Err(error.into()),
            }
        }
        Err(error) => return Err(error.into()),
    };
    let differences = stream_differences(&found, &expected, with_replicas);
    if let Some(wrong) = differences.iter().find(|difference| !difference.is_changeable) {
        return Err(incompatible(format!("stream {stream}"), wrong, format!("nats stream rm {stream}")));
    }
    let Some(first) = differences.first() else { return Ok(()) };
    let changed = with_settings(found, &expected, with_replicas);
    match queue.api::<Info>(DOING, format!("STREAM.UPDATE.{stream}"), &changed).await {
        Ok(_) => {}
        Err(QueueError::Refused { reason, .. }) => {
            let mut error =
                incompatible(format!("stream {stream}"), first, format!("nats stream rm {stream}"));
            if let TopologyError::Incompatible { expected, .. } = &mut error {
                *expected = format!("{expected} ({reason})");
            }
            return Err(error);
        }
        Err(error) => return Err(error.into()),
    }
    notes.extend(differences.into_iter().map(|Difference { setting, found, expected, .. }| {
        TopologyNote::Migrated { stream: stream.clone(), setting, found, now: expected }
    }));
    Ok(())
}

async fn stream_config(queue: &Queue, stream: &str) -> Result<Config, QueueError> {
    let info: Info = queue.api(DOING, format!("STREAM.INFO.{stream}"), &json!({})).await?;
    Ok(info.config)
}

/// Makes a consumer be there with the right settings.
pub(super) async fn ensure_consumer(
    queue: &Queue,
    stream: &str,
    config: pull::Config,
) -> Result<(), TopologyError> {
    const DOING: &str = "setting up a pool's consumer";
    let expected = config.clone().into_consumer_config();
    let name = expected.durable_name.clone().unwrap_or_default();
    let mut differences = Vec::new();
    if let Some(info) = queue.consumer_info(DOING, stream, &name).await? {
        differences = consumer_differences(&info.config, &expected);
        if differences.is_empty() {
            return Ok(());
        }
        for difference in &differences {
            let Difference { setting, found, expected, .. } = difference;
            tracing::warn!(consumer = name, setting, found, expected, "changing a consumer's setting");
        }
    }
    let wrong = differences.iter().find(|difference| !difference.is_changeable).or(differences.first());
    match queue.put_consumer(DOING, stream, config).await {
        Ok(_) => Ok(()),
        Err(error @ QueueError::Refused { .. }) => match wrong {
            Some(wrong) => Err(incompatible(
                format!("consumer {name}"),
                wrong,
                format!("nats consumer rm {stream} {name}"),
            )),
            None => Err(error.into()),
        },
        Err(error) => Err(error.into()),
    }
}

fn incompatible(what: String, wrong: &Difference, remedy: String) -> TopologyError {
    let Difference { setting, found, expected, .. } = wrong;
    TopologyError::Incompatible { what, setting, found: found.clone(), expected: expected.clone(), remedy }
}

fn differ<T: PartialEq + Debug>(
    setting: &'static str,
    found: &T,
    expected: &T,
    is_changeable: bool,
) -> Option<Difference> {
    (found != expected).then(|| Difference {
        setting,
        found: format!("{found:?}"),
        expected: format!("{expected:?}"),
        is_changeable,
    })
}

fn stream_differences(found: &Config, expected: &Config, with_replicas: bool) -> Vec<Difference> {
    let replicas = differ("replicas", &found.num_replicas, &expected.num_replicas, true);
    [
        differ("retention", &found.retention, &expected.retention, false),
        differ("storage", &found.storage, &expected.storage, false),
        differ("sealed", &found.sealed, &expected.sealed, false),
        differ("deny_purge", &found.deny_purge, &expected.deny_purge, false),
        // A stream that denies deletions cannot allow them again.
        differ("deny_delete", &found.deny_delete, &expected.deny_delete, expected.deny_delete),
        differ("mirror", &found.mirror.is_some(), &false, false),
        differ("subjects", &found.subjects, &expected.subjects, true),
        differ("discard", &found.discard, &expected.discard, true),
        differ(
            "max_msgs_per_subject",
            &found.max_messages_per_subject,
            &expected.max_messages_per_subject,
            true,
        ),
        differ(
            "discard_new_per_subject",
            &found.discard_new_per_subject,
            &expected.discard_new_per_subject,
            true,
        ),
        differ("max_age", &found.max_age, &expected.max_age, true),
        differ("allow_rollup_hdrs", &found.allow_rollup, &expected.allow_rollup, true),
        differ("no_ack", &found.no_ack, &expected.no_ack, true),
        replicas.filter(|_| with_replicas),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The settings that were found, with ours where we have an opinion.
fn with_settings(found: Config, expected: &Config, with_replicas: bool) -> Config {
    let mut changed = found;
    changed.subjects.clone_from(&expected.subjects);
    changed.discard = expected.discard;
    changed.max_messages_per_subject = expected.max_messages_per_subject;
    changed.discard_new_per_subject = expected.discard_new_per_subject;
    changed.max_age = expected.max_age;
    changed.allow_rollup = expected.allow_rollup;
    changed.deny_delete = expected.deny_delete;
    changed.no_ack = expected.no_ack;
    if with_replicas {
        changed.num_replicas = expected.num_replicas;
    }
    if !changed.max_age.is_zero() {
        // The server refuses a window that is longer than messages live.
        changed.duplicate_window = changed.duplicate_window.min(changed.max_age);
    }
    changed
}

fn consumer_differences(found: &ConsumerConfig, expected: &ConsumerConfig) -> Vec<Difference> {
    [
        differ("filter_subject", &found.filter_subject, &expected.filter_subject, true),
        differ("ack_policy", &found.ack_policy, &expected.ack_policy, false),
        differ("deliver_policy", &found.deliver_policy, &expected.deliver_policy, false),
        differ("ack_wait", &found.ack_wait, &expected.ack_wait, true),
        differ("max_deliver", &found.max_deliver, &expected.max_deliver, true),
        differ("max_ack_pending", &found.max_ack_pending, &expected.max_ack_pending, true),
        differ("max_waiting", &found.max_waiting, &expected.max_waiting, false),
        differ("backoff", &found.backoff, &expected.backoff, true),
    ]
    .into_iter()
    .flatten()
    .collect()
}
