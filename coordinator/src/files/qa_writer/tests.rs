//! Snapshots: whole documents from all three sources, over several writes, and what must never be lost.

use qa_shared::model::{JobId, Outcome, TextHash};

use super::super::adopt::{Adopted, adopt};
use super::super::fixtures::{Document, completed_result, failed_result, ready, settings};
use super::super::journal::SEGMENT_BYTES;
use super::super::record::count;
use super::super::{ChunkRecord, Entry, Journal, TornEnd};
use super::*;

struct Desk {
    folder: tempfile::TempDir,
    journal: Journal,
    reader: JournalReader,
    document: Document,
    chunk_file: ChunkFile,
}

impl Desk {
    fn new(document: Document) -> Self {
        let folder = qa_shared::testing::temporary_folder();
        let chunk_file = ready(&document.write_chunks(folder.path()));
        let (journal, torn): (_, Vec<TornEnd>) =
            Journal::open(folder.path(), &JobId::from_random(1), SEGMENT_BYTES, |_, _| {}).unwrap();
        assert!(torn.is_empty());
        let reader = journal.reader();
        Self { folder, journal, reader, document, chunk_file }
    }

    fn target(&self) -> PathBuf {
        self.folder.path().join(format!("{}_qa.json", self.document.name))
    }

    /// Three pairs in the journal.
    fn complete(&mut self, position: usize, round: u32) -> ChunkSource {
        self.result(position, |key, text| completed_result("a", key, round, text, 3))
    }

    fn fail(&mut self, position: usize) -> ChunkSource {
        self.result(position, |key, text| failed_result("a", key, 1, text))
    }

    fn result(
        &mut self,
        position: usize,
        make: impl Fn(u32, &str) -> qa_shared::model::TaskResult,
    ) -> ChunkSource {
        let text = self.document.chunks[position].0.clone();
        let result = make(count(position), &text);
        let record = ChunkRecord::from_result(
            &result,
            TextHash::of(&text),
            &settings(),
            "2026-11-23T03:11:51.942308".into(),
        );
        let pairs = match result.outcome {
            Outcome::Completed { pairs } => pairs,
            Outcome::Failed { .. } => Vec::new(),
        };
        let document = self.chunk_file.name.clone();
        ChunkSource::Journal(
            self.journal.append(&Entry::Result { document, record: Box::new(record), pairs }).unwrap(),
        )
    }

    fn write(&mut self, chunks: &[ChunkSource], previous: Option<&QaSource>, status: FileStatus) -> Written {
        self.try_write(chunks, previous, status).unwrap()
    }

    fn try_write(
        &mut self,
        chunks: &[ChunkSource],
        previous: Option<&QaSource>,
        status: FileStatus,
    ) -> Result<Written, SnapshotError> {
        write_snapshot(Snapshot {
            target: &self.target(),
            chunk_file: &self.chunk_file,
            chunks,
            previous,
            journal: &mut self.reader,
            status,
            generation_info: &generation_info(&settings(), "2026-11-23T03:11:50.676565"),
            completion_time: Some("2026-11-23T03:11:51.942308"),
            error: (status == FileStatus::Failed).then_some("no chunk could be completed"),
            keep_previous_in: Some(&self.folder.path().join("previous")),
            models: &ModelTable::default(),
        })
    }

    fn adopted(&self) -> (QaFile, Adopted) {
        let old = QaFile::load(&self.target()).unwrap();
        let adopted = adopt(&self.chunk_file, &old);
        (old, adopted)
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&fs::read(self.target()).unwrap()).unwrap()
    }

    /// What the outside checker demands of every finished file, and that adopting it changes nothing.
    fn check_finished(&self) {
        let file = self.json();
        let (old, adopted) = self.adopted();
        assert!(!adopted.needs_rewrite, "{:?}", adopted.counts);
        let mut expected = Vec::new();
        for (position, source) in adopted.chunks.iter().enumerate() {
            let ChunkSource::Previous(chunk) = source else { panic!("chunk {position} is outstanding") };
            assert!(chunk.record.unwrap().is_exact);
            expected.extend(std::iter::repeat_n(position, chunk.finished.got() as usize));
        }
        let pairs = file["training_pairs"].as_array().unwrap();
        assert_eq!(pairs.len(), expected.len());
        for (pair, position) in pairs.iter().zip(expected) {
            let truth = self.document.python_pair(position, 0);
            let keys = pair.as_object().unwrap().keys().collect::<Vec<_>>();
            assert_eq!(keys[..10], truth.as_object().unwrap().keys().collect::<Vec<_>>());
            for key in &keys[2..10] {
                assert_eq!(pair[*key], truth[*key], "{key}");
            }
        }
        assert_eq!(file["summary"]["total_qa_pairs"], old.pairs.len());
        assert_eq!(file["metadata"], self.document.metadata());
    }
}

fn without_records(bytes: &[u8]) -> String {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let (start, rest) = text.split_once("  \"chunks\": [").unwrap();
    let (_, rest) = rest.split_once("  \"training_pairs\": ").unwrap();
    format!("{start}  \"chunks\": [],\n  \"training_pairs\": {rest}")
}

#[test]
fn a_python_file_is_written_again_byte_for_byte_but_for_its_records() {
    let mut desk = Desk::new(Document::pages("v2.final", &[&["eins", "z\"\\\u{7}–"], &["b", "z\"\\\u{7}–"]]));
    desk.document.write_python_qa(desk.folder.path(), &[0, 1, 2, 3], &[], 3);
    let before = fs::read(desk.target()).unwrap();
    let (old, adopted) = desk.adopted();
    desk.write(&adopted.chunks, Some(&old.source), FileStatus::Completed);
    let after = fs::read(desk.target()).unwrap();
    assert_eq!(without_records(&after), String::from_utf8(before.clone()).unwrap());
    let kept = desk.folder.path().join("previous/1/v2.final_qa.json");
    assert_eq!(fs::read(kept).unwrap(), before);
    let record = &desk.json()["chunks"][3];
    assert_eq!(
        (&record["got"], &record["model"], &record["round"]),
        (&3.into(), &"qwen3:14b".into(), &0.into())
    );
    desk.check_finished();
}

#[test]
fn an_interrupted_python_file_is_finished_and_its_pairs_stand_as_they_were() {
    let mut desk = Desk::new(Document::plain("FAQ – überblick 概要", &["a", "b", "c", "d"]));
    desk.document.write_python_qa(desk.folder.path(), &[0, 2], &[3], 3);
    let before = desk.json();
    let (old, Adopted { mut chunks, .. }) = desk.adopted();
    chunks[1] = desk.complete(1, 1);
    chunks[3] = desk.complete(3, 1);
    desk.write(&chunks, Some(&old.source), FileStatus::Completed);
    let after = desk.json();
    let pairs = |file: &Value, range: std::ops::Range<usize>| {
        file["training_pairs"].as_array().unwrap()[range].to_vec()
    };
    assert_eq!(pairs(&after, 0..3), pairs(&before, 0..3));
    assert_eq!(pairs(&after, 6..9), pairs(&before, 3..6));
    assert_eq!(after["failed_chunks"], json!([]));
    desk.check_finished();
}

#[test]
fn pairs_that_python_appended_last_are_sorted_into_place() {
    let mut desk = Desk::new(Document::plain("a", &["a", "b", "c"]));
    desk.document.write_python_qa(desk.folder.path(), &[1, 2, 0], &[], 3);
    let (old, adopted) = desk.adopted();
    assert!(adopted.needs_rewrite);
    desk.write(&adopted.chunks, Some(&old.source), FileStatus::Completed);
    assert_eq!(desk.json()["training_pairs"][0]["source_text"], "a");
    desk.check_finished();
}

#[test]
fn a_document_grows_over_snapshots_without_being_read_again() {
    let mut desk = Desk::new(Document::plain("a", &["a", "b", "c", "d", "e"]));
    let mut chunks = vec![ChunkSource::Outstanding; 5];
    let mut previous: Option<QaSource> = None;
    for (step, position) in [3, 0, 4, 1, 2].into_iter().enumerate() {
        chunks[position] = if position == 4 { desk.fail(4) } else { desk.complete(position, 1) };
        let status = if step == 4 { FileStatus::Completed } else { FileStatus::InProgress };
        let written = desk.write(&chunks, previous.as_ref(), status);
        assert_eq!(written.covered.len(), 1);
        assert_eq!(written.bytes, fs::metadata(desk.target()).unwrap().len());
        desk.journal.release(&written.covered).unwrap();
        let (loaded, adopted) = desk.adopted();
        assert_eq!(adopted.chunks, written.chunks, "the index is what a scan finds");
        assert_eq!(loaded.source.fingerprint, written.source.fingerprint);
        (chunks, previous) = (written.chunks, Some(written.source));
    }
    assert_eq!(desk.journal.uncovered(), 0);
    desk.check_finished();
    let file = desk.json();
    assert_eq!(
        (&file["failed_chunks"], &file["chunks"][4]["error"]["reason"]),
        (&json!([4]), &"no_usable_answer".into())
    );
    let keys: Vec<_> = file.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = [
        "metadata",
        "processing_info",
        "qa_generation_info",
        "chunks",
        "training_pairs",
        "status",
        "completed_chunks",
        "failed_chunks",
        "completion_time",
        "summary",
    ];
    assert_eq!(keys, expected);
}

#[test]
fn moved_chunks_get_their_new_provenance_and_extra_fields_survive() {
    let mut desk = Desk::new(Document::plain("a", &["a", "b"]));
    let chunks = [desk.complete(0, 1), desk.complete(1, 1)];
    desk.write(&chunks, None, FileStatus::Completed);
    let mut edited = desk.json();
    edited["later"] = json!({"x": [1.5]});
    edited["training_pairs"][5]["rating"] = json!(5);
    edited["chunks"][1]["seen_by"] = json!("me");
    fs::write(desk.target(), serde_json::to_vec(&edited).unwrap()).unwrap();

    desk.document = Document::plain("a", &["new", "a", "b"]);
    desk.chunk_file = ready(&desk.document.write_chunks(desk.folder.path()));
    let (old, Adopted { mut chunks, counts, .. }) = desk.adopted();
    assert_eq!((counts.moved, counts.new), (2, 1));
    chunks[0] = desk.complete(0, 1);
    desk.write(&chunks, Some(&old.source), FileStatus::Completed);
    let file = desk.json();
    assert_eq!((&file["later"], &file["training_pairs"][8]["rating"]), (&json!({"x": [1.5]}), &5.into()));
    assert_eq!((&file["chunks"][2]["seen_by"], &file["chunks"][2]["chunk"]), (&"me".into(), &2.into()));
    desk.check_finished();
}

#[test]
fn empty_and_hopeless_documents_have_their_status() {
    let mut desk = Desk::new(Document::plain("empty", &[]));
    desk.write(&[], None, FileStatus::finished(0, 0));
    assert_eq!(
        (desk.json()["status"].clone(), desk.json()["training_pairs"].clone()),
        (json!("completed"), json!([]))
    );
    desk.check_finished();
    let mut desk = Desk::new(Document::plain("hopeless", &["a"]));
    let chunks = [desk.fail(0)];
    desk.write(&chunks, None, FileStatus::finished(0, 1));
    let file = desk.json();
    assert_eq!((&file["status"], &file["error"]), (&json!("failed"), &json!("no chunk could be completed")));
    desk.check_finished();
}

#[test]
fn an_edited_chunk_file_leaves_the_old_result_alone() {
    let mut desk = Desk::new(Document::plain("a", &["a"]));
    let chunks = [desk.complete(0, 1)];
    desk.write(&chunks, None, FileStatus::Completed);
    let before = fs::read(desk.target()).unwrap();
    Document::plain("a", &["A"]).write_chunks(desk.folder.path());
    let error = desk.try_write(&chunks, None, FileStatus::Completed).unwrap_err();
    assert!(matches!(error, SnapshotError::Chunks(ChunkFileError::Edited { .. })), "{error}");
    assert_eq!(fs::read(desk.target()).unwrap(), before);
}

#[test]
fn a_file_that_another_program_wrote_meanwhile_is_not_replaced() {
    let mut desk = Desk::new(Document::plain("a", &["a"]));
    let chunks = [desk.complete(0, 1)];
    let written = desk.write(&chunks, None, FileStatus::InProgress);
    fs::write(desk.target(), "{}").unwrap();
    let error = desk.try_write(&written.chunks, Some(&written.source), FileStatus::Completed).unwrap_err();
    assert!(matches!(error, SnapshotError::Changed { .. }), "{error}");
    assert_eq!(fs::read(desk.target()).unwrap(), b"{}");
}

#[test]
fn a_journal_entry_of_another_chunk_is_never_written() {
    let mut desk = Desk::new(Document::plain("a", &["a", "b"]));
    let entry = desk.complete(0, 1);
    let error = desk.try_write(&[entry.clone(), entry], None, FileStatus::Completed).unwrap_err();
    assert!(matches!(error, SnapshotError::Misplaced { position: 1, .. }), "{error}");
    assert!(!desk.target().exists());
}

#[test]
fn an_unprocessable_document_is_noted_but_replaces_no_results() {
    let mut desk = Desk::new(Document::plain("a", &["a"]));
    let info = generation_info(&settings(), "now");
    for error in ["truncated", "still truncated"] {
        assert!(write_unprocessable(&desk.target(), error, &info).unwrap());
        assert_eq!((&desk.json()["status"], &desk.json()["error"]), (&json!("failed"), &json!(error)));
    }
    let chunks = [desk.complete(0, 1)];
    desk.write(&chunks, None, FileStatus::Completed);
    assert!(!write_unprocessable(&desk.target(), "truncated", &info).unwrap());
    desk.check_finished();
}

#[test]
fn what_is_kept_aside_is_never_replaced() {
    let folder = qa_shared::testing::temporary_folder();
    let file = folder.path().join("a_qa.json");
    for number in ["1", "2"] {
        fs::write(&file, number).unwrap();
        let kept = keep_aside(&file, &folder.path().join("previous")).unwrap().unwrap();
        assert_eq!(kept, folder.path().join("previous").join(number).join("a_qa.json"));
    }
    assert_eq!(fs::read_to_string(folder.path().join("previous/1/a_qa.json")).unwrap(), "1");
}

#[test]
fn what_the_python_program_wrote_beside_json_is_adopted_and_written_as_json() {
    let desk = Desk::new(Document::plain("a", &["half \u{fffd}", "two"]));
    let python = desk.document.write_python_qa(desk.folder.path(), &[0, 1], &[], 2);
    let text = fs::read_to_string(&python).unwrap();
    // As Python writes half a surrogate pair and NaN.
    let text = text.replace('\u{fffd}', "\\ud835").replace("\"A1 of 1.\"", "\"A1 of \\udce9 1.\"");
    let text = text.replacen("\"status\"", "\"elapsed\": NaN,\n  \"status\"", 1);
    assert_eq!((text.matches("\\ud835").count(), text.matches("udce9").count()), (4, 1), "{text}");
    fs::write(&python, text).unwrap();
    let old = QaFile::load(&python).unwrap();
    let Adopted { chunks, counts, needs_rewrite, keep_previous } = adopt(&desk.chunk_file, &old);
    assert_eq!((counts.kept, counts.new, needs_rewrite, keep_previous), (2, 0, true, true));
    let mut desk = desk;
    let info = generation_info(&settings(), "now");
    let written = write_snapshot(Snapshot {
        target: &python,
        chunk_file: &desk.chunk_file,
        chunks: &chunks,
        previous: Some(&old.source),
        journal: &mut desk.reader,
        status: FileStatus::Completed,
        generation_info: &info,
        completion_time: None,
        error: None,
        keep_previous_in: None,
        models: &ModelTable::default(),
    })
    .unwrap();
    assert_eq!((written.pairs, written.source.is_flawed), (4, false));
    let file: Value = serde_json::from_slice(&fs::read(&python).unwrap()).unwrap();
    assert_eq!(file["elapsed"], Value::Null);
    assert_eq!(file["training_pairs"][0]["source_text"], "half \u{fffd}");
    assert_eq!(file["training_pairs"][3]["answer"], "A1 of \u{fffd} 1.");
    assert!(!adopt(&desk.chunk_file, &QaFile::load(&python).unwrap()).needs_rewrite);
}

#[test]
fn pairs_of_a_chunk_file_without_provenance_have_the_documents_name_and_their_position() {
    let mut desk = Desk::new(Document::plain("a", &["one", "two"]));
    let minimal =
        r#"{"status": "completed", "chunks": [{"text": "one"}, {"text": "two", "chunk_index": NaN}]}"#;
    fs::write(&desk.chunk_file.path, minimal).unwrap();
    desk.chunk_file = ready(&desk.chunk_file.path);
    let chunks = [desk.complete(0, 1), desk.complete(1, 1)];
    desk.journal.sync().unwrap();
    let (target, info) = (desk.target(), generation_info(&settings(), "now"));
    write_snapshot(Snapshot {
        target: &target,
        chunk_file: &desk.chunk_file,
        chunks: &chunks,
        previous: None,
        journal: &mut desk.reader,
        status: FileStatus::Completed,
        generation_info: &info,
        completion_time: None,
        error: None,
        keep_previous_in: None,
        models: &ModelTable::default(),
    })
    .unwrap();
    let file: Value = serde_json::from_slice(&fs::read(&target).unwrap()).unwrap();
    let pairs = file["training_pairs"].as_array().unwrap();
    let where_from: Vec<_> = pairs.iter().map(|pair| (&pair["file_name"], &pair["chunk_index"])).collect();
    assert_eq!(where_from[0], (&json!("a"), &json!(0)));
    assert_eq!(where_from[5], (&json!("a"), &json!(1)));
    assert_eq!((&pairs[0]["source_file"], &pairs[0]["chunk_id"]), (&Value::Null, &Value::Null));
}
