//! Subjects of tasks and results: built from keys and read back, and the filters that select them.
//!
//! Every token is a slug, a hash, a number or a hexadecimal id, so that any name of a pool or document works.

use crate::model::{DocumentToken, JobId, PoolName, TaskKey};

/// A subject that is not of the form that this program publishes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("subject `{found}` is not of the form {expected}")]
pub struct InvalidSubject {
    found: String,
    expected: &'static str,
}

const TASK_PREFIX: &str = "qa.task.v1.";
const TASK_FORM: &str = "qa.task.v1.<pool>.<job>.<document>.<chunk>.<round>";
const RESULT_PREFIX: &str = "qa.result.v1.";
const RESULT_FORM: &str = "qa.result.v1.<job>.<document>.<chunk>.<round>";

pub(super) const ALL_TASKS: &str = "qa.task.v1.>";
pub(super) const ALL_RESULTS: &str = "qa.result.v1.>";

/// The subject of a task.
pub(crate) fn task(pool: &PoolName, key: &TaskKey) -> String {
    format!("{TASK_PREFIX}{}.{key}", pool.token())
}

/// All tasks of a pool.
pub(super) fn tasks_of_pool(pool: &PoolName) -> String {
    format!("{TASK_PREFIX}{}.>", pool.token())
}

/// All tasks of a job, in whatever pool.
pub(super) fn tasks_of_job(job: &JobId) -> String {
    format!("{TASK_PREFIX}*.{job}.>")
}

/// The pool token and the key in a task's subject.
pub(super) fn parse_task(subject: &str) -> Result<(String, TaskKey), InvalidSubject> {
    let parsed =
        subject.strip_prefix(TASK_PREFIX).and_then(|rest| rest.split_once('.')).and_then(|(pool, rest)| {
            let key = parse_key(rest)?;
            // Pool tokens and document tokens are made by the same rule.
            let pool: DocumentToken = pool.parse().ok()?;
            Some((pool.to_string(), key))
        });
    parsed.ok_or_else(|| invalid(subject, TASK_FORM))
}

/// The subject of a result.
pub(crate) fn result(key: &TaskKey) -> String {
    format!("{RESULT_PREFIX}{key}")
}

/// All results of a job.
pub(super) fn results_of_job(job: &JobId) -> String {
    format!("{RESULT_PREFIX}{job}.>")
}

/// The key in a result's subject.
pub(super) fn parse_result(subject: &str) -> Result<TaskKey, InvalidSubject> {
    subject.strip_prefix(RESULT_PREFIX).and_then(parse_key).ok_or_else(|| invalid(subject, RESULT_FORM))
}

fn invalid(subject: &str, expected: &'static str) -> InvalidSubject {
    InvalidSubject { found: subject.chars().take(200).collect(), expected }
}

fn parse_key(text: &str) -> Option<TaskKey> {
    let parts: Vec<&str> = text.split('.').collect();
    let [job, document, chunk, round] = parts[..] else { return None };
    let key = TaskKey {
        job: job.parse().ok()?,
        document: document.parse().ok()?,
        chunk: chunk.parse().ok()?,
        round: round.parse().ok()?,
    };
    // `+1` and `007` parse as numbers but name another subject.
    (key.to_string() == text).then_some(key)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::DocumentName;

    proptest! {
        #[test]
        fn any_pool_and_document_name_survives_a_subject(
            pool in ".*", document in ".*", job: u64, chunk: u32, round: u32,
        ) {
            let pool = PoolName::new(pool);
            let document = DocumentName::new(document).token();
            let key = TaskKey { job: JobId::from_random(job), document, chunk, round };
            let subject = task(&pool, &key);
            prop_assert!(subject.bytes().all(|b| b.is_ascii_graphic()));
            prop_assert_eq!(parse_task(&subject), Ok((pool.token(), key.clone())));
            prop_assert_eq!(parse_result(&result(&key)), Ok(key));
        }

        #[test]
        fn noise_is_an_error_and_never_a_panic(noise in ".*") {
            prop_assert!(parse_task(&noise).is_err());
            prop_assert!(parse_result(&noise).is_err());
            let subject = format!("{RESULT_PREFIX}{noise}");
            if let Ok(key) = parse_result(&subject) {
                prop_assert_eq!(result(&key), subject);
            }
            let subject = format!("{TASK_PREFIX}{noise}");
            if let Ok((pool, key)) = parse_task(&subject) {
                prop_assert_eq!(format!("{TASK_PREFIX}{pool}.{key}"), subject);
            }
        }
    }

    #[test]
    fn a_number_in_another_spelling_is_another_subject() {
        let spelled = |chunk| format!("qa.result.v1.0123456789ab.a-1.{chunk}.1");
        assert!(parse_result(&spelled("7")).is_ok());
        assert!(parse_result(&spelled("07")).is_err());
        assert!(parse_result(&spelled("+7")).is_err());
    }
}
