//! A document of 100,000 chunks, made as text: adopted from the Python program, in disorder, and written.

use std::fmt::Write;
use std::fs;

use qa_shared::model_table::ModelTable;

use super::fixtures::ready;
use super::{Journal, QaFile, Snapshot, adopt, write_snapshot};
use crate::core::FileStatus;

const CHUNKS: usize = 100_000;

fn chunk_file() -> String {
    let mut text = r#"{"status":"completed","metadata":{},"processing_info":{},"chunks":["#.to_owned();
    for position in 0..CHUNKS {
        let comma = if position == 0 { "" } else { "," };
        write!(text, r#"{comma}{{"text":"Text {position}","chunk_id":"0_{position}"}}"#).unwrap();
    }
    text + "]}"
}

/// The pairs in reverse order.
fn python_file() -> String {
    let mut text = r#"{"metadata":{},"processing_info":{},"chunks":[],"training_pairs":["#.to_owned();
    let rest = [
        "source_file",
        "file_name",
        "file_type",
        "chunk_id",
        "chunk_index",
        "chunk_start",
        "chunk_end",
        "source_text",
    ];
    for position in (0..CHUNKS).rev() {
        text.push_str("\n    {\n      \"question\": \"Q\",\n      \"answer\": \"A\"");
        for key in rest {
            match key {
                "chunk_id" => write!(text, ",\n      \"{key}\": \"0_{position}\"").unwrap(),
                "source_text" => write!(text, ",\n      \"{key}\": \"Text {position}\"").unwrap(),
                _ => write!(text, ",\n      \"{key}\": null").unwrap(),
            }
        }
        text.push_str(if position == 0 { "\n    }" } else { "\n    }," });
    }
    let completed: Vec<usize> = (0..CHUNKS).collect();
    write!(text, r#"],"status":"completed","completed_chunks":{completed:?},"failed_chunks":[]}}"#).unwrap();
    text
}

#[test]
fn a_document_of_100_000_chunks_is_adopted_and_put_in_order() {
    let folder = qa_shared::testing::temporary_folder();
    let (chunks, target) = (folder.path().join("a_chunks.json"), folder.path().join("a_qa.json"));
    fs::write(&chunks, chunk_file()).unwrap();
    fs::write(&target, python_file()).unwrap();
    let chunk_file = ready(&chunks);
    let old = QaFile::load(&target).unwrap();
    let adopted = adopt(&chunk_file, &old);
    assert_eq!((adopted.counts.kept, adopted.needs_rewrite), (CHUNKS, true));
    let job = qa_shared::model::JobId::from_random(1);
    let (journal, _) = Journal::open(folder.path(), &job, 1, |_, _| {}).unwrap();
    let written = write_snapshot(Snapshot {
        target: &target,
        chunk_file: &chunk_file,
        chunks: &adopted.chunks,
        previous: Some(&old.source),
        journal: &mut journal.reader(),
        status: FileStatus::Completed,
        generation_info: &serde_json::Value::Null,
        completion_time: None,
        error: None,
        keep_previous_in: None,
        models: &ModelTable::default(),
    })
    .unwrap();
    assert_eq!((written.chunks.len(), written.pairs), (CHUNKS, CHUNKS as u64));
    assert_eq!(written.bytes, fs::metadata(&target).unwrap().len());
}
