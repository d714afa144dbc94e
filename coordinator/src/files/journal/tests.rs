//! The journal over crashes, full disks and foreign hands.

use std::io::Read;

use proptest::prelude::*;
use qa_shared::model::TextHash;

use super::super::RecordStatus;
use super::*;

fn job() -> JobId {
    JobId::from_random(7)
}

fn entry(chunk: u32) -> Entry {
    if chunk % 5 == 4 {
        return Entry::Rounds { document: DocumentName::new("a"), chunks: vec![chunk, chunk + 1], round: 2 };
    }
    let text = TextHash::of(&chunk.to_string());
    let pair = Pair { question: format!("q{chunk}\n–?"), answer: "a".repeat(chunk as usize % 50) };
    Entry::Result {
        document: DocumentName::new("FAQ 概要"),
        record: Box::new(ChunkRecord { got: 1, ..ChunkRecord::bare(chunk, text, RecordStatus::Completed) }),
        pairs: vec![pair],
    }
}

fn open(directory: &Path, segment_bytes: u64) -> (Journal, Vec<TornEnd>, Vec<(EntryLocation, Entry)>) {
    let mut replayed = Vec::new();
    let (journal, torn) =
        Journal::open(directory, &job(), segment_bytes, |location, entry| replayed.push((location, entry)))
            .unwrap();
    (journal, torn, replayed)
}

fn open_error(directory: &Path, job: &JobId) -> JournalError {
    Journal::open(directory, job, SEGMENT_BYTES, |_, _| {}).map(drop).unwrap_err()
}

fn segments(directory: &Path) -> usize {
    segment_numbers(directory).unwrap().len()
}

fn filled(directory: &Path, entries: u32) -> Vec<EntryLocation> {
    let (mut journal, _, _) = open(directory, SEGMENT_BYTES);
    let locations = (0..entries).map(|chunk| journal.append(&entry(chunk)).unwrap()).collect();
    journal.sync().unwrap();
    locations
}

#[test]
fn entries_come_back_in_order_from_several_segments_and_singly() {
    let folder = qa_shared::testing::temporary_folder();
    let (mut journal, _, _) = open(folder.path(), 1_000);
    let written: Vec<_> =
        (0..40).map(|chunk| (journal.append(&entry(chunk)).unwrap(), entry(chunk))).collect();
    journal.sync().unwrap();
    assert!(segments(folder.path()) > 3);
    let mut reader = journal.reader().clone();
    for (location, entry) in written.iter().rev() {
        assert_eq!(&reader.read(*location).unwrap(), entry);
    }
    let (again, torn, replayed) = open(folder.path(), 1_000);
    assert_eq!((replayed, torn, again.uncovered()), (written, vec![], 40));
}

#[test]
fn an_entry_can_be_read_before_it_is_synced() {
    let folder = qa_shared::testing::temporary_folder();
    let (mut journal, _, _) = open(folder.path(), SEGMENT_BYTES);
    let mut reader = journal.reader();
    for chunk in 0..3 {
        let location = journal.append(&entry(chunk)).unwrap();
        assert_eq!(reader.read(location).unwrap(), entry(chunk));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_cut_at_any_byte_loses_only_what_was_cut(at in any::<prop::sample::Index>()) {
        let folder = qa_shared::testing::temporary_folder();
        let locations = filled(folder.path(), 6);
        let path = segment_path(folder.path(), 1);
        let size = fs::metadata(&path).unwrap().len();
        let cut = at.index(usize::try_from(size).unwrap()) as u64;
        File::options().write(true).open(&path).unwrap().set_len(cut).unwrap();
        let whole = locations.iter().filter(|l| l.offset + u64::from(l.len) < cut).count();

        let (mut journal, torn, replayed) = open(folder.path(), SEGMENT_BYTES);
        prop_assert_eq!(replayed.len(), whole);
        prop_assert!(torn.len() <= 1);
        journal.append(&entry(99)).unwrap();
        journal.sync().unwrap();
        let (_, torn, replayed) = open(folder.path(), SEGMENT_BYTES);
        prop_assert_eq!((torn.len(), replayed.len()), (0, whole + 1));
        prop_assert_eq!(&replayed.last().unwrap().1, &entry(99));
    }
}

#[test]
fn an_end_of_zeros_is_torn_and_reported() {
    let folder = qa_shared::testing::temporary_folder();
    let locations = filled(folder.path(), 3);
    let path = segment_path(folder.path(), 1);
    let mut bytes = fs::read(&path).unwrap();
    let from = usize::try_from(locations[1].offset).unwrap() + 10;
    bytes[from..from + 20].fill(0);
    fs::write(&path, &bytes).unwrap();
    let (_, torn, replayed) = open(folder.path(), SEGMENT_BYTES);
    assert_eq!(replayed.len(), 1);
    let cut = bytes.len() as u64 - locations[1].offset;
    assert_eq!(torn, [TornEnd { path: path.clone(), kept: locations[1].offset, cut }]);
}

#[test]
fn damage_in_the_middle_names_segment_and_offset() {
    let folder = qa_shared::testing::temporary_folder();
    let locations = filled(folder.path(), 3);
    let path = segment_path(folder.path(), 1);
    let mut bytes = fs::read(&path).unwrap();
    bytes[usize::try_from(locations[1].offset).unwrap()] = b'x';
    fs::write(&path, &bytes).unwrap();
    let error = open_error(folder.path(), &job());
    let found = error.to_string();
    assert!(
        found.contains(&format!("journal-000001.jsonl` is damaged at byte {}", locations[1].offset)),
        "{found}"
    );
    assert_eq!(fs::read(&path).unwrap(), bytes, "nothing may be thrown away");
}

#[test]
fn another_job_and_a_newer_version_are_refused() {
    let folder = qa_shared::testing::temporary_folder();
    filled(folder.path(), 1);
    let error = open_error(folder.path(), &JobId::from_random(8));
    assert!(matches!(error, JournalError::OtherJob { .. }), "{error}");
    fs::write(segment_path(folder.path(), 2), "{\"qa_fleet_journal\":2,\"new\":1}\n{}\n").unwrap();
    let error = open_error(folder.path(), &job());
    assert!(matches!(error, JournalError::Version { found: 2, .. }), "{error}");
}

#[test]
fn segments_go_when_snapshots_hold_all_of_their_entries() {
    let folder = qa_shared::testing::temporary_folder();
    let (mut journal, _, _) = open(folder.path(), 1_000);
    let locations: Vec<_> = (0..20).map(|chunk| journal.append(&entry(chunk)).unwrap()).collect();
    let all = segments(folder.path());
    let first: Vec<_> = locations.iter().copied().filter(|location| location.segment == 1).collect();
    assert_eq!(journal.release(&first[1..]).unwrap(), 0);
    assert_eq!(journal.release(&first[..1]).unwrap(), 1);
    assert_eq!(segments(folder.path()), all - 1);
    journal.release(&locations[first.len()..]).unwrap();
    assert_eq!((segments(folder.path()), journal.uncovered()), (1, 0));
    assert_eq!(journal.tidy().unwrap(), 1);
    assert_eq!(segments(folder.path()), 0);
    journal.append(&entry(1)).unwrap();
    assert_eq!(journal.tidy().unwrap(), 0, "an entry that no snapshot holds stays");
}

#[test]
fn a_failed_append_leaves_no_trace() {
    let folder = qa_shared::testing::temporary_folder();
    let (mut journal, _, _) = open(folder.path(), SEGMENT_BYTES);
    journal.append(&entry(0)).unwrap();
    // A handle that cannot write stands for a disk that is full.
    let path = segment_path(folder.path(), 1);
    let segment = journal.current.take().unwrap();
    let file = File::open(&path).unwrap();
    journal.current = Some(Segment { file, ..segment });
    journal.append(&entry(1)).unwrap_err();
    let location = journal.append(&entry(2)).unwrap();
    journal.sync().unwrap();
    assert_eq!(journal.reader().read(location).unwrap(), entry(2));
    let (_, _, replayed) = open(folder.path(), SEGMENT_BYTES);
    let entries: Vec<_> = replayed.into_iter().map(|(_, entry)| entry).collect();
    assert_eq!(entries, [entry(0), entry(2)]);
}

#[test]
fn a_real_full_disk_is_told_apart() {
    let Ok(full) = File::options().write(true).open("/dev/full") else { return };
    let folder = qa_shared::testing::temporary_folder();
    let (mut journal, _, _) = open(folder.path(), SEGMENT_BYTES);
    journal.append(&entry(0)).unwrap();
    let segment = journal.current.take().unwrap();
    journal.current = Some(Segment { file: full, ..segment });
    let error = journal.append(&entry(1)).unwrap_err();
    assert!(matches!(&error, JournalError::File(error) if error.is_full()), "{error}");
}

#[test]
fn a_location_that_was_released_is_an_error() {
    let folder = qa_shared::testing::temporary_folder();
    let locations = filled(folder.path(), 1);
    let (mut journal, _, _) = open(folder.path(), SEGMENT_BYTES);
    let mut header = String::new();
    File::open(segment_path(folder.path(), 1)).unwrap().read_to_string(&mut header).unwrap();
    assert!(header.starts_with("{\"qa_fleet_journal\":1,\"job\":\"000000000007\"}\n"), "{header}");
    journal.release(&locations).unwrap();
    assert!(matches!(journal.reader().read(locations[0]), Err(JournalError::File(_))));
}
