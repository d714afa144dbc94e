//! What the Python program left behind is gone on with: nothing that it paid for is asked again.

use qa_shared::testing::fake_ollama::{FakeConfig, FakeOllama};

use crate::checker::{Check, check};
use crate::documents::Document;
use crate::site::Site;

fn site(documents: &[Document]) -> Site {
    let site = Site::new(documents);
    std::fs::create_dir(site.qa_dir()).unwrap();
    site
}

#[tokio::test]
async fn an_interrupted_document_is_finished_and_its_finished_chunks_are_kept() {
    for document in [Document::new("readme", 16), Document::pdf("mapping.v2", 16, 5)] {
        let site = site(std::slice::from_ref(&document));
        let done: Vec<_> = (0..10).collect();
        document.write_python_qa(&site.qa_dir(), &done, &[]);
        let server = FakeOllama::start(FakeConfig::default());
        let ended = site.generate().arg("--resume").servers(&[&server]).run(0).await;
        assert!(ended.stderr.contains("10 kept"), "{}", ended.stderr);
        let note = "the Python program did not send it to Ollama";
        assert_eq!(ended.stderr.matches(note).count(), 1, "{}", ended.stderr);
        let again = site.generate().arg("--resume").servers(&[&server]).run(0).await;
        assert!(!again.stderr.contains("Python"), "it is said at every start:\n{}", again.stderr);
        check(&Check::new(&site).foreign(&document.name, done));
        assert_eq!(server.stats().chat_calls, 6);
    }
}

#[tokio::test]
async fn a_completed_document_is_recognised_and_combined() {
    let (done, new) = (Document::pdf("done", 12, 5), Document::new("new", 3));
    let site = site(&[done.clone(), new]);
    let all: Vec<_> = (0..12).collect();
    done.write_python_qa(&site.qa_dir(), &all, &[]);
    let server = FakeOllama::start(FakeConfig::default());
    site.generate().arg("--resume").servers(&[&server]).run(0).await;
    check(&Check::new(&site).foreign("done", all));
    assert_eq!(server.stats().chat_calls, 3);
}

#[tokio::test]
async fn failed_chunks_behind_a_completed_status_are_tried_again_and_sorted_into_place() {
    let document = Document::pdf("mapping", 12, 5);
    let site = site(std::slice::from_ref(&document));
    let done: Vec<_> = (0..12).filter(|chunk| ![0, 3, 7].contains(chunk)).collect();
    document.write_python_qa(&site.qa_dir(), &done, &[0, 3, 7]);
    let server = FakeOllama::start(FakeConfig::default());
    site.generate().arg("--resume").servers(&[&server]).run(0).await;
    check(&Check::new(&site).foreign("mapping", done));
    let stats = server.stats();
    assert_eq!(stats.chat_calls, 3);
    assert!([0, 3, 7].into_iter().all(|chunk| stats.calls_for(&document.texts[chunk]) == 1));
}

#[tokio::test]
async fn lists_with_duplicates_and_retried_chunks_at_the_end_are_put_in_order() {
    let document = Document::new("messy", 8);
    let site = site(std::slice::from_ref(&document));
    // Chunk 1 failed twice and was completed later: it is in both lists, its pairs stand at the end.
    document.write_python_qa(&site.qa_dir(), &[0, 2, 3, 4, 1], &[1, 5, 5]);
    let server = FakeOllama::start(FakeConfig::default());
    site.generate().arg("--resume").servers(&[&server]).run(0).await;
    check(&Check::new(&site).foreign("messy", 0..5));
    assert_eq!(server.stats().chat_calls, 3);
}

#[tokio::test]
async fn its_output_is_not_overwritten_without_a_word() {
    let document = Document::new("readme", 4);
    let site = site(std::slice::from_ref(&document));
    document.write_python_qa(&site.qa_dir(), &[0, 1], &[]);
    let server = FakeOllama::start(FakeConfig::default());
    let ended = site.generate().servers(&[&server]).run(2).await;
    assert!(ended.stderr.contains("--resume"), "{}", ended.stderr);
    assert_eq!(server.stats().chat_calls, 0);
}
