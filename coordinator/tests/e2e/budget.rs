//! A budget binds the job: it stops before it is spent, whatever was killed in between, and a larger one goes on.

use std::path::PathBuf;
use std::time::Duration;

use qa_shared::testing::TestNats;
use qa_shared::testing::fake_ollama::{Behaviour, FakeConfig, FakeOllama, PromptCounts};
use serde_json::Value;

use crate::command_line::Line;
use crate::documents::Document;
use crate::processes::no_process_is_left_in;
use crate::site::{Site, read_json};

const CHUNKS: u64 = 40;

fn documents() -> [Document; 2] {
    [Document::new("handbook", 28), Document::new("notes", 12)]
}

/// A dollar for a million prompt tokens, two for a million generated ones. A chunk costs about a tenth of a
/// cent and three cents at most.
pub(crate) fn price_list(site: &Site) -> PathBuf {
    let path = site.root().join("models.json");
    let rows = r#"[{"service": "ollama", "model": "*", "price": {"input": 1, "output": 2}}]"#;
    std::fs::write(&path, rows).unwrap();
    path
}

fn priced(site: &Site) -> Line {
    site.generate().env("QA_MODEL_TABLE", price_list(site))
}

fn server(millis: u64) -> FakeOllama {
    let server = FakeOllama::start(FakeConfig { slots: 4, ..FakeConfig::default() });
    server.respond_with(move |_| Behaviour::Slow(Duration::from_millis(millis)));
    server
}

/// What the records of all Q&A files say was paid for, in dollars.
fn cost_of_records(site: &Site) -> f64 {
    let files = documents().into_iter().filter(|document| site.qa_path(&document.name).exists());
    let records = files.flat_map(|document| site.qa(&document.name)["chunks"].as_array().unwrap().clone());
    records
        .map(|record| {
            let tokens = |field: &str| record[field].as_u64().unwrap() as f64;
            (tokens("input_tokens") + 2.0 * tokens("output_tokens")) / 1e6
        })
        .sum()
}

/// A server that reports no usage costs nothing by its own account; a budget that believed it would never stop.
#[tokio::test]
async fn without_reported_tokens_a_budget_counts_estimates_and_says_so() {
    for limit in [["--max-cost", "0.05"], ["--max-tokens-total", "40000"]] {
        let config = FakeConfig { slots: 4, counts: PromptCounts::Missing, ..FakeConfig::default() };
        let (site, server) = (Site::new(&documents()), FakeOllama::start(config));
        let ended = priced(&site).args(limit).servers(&[&server]).run(4).await;
        let said = |text: &str| ended.stderr.matches(text).count();
        assert_eq!(said("does not report token counts"), 1, "{}", ended.stderr);
        assert!(said("no further chunk fits into the budget") > 0, "{}", ended.stderr);
        assert!(said(" estimated)") > 0, "{}", ended.stderr);
        assert!(server.stats().chat_calls < CHUNKS, "{limit:?}");
        let usage = &site.summary()["usage"];
        for of in ["input_tokens", "output_tokens"] {
            assert!(usage[of].as_u64().unwrap() > 0, "{usage}");
            assert_eq!(usage[of], usage[format!("estimated_{of}")], "{usage}");
        }
        assert!((all_runs(&site.summary()) - cost_of_records(&site)).abs() < 1e-9);
        let name = &documents()[0].name;
        let done = site.positions(name, "completed_chunks")[0].to_string();
        let shown = site.coordinator("show").args([name, &done]).run(0).await.stdout;
        assert!(shown.contains(" estimated)"), "an estimate is shown as a count:\n{shown}");
        priced(&site).args(["--resume", limit[0], "10000000"]).servers(&[&server]).run(0).await;
        site.check();
    }
}

fn all_runs(summary: &Value) -> f64 {
    summary["all_runs"]["cost_usd"].as_f64().unwrap()
}

#[tokio::test]
async fn a_spent_budget_stops_the_run_and_a_larger_one_goes_on() {
    let (site, server) = (Site::new(&documents()), server(5));
    let ended = priced(&site).args(["--max-cost", "0.05"]).servers(&[&server]).run(4).await;
    assert!(ended.stderr.contains("no further chunk fits into the budget: $0.0"), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("of $0.050000 spent (--max-cost), the next one may cost up to $0.0"),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains("generate --resume"), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("model calls") && ended.stderr.contains(", about $0.0"),
        "{}",
        ended.stderr
    );
    let (summary, paid) = (site.summary(), server.stats().chat_calls);
    assert!((10..CHUNKS).contains(&paid), "{paid} calls");
    assert_eq!(summary["status"], "interrupted");
    assert_eq!(site.status_of("handbook"), "interrupted");
    assert!(all_runs(&summary) <= 0.05, "{summary}");
    assert!((all_runs(&summary) - cost_of_records(&site)).abs() < 1e-9, "{summary}");

    priced(&site).args(["--resume", "--max-cost", "0.05"]).servers(&[&server]).run(4).await;
    assert_eq!(server.stats().chat_calls, paid, "what was spent before counts");

    priced(&site).args(["--resume", "--max-cost", "1"]).servers(&[&server]).run(0).await;
    site.check();
    assert_eq!(server.stats().chat_calls, CHUNKS);
    let summary = site.summary();
    assert_eq!(summary["all_runs"]["calls"], CHUNKS);
    assert!((all_runs(&summary) - cost_of_records(&site)).abs() < 1e-9, "{summary}");
    let cost = |name: &str| site.qa(name)["summary"]["usage"]["cost_usd"].as_f64().unwrap();
    assert!((cost("handbook") + cost("notes") - all_runs(&summary)).abs() < 1e-9);
}

#[tokio::test]
async fn a_limit_on_tokens_needs_no_price() {
    let (site, server) = (Site::new(&documents()), server(5));
    let ended = site.generate().args(["--max-tokens-total", "40000"]).servers(&[&server]).run(4).await;
    assert!(ended.stderr.contains("of 40000 tokens used (--max-tokens-total)"), "{}", ended.stderr);
    let tokens = site.summary()["all_runs"]["tokens"].as_u64().unwrap();
    assert!((1000..=40_000).contains(&tokens), "{tokens}");
    // The job keeps its limit until another one is given.
    site.generate().args(["--resume", "--max-tokens-total", "1000000"]).servers(&[&server]).run(0).await;
    site.check();
    assert_eq!(server.stats().chat_calls, CHUNKS);
}

#[tokio::test]
async fn whoever_is_killed_does_not_forget_what_was_spent() {
    let (site, server) = (Site::new(&documents()), server(40));
    for calls in [6, 14] {
        let run = priced(&site).args(["--resume", "--max-cost", "0.06"]).servers(&[&server]).start();
        server.wait_for(|stats| stats.chat_calls >= calls).await;
        run.kill().await;
        no_process_is_left_in(site.root()).await;
    }
    priced(&site).args(["--resume", "--max-cost", "0.06"]).servers(&[&server]).run(4).await;
    let (kept, paid) = (cost_of_records(&site), server.stats().chat_calls);
    assert!((14..CHUNKS).contains(&paid), "{paid} calls");
    let spent = all_runs(&site.summary());
    assert!(kept <= spent + 1e-9 && spent <= 0.06, "{kept} in the records, {spent} in the account");
    priced(&site).args(["--resume", "--max-cost", "1"]).servers(&[&server]).run(0).await;
    site.check();
}

#[tokio::test]
async fn a_chunk_that_is_tried_again_keeps_what_its_failure_has_cost() {
    let (site, server) = (Site::new(&documents()), FakeOllama::start(FakeConfig::default()));
    let bad = documents()[0].texts[2].clone();
    server.respond_with(
        move |call| {
            if call.chunk == bad { Behaviour::Text("no".to_owned()) } else { Behaviour::Answer }
        },
    );
    priced(&site).servers(&[&server]).run(1).await;
    let usage = site.qa("handbook")["summary"]["usage"].clone();
    assert_eq!(usage["calls"], 28 + 2, "the calls of the failed chunk count: {usage}");
    server.respond_with(|_| Behaviour::Answer);
    priced(&site).arg("--resume").servers(&[&server]).run(0).await;
    site.check();
    let summary = site.summary();
    assert_eq!(summary["all_runs"]["calls"], server.stats().chat_calls);
    assert!(all_runs(&summary) > cost_of_records(&site), "{summary}");
    let account = read_json(&site.job_folder().join("spent.json"));
    assert_eq!(account["spent"]["calls"], summary["all_runs"]["calls"]);
}

#[tokio::test]
async fn a_fleet_stops_at_the_budget_too() {
    let nats = TestNats::start().await;
    let (site, server) = (Site::new(&documents()), server(20));
    let worker = Line::worker(&nats, &[&server]).start();
    priced(&site).args(["--max-cost", "0.05"]).fleet(&nats).run(4).await;
    let paid = server.stats().chat_calls;
    assert!((10..CHUNKS).contains(&paid) && all_runs(&site.summary()) <= 0.05, "{paid} calls");
    priced(&site).args(["--resume", "--max-cost", "2"]).fleet(&nats).run(0).await;
    site.check();
    assert_eq!(server.stats().chat_calls, CHUNKS);
    drop(worker);
}
