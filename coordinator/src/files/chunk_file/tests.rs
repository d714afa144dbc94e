//! Chunk files as users have them: good, bad, edited.

use std::fs;

use qa_shared::tokens::estimate_tokens;
use serde_json::json;

use super::super::fixtures::{Document, ready};
use super::*;

fn scan_text(text: &str) -> Result<Scanned, ChunkFileError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a_chunks.json");
    fs::write(&path, text).unwrap();
    ChunkFile::scan(&path, DocumentName::new("a"))
}

#[test]
fn a_document_is_scanned_and_its_chunks_are_read_back_in_any_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = Document::plain("a", &["one", "zwei – 二", "one"]).write_chunks(folder.path());
    let file = ready(&path);
    assert_eq!((file.chunks.len(), file.longest_tokens), (3, estimate_tokens("zwei – 二")));
    assert_eq!(file.metadata.value()["file_name"], "a.txt");
    assert_eq!(file.processing_info.value()["total_chunks"], 3);
    assert_eq!(file.chunks[0].text, file.chunks[2].text);
    assert_ne!(file.chunks[0].id, file.chunks[2].id);
    let mut reader = ChunkReader::open(&file).unwrap();
    for (position, text) in [(1, "zwei – 二"), (0, "one"), (2, "one")] {
        let chunk = reader.read(position).unwrap();
        assert_eq!((chunk.text.as_str(), chunk.chunk_id), (text, json!(format!("0_{position}"))));
    }
}

#[test]
fn a_document_without_chunks_is_ready() {
    let Scanned::Ready(file) = scan_text(r#"{"status": "completed", "chunks": []}"#).unwrap() else {
        panic!()
    };
    assert_eq!((file.chunks.len(), file.metadata.value()), (0, json!({})));
}

#[test]
fn a_document_that_is_not_completed_is_skipped_whatever_else_it_holds() {
    for (text, expected) in [
        (r#"{"status": "processing", "chunks": [{}]}"#, Some("processing")),
        (r#"{"status": "failed"}"#, Some("failed")),
        (r#"{"chunks": []}"#, None),
        (r#"{"status": 3}"#, None),
    ] {
        let Scanned::Skipped { status } = scan_text(text).unwrap() else { panic!("{text}") };
        assert_eq!(status.as_deref(), expected);
    }
}

#[test]
fn every_kind_of_damage_has_its_own_words() {
    for (text, words) in [
        ("", "is damaged: truncated: the file ends at byte 0"),
        (r#"{"status": "completed", "chunks": [{"text": "a"#, "truncated"),
        ("hello", "not JSON: found `h` at byte 0"),
        ("[]", "expected an object"),
        (r#"{"status": "completed", "chunks": [tru]}"#, "chunk 0 the value at byte 35 is not as expected"),
        (r#"{"status": "completed"}"#, "has no list `chunks`"),
        (r#"{"status": "completed", "chunks": {}}"#, "has no list `chunks`"),
        (r#"{"status": "completed", "chunks": [{"text": "a"}, {}]}"#, "chunk 1 has no `text`"),
        (r#"{"status": "completed", "chunks": [{"text": 1}]}"#, "chunk 0 has a `text` that is no string"),
        (r#"{"status": "completed", "chunks": ["a"]}"#, "chunk 0 is no object"),
        (r#"{"status": "completed", "chunks": [{"text": "\ud800"}]}"#, "chunk 0 "),
    ] {
        let error = scan_text(text).unwrap_err().to_string();
        assert!(error.contains(words) && error.contains("a_chunks.json"), "{text}: {error}");
    }
}

#[test]
fn an_edit_after_the_scan_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = Document::plain("a", &["one", "two"]).write_chunks(folder.path());
    let file = ready(&path);
    let reader = ChunkReader::open(&file).unwrap();
    reader.check_unedited().unwrap();
    Document::plain("a", &["one", "edited"]).write_chunks(folder.path());
    assert!(matches!(reader.check_unedited(), Err(ChunkFileError::Edited { .. })));
    assert!(matches!(ChunkReader::open(&file), Err(ChunkFileError::Edited { .. })));
}

#[test]
fn a_missing_file_is_unreadable() {
    let error = ChunkFile::scan(Path::new("/nowhere/a_chunks.json"), DocumentName::new("a")).unwrap_err();
    assert!(matches!(error, ChunkFileError::Unreadable { .. }), "{error}");
}
