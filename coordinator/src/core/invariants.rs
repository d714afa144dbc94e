//! What must always hold, derived anew from the chunks.

use super::job::NO_CHUNK;
use super::{ChunkState, Core, Totals};

impl Core {
    /// The totals, counted from the chunks.
    pub(super) fn count_totals(&self) -> Totals {
        let mut totals = Totals::default();
        for document in &self.documents {
            totals.documents += 1;
            totals.documents_settled += u32::from(document.error.is_none() && document.outstanding() == 0);
            totals.documents_broken += u32::from(document.error.is_some());
            totals.chunks += u64::from(document.total());
            totals.completed += u64::from(document.completed);
            totals.failed += u64::from(document.failed);
            totals.pairs += document.pairs;
            let out = document.chunks.iter().filter(|chunk| chunk.state == ChunkState::Published).count();
            totals.published += out as u64;
        }
        totals
    }

    /// Derives every count anew and compares.
    ///
    /// # Errors
    ///
    /// The name of the first invariant that does not hold.
    pub fn check_invariants(&self) -> Result<(), String> {
        for document in &self.documents {
            let counted = document.count();
            if counted != (document.completed, document.failed, document.pairs) {
                return Err(format!("document {}: counters are off: {counted:?}", document.name));
            }
            if document.completed + document.failed + document.outstanding() != document.total() {
                return Err(format!("document {}: chunks do not add up", document.name));
            }
        }
        let totals = self.count_totals();
        if totals != self.totals {
            return Err(format!("totals are off: counted {totals:?}, kept {:?}", self.totals));
        }
        if totals.published != u64::from(self.published) {
            return Err(format!("published is off: {} against {}", totals.published, self.published));
        }
        let out = self.documents.iter().flat_map(|document| &document.chunks);
        let bytes: u64 = out
            .filter(|chunk| chunk.state == ChunkState::Published)
            .map(super::document::Chunk::queued_bytes)
            .sum();
        if bytes != self.published_bytes {
            return Err(format!("published bytes are off: {bytes} against {}", self.published_bytes));
        }
        let committed = self.count_committed();
        if committed != self.committed() {
            return Err(format!("committed is off: {committed:?} against {:?}", self.committed()));
        }
        self.check_twins()?;
        let unflushed: u64 = self.documents.iter().map(|document| u64::from(document.unflushed)).sum();
        let undurable = self.undurable.values().filter(|place| **place != NO_CHUNK).count() as u64;
        if unflushed != undurable {
            return Err(format!("unflushed is off: {unflushed} against {undurable}"));
        }
        let writing = self.documents.iter().filter(|document| document.writing.is_some()).count();
        if writing != self.writing {
            return Err(format!("writing is off: {writing} against {}", self.writing));
        }
        let (spent, counted) = (self.spent(), self.tally());
        if spent.calls < counted.calls || spent.usage.tokens() < counted.usage.tokens() {
            return Err(format!("the account lacks what this run has counted: {spent:?}, {counted:?}"));
        }
        Ok(())
    }
}
