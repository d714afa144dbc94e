//! Every place that the end of a run needs is tried before the first model call.

use std::fs;
use std::time::Duration;

use qa_shared::testing::fake_ollama::{Behaviour, FakeConfig, FakeOllama};

use crate::documents::Document;
use crate::site::Site;

#[tokio::test]
async fn a_place_that_cannot_be_written_is_told_before_anything_is_paid_for() {
    let site = Site::new(&[Document::new("guide", 3)]);
    let fake = FakeOllama::start(FakeConfig::default());
    // Nothing can be made below a file, by the administrator either.
    let file = site.root().join("file");
    fs::write(&file, "no directory").unwrap();
    let below = file.join("below");
    for (line, setting) in [
        (site.generate().arg("--output-file").arg(below.join("all.json")), "--output-file"),
        (site.generate().env("QA_LOG_DIR", &below), "QA_LOG_DIR"),
        (site.generate().arg("--output-file").arg("/proc/self/fdinfo/all.json"), "--output-file"),
    ] {
        let ended = line.servers(&[&fake]).run(6).await;
        assert!(ended.stderr.contains(setting), "{setting}: {}", ended.stderr);
        assert!(ended.stderr.contains("cannot create") || ended.stderr.contains("cannot write"));
    }
    fs::create_dir_all(site.qa_dir()).unwrap();
    fs::write(site.job_folder(), "no directory").unwrap();
    site.generate().servers(&[&fake]).run(6).await;
    assert_eq!(fake.stats().chat_calls, 0);
}

#[tokio::test]
async fn a_run_needs_no_directory_for_temporary_files() {
    let site = Site::new(&[Document::new("guide", 3)]);
    let fake = FakeOllama::start(FakeConfig::default());
    let line = site.generate().servers(&[&fake]).env("TMPDIR", "/nowhere").env("HOME", "/nowhere");
    line.run(0).await;
    assert!(site.qa_dir().join("training_data.json").is_file());
}

#[tokio::test]
async fn an_output_file_that_would_replace_what_is_read_or_is_no_file_is_refused_at_the_start() {
    let site = Site::new(&[Document::new("guide", 3)]);
    let fake = FakeOllama::start(FakeConfig::default());
    fs::create_dir_all(site.qa_dir()).unwrap();
    let fifo = site.root().join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    for (path, words) in [
        (site.qa_dir().join("qa_generation_summary.json"), "summary file"),
        (site.qa_path("guide"), "Q&A file"),
        (site.chunks_dir().join("guide_chunks.json"), "chunk file"),
        (site.chunks_dir(), "is a directory"),
        (fifo, "is a FIFO"),
        ("/dev/null".into(), "is a device"),
    ] {
        for line in [site.generate().servers(&[&fake]), site.coordinator("combine")] {
            let ended = line.arg("--output-file").arg(&path).arg("--overwrite").run(2).await;
            assert!(
                ended.stderr.contains(words) && ended.stderr.contains("--output-file"),
                "{}",
                ended.stderr
            );
        }
    }
    assert!(!site.job_folder().exists(), "a run that did nothing left its folder behind");
    fs::create_dir(site.qa_dir().join("qa_generation_summary.json")).unwrap();
    let ended = site.generate().servers(&[&fake]).run(2).await;
    assert!(ended.stderr.contains("the summary is written there"), "{}", ended.stderr);
    assert_eq!(fake.stats().chat_calls, 0);
}

#[tokio::test]
async fn a_chunk_file_whose_times_a_network_share_sets_is_not_taken_for_edited() {
    let site = Site::new(&[Document::new("guide", 6)]);
    let fake = FakeOllama::start(FakeConfig { slots: 1, ..FakeConfig::default() });
    fake.respond_with(|_| Behaviour::Slow(Duration::from_millis(150)));
    let run = site.generate().servers(&[&fake]).start();
    fake.wait_for(|stats| stats.chat_calls >= 3).await;
    for path in [site.chunks_dir().join("guide_chunks.json"), site.qa_path("guide")] {
        if let Ok(file) = fs::File::options().append(true).open(path) {
            file.set_modified(std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000))
                .unwrap();
        }
    }
    run.ends_with(0).await;
    site.check();
}
