//! Every place that the end of a run needs is tried before the first model call.

use std::fs;

use qa_shared::testing::fake_ollama::{FakeConfig, FakeOllama};

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
