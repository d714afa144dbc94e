//! Dashboards, alerts and their page name metrics, labels and spans that the programs have, and all of them.

#![expect(clippy::unwrap_used, reason = "a test whose preparation fails has to fail")]

mod page;
mod promql;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use promql::Named;
use qa_shared::telemetry::instruments::ALL;
use serde_json::Value;

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

pub(crate) fn file(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn dashboards() -> Vec<(PathBuf, Value)> {
    let folder = root().join("deploy/grafana/dashboards");
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| {
            let data = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            (path, data)
        })
        .collect();
    all.sort_by(|one, other| one.0.cmp(&other.0));
    all
}

/// What the panels and variables of a dashboard name.
fn named_by(dashboard: &Value) -> Vec<Named> {
    let mut all = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let Some(targets) = panel["targets"].as_array() else {
            assert_eq!(panel["type"], "row", "a panel that asks for nothing: {panel}");
            continue;
        };
        assert!(!targets.is_empty(), "a panel that asks for nothing: {panel}");
        for target in targets {
            let mut named = promql::read(target["expr"].as_str().unwrap());
            named.takes_text(target["legendFormat"].as_str().unwrap_or_default(), "");
            all.push(named);
        }
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        let Some(query) = variable["query"]["query"].as_str() else { continue };
        let inside = query.strip_prefix("label_values(").unwrap().strip_suffix(')').unwrap();
        let (series, label) = inside.rsplit_once(',').unwrap();
        let mut named = promql::read(series);
        named.takes_text(&format!("{{{{{}}}}}", label.trim()), "");
        all.push(named);
    }
    all
}

/// The values of a key in a YAML file that is laid out as ours are: in the key's line, or in a block below it.
fn values<'a>(yaml: &'a str, key: &str) -> Vec<&'a str> {
    let depth = |line: &str| line.len() - line.trim_start_matches([' ', '-']).len();
    let mut found = Vec::new();
    let mut rest = yaml;
    while let Some((line, after)) = rest.split_once('\n') {
        rest = after;
        let Some(value) =
            line.trim_start_matches([' ', '-']).strip_prefix(key).and_then(|v| v.strip_prefix(": "))
        else {
            continue;
        };
        if !matches!(value, "|" | ">-") {
            found.push(value);
            continue;
        }
        let below = after.split_inclusive('\n').take_while(|next| depth(next) > depth(line));
        found.push(&after[..below.map(str::len).sum()]);
    }
    found
}

fn assert_right(place: &str, named: &[Named]) {
    let mistakes: Vec<_> = named.iter().flat_map(|named| &named.mistakes).collect();
    assert!(mistakes.is_empty(), "{place}: {mistakes:#?}");
}

#[test]
fn dashboards_name_metrics_and_labels_that_there_are() {
    let dashboards = dashboards();
    assert_eq!(dashboards.len(), 3);
    for (path, dashboard) in &dashboards {
        let named = named_by(dashboard);
        assert!(named.len() > 15, "{}: its queries are not found any more", path.display());
        assert_right(&path.display().to_string(), &named);
    }
}

#[test]
fn every_metric_is_on_a_dashboard() {
    let named: Vec<_> = dashboards().iter().flat_map(|(_, dashboard)| named_by(dashboard)).collect();
    let shown: BTreeSet<_> = named.iter().flat_map(|named| named.metrics.iter().copied()).collect();
    let unseen: Vec<_> = ALL.iter().map(|metric| metric.name).filter(|name| !shown.contains(name)).collect();
    assert!(unseen.is_empty(), "no dashboard shows {unseen:?}");
}

#[test]
fn alerts_name_metrics_and_labels_that_there_are() {
    let text = file("deploy/prometheus/alerts.yml");
    let rules: Vec<_> = text.split("      - alert: ").skip(1).collect();
    assert!(rules.len() > 5, "the rules are not found any more");
    for rule in rules {
        let alert = rule.lines().next().unwrap();
        let [expression] = values(rule, "expr")[..] else { panic!("{alert} has not one expr") };
        let mut named = promql::read(expression);
        assert!(!named.labels.is_empty(), "{alert}: {expression}");
        for key in ["summary", "description"] {
            let [text] = values(rule, key)[..] else { panic!("{alert} has not one {key}") };
            named.takes_text(text, "$labels.");
        }
        for key in ["for", "labels"] {
            assert_eq!(values(rule, key).len(), 1, "{alert} has not one {key}");
        }
        assert_right(alert, &[named]);
    }
}

#[test]
fn the_tests_of_the_alerts_know_every_alert_and_use_series_that_there_are() {
    let tests = file("deploy/prometheus/alerts_test.yml");
    for alert in values(&file("deploy/prometheus/alerts.yml"), "alert") {
        assert!(tests.contains(&format!("alertname: {alert}\n")), "nothing tests that {alert} fires");
    }
    let series = tests.lines().filter_map(|line| line.split_once("series: '")?.1.split_once('\''));
    let named: Vec<_> = series.map(|(series, _)| promql::read(series)).collect();
    assert!(named.len() > 20, "the series are not found any more");
    assert_right("alerts_test.yml", &named);
}
