//! The checker finds what it is for: each kind of damage to a good run's files is a defect.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use qa_shared::testing::fake_ollama::{FakeConfig, FakeOllama};
use serde_json::{Value, json};

use crate::documents::Document;
use crate::site::{Site, read_json};

/// What is done to which file.
type Damage<'a> = (&'static str, &'a PathBuf, fn(&mut Value));

fn change(path: &PathBuf, change: impl FnOnce(&mut Value)) {
    let mut file = read_json(path);
    change(&mut file);
    fs::write(path, serde_json::to_vec(&file).unwrap()).unwrap();
}

#[tokio::test]
async fn every_kind_of_damage_is_found() {
    let site = Site::new(&[Document::new("one", 3), Document::pdf("two", 4, 2)]);
    let server = FakeOllama::start(FakeConfig::default());
    site.generate().servers(&[&server]).run(0).await;
    site.check();
    let (qa, combined) = (site.qa_path("two"), site.combined());
    let damages: [Damage<'_>; 12] = [
        ("two pairs swapped", &qa, |file| file["training_pairs"].as_array_mut().unwrap().swap(2, 3)),
        ("a pair lost", &qa, |file| drop(file["training_pairs"].as_array_mut().unwrap().remove(4))),
        ("a pair doubled", &qa, |file| {
            let pairs = file["training_pairs"].as_array_mut().unwrap();
            pairs.insert(1, pairs[0].clone());
        }),
        ("a word changed", &qa, |file| file["training_pairs"][5]["answer"] = json!("something else")),
        ("another source", &qa, |file| file["training_pairs"][0]["source_file"] = json!("/other")),
        ("a chunk not listed", &qa, |file| drop(file["completed_chunks"].as_array_mut().unwrap().pop())),
        ("a chunk listed twice", &qa, |file| file["failed_chunks"] = json!([1])),
        ("a wrong status", &qa, |file| file["status"] = json!("interrupted")),
        ("a wrong sum", &qa, |file| file["summary"]["total_qa_pairs"] = json!(11)),
        ("a record lost", &qa, |file| drop(file["chunks"].as_array_mut().unwrap().remove(0))),
        ("metadata changed", &qa, |file| file["metadata"]["file_size"] = json!(1)),
        ("a combined pair lost", &combined, |file| {
            drop(file["training_pairs"].as_array_mut().unwrap().pop());
        }),
    ];
    for (what, path, damage) in damages {
        let whole = fs::read(path).unwrap();
        change(path, damage);
        let found = catch_unwind(AssertUnwindSafe(|| site.check()));
        assert!(found.is_err(), "the checker does not find: {what}");
        fs::write(path, whole).unwrap();
    }
    let left_over = site.qa_dir().join(".qa-fleet.tmp-1-x");
    fs::write(&left_over, "half").unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| site.check())).is_err(), "a left-over is not found");
    fs::remove_file(left_over).unwrap();
    site.check();
}
