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
/// The server's code for a stream without a size, in an account where each must have one.
const MAX_BYTES_REQUIRED: u64 = 10113;

/// What was done to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopologyNote {
    /// A stream, bucket or consumer was made.
    Created {
        /// Which one; a bucket's stream is `KV_` and its name.
        what: String,
    },
    /// A consumer was paused, and delivers again.
    Resumed {
        /// The consumer.
        what: String,
    },
    /// A setting was changed.
    Migrated {
        /// The stream or consumer.
        what: String,
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
            Self::Created { what } => write!(f, "{what} was created"),
            Self::Resumed { what } => write!(f, "{what} was paused and is resumed"),
            Self::Migrated { what, setting, found, now } => {
                write!(f, "{what}: {setting} was changed from {found} to {now}")
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

/// Which settings are compared beside those that all programs must find the same.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope {
    /// How many servers hold a stream.
    pub(super) replicas: bool,
    /// How many bytes it may hold.
    pub(super) max_bytes: bool,
    /// The durations of [`super::Timing`], which another job may have set otherwise.
    pub(super) durations: bool,
}

/// Makes streams and buckets be there with the right settings; tells what it did. `replicas` is how many
/// servers hold each of them: `None` leaves what is there and makes new ones with one.
pub async fn ensure(queue: &Queue, replicas: Option<usize>) -> Result<Vec<TopologyNote>, TopologyError> {
    let scope =
        Scope { replicas: replicas.is_some(), max_bytes: queue.max_bytes().is_some(), durations: true };
    ensure_streams(queue, replicas, scope).await
}

pub(super) async fn ensure_streams(
    queue: &Queue,
    replicas: Option<usize>,
    scope: Scope,
) -> Result<Vec<TopologyNote>, TopologyError> {
    let mut notes = Vec::new();
    for mut config in topology::streams(queue.timing()) {
        if let Some(replicas) = replicas {
            config.num_replicas = replicas;
        }
        if let Some(max_bytes) = queue.max_bytes() {
            config.max_bytes = i64::try_from(max_bytes).unwrap_or(i64::MAX);
        }
        // Settings of streams are large values; the caller's future need not hold them.
        Box::pin(ensure_stream(queue, config, scope, &mut notes)).await?;
    }
    Ok(notes)
}

async fn ensure_stream(
    queue: &Queue,
    expected: Config,
    scope: Scope,
    notes: &mut Vec<TopologyNote>,
) -> Result<(), TopologyError> {
    let stream = expected.name.clone();
    let what = format!("stream {stream}");
    let found = match stream_config(queue, &stream).await {
        Ok(found) => found,
        Err(QueueError::Missing { .. }) => {
            let created = queue.api::<Info>(DOING, format!("STREAM.CREATE.{stream}"), &expected).await;
            match created {
                Ok(_) => {
                    notes.push(TopologyNote::Created { what });
                    return Ok(());
                }
                Err(QueueError::Refused { code: NAME_IN_USE, .. }) => stream_config(queue, &stream).await?,
                Err(QueueError::Refused { doing, reason, code: code @ MAX_BYTES_REQUIRED }) => {
                    let reason = format!(
                        "{reason}: this account wants a size for each stream; set QA_NATS_MAX_BYTES on the coordinator"
                    );
                    return Err(QueueError::Refused { doing, reason, code }.into());
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(error) => return Err(error.into()),
    };
    let differences = stream_differences(&found, &expected, scope);
    if let Some(wrong) = differences.iter().find(|difference| !difference.is_changeable) {
        return Err(incompatible(what, wrong, format!("nats stream rm {stream}")));
    }
    let Some(first) = differences.first() else { return Ok(()) };
    let changed = with_settings(found, &expected, scope);
    match queue.api::<Info>(DOING, format!("STREAM.UPDATE.{stream}"), &changed).await {
        Ok(_) => {}
        Err(QueueError::Refused { reason, .. }) => {
            let mut error = incompatible(what, first, format!("nats stream rm {stream}"));
            if let TopologyError::Incompatible { expected, .. } = &mut error {
                *expected = format!("{expected} ({reason})");
            }
            return Err(error);
        }
        Err(error) => return Err(error.into()),
    }
    notes.extend(differences.into_iter().map(|Difference { setting, found, expected, .. }| {
        TopologyNote::Migrated { what: what.clone(), setting, found, now: expected }
    }));
    Ok(())
}

async fn stream_config(queue: &Queue, stream: &str) -> Result<Config, QueueError> {
    let info: Info = queue.api(DOING, format!("STREAM.INFO.{stream}"), &json!({})).await?;
    Ok(info.config)
}

const CONSUMER: &str = "setting up a consumer";

/// Makes a consumer be there with the right settings, or refuses to use the one that is there.
pub(super) async fn ensure_consumer(
    queue: &Queue,
    stream: &str,
    config: pull::Config,
) -> Result<(), TopologyError> {
    const DOING: &str = CONSUMER;
    let expected = config.clone().into_consumer_config();
    let name = expected.durable_name.clone().unwrap_or_default();
    let mut differences = Vec::new();
    if let Some(info) = queue.consumer_info(DOING, stream, &name).await? {
        if info.paused {
            tracing::warn!(consumer = name, "the consumer is paused, resuming it");
            queue.resume_consumer(DOING, stream, &name).await?;
        }
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

/// The same in the middle of a run, which does not end for it: a consumer whose settings cannot be changed is
/// deleted and made again, which costs its tasks a second delivery. One that is missing is left to whoever
/// receives from it, unless `makes`.
pub(super) async fn keep_consumer(
    queue: &Queue,
    stream: &str,
    mut config: pull::Config,
    scope: Scope,
    makes: bool,
) -> Result<Vec<TopologyNote>, TopologyError> {
    let name = config.durable_name.clone().unwrap_or_default();
    let what = format!("consumer {name} of {stream}");
    let Some(info) = queue.consumer_info(CONSUMER, stream, &name).await? else {
        if !makes {
            return Ok(Vec::new());
        }
        queue.put_consumer(CONSUMER, stream, config).await?;
        return Ok(vec![TopologyNote::Created { what }]);
    };
    let mut notes = Vec::new();
    if info.paused {
        queue.resume_consumer(CONSUMER, stream, &name).await?;
        notes.push(TopologyNote::Resumed { what: what.clone() });
    }
    if !scope.durations {
        config.ack_wait = info.config.ack_wait;
    }
    let differences = consumer_differences(&info.config, &config.clone().into_consumer_config());
    if differences.is_empty() {
        return Ok(notes);
    }
    if differences.iter().any(|difference| !difference.is_changeable) {
        queue.delete_consumer(CONSUMER, stream, &name).await?;
    }
    queue.put_consumer(CONSUMER, stream, config).await?;
    notes.extend(differences.into_iter().map(|Difference { setting, found, expected, .. }| {
        TopologyNote::Migrated { what: what.clone(), setting, found, now: expected }
    }));
    Ok(notes)
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

fn is_age_compared(found: &Config, expected: &Config, scope: Scope) -> bool {
    // Without an age, heartbeats and leases of the dead would stay; with one, jobs would go.
    scope.durations || found.max_age.is_zero() || expected.max_age.is_zero()
}

fn stream_differences(found: &Config, expected: &Config, scope: Scope) -> Vec<Difference> {
    let max_age = differ("max_age", &found.max_age, &expected.max_age, true);
    let max_bytes = differ("max_bytes", &found.max_bytes, &expected.max_bytes, true);
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
        max_age.filter(|_| is_age_compared(found, expected, scope)),
        // Subjects say what a message is about.
        differ("subject_transform", &found.subject_transform.is_some(), &false, true),
        differ("allow_rollup_hdrs", &found.allow_rollup, &expected.allow_rollup, true),
        differ("no_ack", &found.no_ack, &expected.no_ack, true),
        replicas.filter(|_| scope.replicas),
        max_bytes.filter(|_| scope.max_bytes),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The settings that were found, with ours where we have an opinion.
fn with_settings(found: Config, expected: &Config, scope: Scope) -> Config {
    let mut changed = found;
    if is_age_compared(&changed, expected, scope) {
        changed.max_age = expected.max_age;
    }
    changed.subject_transform = None;
    changed.subjects.clone_from(&expected.subjects);
    changed.discard = expected.discard;
    changed.max_messages_per_subject = expected.max_messages_per_subject;
    changed.discard_new_per_subject = expected.discard_new_per_subject;
    changed.allow_rollup = expected.allow_rollup;
    changed.deny_delete = expected.deny_delete;
    changed.no_ack = expected.no_ack;
    if scope.max_bytes {
        changed.max_bytes = expected.max_bytes;
    }
    if scope.replicas {
        changed.num_replicas = expected.num_replicas;
    }
    if !changed.max_age.is_zero() {
        // The server refuses a window that is longer than messages live.
        changed.duplicate_window = changed.duplicate_window.min(changed.max_age);
    }
    changed
}

fn consumer_differences(found: &ConsumerConfig, expected: &ConsumerConfig) -> Vec<Difference> {
    // More than needed may come from another version of this program, which would change it back.
    let too_few_wait = (found.max_waiting < expected.max_waiting)
        .then(|| differ("max_waiting", &found.max_waiting, &expected.max_waiting, false));
    [
        differ("filter_subject", &found.filter_subject, &expected.filter_subject, true),
        differ("ack_policy", &found.ack_policy, &expected.ack_policy, false),
        differ("deliver_policy", &found.deliver_policy, &expected.deliver_policy, false),
        differ("ack_wait", &found.ack_wait, &expected.ack_wait, true),
        differ("max_deliver", &found.max_deliver, &expected.max_deliver, true),
        differ("max_ack_pending", &found.max_ack_pending, &expected.max_ack_pending, true),
        too_few_wait.flatten(),
        differ("filter_subjects", &found.filter_subjects, &expected.filter_subjects, true),
        differ("replay_policy", &found.replay_policy, &expected.replay_policy, false),
        differ("headers_only", &found.headers_only, &expected.headers_only, true),
        differ("max_batch", &found.max_batch, &expected.max_batch, true),
        differ("max_bytes", &found.max_bytes, &expected.max_bytes, true),
        differ("max_expires", &found.max_expires, &expected.max_expires, true),
        differ("inactive_threshold", &found.inactive_threshold, &expected.inactive_threshold, true),
        differ("priority_policy", &found.priority_policy, &expected.priority_policy, true),
        differ("backoff", &found.backoff, &expected.backoff, true),
    ]
    .into_iter()
    .flatten()
    .collect()
}
