//! What a plan makes of the files that earlier runs left.

use std::path::{Path, PathBuf};

use qa_shared::model::{GenerationSettings, PoolName, Price, TaskResult, TextHash};
use qa_shared::model_table::ModelTable;
use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::core::{ChunkState, FileStatus};
use crate::files::fixtures::{Document, completed_result, failed_result, settings};
use crate::files::{ChunkRecord, JournalReader, Snapshot, write_snapshot};

struct Site {
    folder: TempDir,
    settings: GenerationSettings,
    run: RunSettings,
    budget: BudgetConfig,
    kept: KeptSettings,
    declared: &'static [&'static str],
}

impl Site {
    fn new(documents: &[Document]) -> Self {
        let folder = qa_shared::testing::temporary_folder();
        for part in ["chunks", "qa"] {
            std::fs::create_dir(folder.path().join(part)).unwrap();
        }
        let run = RunSettings {
            start: Start::Resume,
            accept_changes: false,
            retry_failed: true,
            speculates: true,
            sample: None,
            max_failure_percent: None,
            no_server_timeout: None,
        };
        let budget = BudgetConfig {
            dry_run: false,
            max_cost: None,
            max_tokens: None,
            calls_per_task: 3,
            price: None,
            models: Arc::default(),
        };
        let chunks_dir = folder.path().join("chunks").to_str().map(str::to_owned);
        let kept = KeptSettings { chunks_dir, ..KeptSettings::default() };
        let site = Self { folder, settings: settings(), run, budget, kept, declared: &[] };
        site.write(documents);
        site
    }

    fn write(&self, documents: &[Document]) {
        for document in documents {
            document.write_chunks(&self.chunks());
        }
    }

    fn chunks(&self) -> PathBuf {
        self.folder.path().join("chunks")
    }

    fn qa(&self) -> PathBuf {
        self.folder.path().join("qa")
    }

    fn plan(&self) -> Result<Plan, PlanError> {
        plan(&PlanInput {
            chunks_dir: &self.chunks(),
            qa_dir: &self.qa(),
            folder: &JobFolder::create(&self.qa()).unwrap(),
            settings: &self.settings,
            pool: &PoolName::new("p"),
            run: &self.run,
            budget: &self.budget,
            kept: &self.kept,
            declared: self.declared,
            only_looks: false,
            segment_bytes: 1024 * 1024,
        })
    }
}

/// Journals a result as a run does, without a snapshot.
fn journal(plan: &mut Plan, document: &str, text: &str, result: &TaskResult) {
    let record = ChunkRecord::from_result(result, TextHash::of(text), &settings(), now());
    let pairs = match &result.outcome {
        qa_shared::model::Outcome::Completed { pairs } => pairs.clone(),
        qa_shared::model::Outcome::Failed { .. } => Vec::new(),
    };
    let document = DocumentName::new(document);
    plan.journal.append(&Entry::Result { document, record: Box::new(record), pairs }).unwrap();
    plan.journal.sync().unwrap();
}

/// Writes the document's file from what the plan knows, as the first snapshot of a run does.
fn snapshot(plan: &mut Plan, document: usize, status: FileStatus) {
    let mut reader: JournalReader = plan.journal.reader();
    let desk = plan.desks[document].as_ref().unwrap();
    let written = write_snapshot(Snapshot {
        target: &desk.target,
        chunk_file: &desk.chunk_file,
        chunks: &desk.sources,
        previous: desk.previous.as_deref(),
        journal: &mut reader,
        status,
        generation_info: &desk.generation_info,
        completion_time: None,
        error: None,
        keep_previous_in: None,
        models: &ModelTable::default(),
    });
    plan.journal.release(&written.unwrap().covered).unwrap();
}

fn questions(qa: &Path, document: &str) -> Vec<(u64, String)> {
    let text = std::fs::read(qa.join(format!("{document}_qa.json"))).unwrap();
    let file: Value = serde_json::from_slice(&text).unwrap();
    let records = file["chunks"].as_array().unwrap();
    records
        .iter()
        .map(|record| (record["chunk"].as_u64().unwrap(), record["text_hash"].as_str().unwrap().to_owned()))
        .collect()
}

#[test]
fn journalled_results_of_a_document_that_was_re_ordered_are_kept() {
    let site = Site::new(&[Document::plain("a", &["one", "two", "three"])]);
    let mut before = site.plan().unwrap();
    journal(&mut before, "a", "one", &completed_result("a", 0, 1, "one", 2));
    journal(&mut before, "a", "three", &completed_result("a", 2, 1, "three", 2));
    drop(before);
    site.write(&[Document::plain("a", &["three", "new", "one"])]);
    let mut after = site.plan().unwrap();
    assert_eq!(after.report.replayed, 2);
    assert_eq!(after.core.totals().outstanding(), 1);
    snapshot(&mut after, 0, FileStatus::InProgress);
    let hash = |text| TextHash::of(text).to_string();
    assert_eq!(questions(&site.qa(), "a"), [(0, hash("three")), (2, hash("one"))]);
}

#[test]
fn a_failed_chunk_is_tried_again_in_a_new_round_that_survives_a_crash() {
    let mut site = Site::new(&[Document::plain("a", &["one", "two"])]);
    let mut first = site.plan().unwrap();
    journal(&mut first, "a", "one", &failed_result("a", 0, 1, "one"));
    drop(first);
    let second = site.plan().unwrap();
    assert_eq!(second.report.retried, 1);
    assert_eq!(second.core.chunk(0, 0), Some((ChunkState::Waiting, 2)));
    drop(second);
    // The crash came before the second round had a result: it goes on, it does not begin a third.
    let third = site.plan().unwrap();
    assert_eq!((third.report.retried, third.core.chunk(0, 0)), (0, Some((ChunkState::Waiting, 2))));
    drop(third);
    site.run.retry_failed = false;
    assert_eq!(site.plan().unwrap().core.chunk(0, 0), Some((ChunkState::Waiting, 2)));
}

#[test]
fn without_retries_a_failure_stays() {
    let mut site = Site::new(&[Document::plain("a", &["one"])]);
    let mut first = site.plan().unwrap();
    journal(&mut first, "a", "one", &failed_result("a", 0, 1, "one"));
    drop(first);
    site.run.retry_failed = false;
    let second = site.plan().unwrap();
    assert_eq!(second.core.totals().failed, 1);
    assert_eq!(second.core.totals().outstanding(), 0);
}

#[test]
fn changed_settings_are_refused_or_give_new_rounds() {
    let mut site = Site::new(&[Document::plain("a", &["one", "two"])]);
    let mut first = site.plan().unwrap();
    journal(&mut first, "a", "one", &completed_result("a", 0, 1, "one", 2));
    drop(first);
    site.settings.model = "another".into();
    let Err(PlanError::SettingsChanged { changes, outstanding, .. }) = site.plan() else {
        panic!("changed settings must be refused")
    };
    assert_eq!((changes[0].setting, outstanding), ("model", 1));
    site.run.accept_changes = true;
    let accepted = site.plan().unwrap();
    assert!(accepted.stale_tasks);
    assert_eq!(accepted.core.chunk(0, 0), Some((ChunkState::Completed { got: 2 }, 1)));
    assert_eq!(accepted.core.chunk(0, 1), Some((ChunkState::Waiting, 2)));
    drop(accepted);
    site.run.accept_changes = false;
    assert!(site.plan().is_ok(), "accepted once, they are the job's settings");
}

#[test]
fn existing_output_needs_a_word() {
    let mut site = Site::new(&[Document::plain("a", &["one"])]);
    let mut first = site.plan().unwrap();
    let job = first.job.job.clone();
    journal(&mut first, "a", "one", &completed_result("a", 0, 1, "one", 2));
    drop(first);
    site.run.start = Start::Fresh;
    assert!(matches!(site.plan(), Err(PlanError::OutputExists { .. })));
    site.run.start = Start::Restart;
    let anew = site.plan().unwrap();
    assert_ne!(anew.job.job, job);
    assert_eq!(anew.core.totals().completed, 0);
    assert!(site.qa().join(".qa-fleet/previous").is_dir());
}

#[test]
fn unreadable_documents_are_counted_and_stop_nobody() {
    let site = Site::new(&[Document::plain("a", &["one"])]);
    std::fs::write(site.chunks().join("b_chunks.json"), "{\"status\": \"comp").unwrap();
    std::fs::write(site.chunks().join("c_chunks.json"), "{\"status\": \"processing\", \"chunks\": []}")
        .unwrap();
    std::fs::write(site.chunks().join("._a_chunks.json"), "resource fork").unwrap();
    let plan = site.plan().unwrap();
    assert_eq!(plan.report.skipped["c"], "processing");
    assert!(plan.report.broken["b"].contains("b_chunks.json"), "{:?}", plan.report.broken);
    assert_eq!((plan.core.totals().documents, plan.core.totals().documents_broken), (2, 1));
}

#[test]
fn a_directory_without_chunk_files_is_an_error_that_names_it() {
    let site = Site::new(&[]);
    let error = site.plan().err().unwrap().to_string();
    assert!(error.contains("chunks") && error.contains("--chunks-dir"), "{error}");
}

/// Tokens that the job has used, as the plan knows it: a result of the fixtures has 620.
fn used(plan: &Plan) -> u64 {
    plan.core.spent().usage.tokens()
}

#[test]
fn what_a_failure_has_cost_stays_counted_when_it_is_tried_again() {
    let site = Site::new(&[Document::plain("a", &["one", "two"])]);
    let mut first = site.plan().unwrap();
    let job = first.job.job.clone();
    let folder = JobFolder::of(&site.qa());
    // As a run does: the account first, then the journal.
    let mut spent = first.core.spent();
    for _ in 0..2 {
        spent.add(1, failed_result("a", 0, 1, "one").usage, None);
    }
    folder.save_spent(&job, &spent).unwrap();
    journal(&mut first, "a", "one", &failed_result("a", 0, 1, "one"));
    journal(&mut first, "a", "two", &completed_result("a", 1, 1, "two", 2));
    drop(first);
    let second = site.plan().unwrap();
    assert_eq!((second.report.retried, used(&second)), (1, 2 * 620));
    drop(second);
    // The journal and the account are of the same spending, however often they are read.
    assert_eq!(used(&site.plan().unwrap()), 2 * 620);
}

#[test]
fn a_job_without_an_account_has_spent_what_its_records_say() {
    let site = Site::new(&[Document::plain("a", &["one", "two", "three"])]);
    let mut first = site.plan().unwrap();
    for (chunk, text) in ["one", "two"].into_iter().enumerate() {
        journal(&mut first, "a", text, &completed_result("a", u32::try_from(chunk).unwrap(), 1, text, 2));
    }
    std::fs::remove_file(JobFolder::of(&site.qa()).spent_path()).unwrap();
    drop(first);
    let mut second = site.plan().unwrap();
    assert_eq!(used(&second), 2 * 620, "from the journal");
    snapshot(&mut second, 0, FileStatus::InProgress);
    std::fs::remove_file(JobFolder::of(&site.qa()).spent_path()).unwrap();
    drop(second);
    assert_eq!(used(&site.plan().unwrap()), 2 * 620, "from the Q&A file, and not from both");
}

#[test]
fn what_was_spent_stays_as_it_was_priced_then() {
    let mut site = Site::new(&[Document::plain("a", &["one"])]);
    let price = |dollars| Some(Price { input: dollars, output: dollars, cached: None, cache_write: None });
    site.budget.price = price(1.0);
    let mut first = site.plan().unwrap();
    let result = completed_result("a", 0, 1, "one", 2);
    let mut spent = first.core.spent();
    spent.add(1, result.usage, site.budget.price);
    JobFolder::of(&site.qa()).save_spent(&first.job.job, &spent).unwrap();
    journal(&mut first, "a", "one", &result);
    drop(first);
    site.budget.price = price(100.0);
    assert_eq!(site.plan().unwrap().core.spent(), spent);
}

#[test]
fn a_budget_that_is_gone_is_noticed() {
    let mut site = Site::new(&[Document::plain("a", &["one"])]);
    site.budget.max_tokens = Some(1_000_000);
    drop(site.plan().unwrap());
    site.budget.max_tokens = None;
    let notes = site.plan().unwrap().report.notes;
    assert!(notes.iter().any(|note| note.contains("had a budget")), "{notes:?}");
}

#[test]
fn a_new_job_has_spent_nothing() {
    let mut site = Site::new(&[Document::plain("a", &["one"])]);
    let mut first = site.plan().unwrap();
    journal(&mut first, "a", "one", &completed_result("a", 0, 1, "one", 2));
    drop(first);
    site.run.start = Start::Restart;
    assert_eq!(used(&site.plan().unwrap()), 0);
}

#[test]
fn tasks_that_were_published_without_a_budget_do_not_stay_in_the_queue_under_one() {
    let mut site = Site::new(&[Document::plain("a", &["one"])]);
    assert!(!site.plan().unwrap().stale_tasks);
    site.budget.max_tokens = Some(1_000_000);
    let limited = site.plan().unwrap();
    assert_eq!((limited.stale_tasks, limited.job.calls_per_task), (true, Some(3)));
    assert!(!site.plan().unwrap().stale_tasks, "now they are bounded");
}

#[test]
fn what_a_variable_says_against_the_job_is_refused_and_a_flag_declares_it() {
    let mut site = Site::new(&[Document::plain("a", &["one", "two"])]);
    let mut first = site.plan().unwrap();
    journal(&mut first, "a", "one", &completed_result("a", 0, 1, "one", 2));
    drop(first);
    (site.kept.max_cost, site.kept.output_file) = (Some(50.0), Some("other.json".into()));
    let Err(PlanError::SettingsChanged { changes, .. }) = site.plan() else {
        panic!("a larger limit must be declared")
    };
    let settings: Vec<_> = changes.iter().map(|change| change.setting).collect();
    assert_eq!(settings, ["output-file", "max-cost"]);
    site.declared = &["--max-cost", "--output-file"];
    let planned = site.plan().unwrap();
    assert!(!planned.stale_tasks, "limits change no task");
    assert_eq!(planned.job.kept.as_ref(), Some(&site.kept));
}

#[test]
fn other_chunk_files_need_more_than_a_flag_unless_the_old_ones_are_gone() {
    let mut site = Site::new(&[Document::plain("a", &["one"])]);
    let mut first = site.plan().unwrap();
    journal(&mut first, "a", "one", &completed_result("a", 0, 1, "one", 2));
    drop(first);
    let other = site.folder.path().join("other");
    std::fs::create_dir(&other).unwrap();
    site.kept.chunks_dir = Some(other.to_str().unwrap().to_owned());
    site.declared = &["--chunks-dir"];
    assert!(matches!(site.plan(), Err(PlanError::SettingsChanged { .. })));
    // The same directory under another name is the same.
    site.kept.chunks_dir = Some(format!("{}/../chunks", other.display()));
    assert!(site.plan().is_ok());
    site.kept.chunks_dir = Some("/nowhere/chunks".to_owned());
    site.run.accept_changes = true;
    assert!(site.plan().is_ok());
    site.run.accept_changes = false;
    site.kept.chunks_dir = Some(other.to_str().unwrap().to_owned());
    assert!(site.plan().is_ok(), "the job's directory has gone: it was moved");
}

/// Three documents of which `a` is complete, `b` half done, and `c` not begun, in their files.
fn half_done() -> Site {
    let site = Site::new(&[
        Document::plain("a", &["one"]),
        Document::plain("b", &["one", "two"]),
        Document::plain("c", &["one", "two", "three"]),
    ]);
    let mut plan = site.plan().unwrap();
    for document in ["a", "b"] {
        let result = completed_result(document, 0, 1, "one", 2);
        journal(&mut plan, document, "one", &result);
    }
    drop(plan);
    let mut plan = site.plan().unwrap();
    snapshot(&mut plan, 0, FileStatus::Completed);
    snapshot(&mut plan, 1, FileStatus::Interrupted);
    site
}

fn remove_chunks(site: &Site, documents: &[&str]) {
    for document in documents {
        std::fs::remove_file(site.chunks().join(format!("{document}_chunks.json"))).unwrap();
    }
}

#[test]
fn a_document_whose_chunk_file_is_missing_is_counted_and_named() {
    let site = half_done();
    site.write(&[Document::plain("d", &["one"])]);
    remove_chunks(&site, &["a", "b", "c"]);
    let plan = site.plan().unwrap();
    let totals = plan.core.totals();
    assert_eq!((totals.documents, totals.documents_broken), (4, 2));
    assert_eq!((totals.chunks, totals.completed, totals.outstanding(), totals.pairs), (7, 2, 5, 4));
    // Only what has a text can be asked about.
    assert_eq!(plan.core.waiting_tasks().count(), 1);
    let missing: Vec<_> =
        plan.report.missing.iter().map(|(name, missing)| (name.as_str(), *missing)).collect();
    let figures =
        |chunks, completed| MissingDocument { chunks, completed, failed: 0, outstanding: chunks - completed };
    assert_eq!(missing, [("b", figures(2, 1)), ("c", figures(3, 0))]);
    assert!(plan.report.notes.iter().any(|note| note.contains("complete") && note.ends_with("(a)")));
}

#[test]
fn a_chunk_file_that_is_back_is_worked_on_and_its_journalled_results_are_kept() {
    let site = half_done();
    let mut plan = site.plan().unwrap();
    journal(&mut plan, "c", "two", &completed_result("c", 1, 1, "two", 2));
    drop(plan);
    remove_chunks(&site, &["c"]);
    assert_eq!(site.plan().unwrap().report.missing["c"].completed, 0, "its file has none of them");
    site.write(&[Document::plain("c", &["one", "two", "three"])]);
    let plan = site.plan().unwrap();
    assert_eq!((plan.report.missing.len(), plan.report.replayed), (0, 1));
    assert_eq!(plan.core.totals().outstanding(), 3);
}

#[test]
fn missing_documents_are_given_up_only_where_that_is_said_and_come_back_with_their_files() {
    let mut site = half_done();
    remove_chunks(&site, &["b", "c"]);
    site.run.accept_changes = true;
    let plan = site.plan().unwrap();
    let totals = plan.core.totals();
    assert_eq!((totals.documents_broken, totals.outstanding(), totals.pairs), (0, 0, 4));
    assert_eq!(plan.report.given_up, ["b", "c"].map(DocumentName::new));
    drop(plan);
    site.run.accept_changes = false;
    assert_eq!(site.plan().unwrap().report.missing.len(), 0, "it was said once");
    site.write(&[Document::plain("b", &["one", "two"])]);
    let plan = site.plan().unwrap();
    assert_eq!((plan.core.totals().outstanding(), plan.report.given_up.len()), (1, 1));
    drop(plan);
    remove_chunks(&site, &["b"]);
    assert_eq!(site.plan().unwrap().report.missing.len(), 1, "what is wanted again is missed again");
}

#[test]
fn what_an_unreadable_chunk_files_document_has_stays_counted() {
    let site = half_done();
    std::fs::write(site.chunks().join("b_chunks.json"), "{\"chunks\": [").unwrap();
    let plan = site.plan().unwrap();
    assert_eq!(plan.report.broken.len(), 1);
    assert_eq!((plan.core.totals().pairs, plan.core.totals().documents_broken), (4, 1));
}

#[test]
fn the_python_programs_pairs_of_a_missing_document_are_counted() {
    let site = Site::new(&[Document::plain("a", &["one"])]);
    let gone = Document::plain("b", &["one", "two", "three", "four"]);
    gone.write_python_qa(&site.qa(), &[0, 2, 3], &[], 3);
    let plan = site.plan().unwrap();
    assert_eq!((plan.core.totals().pairs, plan.core.totals().outstanding()), (9, 2));
    assert_eq!(plan.report.missing["b"].outstanding, 1);
}

#[test]
fn a_chunk_file_that_begins_like_a_temporary_file_is_refused() {
    let site = Site::new(&[Document::plain("a", &["one"]), Document::plain(".qa-fleet.tmp-b", &["one"])]);
    let Err(error @ PlanError::ReservedName { .. }) = site.plan() else { panic!("not refused") };
    assert!(error.to_string().contains(".qa-fleet.tmp-b_chunks.json"), "{error}");
}
