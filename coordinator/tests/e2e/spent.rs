//! What was paid for: model calls, over all servers of a test.

use std::collections::BTreeMap;

use qa_shared::testing::fake_ollama::FakeOllama;

use crate::documents::Document;

/// The texts of all chunks.
pub(crate) fn texts(documents: &[Document]) -> Vec<String> {
    documents.iter().flat_map(|document| document.texts.clone()).collect()
}

/// How many of these texts were asked how often.
pub(crate) fn calls(servers: &[&FakeOllama], texts: &[String]) -> BTreeMap<u64, usize> {
    let stats: Vec<_> = servers.iter().map(|server| server.stats()).collect();
    let mut histogram = BTreeMap::new();
    for text in texts {
        let calls = stats.iter().map(|stats| stats.calls_for(text)).sum();
        *histogram.entry(calls).or_default() += 1;
    }
    histogram
}
