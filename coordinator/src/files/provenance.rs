//! Where the pairs of a chunk come from, as it stands at the end of every pair: put on new pairs, checked and
//! put right on old ones.
//!
//! It knows nothing of files and places.

use qa_shared::model::{DocumentName, Pair};
use serde::Serialize;
use serde_json::{Map, Value};

use super::Chunk;
use super::pretty::pretty;

/// Where the pairs of one chunk come from: the fields that follow question and answer.
#[derive(Serialize)]
struct Fields<'a> {
    source_file: Option<&'a Value>,
    file_name: Option<&'a Value>,
    file_type: Option<&'a Value>,
    chunk_id: &'a Value,
    chunk_index: &'a Value,
    chunk_start: &'a Value,
    chunk_end: &'a Value,
    source_text: &'a str,
}

/// What all pairs of one chunk end with.
pub(super) struct Provenance {
    /// The fields as an object.
    object: Vec<u8>,
    /// The fields as they stand in a pair, with what closes it.
    ending: Vec<u8>,
}

const PAIR_START: &[u8] = b"{\n      \"question\": ";

impl Provenance {
    /// Of the chunk at a position of a document with this `metadata`. A chunk file that says nothing about its
    /// document and its chunks still gives pairs that can be traced: by the document's name and by position.
    pub(super) fn new(document: &DocumentName, metadata: &Value, chunk: &Chunk, position: usize) -> Self {
        let name = Value::from(document.as_str());
        let position = Value::from(position);
        let known = |value: &&Value| !value.is_null();
        let fields = Fields {
            source_file: metadata.get("source_file"),
            file_name: metadata.get("file_name").filter(known).or(Some(&name)),
            file_type: metadata.get("file_type"),
            chunk_id: &chunk.chunk_id,
            chunk_index: Some(&chunk.chunk_index).filter(known).unwrap_or(&position),
            chunk_start: &chunk.start_char,
            chunk_end: &chunk.end_char,
            // Only a chunk with a text has pairs.
            source_text: chunk.text.as_deref().unwrap_or_default(),
        };
        let object = pretty(&fields, 2).expect("a value with text keys can be written");
        let ending = [b",", &object[1..]].concat();
        Self { object, ending }
    }

    /// An old pair with this provenance: itself where it has it already.
    pub(super) fn applied_to(&self, old: Vec<u8>) -> Option<Vec<u8>> {
        if old.starts_with(PAIR_START) && old.ends_with(&self.ending) {
            return Some(old);
        }
        let mut pair: Map<String, Value> = serde_json::from_slice(&old).ok()?;
        pair.extend(serde_json::from_slice::<Map<String, Value>>(&self.object).ok()?);
        pretty(&pair, 2).ok()
    }

    /// A new pair.
    pub(super) fn pair(&self, pair: &Pair) -> Vec<u8> {
        let text = pretty(pair, 2).expect("a pair has text keys");
        let fields = text.strip_suffix(b"\n    }").expect("an object ends like this");
        [fields, &self.ending].concat()
    }
}
