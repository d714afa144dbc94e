//! What fits into terminals of several widths, and what a run says while nothing is finished.

use std::collections::BTreeMap;

use proptest::prelude::*;
use qa_shared::console::width;

use super::*;
use crate::happening::Figures;
use crate::view::SampleView;

fn server(host: &str, writing_tokens: u64) -> ServerView {
    ServerView {
        host: host.to_owned(),
        url: format!("http://{host}.example.org:11434"),
        busy: 2,
        slots: 2,
        auto: false,
        tokens_per_second: 120.0,
        writing_tokens,
        serving: true,
        problem: None,
    }
}

fn view() -> View {
    View {
        job: "b44cde413b9f".to_owned(),
        pool: "ollama/qwen3:14b".to_owned(),
        state: "running".to_owned(),
        updated_at_ms: 0,
        elapsed_seconds: 3900.0,
        documents: 1200,
        documents_done: 34,
        documents_broken: 0,
        sample: None,
        chunks: 12_345,
        completed: 4500,
        failed: 20,
        published: 30,
        pairs: 13_500,
        finished_now: 4520,
        chunks_per_minute: 286.4,
        tokens_per_second: 1697.0,
        eta_seconds: Some(7000.0),
        calls: 4600,
        input_tokens: 0,
        output_tokens: 0,
        all_runs_cost_usd: Some(1.25),
        max_cost_usd: Some(5.0),
        figures: Figures::default(),
        failures: BTreeMap::from([("no_usable_answer".to_owned(), 18), ("deadline".to_owned(), 2)]),
        ignored_results: 0,
        republished: 0,
        connected: true,
        stall: None,
        active: vec![DocumentView {
            name: "the operating manual of the new boiler, second edition, with all appendices".to_owned(),
            chunks: 400,
            completed: 120,
            failed: 3,
        }],
        servers: (1..=3).map(|number| server(&format!("gpu{number}"), 0)).collect(),
    }
}

fn size(columns: usize) -> Size {
    Size { columns, rows: 50 }
}

#[test]
fn a_narrow_terminal_gets_what_matters_most() {
    let rows = rows(&view(), size(60));
    assert_eq!(
        rows,
        [
            "===>       4 520/12 345 chunks (37 %), 1 h 56 min left",
            "13 500 pairs, 20 failed, 34/1 200 documents done",
            "3 LLM servers on 3 hosts, 6/6 slots busy, 24 queued",
            "  ===>       123/400 the operating manual of the…, 3 failed",
        ]
    );
}

#[test]
fn a_usual_terminal_gets_more_and_a_wide_one_the_servers_too() {
    let usual = rows(&view(), size(80));
    assert!(usual[0].ends_with("chunks (37 %), $1.25 of $5.00 spent, 1 h 56 min left"), "{usual:#?}");
    let wide = rows(&view(), size(200)).join("\n");
    for part in [
        "286.4 chunks/min, 1 697 tokens/s, $1.25 of $5.00 spent, 1 h 56 min left",
        "20 failed, 18 x no_usable_answer, 2 x deadline, 34/1 200 documents done, 1 h 05 min",
        "  http://gpu2.example.org:11434 on gpu2, 2/2 slots busy, 120 tokens/s",
    ] {
        assert!(wide.contains(part), "{part} is not in\n{wide}");
    }
    assert!(!usual.join("\n").contains("http://"), "{usual:#?}");
}

#[test]
fn the_live_area_leaves_half_of_the_terminal_to_log_lines() {
    let mut view = view();
    view.active = vec![view.active[0].clone(); 8];
    view.servers = (1..=30).map(|number| server(&format!("gpu{number}"), 0)).collect();
    for height in [10, 24, 50] {
        let rows = rows(&view, Size { columns: 200, rows: height });
        assert!(rows.len() <= height / 2, "{height}: {rows:#?}");
    }
    let rows = rows(&view, Size { columns: 200, rows: 50 });
    assert_eq!(rows.last().map(String::as_str), Some("  and 23 more servers"));
}

#[test]
fn before_the_first_result_progress_says_what_is_being_done() {
    let mut view = View { eta_seconds: None, all_runs_cost_usd: None, ..view() };
    assert_eq!(rate_and_eta(&view), "waiting for an answer");
    view.servers[1].writing_tokens = 812;
    assert_eq!(rate_and_eta(&view), "writing, 812 tokens");
    view.servers[2].writing_tokens = 1000;
    assert_eq!(rate_and_eta(&view), "writing, 1 812 tokens");
    view.servers.clear();
    assert_eq!(rate_and_eta(&view), "no result yet");
}

#[test]
fn of_a_sample_its_own_chunks_count() {
    let sample = SampleView { chunks: 6, completed: 2, failed: 1, pairs: 6 };
    let view = View { sample: Some(sample), ..view() };
    assert_eq!(figures_line(&view), "sample: 3/6 chunks (50 %), 1 failed, 6 pairs");
    assert!(rows(&view, size(80))[0].contains(" 3/6 chunks (50 %)"));
}

#[test]
fn a_plain_line_has_everything_unless_its_terminal_is_narrow() {
    let view = View { all_runs_cost_usd: None, ..view() };
    assert_eq!(
        plain_line(&view, None),
        "4 520/12 345 chunks (37 %), 20 failed, 13 500 pairs, 34/1 200 documents; 286.4 chunks/min, 1 697 tokens/s, \
         1 h 56 min left, 3 LLM servers on 3 hosts, 6/6 slots busy, 24 queued"
    );
    assert_eq!(plain_line(&view, Some(60)), "4 520/12 345 chunks (37 %), 20 failed, 1 h 56 min left");
}

proptest! {
    #[test]
    fn no_row_is_as_wide_as_the_terminal(
        columns in 1usize..220, chunks in 0u64..10_000_000, name in "[a-z日é]{0,120}", busy in 0u32..5000
    ) {
        let mut view = View { chunks, completed: chunks / 3, failed: chunks / 7, pairs: chunks, ..view() };
        view.active[0].name = name;
        view.servers[0].busy = busy;
        for row in rows(&view, size(columns)) {
            prop_assert!(width(&row) < columns.max(2), "{row:?} at {columns}");
        }
        prop_assert!(width(&plain_line(&view, Some(columns))) <= columns);
    }
}
