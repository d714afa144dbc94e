//! What a run without faults makes of the same documents; every other run has to make the same.

use qa_shared::testing::fake_ollama::{FakeConfig, FakeOllama};
use serde_json::{Value, json};

use crate::site::{Site, read_json};
use crate::stage::documents;

/// The parts of a run's files that do not depend on who did what when.
#[derive(Debug)]
pub(crate) struct Reference(Vec<(String, Value)>);

impl Reference {
    pub(crate) async fn make() -> Self {
        let site = Site::new(&documents());
        let server = FakeOllama::start(FakeConfig { slots: 8, ..FakeConfig::default() });
        site.generate().args(["--concurrency", "8"]).servers(&[&server]).run(0).await;
        site.check();
        Self(lasting(&site))
    }

    /// Where another run's files are not the same, one sentence each.
    pub(crate) fn differences(&self, site: &Site) -> Vec<String> {
        let theirs = lasting(site);
        let pairs = self.0.iter().zip(&theirs);
        let differing = pairs.filter(|(ours, theirs)| ours != theirs);
        differing.map(|((what, _), _)| format!("{what} differs from that of a run without faults")).collect()
    }
}

fn lasting(site: &Site) -> Vec<(String, Value)> {
    let mut parts = Vec::new();
    for document in documents() {
        let qa = site.qa(&document.name);
        for field in
            ["metadata", "processing_info", "training_pairs", "status", "completed_chunks", "failed_chunks"]
        {
            parts.push((format!("{}: {field}", document.name), qa[field].clone()));
        }
        // How many calls it took may differ.
        let mut summary = qa["summary"].clone();
        summary.as_object_mut().unwrap().remove("usage");
        parts.push((format!("{}: summary", document.name), summary));
    }
    let combined = read_json(&site.combined());
    parts.push(("the combined file's pairs".to_owned(), combined["training_pairs"].clone()));
    let figures = ["total_qa_pairs", "num_documents"].map(|field| combined["metadata"][field].clone());
    parts.push(("the combined file's figures".to_owned(), json!(figures)));
    let chunks = site.summary()["chunks"].clone();
    parts.push(("the run's chunks".to_owned(), chunks));
    parts
}
