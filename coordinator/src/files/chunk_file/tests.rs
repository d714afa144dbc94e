//! Chunk files as users have them: good, bad, edited.

use std::fs;

use qa_shared::tokens::estimate_tokens;
use serde_json::json;

use super::super::fixtures::{Document, ready};
use super::*;

fn scan_text(text: &str) -> Result<Scanned, ChunkFileError> {
    scan_bytes(text.as_bytes())
}

fn scan_bytes(text: &[u8]) -> Result<Scanned, ChunkFileError> {
    let folder = qa_shared::testing::temporary_folder();
    let path = folder.path().join("a_chunks.json");
    fs::write(&path, text).unwrap();
    ChunkFile::scan(&path, DocumentName::new("a"))
}

#[test]
fn a_document_is_scanned_and_its_chunks_are_read_back_in_any_order() {
    let folder = qa_shared::testing::temporary_folder();
    let path = Document::plain("a", &["one", "zwei – 二", "one"]).write_chunks(folder.path());
    let file = ready(&path);
    assert_eq!((file.chunks.len(), file.chunks[1].tokens), (3, estimate_tokens("zwei – 二")));
    assert_eq!(file.metadata.value()["file_name"], "a.txt");
    assert_eq!(file.processing_info.value()["total_chunks"], 3);
    assert_eq!(file.chunks[0].text, file.chunks[2].text);
    assert_ne!(file.chunks[0].id, file.chunks[2].id);
    let mut reader = ChunkReader::open(&file).unwrap();
    for (position, text) in [(1, "zwei – 二"), (0, "one"), (2, "one")] {
        let chunk = reader.read(position).unwrap();
        assert_eq!((chunk.text.as_deref(), chunk.chunk_id), (Ok(text), json!(format!("0_{position}"))));
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
        (r#"{"status": "completed", "chunks": [tru]}"#, "the value at byte 35 is not as expected"),
        (r#"{"status": "completed"}"#, "has no list `chunks`"),
        (r#"{"status": "completed", "chunks": {}}"#, "has no list `chunks`"),
        ("{\"status\": \"completed\", \"chunks\": [{\"text\": 1}] ", "truncated"),
        ("[]", "has no chunk with a text (element 0: there is none): expected {"),
        ("[1, 2]", "has no chunk with a text (element 0: it is the number 1, no object with a `text`)"),
        (
            "{\"pages\": 1}\n{\"pages\": 2}",
            "has no chunk with a text (element 0: it has no `text`, only `pages`)",
        ),
        ("{\"text\": \"a\"}\nrubbish", "not JSON: found `r` at byte 14, expected the end of the file"),
    ] {
        let error = scan_text(text).unwrap_err().to_string();
        assert!(error.contains(words) && error.contains("a_chunks.json"), "{text}: {error}");
    }
}

#[test]
fn an_edit_after_the_scan_is_noticed() {
    let folder = qa_shared::testing::temporary_folder();
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

fn scanned(text: &str) -> ChunkFile {
    match scan_text(text).unwrap() {
        Scanned::Ready(file) => *file,
        Scanned::Skipped { status } => panic!("{text}: skipped: {status:?}"),
    }
}

#[test]
fn chunks_without_a_text_are_chunks_that_are_named() {
    let chunks = r#"{"text": "a"}, {"text": null}, {}, {"text": 1}, 7, {"text": "b"}"#;
    let file = scanned(&format!(r#"{{"status": "completed", "chunks": [{chunks}]}}"#));
    assert_eq!((file.chunks.len(), file.textless.number), (6, 4));
    let named: Vec<_> =
        file.textless.first.iter().map(|(position, found)| (*position, found.as_str())).collect();
    let expected = [
        (1, "`text` is null"),
        (2, "it has no `text`, and nothing else"),
        (3, "`text` is the number 1, no text"),
    ];
    assert_eq!(named, expected);
    assert_eq!((file.chunks[0].text, file.chunks[5].text), (TextHash::of("a"), TextHash::of("b")));
}

#[test]
fn what_python_writes_beside_json_costs_nothing_and_is_counted() {
    let text = r#"{"status": "completed", "elapsed": NaN, "metadata": {"file_name": "Ger\udce4t", "page": NaN},
        "processing_info": {"confidence": -Infinity}, "chunks": [
        {"text": "a", "chunk_index": NaN}, {"text": "half \ud835", "heading": "\ud835"}]}"#;
    let file = scanned(text);
    assert_eq!(file.metadata.value(), json!({"file_name": "Ger\u{fffd}t", "page": null}));
    assert_eq!(file.processing_info.value(), json!({"confidence": null}));
    assert_eq!(file.chunks[1].text, TextHash::of("half \u{fffd}"));
    assert_eq!(file.repairs, Repairs { surrogates: 3, not_numbers: 3, too_deep: 0 });
    assert_eq!(file.textless, Textless::default());
}

#[test]
fn lists_and_lines_of_chunks_are_documents_too() {
    for text in [
        r#"[{"text": "one", "chunk_id": 1}, {"page_content": "two"}]"#,
        "{\"text\": \"one\", \"chunk_id\": 1}\n{\"content\": \"two\"}\n",
        "\u{feff}{\"text\": \"one\", \"chunk_id\": 1}\r\n\r\n{\"text\": \"two\"}",
        r#" [ "one", "two" ] "#,
    ] {
        let file = scanned(text);
        let texts: Vec<_> = file.chunks.iter().map(|chunk| chunk.text).collect();
        assert_eq!(texts, [TextHash::of("one"), TextHash::of("two")], "{text}");
        assert_eq!(file.metadata.value(), json!({}));
    }
    assert_eq!(scanned(r#"{"text": "alone", "chunk_id": 1}"#).chunks.len(), 1);
}

#[test]
fn chunks_of_a_list_and_of_lines_are_read_back() {
    let folder = qa_shared::testing::temporary_folder();
    for (name, text) in [
        ("list", r#"[{"text": "one"}, "two"]"#),
        ("lines", "{\"text\": \"one\"}\n{\"text\": \"two\", \"chunk_id\": 7}\n"),
    ] {
        let path = folder.path().join(format!("{name}_chunks.json"));
        fs::write(&path, text).unwrap();
        let file = ready(&path);
        let mut reader = ChunkReader::open(&file).unwrap();
        assert_eq!(reader.read(1).unwrap().text.as_deref(), Ok("two"));
        assert_eq!(reader.read(0).unwrap().text.as_deref(), Ok("one"));
    }
}

#[test]
fn data_uris_are_counted_and_take_no_tokens_while_the_text_stays_what_it_is() {
    let image = format!("data:image/png;base64,{}", "iVBORw0KGgo".repeat(9000));
    let text = format!("Figure 7. ![pump]({image})");
    let file =
        scanned(&json!({"status": "completed", "chunks": [{"text": text}, {"text": "a"}]}).to_string());
    assert_eq!(file.data_uris, DataUris { chunks: 1, number: 1, bytes: image.len() });
    assert_eq!(file.chunks[0].tokens, estimate_tokens("Figure 7. ![pump]([image/png left out])"));
    assert_eq!(file.chunks[0].text, TextHash::of(&text));
}

#[test]
fn another_encoding_is_named() {
    let text = r#"{"status": "completed", "metadata": {"n": "Gerät"}, "chunks": [{"text": "Gerät"}]}"#;
    let latin: Vec<u8> = text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
    let utf16 = |mark: &[u16], bytes: fn(u16) -> [u8; 2]| -> Vec<u8> {
        mark.iter().copied().chain(text.encode_utf16()).flat_map(bytes).collect()
    };
    for (bytes, named) in [
        (latin, "not UTF-8 but perhaps Latin-1 or Windows-1252 (byte 0xe4 at byte 46)"),
        (utf16(&[0xfeff], u16::to_le_bytes), "not UTF-8 but UTF-16: save it as UTF-8"),
        (utf16(&[0xfeff], u16::to_be_bytes), "not UTF-8 but UTF-16"),
        (utf16(&[], u16::to_le_bytes), "not UTF-8 but UTF-16"),
        (utf16(&[], u16::to_be_bytes), "not UTF-8 but UTF-16"),
        (
            [0xff, 0xfe, 0, 0].into_iter().chain(text.bytes().flat_map(|b| [b, 0, 0, 0])).collect(),
            "not UTF-8 but UTF-32",
        ),
    ] {
        let error = scan_bytes(&bytes).unwrap_err().to_string();
        assert!(error.contains(named) && error.contains("a_chunks.json"), "{error}");
    }
}
