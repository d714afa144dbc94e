//! Failed chunks and answers that could not be used, grouped by reason, model, LLM server and host (PURE). What is kept is
//! bounded, whatever comes in.

use std::collections::BTreeMap;

use qa_shared::model::FailureReason;
use serde::Serialize;

use crate::files::{ChunkRecord, LoggedFailure};
use crate::format::line;
use crate::trace_url::TraceUrl;

/// Groups that are kept; what belongs to others is counted.
const MOST_GROUPS: usize = 200;
/// Failed chunks whose answers are looked for in the log.
const MOST_LOOKED_FOR: usize = 100_000;
/// What is kept of an answer, in characters.
const LONGEST_ANSWER: usize = 2000;

/// By which failures belong together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    reason: String,
    model: String,
    server: String,
    host: String,
}

/// Failures of one kind, with an example.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Group {
    pub(crate) reason: String,
    pub(crate) model: String,
    /// The LLM server; empty where none was asked, or an earlier version wrote the failure.
    pub(crate) server: String,
    pub(crate) host: String,
    pub(crate) count: u64,
    pub(crate) remedy: &'static str,
    /// The rest is about one of them.
    pub(crate) example: Example,
}

/// One failure.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Example {
    pub(crate) document: String,
    pub(crate) chunk: u32,
    pub(crate) at: Option<String>,
    /// What happened, in words.
    pub(crate) message: String,
    pub(crate) trace_id: Option<String>,
    pub(crate) trace_url: Option<String>,
    /// What the model wrote, cut; absent where the log no longer has it, or there was no answer.
    pub(crate) raw_answer: Option<String>,
}

/// All groups.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    failed: BTreeMap<Key, Group>,
    answers: BTreeMap<Key, Group>,
    looked_for: BTreeMap<(String, u32), Key>,
    other_kinds: u64,
    url: Option<TraceUrl>,
}

/// The groups, the largest first.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(crate) struct Grouped {
    /// Chunks without pairs.
    pub(crate) failed_chunks: Vec<Group>,
    /// Answers that could not be used; their chunks may have got pairs in another attempt.
    pub(crate) unusable_answers: Vec<Group>,
    /// Failures that belong to none of these groups.
    pub(crate) other_kinds: u64,
}

impl Groups {
    pub(crate) fn new(url: Option<TraceUrl>) -> Self {
        Self { url, ..Self::default() }
    }

    /// Takes the record of a failed chunk. To be called for all of them before the first line of the log.
    pub(crate) fn hear_record(&mut self, document: &str, record: &ChunkRecord) {
        let failure = record.error.as_ref();
        let reason = failure.map_or(FailureReason::Other, |failure| failure.reason);
        let key = Key {
            reason: reason.to_string(),
            model: line(record.model.as_deref().unwrap_or_default(), 120),
            server: line(record.server.as_deref().unwrap_or_default(), 200),
            host: line(record.host.as_deref().unwrap_or_default(), 120),
        };
        let example = Example {
            document: document.to_owned(),
            chunk: record.chunk,
            at: record.completed_at.clone(),
            message: failure.map(|failure| line(&failure.message, 500)).unwrap_or_default(),
            trace_id: record.trace_id.clone(),
            trace_url: self.link(record.trace_id.as_deref()),
            raw_answer: None,
        };
        if add(&mut self.failed, key.clone(), reason.remedy(), example) {
            if self.looked_for.len() < MOST_LOOKED_FOR {
                self.looked_for.insert((document.to_owned(), record.chunk), key);
            }
        } else {
            self.other_kinds += 1;
        }
    }

    /// Takes a line of the failure log, the oldest first.
    pub(crate) fn hear_line(&mut self, failure: LoggedFailure) {
        let example = Example {
            trace_url: self.link(Some(&failure.trace_id)),
            document: failure.document,
            chunk: failure.chunk,
            at: Some(failure.at),
            message: line(&failure.reason, 500),
            trace_id: Some(failure.trace_id).filter(|id| !id.is_empty()),
            raw_answer: Some(failure.answer.chars().take(LONGEST_ANSWER).collect::<String>())
                .filter(|answer| !answer.trim().is_empty()),
        };
        if example.raw_answer.is_some()
            && let Some(key) = self.looked_for.get(&(example.document.clone(), example.chunk))
            && let Some(group) = self.failed.get_mut(key)
        {
            // The chunk that has an answer is the better example; the latest answer is the one that counted.
            let message = match (&group.example.document, group.example.chunk) {
                (document, chunk) if *document == example.document && chunk == example.chunk => {
                    std::mem::take(&mut group.example.message)
                }
                _ => example.message.clone(),
            };
            group.example = Example { message, ..example.clone() };
        }
        let key = Key {
            reason: kind(&failure.reason),
            model: line(&failure.model, 120),
            server: line(&failure.server, 200),
            host: line(&failure.host, 120),
        };
        let remedy = remedy(&key.reason);
        if !add(&mut self.answers, key, remedy, example) {
            self.other_kinds += 1;
        }
    }

    pub(crate) fn into_grouped(self) -> Grouped {
        let sorted = |groups: BTreeMap<Key, Group>| {
            let mut groups: Vec<_> = groups.into_values().collect();
            groups.sort_by_key(|group| std::cmp::Reverse(group.count));
            groups
        };
        Grouped {
            failed_chunks: sorted(self.failed),
            unusable_answers: sorted(self.answers),
            other_kinds: self.other_kinds,
        }
    }

    fn link(&self, trace_id: Option<&str>) -> Option<String> {
        self.url.as_ref().zip(trace_id).and_then(|(url, id)| url.link(id))
    }
}

/// Whether there was room for it.
fn add(groups: &mut BTreeMap<Key, Group>, key: Key, remedy: &'static str, example: Example) -> bool {
    if let Some(group) = groups.get_mut(&key) {
        group.count += 1;
        if group.example.raw_answer.is_none() && example.raw_answer.is_some() {
            group.example = example;
        }
        return true;
    }
    if groups.len() >= MOST_GROUPS {
        return false;
    }
    let Key { reason, model, server, host } = key.clone();
    groups.insert(key, Group { reason, model, server, host, count: 1, remedy, example });
    true
}

/// What a reason in words has in common with others that only tell other numbers or other quotes.
fn kind(reason: &str) -> String {
    let mut kind = String::new();
    let mut rest = line(reason, 300);
    while let Some(c) = rest.chars().next() {
        let end = match c {
            '0'..='9' => {
                kind.push('N');
                rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())
            }
            '`' | '"' if rest[1..].contains(c) => {
                kind.push('…');
                rest[1..].find(c).map_or(rest.len(), |end| end + 2)
            }
            c => {
                kind.push(c);
                c.len_utf8()
            }
        };
        rest = rest.split_off(end);
    }
    line(kind.trim(), 160)
}

fn remedy(kind: &str) -> &'static str {
    let reason = if kind.starts_with("refused") {
        FailureReason::Refused
    } else if kind.contains("output limit") {
        FailureReason::OutputLimit
    } else {
        FailureReason::NoUsableAnswer
    };
    reason.remedy()
}

#[cfg(test)]
mod tests {
    use qa_shared::model::{Failure, TextHash};

    use super::*;
    use crate::files::RecordStatus;

    fn record(chunk: u32, reason: FailureReason, host: &str) -> ChunkRecord {
        let mut record = ChunkRecord::bare(chunk, TextHash::of("t"), RecordStatus::Failed);
        record.error = Some(Failure { reason, message: format!("chunk {chunk} failed") });
        record.host = Some(host.to_owned());
        record.model = Some("m".to_owned());
        record.trace_id = Some("902fc6167a5362903e920dc6cc66406b".to_owned());
        record
    }

    fn logged(chunk: u32, reason: &str, answer: &str) -> LoggedFailure {
        LoggedFailure {
            document: "a".to_owned(),
            chunk,
            reason: reason.to_owned(),
            answer: answer.to_owned(),
            host: "gpu1".to_owned(),
            model: "m".to_owned(),
            ..LoggedFailure::default()
        }
    }

    #[test]
    fn failures_are_grouped_with_an_example_that_has_an_answer() {
        let mut groups = Groups::new(TraceUrl::parse("http://j/{trace_id}"));
        for chunk in 0..5 {
            groups.hear_record("a", &record(chunk, FailureReason::NoUsableAnswer, "gpu1"));
        }
        groups.hear_record("a", &record(7, FailureReason::NoUsableAnswer, "gpu2"));
        groups.hear_record("b", &record(3, FailureReason::Deadline, "gpu1"));
        groups.hear_line(logged(9, "pair 2 has no `answer`", "{}"));
        groups.hear_line(logged(3, "pair 13 has no `question`", &"x".repeat(5000)));
        groups.hear_line(logged(4, "refused: policy 12", ""));
        let grouped = groups.into_grouped();
        let counts: Vec<_> = grouped
            .failed_chunks
            .iter()
            .map(|group| (group.reason.as_str(), group.host.as_str(), group.count))
            .collect();
        let expected =
            [("no_usable_answer", "gpu1", 5), ("deadline", "gpu1", 1), ("no_usable_answer", "gpu2", 1)];
        assert_eq!(counts, expected);
        let example = &grouped.failed_chunks[0].example;
        assert_eq!((example.chunk, example.raw_answer.as_ref().unwrap().len()), (3, LONGEST_ANSWER));
        let link = grouped.failed_chunks[1].example.trace_url.as_deref();
        assert_eq!(link, Some("http://j/902fc6167a5362903e920dc6cc66406b"));
        let kinds: Vec<_> =
            grouped.unusable_answers.iter().map(|group| (group.reason.as_str(), group.count)).collect();
        assert_eq!(kinds, [("pair N has no …", 2), ("refused: policy N", 1)]);
        assert_eq!(grouped.unusable_answers[1].remedy, FailureReason::Refused.remedy());
    }

    #[test]
    fn each_server_of_a_host_has_a_group_of_its_own() {
        let mut groups = Groups::new(None);
        for (chunk, url) in [(0, "http://gpu1:11434"), (1, "http://gpu2:11434"), (2, "http://gpu2:11434")] {
            let mut record = record(chunk, FailureReason::ServerError, "worker-host");
            record.server = Some(url.to_owned());
            groups.hear_record("a", &record);
            let answer = LoggedFailure { server: url.to_owned(), ..logged(chunk, "no JSON", "x") };
            groups.hear_line(answer);
        }
        let grouped = groups.into_grouped();
        for found in [&grouped.failed_chunks, &grouped.unusable_answers] {
            let counts: Vec<_> = found.iter().map(|group| (group.server.as_str(), group.count)).collect();
            assert_eq!(counts, [("http://gpu2:11434", 2), ("http://gpu1:11434", 1)]);
        }
    }

    #[test]
    fn reasons_of_one_kind_are_one_whatever_their_figures() {
        assert_eq!(kind("line 3 column 17"), kind("line 4 column 1"));
        assert_eq!(kind("`a` is no list"), kind("`bb` is no list"));
        assert_eq!(kind("an unpaired ` stays, ü too"), "an unpaired ` stays, ü too");
        assert_eq!(kind("a\x1b[2J\nb"), "a [NJ b");
    }

    #[test]
    fn groups_are_bounded_and_the_rest_is_counted() {
        let mut groups = Groups::new(None);
        for host in 0..300 {
            groups.hear_record("a", &record(0, FailureReason::Other, &format!("gpu{host}")));
        }
        let grouped = groups.into_grouped();
        assert_eq!((grouped.failed_chunks.len(), grouped.other_kinds), (MOST_GROUPS, 100));
    }
}
