//! Files of others, and our own after damage, mutated: read or refused with a message, never more.

use std::path::Path;

use qa_coordinator::files::{ChunkFile, ChunkReader, JobFolder, Journal, QaFile, SEGMENT_BYTES, Scanned};
use qa_shared::model::{DocumentName, JobId};
use qa_shared::testing::fuzz::Fuzz;

const CHUNKS: &str = r#"{"status": "completed", "metadata": {"file_name": "a.txt"}, "processing_info": {"total_chunks": 2},
 "chunks": [{"text": "Streams store messages.", "chunk_id": "0_0", "chunk_index": 0, "start_char": 0, "end_char": 23}, {"text": "é😀\ud83d\ude00", "chunk_id": 7}]}"#;
const QA: &str = r#"{"metadata": {}, "qa_generation_info": {"provider": "local", "model": "m", "questions_per_chunk": 3}, "chunks": [{"chunk": 0, "text_hash": "938ba716b1151f366f29f706b38c5f8a", "status": "completed", "round": 1, "got": 1}],
 "training_pairs": [{"question": "Why?", "answer": "So.", "chunk_id": "0_0", "chunk_index": 0, "source_text": "Streams store messages."}], "status": "in_progress", "completed_chunks": [0], "failed_chunks": [1, 1]}"#;

fn in_folder(name: &str, work: impl Fn(&Path)) {
    let folder = qa_shared::testing::temporary_folder();
    work(&folder.path().join(name));
}

#[test]
fn chunk_files() {
    in_folder("a_chunks.json", |path| {
        Fuzz::of("chunk files").example(CHUNKS).example("{}").run(|bytes| {
            std::fs::write(path, bytes).expect("the file can be written");
            let Ok(Scanned::Ready(file)) = ChunkFile::scan(path, DocumentName::new("a")) else { return };
            let Ok(mut reader) = ChunkReader::open(&file) else { return };
            for position in 0..file.chunks.len() {
                // What the scan has seen can be read, unless it was no chunk.
                drop(reader.read(position));
            }
        });
    });
}

#[test]
fn qa_files() {
    in_folder("a_qa.json", |path| {
        Fuzz::of("Q&A files").example(QA).example("{}").run(|bytes| {
            std::fs::write(path, bytes).expect("the file can be written");
            drop(QaFile::load(path));
        });
    });
}

#[test]
fn job_files_and_journals() {
    let folder = qa_shared::testing::temporary_folder();
    let job_folder = JobFolder::create(folder.path()).expect("it can be made");
    let job = JobId::from_random(1);
    let (mut journal, _) =
        Journal::open(job_folder.path(), &job, SEGMENT_BYTES, |_, _| {}).expect("a new journal");
    journal
        .append(&qa_coordinator::files::Entry::Rounds {
            document: DocumentName::new("a"),
            chunks: vec![1, 2],
            round: 2,
        })
        .expect("it can be written");
    journal.sync().expect("and synced");
    drop(journal);
    let segment = Journal::segments(job_folder.path()).expect("it can be listed").remove(0);
    let good = std::fs::read(&segment).expect("it can be read");
    Fuzz::of("journals").example(good).run(|bytes| {
        std::fs::write(&segment, bytes).expect("the file can be written");
        drop(Journal::open(job_folder.path(), &job, SEGMENT_BYTES, |_, _| {}));
        for other in Journal::segments(job_folder.path()).expect("it can be listed") {
            if other != segment {
                std::fs::remove_file(other).expect("it can be removed");
            }
        }
    });
    Fuzz::of("job files")
        .example(r#"{"version": 1, "job": "0123456789ab", "created": "x", "pool": "p"}"#)
        .run(|bytes| {
            std::fs::write(job_folder.job_path(), bytes).expect("the file can be written");
            drop(job_folder.load_job());
            std::fs::write(job_folder.spent_path(), bytes).expect("the file can be written");
            drop(job_folder.load_spent(&job));
        });
}
