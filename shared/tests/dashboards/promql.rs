//! Reads as much of PromQL as is needed to know which metrics and labels an expression names.

use std::collections::BTreeSet;

use qa_shared::telemetry::instruments::{ALL, Kind, Metric};

/// Labels that Prometheus itself gives.
const THEIRS: [&str; 2] = ["job", "instance"];
/// Words before a list of labels.
const GROUPING: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
/// Words between expressions.
const OPERATORS: [&str; 5] = ["and", "or", "unless", "bool", "offset"];

/// What an expression names.
#[derive(Debug, Default)]
pub(crate) struct Named {
    /// Metrics of ours.
    pub(crate) metrics: BTreeSet<&'static str>,
    /// Labels that its result may have.
    pub(crate) labels: BTreeSet<String>,
    /// What is wrong with it.
    pub(crate) mistakes: Vec<String>,
}

#[derive(Debug, PartialEq)]
enum Token<'a> {
    Word(&'a str),
    Text(&'a str),
    Sign(char),
}

/// Durations, numbers and Grafana's variables are left out: they name nothing of ours.
fn tokens(expression: &str) -> Vec<Token<'_>> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut tokens = Vec::new();
    let mut rest = expression.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = |tail: &str, ends: &dyn Fn(char) -> bool| tail.find(ends).unwrap_or(tail.len());
        let taken = if matches!(first, '"' | '\'') {
            let text = &rest[1..=length(&rest[1..], &|c| c == first)];
            tokens.push(Token::Text(text));
            text.len() + 2
        } else if first == '$' {
            let braced = rest[1..].starts_with('{');
            1 + if braced {
                length(&rest[1..], &|c| c == '}') + 1
            } else {
                length(&rest[1..], &|c| !is_word(c))
            }
        } else if first == '[' {
            length(rest, &|c| c == ']') + 1
        } else if is_word(first) {
            let word = &rest[..length(rest, &|c| !is_word(c))];
            if !first.is_ascii_digit() {
                tokens.push(Token::Word(word));
            }
            // The fraction of a number is no metric.
            word.len()
        } else {
            tokens.push(Token::Sign(first));
            first.len_utf8()
        };
        rest = rest.get(taken..).unwrap_or_default().trim_start();
    }
    tokens
}

/// The metric that Prometheus knows by this name.
fn metric(name: &str) -> Option<&'static Metric> {
    ALL.iter().copied().find(|metric| {
        let base = metric.prometheus_name();
        if let Kind::Histogram(_) = metric.kind {
            ["_bucket", "_sum", "_count"].iter().any(|part| name == format!("{base}{part}"))
        } else {
            name == base
        }
    })
}

/// What Prometheus calls the labels that series of this name have; nothing if there are none.
fn labels_of(name: &str) -> Option<BTreeSet<String>> {
    let mut labels: BTreeSet<String> = THEIRS.iter().map(|label| (*label).to_owned()).collect();
    if name != "up" {
        let metric = metric(name)?;
        labels.extend(metric.labels.iter().map(|label| label.replace('.', "_")));
        if name.ends_with("_bucket") {
            labels.insert("le".to_owned());
        }
    }
    Some(labels)
}

/// Reads an expression.
pub(crate) fn read(expression: &str) -> Named {
    let tokens = tokens(expression);
    let mut named = Named::default();
    let mut grouping = Vec::new();
    // The labels of the metric that a selector belongs to.
    let mut of_metric = None;
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token {
            Token::Word(word) if GROUPING.contains(word) => {
                if tokens.get(at) == Some(&Token::Sign('(')) {
                    let list = tokens[at..].iter().take_while(|token| **token != Token::Sign(')'));
                    grouping.extend(list.filter_map(|token| match token {
                        Token::Word(label) => Some(*label),
                        _ => None,
                    }));
                    at += tokens[at..].iter().position(|token| *token == Token::Sign(')')).unwrap_or(0);
                }
            }
            Token::Word(word) if OPERATORS.contains(word) => {}
            // A function.
            Token::Word(_) if tokens.get(at) == Some(&Token::Sign('(')) => {}
            // An aggregation whose labels stand before what it aggregates.
            Token::Word(_) if matches!(tokens.get(at), Some(Token::Word(word)) if GROUPING[..2].contains(word)) =>
                {}
            Token::Word(name) => of_metric = named.takes(name),
            Token::Sign('{') => {
                let end = tokens[at..].iter().position(|token| *token == Token::Sign('}'));
                let inside = &tokens[at..at + end.unwrap_or(tokens.len() - at)];
                named.takes_selector(expression, of_metric.take(), inside);
                at += inside.len();
            }
            Token::Text(_) | Token::Sign(_) => {}
        }
    }
    for label in grouping {
        if !named.labels.contains(label) {
            named.mistakes.push(format!("no metric of `{expression}` has the label {label}"));
        }
    }
    named
}

impl Named {
    fn takes(&mut self, name: &str) -> Option<BTreeSet<String>> {
        let labels = labels_of(name);
        match &labels {
            Some(labels) => {
                self.metrics.extend(metric(name).map(|metric| metric.name));
                self.labels.extend(labels.iter().cloned());
            }
            None => self.mistakes.push(format!("no metric is called {name}")),
        }
        labels
    }

    fn takes_selector(
        &mut self,
        expression: &str,
        of_metric: Option<BTreeSet<String>>,
        inside: &[Token<'_>],
    ) {
        let mut known = of_metric;
        for (index, token) in inside.iter().enumerate() {
            match token {
                Token::Word("__name__") => {
                    let names = inside[index..].iter().find_map(|token| match token {
                        Token::Text(text) => Some(*text),
                        _ => None,
                    });
                    for name in names.unwrap_or_default().split('|') {
                        known = self.takes(name);
                    }
                }
                Token::Word(label) => {
                    // The labels of an unknown metric are not known either.
                    if known.as_ref().is_some_and(|known| !known.contains(*label)) {
                        self.mistakes.push(format!("the metric in `{expression}` has no label {label}"));
                    }
                }
                Token::Text(_) | Token::Sign(_) => {}
            }
        }
    }

    /// Reads a text with names of labels in it, `{{label}}` in a legend or `{{ $labels.label }}` in an alert.
    pub(crate) fn takes_text(&mut self, text: &str, prefix: &str) {
        for part in text.split("{{").skip(1) {
            let inside = part.split("}}").next().unwrap_or_default().trim();
            let Some(label) = inside.strip_prefix(prefix) else { continue };
            if !self.labels.contains(label) {
                self.mistakes.push(format!("`{text}` names {label}, which its expression has not"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn known_names_pass() {
        for expression in [
            r#"sum by (qa_job) (rate(qa_chunks_total{job=~"$job", qa_outcome!="failed"}[$__rate_interval])) * 60"#,
            r#"histogram_quantile(0.99, sum(rate(qa_journal_sync_duration_seconds_bucket{instance="a:1"}[5m])) by (le))"#,
            r#"qa_queue_age_seconds > 9e2 and on (qa_job) qa_job_chunks{qa_state="published"} > 0.5 or vector(0)"#,
            r#"count({__name__=~"qa_job_chunks|qa_worker_slots"}) / 0.25"#,
            "up{job=~\"a|b\"} == 0",
        ] {
            let named = read(expression);
            assert!(named.mistakes.is_empty() && !named.labels.is_empty(), "{expression}: {named:?}");
        }
        assert_eq!(read("gen_ai_client_token_usage_sum").metrics.first(), Some(&"gen_ai.client.token.usage"));
    }

    #[test]
    fn unknown_names_are_found() {
        for (expression, mistake) in [
            ("rate(qa_chunk_total[5m])", "no metric is called qa_chunk_total"),
            // A counter without its suffix, a histogram without its part, a gauge with one.
            ("qa_chunks", "no metric is called qa_chunks"),
            ("qa_snapshot_duration_seconds", "no metric is called qa_snapshot_duration_seconds"),
            ("qa_job_pairs_total", "no metric is called qa_job_pairs_total"),
            (
                r#"qa_job_pairs{qa_state="x"}"#,
                "the metric in `qa_job_pairs{qa_state=\"x\"}` has no label qa_state",
            ),
            (r#"qa_job_pairs{qa.job="x"}"#, "the metric in `qa_job_pairs{qa.job=\"x\"}` has no label qa"),
            (
                "sum by (qa_state) (qa_job_pairs)",
                "no metric of `sum by (qa_state) (qa_job_pairs)` has the label qa_state",
            ),
            (
                "sum(rate(qa_queue_wait_duration_seconds_sum[1m])) by (le)",
                "no metric of `sum(rate(qa_queue_wait_duration_seconds_sum[1m])) by (le)` has the label le",
            ),
            (r#"{__name__=~"qa_job_pairs|qa_pears"}"#, "no metric is called qa_pears"),
        ] {
            let mistakes = read(expression).mistakes;
            assert!(mistakes.iter().any(|found| found == mistake), "{expression}: {mistakes:?}");
        }
        let mut named = read("qa_job_pairs");
        named.takes_text("{{qa_job}} of {{qa_state}}", "");
        assert_eq!(
            named.mistakes,
            ["`{{qa_job}} of {{qa_state}}` names qa_state, which its expression has not"]
        );
    }
}
