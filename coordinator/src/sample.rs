//! Which chunks a sample takes (PURE): as many documents as possible, chosen by the seed.

use std::collections::BTreeSet;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

/// Chooses `count` of the waiting chunks, given as (document, chunk), spread over the documents.
pub(crate) fn choose(
    waiting: impl IntoIterator<Item = (u32, u32)>,
    count: usize,
    seed: u64,
) -> BTreeSet<(u32, u32)> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut by_document: Vec<Vec<(u32, u32)>> = Vec::new();
    for chunk in waiting {
        match by_document.last_mut() {
            Some(chunks) if chunks.last().is_some_and(|last| last.0 == chunk.0) => chunks.push(chunk),
            _ => by_document.push(vec![chunk]),
        }
    }
    by_document.shuffle(&mut random);
    for chunks in &mut by_document {
        chunks.shuffle(&mut random);
    }
    let mut chosen = BTreeSet::new();
    while chosen.len() < count && by_document.iter().any(|chunks| !chunks.is_empty()) {
        for chunks in &mut by_document {
            if chosen.len() < count
                && let Some(chunk) = chunks.pop()
            {
                chosen.insert(chunk);
            }
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks() -> Vec<(u32, u32)> {
        (0..5).flat_map(|document| (0..20).map(move |chunk| (document, chunk))).collect()
    }

    #[test]
    fn a_sample_is_spread_over_the_documents() {
        let chosen = choose(chunks(), 10, 1);
        assert_eq!(chosen.len(), 10);
        for document in 0..5 {
            assert_eq!(chosen.iter().filter(|chunk| chunk.0 == document).count(), 2);
        }
    }

    #[test]
    fn the_seed_decides() {
        assert_eq!(choose(chunks(), 10, 1), choose(chunks(), 10, 1));
        assert_ne!(choose(chunks(), 10, 1), choose(chunks(), 10, 2));
    }

    #[test]
    fn a_sample_larger_than_the_job_is_the_job() {
        assert_eq!(choose(chunks(), 1000, 1).len(), 100);
        assert!(choose([], 3, 1).is_empty());
    }
}
