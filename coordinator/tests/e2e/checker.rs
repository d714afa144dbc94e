//! Checks the files of a finished run from outside, the way a sceptical user would: every chunk accounted
//! for exactly once, every pair true and in its place, sums right, nothing left over.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::fs;
use std::path::Path;

use qa_shared::testing::fake_ollama::expected_pairs;
use serde_json::{Value, json};

use super::site::{Site, read_json};

/// What is checked, and what is allowed.
pub(crate) struct Check<'a> {
    site: &'a Site,
    pairs: usize,
    /// Chunks that must have failed; all others must be completed.
    failed: BTreeSet<(String, usize)>,
    /// Chunks whose pairs the Python program made.
    foreign: BTreeSet<(String, usize)>,
    /// Chunk files that cannot be processed.
    broken: BTreeSet<String>,
    /// Q&A files without a chunk file, which are combined.
    strays: Vec<String>,
}

impl<'a> Check<'a> {
    /// Every chunk has three pairs of the fake server.
    pub(crate) fn new(site: &'a Site) -> Self {
        let (failed, foreign, broken) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        Self { site, pairs: 3, failed, foreign, broken, strays: Vec::new() }
    }

    pub(crate) fn failed(mut self, document: &str, chunks: impl IntoIterator<Item = usize>) -> Self {
        self.failed.extend(chunks.into_iter().map(|chunk| (document.to_owned(), chunk)));
        self
    }

    pub(crate) fn foreign(mut self, document: &str, chunks: impl IntoIterator<Item = usize>) -> Self {
        self.foreign.extend(chunks.into_iter().map(|chunk| (document.to_owned(), chunk)));
        self
    }

    pub(crate) fn broken(mut self, document: &str) -> Self {
        self.broken.insert(document.to_owned());
        self
    }

    pub(crate) fn stray(mut self, document: &str) -> Self {
        self.strays.push(document.to_owned());
        self
    }
}

#[derive(Default)]
struct Defects(Vec<String>);

impl Defects {
    fn unless(&mut self, holds: bool, defect: impl FnOnce() -> String) {
        if !holds {
            self.0.push(defect());
        }
    }

    fn equal<T: PartialEq + Display>(&mut self, what: &str, found: &T, expected: &T) {
        self.unless(found == expected, || format!("{what} is {found:.200}, not {expected:.200}"));
    }
}

/// Panics with every defect.
pub(crate) fn check(check: &Check<'_>) {
    let defects = defects(check);
    assert!(defects.is_empty(), "defects in the files:\n{}", defects.join("\n"));
}

/// Every defect, one sentence each.
pub(crate) fn defects(check: &Check<'_>) -> Vec<String> {
    let mut defects = Defects::default();
    let mut completed = BTreeMap::new();
    for (name, chunks) in chunk_files(check) {
        let path = check.site.qa_path(&name);
        if !path.exists() {
            defects.0.push(format!("{name}: no Q&A file"));
            continue;
        }
        let qa = read_json(&path);
        check_document(check, &name, &chunks, &qa, &mut defects);
        if qa["status"] == "completed" {
            completed.insert(name, qa);
        }
    }
    for stray in &check.strays {
        completed.insert(stray.clone(), check.site.qa(stray));
    }
    check_combined(check.site, &completed, &mut defects);
    check_left_overs(check.site, &mut defects);
    defects.0
}

fn chunk_files(check: &Check<'_>) -> Vec<(String, Value)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(check.site.chunks_dir()).unwrap() {
        let file_name = entry.unwrap().file_name().into_string().unwrap();
        let Some(name) = file_name.strip_suffix("_chunks.json") else { continue };
        // What macOS leaves beside files on foreign disks is no document.
        if !check.broken.contains(name) && !name.starts_with("._") {
            let chunks = read_json(&check.site.chunks_dir().join(&file_name));
            if chunks["status"] == "completed" {
                files.push((name.to_owned(), chunks));
            }
        }
    }
    files.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(!files.is_empty(), "there is nothing to check");
    files
}

fn positions(value: &Value) -> Vec<usize> {
    let list = value.as_array().cloned().unwrap_or_default();
    list.iter().map(|position| usize::try_from(position.as_u64().unwrap()).unwrap()).collect()
}

fn check_document(check: &Check<'_>, name: &str, file: &Value, qa: &Value, defects: &mut Defects) {
    let chunks = file["chunks"].as_array().unwrap();
    let failed_set: Vec<usize> =
        (0..chunks.len()).filter(|chunk| check.failed.contains(&(name.to_owned(), *chunk))).collect();
    let completed_set: Vec<usize> = (0..chunks.len()).filter(|chunk| !failed_set.contains(chunk)).collect();
    let (completed, failed) = (positions(&qa["completed_chunks"]), positions(&qa["failed_chunks"]));
    defects.unless(completed == completed_set, || format!("{name}: completed_chunks is {completed:?}"));
    defects
        .unless(failed == failed_set, || format!("{name}: failed_chunks is {failed:?}, not {failed_set:?}"));
    let status = if completed.is_empty() && !chunks.is_empty() { "failed" } else { "completed" };
    defects.equal(&format!("{name}: status"), &qa["status"], &json!(status));
    let pairs = qa["training_pairs"].as_array().unwrap();
    let expected: Vec<Value> = completed_set
        .iter()
        .flat_map(|position| expected_of_chunk(check, name, file, *position, pairs))
        .collect();
    defects.equal(&format!("{name}: number of pairs"), &pairs.len(), &expected.len());
    for (number, (pair, expected)) in pairs.iter().zip(&expected).enumerate() {
        for (field, value) in expected.as_object().unwrap() {
            defects.equal(&format!("{name}: pair {number}: {field}"), &pair[field], value);
        }
    }
    let mut summary = json!({
        "total_chunks": chunks.len(), "completed_chunks": completed.len(), "failed_chunks": failed.len(),
        "total_qa_pairs": pairs.len(),
    });
    if let Some(usage) = usage_of_records(qa) {
        summary["usage"] = usage;
        // Where no price is known there is no cost.
        if let Some(cost) = qa["summary"]["usage"].get("cost_usd") {
            summary["usage"]["cost_usd"] = cost.clone();
        }
    }
    defects.equal(&format!("{name}: summary"), &qa["summary"], &summary);
    for field in ["metadata", "processing_info"] {
        defects.equal(&format!("{name}: {field}"), &qa[field], &file[field]);
    }
    for field in ["provider", "model", "questions_per_chunk", "temperature", "max_tokens", "generated_at"] {
        defects.unless(qa["qa_generation_info"].get(field).is_some(), || {
            format!("{name}: qa_generation_info lacks {field}")
        });
    }
    check_records(check, name, chunks.len(), qa, defects);
}

/// What the records add up to, if any tells of a model call.
fn usage_of_records(qa: &Value) -> Option<Value> {
    let records = qa["chunks"].as_array().unwrap();
    let sum = |field: &str| records.iter().map(|record| record[field].as_u64().unwrap_or(0)).sum::<u64>();
    (sum("attempts") > 0).then(|| {
        let mut usage = json!({
            "calls": sum("attempts"), "input_tokens": sum("input_tokens"),
            "cached_tokens": sum("cached_tokens"), "output_tokens": sum("output_tokens"),
            "reasoning_tokens": sum("reasoning_tokens"),
        });
        for estimated in ["estimated_input_tokens", "estimated_output_tokens"] {
            if sum(estimated) > 0 {
                usage[estimated] = json!(sum(estimated));
            }
        }
        usage
    })
}

/// The pairs that a chunk must have, where they must stand, with the fields that say where they are from.
fn expected_of_chunk(
    check: &Check<'_>,
    name: &str,
    file: &Value,
    position: usize,
    found: &[Value],
) -> Vec<Value> {
    let (metadata, chunk) = (&file["metadata"], &file["chunks"][position]);
    let is_foreign = check.foreign.contains(&(name.to_owned(), position));
    let of_fake = expected_pairs(chunk["text"].as_str().unwrap(), u32::try_from(check.pairs).unwrap());
    let words: Vec<(Value, Value)> = if is_foreign {
        let own = found.iter().filter(|pair| {
            pair["source_text"] == chunk["text"] && pair["question"].to_string().contains("Python")
        });
        own.map(|pair| (pair["question"].clone(), pair["answer"].clone())).collect()
    } else {
        of_fake.into_iter().map(|pair| (json!(pair.question), json!(pair.answer))).collect()
    };
    assert_eq!(words.len(), check.pairs, "{name}: chunk {position} has not the Python program's pairs");
    words
        .into_iter()
        .map(|(question, answer)| {
            json!({
                "question": question, "answer": answer, "source_file": metadata["source_file"],
                "file_name": metadata["file_name"], "file_type": metadata["file_type"],
                "chunk_id": chunk["chunk_id"], "chunk_index": chunk["chunk_index"],
                "chunk_start": chunk["start_char"], "chunk_end": chunk["end_char"],
                "source_text": chunk["text"],
            })
        })
        .collect()
}

/// Each chunk that this program finished has one record that says how.
fn check_records(check: &Check<'_>, name: &str, chunks: usize, qa: &Value, defects: &mut Defects) {
    let mut seen = BTreeSet::new();
    for record in qa["chunks"].as_array().unwrap() {
        let chunk = usize::try_from(record["chunk"].as_u64().unwrap()).unwrap();
        defects.unless(seen.insert(chunk), || format!("{name}: chunk {chunk} has two records"));
        let is_failed = check.failed.contains(&(name.to_owned(), chunk));
        let status = if is_failed { "failed" } else { "completed" };
        defects.equal(&format!("{name}: record {chunk}: status"), &record["status"], &json!(status));
        defects.unless(record.get("error").is_some() == is_failed, || {
            format!("{name}: record {chunk}: error is {}", record["error"])
        });
        let got = if is_failed { 0 } else { check.pairs };
        defects.equal(&format!("{name}: record {chunk}: got"), &record["got"], &json!(got));
    }
    for chunk in (0..chunks).filter(|chunk| !check.foreign.contains(&(name.to_owned(), *chunk))) {
        defects.unless(seen.contains(&chunk), || format!("{name}: chunk {chunk} has no record"));
    }
}

fn check_combined(site: &Site, completed: &BTreeMap<String, Value>, defects: &mut Defects) {
    if completed.is_empty() {
        return;
    }
    let combined = read_json(&site.combined());
    // By file name, as the Python program's combiner sorts.
    let mut names: Vec<_> = completed.keys().map(|name| format!("{name}_qa.json")).collect();
    names.sort();
    let documents: Vec<_> =
        names.iter().map(|name| &completed[name.strip_suffix("_qa.json").unwrap()]).collect();
    let pairs: Vec<&Value> =
        documents.iter().flat_map(|qa| qa["training_pairs"].as_array().unwrap()).collect();
    let found: Vec<&Value> = combined["training_pairs"].as_array().unwrap().iter().collect();
    defects.unless(found == pairs, || {
        format!("combined: {} pairs, {} expected, or another order", found.len(), pairs.len())
    });
    let metadata = &combined["metadata"];
    defects.equal("combined: total_qa_pairs", &metadata["total_qa_pairs"], &json!(pairs.len()));
    defects.equal("combined: num_documents", &metadata["num_documents"], &json!(documents.len()));
    let listed = combined["documents"].as_array().unwrap();
    defects.equal("combined: documents", &listed.len(), &documents.len());
    for (entry, qa) in listed.iter().zip(&documents) {
        defects.equal("combined: summary", &entry["summary"], &qa["summary"]);
        defects.equal(
            "combined: qa_generation_info",
            &entry["qa_generation_info"],
            &qa["qa_generation_info"],
        );
        let count = json!(qa["training_pairs"].as_array().unwrap().len());
        defects.equal("combined: qa_pairs_count", &entry["qa_pairs_count"], &count);
        for field in ["file_info", "processing_info", "source_file"] {
            defects.unless(entry.get(field).is_some(), || format!("combined: a document lacks {field}"));
        }
    }
    for field in [
        "chunk_size",
        "chunk_overlap",
        "splitting_strategy",
        "questions_per_chunk",
        "temperature",
        "max_tokens",
        "llm_provider",
        "model_used",
    ] {
        defects.unless(metadata["processing_config"].get(field).is_some(), || {
            format!("combined: processing_config lacks {field}")
        });
    }
}

/// No unfinished files, and no journal entry that nothing needs any more.
fn check_left_overs(site: &Site, defects: &mut Defects) {
    let list = |directory: &Path| -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
    };
    for directory in [site.root().to_owned(), site.qa_dir(), site.job_folder()] {
        for name in list(&directory).iter().filter(|name| name.contains(".tmp")) {
            defects.0.push(format!("left over: {name} in {}", directory.display()));
        }
    }
    for name in list(&site.job_folder()).iter().filter(|name| name.starts_with("journal-")) {
        let text = fs::read_to_string(site.job_folder().join(name)).unwrap();
        let entries = text.lines().count().saturating_sub(1);
        defects.unless(entries == 0, || format!("{name} still holds {entries} entries"));
    }
}
