//! Adoption: what users do to their chunk files between two runs, and what Python left behind.

use std::path::PathBuf;

use proptest::prelude::*;
use qa_shared::model::{DocumentName, FailureReason, Usage};
use serde_json::{Value, json};

use super::super::qa_file::{PairEntry, QaSource, RecordEntry};
use super::super::{ContentHash, DataUris, Fingerprint, IdHash, JsonText, Repairs, Textless};
use super::*;

const FINGERPRINT: Fingerprint = Fingerprint { len: 0, modified_ns: 0, inode: 0 };

/// The chunk file of a text's letters: every letter is one chunk.
fn chunk_file(texts: &[(char, u32)]) -> ChunkFile {
    let entry = |(text, id): &(char, u32)| ChunkEntry {
        span: place(0),
        text: hash(*text),
        id: id_of(*id),
        tokens: 1,
        bytes: 4,
    };
    ChunkFile {
        path: PathBuf::new(),
        name: DocumentName::new("a"),
        fingerprint: FINGERPRINT,
        content: ContentHash::default(),
        metadata: JsonText::of(&json!({})),
        processing_info: JsonText::of(&json!({"total_chunks": texts.len()})),
        chunks: texts.iter().map(entry).collect(),
        data_uris: DataUris::default(),
        repairs: Repairs::default(),
        textless: Textless::default(),
    }
}

fn hash(text: char) -> TextHash {
    TextHash::of(&text.to_string())
}

fn id_of(id: u32) -> IdHash {
    IdHash::of(&json!(format!("0_{id}")))
}

fn place(offset: usize) -> Span {
    Span { offset: offset as u64, len: 1 }
}

/// Plain ids: as many as there are chunks.
fn plain(texts: &str) -> Vec<(char, u32)> {
    texts.chars().zip(0..).collect()
}

struct Old {
    file: QaFile,
    next: usize,
}

impl Old {
    fn new(total: usize) -> Self {
        let source = QaSource {
            path: PathBuf::new(),
            fingerprint: FINGERPRINT,
            content: ContentHash::default(),
            generation_info: json!({"questions_per_chunk": 2}),
            unknown: Vec::new(),
            is_flawed: false,
        };
        let mut file = QaFile::empty(source);
        file.metadata = json!({});
        file.processing_info = json!({"total_chunks": total});
        Self { file, next: 1 }
    }

    fn pair(&mut self, text: char, id: u32) {
        let (span, words) = (place(self.next), self.next as u64);
        self.file.pairs.push(PairEntry { span, text: hash(text), id: id_of(id), words });
        self.next += 1;
    }

    fn record(&mut self, chunk: usize, text: char, pairs: u32) {
        for _ in 0..pairs {
            self.pair(text, u32::try_from(chunk).unwrap());
        }
        let status = if pairs == 0 { RecordStatus::Failed } else { RecordStatus::Completed };
        self.file.records.push(RecordEntry {
            span: place(1_000_000 + chunk),
            chunk: u32::try_from(chunk).unwrap(),
            text: hash(text),
            status,
            round: 1,
            asked: 2,
            got: pairs,
            reason: (pairs == 0).then_some(FailureReason::EmptyChunk),
            attempts: 1,
            usage: Usage::default(),
        });
    }

    fn finish(mut self, total: usize) -> QaFile {
        let file = &mut self.file;
        if !file.records.is_empty() {
            let listed = |status| {
                let records = file.records.iter().filter(move |record| record.status == status);
                records.map(|record| record.chunk).collect::<Vec<_>>()
            };
            (file.completed, file.failed) = (listed(RecordStatus::Completed), listed(RecordStatus::Failed));
        }
        file.status = Some(FileStatus::finished(file.completed.len(), file.failed.len()).as_str().into());
        file.summary = json!({
            "total_chunks": total, "completed_chunks": file.completed.len(),
            "failed_chunks": file.failed.len(), "total_qa_pairs": file.pairs.len(),
        });
        self.file
    }
}

/// A file of ours: `+` two pairs, `-` failed, anything else outstanding.
fn ours(texts: &str, states: &str) -> QaFile {
    let total = texts.chars().count();
    let mut old = Old::new(total);
    for (position, (text, state)) in texts.chars().zip(states.chars()).enumerate() {
        match state {
            '+' => old.record(position, text, 2),
            '-' => old.record(position, text, 0),
            _ => {}
        }
    }
    old.finish(total)
}

/// A file of the Python program: its pairs as text, id and number; its two lists.
fn python(total: usize, pairs: &[(char, u32, usize)], completed: &[u32], failed: &[u32]) -> QaFile {
    let mut old = Old::new(total);
    for (text, id, number) in pairs {
        for _ in 0..*number {
            old.pair(*text, *id);
        }
    }
    old.file.completed = completed.to_vec();
    old.file.failed = failed.to_vec();
    old.finish(total)
}

/// `+` and the number of pairs, `-` for a failure, `.` for outstanding.
fn shown(adopted: &Adopted) -> String {
    let one = |source: &ChunkSource| match source {
        ChunkSource::Previous(chunk) => match &chunk.finished {
            Finished::Completed { pairs } => pairs.len().to_string(),
            Finished::Failed { .. } => "-".to_owned(),
        },
        ChunkSource::Outstanding => ".".to_owned(),
        ChunkSource::Journal(_) => "?".to_owned(),
    };
    adopted.chunks.iter().map(one).collect()
}

fn offsets(adopted: &Adopted, position: usize) -> Vec<u64> {
    match &adopted.chunks[position] {
        ChunkSource::Previous(FinishedChunk { finished: Finished::Completed { pairs }, .. }) => {
            pairs.iter().map(|span| span.offset).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn counts(
    kept: usize,
    moved: usize,
    failed: usize,
    changed: usize,
    new: usize,
    dropped: usize,
) -> AdoptedCounts {
    AdoptedCounts { kept, moved, failed, changed, new, dropped }
}

#[test]
fn a_finished_document_is_recognised_and_left_alone() {
    let adopted = adopt(&chunk_file(&plain("abc")), &ours("abc", "++-"));
    assert_eq!((shown(&adopted).as_str(), adopted.counts), ("22-", counts(2, 0, 1, 0, 0, 0)));
    assert!(!adopted.needs_rewrite && !adopted.keep_previous);
}

#[test]
fn an_edited_paragraph_costs_one_chunk() {
    let adopted = adopt(&chunk_file(&plain("aXc")), &ours("abc", "+++"));
    assert_eq!((shown(&adopted).as_str(), adopted.counts), ("2.2", counts(2, 0, 0, 1, 0, 0)));
    assert!(adopted.needs_rewrite && adopted.keep_previous);
}

#[test]
fn an_inserted_paragraph_moves_the_rest() {
    let adopted = adopt(&chunk_file(&plain("aXbc")), &ours("abc", "+++"));
    assert_eq!((shown(&adopted).as_str(), adopted.counts), ("2.22", counts(1, 2, 0, 0, 1, 0)));
    assert!(adopted.needs_rewrite && !adopted.keep_previous);
}

#[test]
fn equal_chunks_keep_their_own_pairs_in_order() {
    let adopted = adopt(&chunk_file(&plain("xaa")), &ours("aab", "++."));
    assert_eq!((shown(&adopted).as_str(), adopted.counts), (".22", counts(1, 1, 0, 0, 1, 0)));
    let mut all = offsets(&adopted, 1);
    all.extend(offsets(&adopted, 2));
    all.sort_unstable();
    assert_eq!(all, [1, 2, 3, 4]);
}

#[test]
fn a_record_whose_pairs_were_deleted_by_hand_is_outstanding() {
    let mut old = ours("ab", "++");
    old.pairs.truncate(2);
    assert_eq!(shown(&adopt(&chunk_file(&plain("ab")), &old)), "2.");
    let mut old = ours("ab", "++");
    old.pairs.truncate(3);
    let adopted = adopt(&chunk_file(&plain("ab")), &old);
    assert_eq!(shown(&adopted), "21");
    assert!(adopted.needs_rewrite);
}

#[test]
fn a_python_document_is_recognised_and_left_alone() {
    let old = python(3, &[('a', 0, 2), ('b', 1, 2), ('c', 2, 1)], &[0, 1, 2], &[]);
    let adopted = adopt(&chunk_file(&plain("abc")), &old);
    assert_eq!((shown(&adopted).as_str(), adopted.counts), ("221", counts(3, 0, 0, 0, 0, 0)));
    assert!(!adopted.needs_rewrite && adopted.keep_previous);
}

#[test]
fn an_interrupted_python_document_goes_on() {
    let old = python(4, &[('a', 0, 2), ('b', 1, 2)], &[0, 1, 2], &[3]);
    let adopted = adopt(&chunk_file(&plain("abcd")), &old);
    assert_eq!(shown(&adopted), "22.-", "completed without pairs is outstanding");
    assert_eq!(adopted.counts, counts(2, 0, 1, 0, 1, 0));
}

#[test]
fn pairs_that_python_appended_after_a_retry_go_to_their_chunk() {
    let old = python(3, &[('b', 1, 2), ('c', 2, 2), ('a', 0, 2)], &[0, 1, 2], &[]);
    let adopted = adopt(&chunk_file(&plain("abc")), &old);
    assert_eq!((shown(&adopted).as_str(), offsets(&adopted, 0)), ("222", vec![5, 6]));
    assert!(adopted.needs_rewrite);
}

#[test]
fn a_chunk_that_python_generated_twice_has_its_last_pairs() {
    let old = python(2, &[('a', 0, 2), ('b', 1, 2), ('a', 0, 2)], &[0, 1], &[]);
    let adopted = adopt(&chunk_file(&plain("ab")), &old);
    assert_eq!((shown(&adopted).as_str(), offsets(&adopted, 0)), ("22", vec![5, 6]));
}

#[test]
fn pages_with_equal_ids_are_told_apart_by_text_and_equal_texts_by_position() {
    // Two pages; every page has ids 0 and 1, and the same last chunk.
    let file = chunk_file(&[('a', 0), ('z', 1), ('b', 0), ('z', 1)]);
    let all = python(4, &[('a', 0, 2), ('z', 1, 2), ('b', 0, 2), ('z', 1, 2)], &[0, 1, 2, 3], &[]);
    assert_eq!(shown(&adopt(&file, &all)), "2222");
    let half = python(4, &[('a', 0, 2), ('b', 0, 2), ('z', 1, 2)], &[0, 2, 3], &[1]);
    assert_eq!(shown(&adopt(&file, &half)), "2-22");
    let neighbours = chunk_file(&[('z', 1), ('z', 1), ('a', 0)]);
    let old = python(3, &[('z', 1, 4), ('a', 0, 2)], &[0, 1, 2], &[]);
    assert_eq!(shown(&adopt(&neighbours, &old)), "222");
}

#[test]
fn a_python_document_that_was_edited_keeps_what_is_still_there() {
    let old = python(4, &[('a', 0, 2), ('b', 1, 2), ('c', 2, 2)], &[0, 1, 2], &[3]);
    let adopted = adopt(&chunk_file(&plain("aXbcd")), &old);
    assert_eq!((shown(&adopted).as_str(), adopted.counts), ("2.22.", counts(1, 2, 0, 0, 2, 0)));
    let adopted = adopt(&chunk_file(&plain("aXcd")), &old);
    assert_eq!((shown(&adopted).as_str(), adopted.counts), ("2.2.", counts(2, 0, 0, 1, 1, 0)));
}

#[test]
fn a_failure_of_ours_that_python_completed_later_is_completed() {
    let mut old = ours("ab", "+-");
    let pair =
        |offset| PairEntry { span: place(offset), text: hash('b'), id: id_of(1), words: offset as u64 };
    old.pairs.extend([pair(50), pair(51)]);
    let adopted = adopt(&chunk_file(&plain("ab")), &old);
    assert_eq!((shown(&adopted).as_str(), adopted.counts), ("22", counts(2, 0, 0, 0, 0, 0)));
}

#[test]
fn a_changed_chunker_setting_alone_asks_for_a_new_header() {
    let mut file = chunk_file(&plain("ab"));
    file.metadata = JsonText::of(&json!({"file_size": 1}));
    let adopted = adopt(&file, &ours("ab", "++"));
    assert_eq!((shown(&adopted).as_str(), adopted.needs_rewrite), ("22", true));
}

fn check(file: &ChunkFile, old: &QaFile, adopted: &Adopted) -> Result<(), TestCaseError> {
    let mut used_pairs = HashSet::new();
    let mut used_records = HashSet::new();
    for (chunk, source) in file.chunks.iter().zip(&adopted.chunks) {
        let ChunkSource::Previous(finished) = source else { continue };
        if let Some(record) = finished.record {
            prop_assert!(used_records.insert(record.span.offset), "a record is used twice");
            let record = old.records.iter().find(|other| other.span == record.span).unwrap();
            prop_assert_eq!(record.text, chunk.text);
        }
        if let Finished::Completed { pairs } = &finished.finished {
            prop_assert!(!pairs.is_empty());
            for span in pairs {
                prop_assert!(used_pairs.insert(span.offset), "a pair is used twice");
                prop_assert_eq!(old.pairs.iter().find(|pair| pair.span == *span).unwrap().text, chunk.text);
            }
        }
    }
    let AdoptedCounts { kept, moved, failed, changed, new, .. } = adopted.counts;
    prop_assert_eq!(kept + moved + failed + changed + new, file.chunks.len());
    let outstanding = adopted.chunks.iter().filter(|source| **source == ChunkSource::Outstanding).count();
    prop_assert_eq!(changed + new, outstanding);
    Ok(())
}

proptest! {
    #[test]
    fn pairs_of_ours_stay_with_their_text_whatever_happens_to_the_document(
        texts in "[a-f]{0,12}", states in "[+\\-.]{12}", now in "[a-g]{0,12}",
    ) {
        let (file, old) = (chunk_file(&plain(&now)), ours(&texts, &states));
        check(&file, &old, &adopt(&file, &old))?;
    }

    #[test]
    fn shuffled_chunks_lose_nothing(
        states in "[+\\-.]{8}", (texts, now) in "[a-d]{8}".prop_flat_map(|texts| {
            let letters: Vec<char> = texts.chars().collect();
            (Just(texts), Just(letters).prop_shuffle())
        }),
    ) {
        let now: String = now.into_iter().collect();
        let (file, old) = (chunk_file(&plain(&now)), ours(&texts, &states));
        let adopted = adopt(&file, &old);
        check(&file, &old, &adopted)?;
        prop_assert_eq!(adopted.counts.kept + adopted.counts.moved, old.completed.len());
        prop_assert_eq!((adopted.counts.failed, adopted.counts.dropped), (old.failed.len(), 0));
    }

    #[test]
    fn pairs_of_python_stay_with_their_text(
        pairs in prop::collection::vec(("[a-e]", 0..4_u32, 1..4_usize), 0..8),
        completed in prop::collection::btree_set(0..10_u32, 0..8),
        now in prop::collection::vec(("[a-f]", 0..4_u32), 0..10),
    ) {
        let letter = |text: &str| text.chars().next().unwrap();
        let pairs: Vec<_> = pairs.iter().map(|(text, id, number)| (letter(text), *id, *number)).collect();
        let completed: Vec<_> = completed.into_iter().collect();
        let failed: Vec<_> = (0..10).filter(|position| !completed.contains(position)).collect();
        let now: Vec<_> = now.iter().map(|(text, id)| (letter(text), *id)).collect();
        let (file, old) = (chunk_file(&now), python(now.len(), &pairs, &completed, &failed));
        check(&file, &old, &adopt(&file, &old))?;
    }

    #[test]
    fn what_nobody_touched_needs_no_writing(texts in "[a-d]{0,10}", states in "[+\\-]{10}") {
        let adopted = adopt(&chunk_file(&plain(&texts)), &ours(&texts, &states));
        prop_assert!(!adopted.needs_rewrite);
        let expected: String = states.chars().take(texts.len()).collect();
        prop_assert_eq!(shown(&adopted), expected.replace('+', "2"));
    }
}

#[test]
fn a_null_header_of_an_unprocessable_document_gives_a_fresh_start() {
    let mut old = ours("", "");
    (old.metadata, old.summary, old.status) = (Value::Null, Value::Null, Some("failed".into()));
    let adopted = adopt(&chunk_file(&plain("ab")), &old);
    assert_eq!((shown(&adopted).as_str(), adopted.keep_previous), ("..", false));
}
