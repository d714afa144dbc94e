//! Combined files: their structure, whose they are, and never half of one.

use std::fs;

use super::super::fixtures::Document;
use super::super::job_folder::FOLDER;
use super::*;

static NONE: BTreeSet<DocumentName> = BTreeSet::new();

struct Desk {
    folder: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        let folder = qa_shared::testing::temporary_folder();
        for name in ["qa", "other"] {
            fs::create_dir_all(folder.path().join(name).join(FOLDER)).unwrap();
        }
        Self { folder }
    }

    fn qa(&self) -> PathBuf {
        self.folder.path().join("qa")
    }

    fn output(&self) -> PathBuf {
        self.folder.path().join("training_data.json")
    }

    fn order<'a>(qa_directory: &'a Path, output: &'a Path) -> Combine<'a> {
        let generated_at = "2026-11-23T03:13:22.700291";
        Combine { qa_directory, output, unfinished: &NONE, overwrite: false, generated_at }
    }

    fn combine(&self) -> Result<CombineReport, CombineError> {
        combine(Self::order(&self.qa(), &self.output()))
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&fs::read(self.output()).unwrap()).unwrap()
    }
}

fn load(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn completed_documents_are_combined_in_order_and_everything_else_is_listed() {
    let desk = Desk::new();
    let b = Document::plain("b", &["x", "y"]).write_python_qa(&desk.qa(), &[0, 1], &[], 3);
    let a = Document::plain("a 概要", &["z"]).write_python_qa(&desk.qa(), &[0], &[], 2);
    Document::plain("half", &["x", "y"]).write_python_qa(&desk.qa(), &[0], &[], 3);
    fs::write(desk.qa().join("cut_qa.json"), "{\"status\": \"completed\", ").unwrap();
    fs::write(desk.qa().join("odd_qa.json"), r#"{"status": "completed", "training_pairs": [7]}"#).unwrap();
    fs::write(desk.qa().join("._a_qa.json"), "x").unwrap();

    let (qa, output) = (desk.qa(), desk.output());
    let report = combine(Desk::order(&qa, &output)).unwrap();
    assert_eq!(
        (report.combined.as_slice(), report.pairs),
        (["a 概要_qa.json".into(), "b_qa.json".into()].as_slice(), 8)
    );
    assert_eq!(report.skipped, [("half_qa.json".into(), "interrupted".into())]);
    assert_eq!(report.unreadable.len(), 2);
    assert!(report.unreadable[0].1.contains("truncated"), "{:?}", report.unreadable);
    assert_eq!(report.pairs_of.values().copied().collect::<Vec<_>>(), [2, 6]);

    let (a, b) = (load(&a), load(&b));
    let document = |file: &Value, name: &str, pairs: usize| {
        json!({
            "file_info": file["metadata"], "processing_info": file["processing_info"],
            "qa_generation_info": file["qa_generation_info"], "summary": file["summary"],
            "qa_pairs_count": pairs, "source_file": name,
        })
    };
    let pairs = |file: &Value| file["training_pairs"].as_array().unwrap().clone();
    let expected = json!({
        "metadata": {
            "generated_by": "qa_combiner", "generated_at": "2026-11-23T03:13:22.700291", "total_qa_pairs": 8,
            "num_documents": 2, "source_qa_files": ["a 概要_qa.json", "b_qa.json"],
            "processing_config": {
                "chunk_size": 1000, "chunk_overlap": 200, "splitting_strategy": "recursive",
                "questions_per_chunk": 2, "temperature": 0.3, "max_tokens": 2000, "llm_provider": "local",
                "model_used": "qwen3:14b",
            },
        },
        "documents": [document(&a, "a 概要_qa.json", 2), document(&b, "b_qa.json", 6)],
        "training_pairs": ([pairs(&a), pairs(&b)].concat()),
    });
    let text = fs::read_to_string(desk.output()).unwrap();
    assert_eq!(text, serde_json::to_string_pretty(&expected).unwrap());
}

#[test]
fn the_same_inputs_give_the_same_bytes() {
    let desk = Desk::new();
    for name in ["a", "B", "ä"] {
        Document::plain(name, &["x"]).write_python_qa(&desk.qa(), &[0], &[], 3);
    }
    desk.combine().unwrap();
    let first = fs::read(desk.output()).unwrap();
    desk.combine().unwrap();
    assert_eq!(fs::read(desk.output()).unwrap(), first);
}

#[test]
fn a_document_without_pairs_gives_a_combined_file_without_pairs() {
    let desk = Desk::new();
    Document::plain("empty", &[]).write_python_qa(&desk.qa(), &[], &[], 3);
    assert_eq!(desk.combine().unwrap().pairs, 0);
    assert_eq!(
        (&desk.json()["training_pairs"], &desk.json()["metadata"]["num_documents"]),
        (&json!([]), &json!(1))
    );
}

#[test]
fn nothing_to_combine_leaves_the_old_file() {
    let desk = Desk::new();
    let document = Document::plain("a", &["x", "y"]);
    document.write_python_qa(&desk.qa(), &[0, 1], &[], 3);
    desk.combine().unwrap();
    document.write_python_qa(&desk.qa(), &[0], &[], 3);
    let error = desk.combine().unwrap_err();
    assert!(matches!(&error, CombineError::Nothing { report, .. } if report.skipped.len() == 1), "{error}");
    assert_eq!(desk.json()["metadata"]["num_documents"], 1);
    assert_eq!(fs::read_dir(desk.folder.path()).unwrap().count(), 3, "nothing half is left");
}

#[test]
fn the_combined_file_of_another_directory_is_not_replaced_even_with_equal_names() {
    let desk = Desk::new();
    let other = desk.folder.path().join("other");
    let document = Document::plain("a", &["x"]);
    document.write_python_qa(&other, &[0], &[], 3);
    combine(Desk::order(&other, &desk.output())).unwrap();
    let path = document.write_python_qa(&desk.qa(), &[0], &[], 3);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("03:11:50.676565", "09:00:00.000000")).unwrap();
    let error = desk.combine().unwrap_err().to_string();
    assert!(
        error.contains("was combined from another Q&A directory") && error.contains("--overwrite"),
        "{error}"
    );
    let (qa, output) = (desk.qa(), desk.output());
    combine(Combine { overwrite: true, ..Desk::order(&qa, &output) }).unwrap();
    desk.combine().unwrap();
    let error = combine(Desk::order(&other, &desk.output())).unwrap_err();
    assert!(
        matches!(error, CombineError::NotOurs { .. }),
        "the other directory's memory is out of date: {error}"
    );
}

#[test]
fn ones_own_file_is_replaced_though_every_document_is_another_one_now() {
    let desk = Desk::new();
    let old = Document::plain("old", &["x"]).write_python_qa(&desk.qa(), &[0], &[], 3);
    desk.combine().unwrap();
    fs::remove_file(old).unwrap();
    Document::plain("new", &["y"]).write_python_qa(&desk.qa(), &[0], &[], 3);
    assert_eq!(desk.combine().unwrap().combined, ["new_qa.json"]);
}

#[test]
fn the_python_programs_combined_file_is_replaced_and_a_foreign_file_is_not() {
    let desk = Desk::new();
    Document::plain("a", &["x"]).write_python_qa(&desk.qa(), &[0], &[], 3);
    desk.combine().unwrap();
    fs::remove_file(desk.qa().join(FOLDER).join("combined.json")).unwrap();
    desk.combine().unwrap();
    for foreign in ["notes", "{\"metadata\": {}}"] {
        fs::write(desk.output(), foreign).unwrap();
        let error = desk.combine().unwrap_err().to_string();
        assert!(error.contains("is no combined file"), "{error}");
        assert_eq!(fs::read_to_string(desk.output()).unwrap(), foreign);
    }
}

#[test]
fn a_combined_file_within_the_directory_is_no_document_of_it() {
    let desk = Desk::new();
    Document::plain("a", &["x"]).write_python_qa(&desk.qa(), &[0], &[], 3);
    let output = desk.qa().join("all.json");
    for _ in 0..2 {
        let report = combine(Desk::order(&desk.qa(), &output)).unwrap();
        assert_eq!((report.combined.len(), report.skipped.len()), (1, 0));
    }
    let error = combine(Desk::order(&desk.qa(), &desk.qa().join("all_qa.json"))).unwrap_err();
    assert!(matches!(error, CombineError::Place(_)), "{error}");
}

/// A completed Q&A file with one pair.
fn write_qa(desk: &Desk, name: &str, pair: &str) {
    let text =
        format!("{{\"metadata\": {{}}, \"training_pairs\": [\n    {pair}\n  ], \"status\": \"completed\"}}");
    fs::write(desk.qa().join(format!("{name}_qa.json")), text).unwrap();
}

#[test]
fn a_column_of_several_types_is_text_in_every_pair_and_one_note_names_the_documents() {
    let desk = Desk::new();
    write_qa(&desk, "one", r#"{"question": "q", "chunk_id": "0_1", "chunk_index": 1, "chunk_start": 0}"#);
    write_qa(&desk, "two", r#"{"question": "q", "chunk_id": 7, "chunk_index": "1", "chunk_start": 0.5}"#);
    write_qa(
        &desk,
        "three",
        r#"{"question": "q", "chunk_id": null, "chunk_index": [1], "chunk_start": null}"#,
    );
    let report = desk.combine().unwrap();
    assert_eq!(report.text_columns, ["chunk_id", "chunk_index"]);
    let note = report.note.unwrap();
    assert!(note.contains("`chunk_id` (number in two_qa.json; text in one_qa.json)"), "{note}");
    let combined = desk.json();
    let pairs = combined["training_pairs"].as_array().unwrap();
    let columns: Vec<_> = pairs
        .iter()
        .map(|pair| json!([pair["chunk_id"], pair["chunk_index"], pair["chunk_start"]]))
        .collect();
    assert_eq!(columns, [json!(["0_1", "1", 0]), json!([null, "[1]", null]), json!(["7", "1", 0.5])]);
}

#[test]
fn columns_of_one_type_are_copied_byte_for_byte() {
    let desk = Desk::new();
    let pairs = [
        r#"{"question":"\u00fc","chunk_id":  "a","n":1}"#,
        r#"{ "question": "q", "chunk_id": null, "n": 1.50 }"#,
    ];
    write_qa(&desk, "one", pairs[0]);
    write_qa(&desk, "two", pairs[1]);
    let report = desk.combine().unwrap();
    assert_eq!((report.text_columns.len(), report.note), (0, None));
    let text = fs::read_to_string(desk.output()).unwrap();
    assert!(pairs.iter().all(|pair| text.contains(pair)), "{text}");
}

#[test]
fn what_is_no_json_in_a_pair_is_repaired() {
    let desk = Desk::new();
    write_qa(&desk, "one", r#"{"question": "half \ud835", "chunk_index": NaN}"#);
    assert_eq!(desk.combine().unwrap().pairs, 1);
    assert_eq!(desk.json()["training_pairs"], json!([{"question": "half \u{fffd}", "chunk_index": null}]));
}

#[test]
fn a_document_that_is_not_completed_is_combined_where_that_is_wanted() {
    let desk = Desk::new();
    Document::plain("half", &["x", "y"]).write_python_qa(&desk.qa(), &[0], &[], 3);
    Document::plain("other", &["x", "y"]).write_python_qa(&desk.qa(), &[0], &[], 3);
    let (qa, output) = (desk.qa(), desk.output());
    let unfinished = BTreeSet::from([DocumentName::new("half")]);
    let report = combine(Combine { unfinished: &unfinished, ..Desk::order(&qa, &output) }).unwrap();
    assert_eq!((report.combined, report.pairs), (vec!["half_qa.json".to_owned()], 3));
    assert_eq!(report.skipped.len(), 1);
}
