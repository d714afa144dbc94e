//! `deploy/telemetry.md` and the code say the same.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;

use qa_shared::settings::variables;
use qa_shared::telemetry::instruments::{ALL, Kind};

use crate::{file, root, values};

const PAGE: &str = "deploy/telemetry.md";
const BEGIN: &str =
    "<!-- metrics: written by UPDATE_SNAPSHOTS=1 cargo test -p qa-shared --test dashboards -->\n";
const END: &str = "<!-- end of metrics -->\n";

/// The tables of all metrics, one for each program.
fn metrics() -> String {
    let mut text = String::new();
    let programs: BTreeSet<_> = ALL.iter().map(|metric| metric.program).collect();
    for program in programs {
        writeln!(text, "\n### {program}\n").unwrap();
        text +=
            "| metric | in Prometheus | kind | unit | labels | what it tells |\n|---|---|---|---|---|---|\n";
        for metric in ALL.iter().filter(|metric| metric.program == program) {
            let name = metric.prometheus_name();
            let (kind, series) = match metric.kind {
                Kind::Counter => ("counter", name),
                Kind::Gauge => ("gauge", name),
                Kind::Histogram(_) => ("histogram", format!("{name}_bucket`, `_sum`, `_count")),
            };
            let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
            let (name, unit, about) = (metric.name, metric.unit, metric.about);
            writeln!(text, "| `{name}` | `{series}` | {kind} | `{unit}` | {} | {about} |", labels.join(" "))
                .unwrap();
        }
    }
    text.push('\n');
    text
}

#[test]
fn the_page_has_every_metric() {
    let page = file(PAGE);
    let (head, rest) = page.split_once(BEGIN).unwrap();
    let (_, tail) = rest.split_once(END).unwrap();
    let now = format!("{head}{BEGIN}{}{END}{tail}", metrics());
    #[expect(clippy::disallowed_methods, reason = "a switch of the test, not a setting")]
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::write(root().join(PAGE), &now).unwrap();
    }
    assert!(file(PAGE) == now, "{PAGE} is out of date: run the tests with UPDATE_SNAPSHOTS=1");
}

/// The string literals of a source file above its tests.
fn literals(source: &str) -> BTreeSet<&str> {
    let code = source.split("#[cfg(test)]").next().unwrap();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.flat_map(|line| line.split('"').skip(1).step_by(2)).collect()
}

fn is_attribute(literal: &str) -> bool {
    let is_ours = ["qa.", "gen_ai.", "messaging.", "error.", "process.", "server."];
    ours(literal, &is_ours) && literal.chars().all(|c| c.is_ascii_lowercase() || "._".contains(c))
}

fn ours(literal: &str, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| literal.starts_with(prefix))
}

#[test]
fn the_page_has_every_attribute_of_every_span() {
    let page = file(PAGE);
    let mut found = 0;
    for place in [
        "coordinator/src/trace.rs",
        "coordinator/src/perform.rs",
        "worker/src/trace.rs",
        "shared/src/telemetry/names.rs",
        "shared/src/telemetry/traces.rs",
    ] {
        let source = file(place);
        let attributes: Vec<_> =
            literals(&source).into_iter().filter(|literal| is_attribute(literal)).collect();
        found += attributes.len();
        let missing: Vec<_> = attributes.iter().filter(|name| !page.contains(&format!("`{name}`"))).collect();
        assert!(missing.is_empty(), "{PAGE} lacks what {place} sets: {missing:?}");
    }
    assert!(found > 40, "only {found} attributes are found: the reading of sources is broken");
}

#[test]
fn the_page_has_every_span() {
    let page = file(PAGE);
    // A span's name stands behind its constructor, in the table of a call's phases, or is a step's.
    let name = |text: &str| Some(text.trim_start().strip_prefix('"')?.split_once('"')?.0.to_owned());
    let after =
        |source: &str, mark: &str| -> Vec<String> { source.split(mark).skip(1).filter_map(name).collect() };
    let (coordinator, worker) = (file("coordinator/src/trace.rs"), file("worker/src/trace.rs"));
    let mut spans = after(&coordinator, "NewSpan::new(");
    spans.extend(after(&worker, "NewSpan::new("));
    let phases = worker.split_once("let phases = [").unwrap().1.split_once("];").unwrap().0;
    spans.extend(after(phases, "("));
    for place in ["coordinator/src/run.rs", "coordinator/src/conclude.rs"] {
        spans.extend(after(&file(place), ".step("));
    }
    assert!(worker.contains("format!(\"chat {}\""), "the name of a call's span has changed");
    spans.push("chat MODEL".to_owned());
    for span in ["run", "document", "queue wait", "generate", "combine", "load"] {
        assert!(spans.iter().any(|found| found == span), "{span} is not found any more: {spans:?}");
    }
    let missing: Vec<_> = spans.iter().filter(|span| !page.contains(&format!("| `{span}` |"))).collect();
    assert!(missing.is_empty(), "{PAGE} lacks the spans {missing:?}");
}

#[test]
fn the_page_has_every_alert_and_every_setting() {
    let page = file(PAGE);
    for alert in values(&file("deploy/prometheus/alerts.yml"), "alert") {
        assert!(page.contains(&format!("| `{alert}` |")), "{PAGE} lacks the alert {alert}");
    }
    let is_shown = |name: &&str| name.starts_with("OTEL_") && !ours(name, &SIGNALS);
    for name in variables::ALL.iter().map(|variable| variable.name()).filter(is_shown) {
        assert!(page.contains(&format!("`{name}`")), "{PAGE} lacks the setting {name}");
    }
}

/// Those of one signal only, which the page tells together.
const SIGNALS: [&str; 3] =
    ["OTEL_EXPORTER_OTLP_TRACES_", "OTEL_EXPORTER_OTLP_METRICS_", "OTEL_EXPORTER_OTLP_LOGS_"];
