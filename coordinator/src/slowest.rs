//! The chunks that took longest (PURE): a list of bounded length.

use crate::files::{ChunkRecord, SlowChunk};
use crate::trace_url::TraceUrl;

/// Chunks that are kept.
const MOST: usize = 10;

/// The slowest chunks so far, the slowest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Slowest(Vec<SlowChunk>);

impl Slowest {
    /// Takes a chunk's record.
    pub(crate) fn hear(&mut self, document: &str, record: ChunkRecord) {
        let seconds = record.duration_seconds;
        let is_slow =
            self.0.len() < MOST || self.0.last().is_some_and(|last| seconds > last.duration_seconds);
        if !is_slow || seconds <= 0.0 {
            return;
        }
        let place = self.0.partition_point(|known| known.duration_seconds >= seconds);
        let slow = SlowChunk {
            document: document.to_owned(),
            chunk: record.chunk,
            duration_seconds: seconds,
            host: record.host,
            worker: record.worker,
            trace_id: record.trace_id,
            trace_url: None,
        };
        self.0.insert(place, slow);
        self.0.truncate(MOST);
    }

    /// The list, with links where there is a template for them.
    pub(crate) fn into_list(self, url: Option<&TraceUrl>) -> Vec<SlowChunk> {
        let mut list = self.0;
        for slow in &mut list {
            slow.trace_url = url.zip(slow.trace_id.as_deref()).and_then(|(url, id)| url.link(id));
        }
        list
    }
}

#[cfg(test)]
mod tests {
    use qa_shared::model::TextHash;

    use super::*;
    use crate::files::RecordStatus;

    #[test]
    fn the_ten_slowest_stay_whatever_the_order() {
        let mut slowest = Slowest::default();
        for chunk in 0..1000 {
            let mut record = ChunkRecord::bare(chunk, TextHash::of("t"), RecordStatus::Completed);
            record.duration_seconds = f64::from(chunk * 367 % 1000);
            record.trace_id = Some("902fc6167a5362903e920dc6cc66406b".to_owned());
            slowest.hear("a", record);
        }
        let url = TraceUrl::parse("http://j/{trace_id}").unwrap();
        let list = slowest.into_list(Some(&url));
        let seconds: Vec<_> = list.iter().map(|slow| slow.duration_seconds).collect();
        assert_eq!(seconds, [999.0, 998.0, 997.0, 996.0, 995.0, 994.0, 993.0, 992.0, 991.0, 990.0]);
        assert_eq!(list[0].trace_url.as_deref(), Some("http://j/902fc6167a5362903e920dc6cc66406b"));
    }
}
