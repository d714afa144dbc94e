//! One chunk as it stands in a chunk file, ours or another program's (PURE).
//!
//! It knows which text a chunk has, and says what stands there where it has none. It does not know its file.

use qa_shared::model::TextHash;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::json_repair;

/// Where the text of a chunk stands: the Python program's name first, then those of LangChain and others.
pub(super) const TEXT_NAMES: [&str; 3] = ["text", "page_content", "content"];
/// Names that a message about a chunk without text lists at most.
const MOST_NAMES: usize = 6;

/// A chunk. What is missing is null.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The text, or what stands in its place, in words: "`text` is null".
    pub text: Result<String, String>,
    /// Such as `0_12`.
    pub chunk_id: Value,
    /// Restarts on every page of a PDF.
    pub chunk_index: Value,
    /// Where the text begins in the document, in characters.
    pub start_char: Value,
    /// Where it ends.
    pub end_char: Value,
}

/// A chunk as the Python program writes it.
#[derive(Deserialize)]
struct Plain {
    text: String,
    #[serde(default)]
    chunk_id: Value,
    #[serde(default)]
    chunk_index: Value,
    #[serde(default)]
    start_char: Value,
    #[serde(default)]
    end_char: Value,
}

impl Chunk {
    /// Reads a chunk's JSON, repaired where it has to be. An error means that it is no JSON.
    pub fn read(raw: &[u8]) -> Result<Self, serde_json::Error> {
        if raw.starts_with(b"{")
            && let Ok(plain) = serde_json::from_slice::<Plain>(raw)
        {
            let Plain { text, chunk_id, chunk_index, start_char, end_char } = plain;
            return Ok(Self { text: Ok(text), chunk_id, chunk_index, start_char, end_char });
        }
        Ok(match json_repair::from_slice(raw)? {
            Value::Object(fields) => Self::of(fields),
            Value::String(text) => Self::bare(Ok(text)),
            other => Self::bare(Err(format!("it is {}, no object with a `text`", described(&other)))),
        })
    }

    fn of(mut fields: Map<String, Value>) -> Self {
        let text = text_of(&fields);
        let mut take = |name| fields.remove(name).unwrap_or_default();
        Self {
            text,
            chunk_id: take("chunk_id"),
            chunk_index: take("chunk_index"),
            start_char: take("start_char"),
            end_char: take("end_char"),
        }
    }

    fn bare(text: Result<String, String>) -> Self {
        let [chunk_id, chunk_index, start_char, end_char] = [const { Value::Null }; 4];
        Self { text, chunk_id, chunk_index, start_char, end_char }
    }

    /// What the chunk is recognised by. One without text has the hash of no text.
    pub fn text_hash(&self) -> TextHash {
        match &self.text {
            Ok(text) => TextHash::of(text),
            Err(problem) => TextHash::of(&format!("\0no text: {problem}")),
        }
    }
}

/// The text of an object, or what stands in its place.
fn text_of(fields: &Map<String, Value>) -> Result<String, String> {
    let found: Vec<_> = TEXT_NAMES
        .into_iter()
        .filter_map(|name| fields.get(name).filter(|value| !value.is_null()).map(|value| (name, value)))
        .collect();
    match found.as_slice() {
        [("text", Value::String(text)), ..] | [(_, Value::String(text))] => Ok(text.clone()),
        [(_, Value::String(text)), (_, Value::String(same))] if text == same => Ok(text.clone()),
        [(one, Value::String(_)), (other, _), ..] => {
            Err(format!("it has `{one}` and `{other}` and no `text`: which one is meant is not clear"))
        }
        [(name, other), ..] => Err(format!("`{name}` is {}, no text", described(other))),
        [] if fields.contains_key("text") => Err("`text` is null".to_owned()),
        [] => Err(format!("it has no `text`, {}", names(fields))),
    }
}

fn names(fields: &Map<String, Value>) -> String {
    if fields.is_empty() {
        return "and nothing else".to_owned();
    }
    let mut names: Vec<_> = fields.keys().take(MOST_NAMES).map(|name| format!("`{name}`")).collect();
    if fields.len() > MOST_NAMES {
        names.push("...".to_owned());
    }
    format!("only {}", names.join(", "))
}

/// What a value is, in words.
fn described(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => format!("the number {number}"),
        Value::String(_) => "a text".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(raw: &str) -> Result<String, String> {
        Chunk::read(raw.as_bytes()).unwrap().text
    }

    #[test]
    fn the_fields_of_the_python_program_are_read() {
        let raw =
            r#"{"text": "a", "chunk_id": "0_1", "chunk_index": 1, "start_char": 0, "end_char": 1, "x": []}"#;
        let chunk = Chunk::read(raw.as_bytes()).unwrap();
        assert_eq!((chunk.text.as_deref(), chunk.text_hash()), (Ok("a"), TextHash::of("a")));
        let rest = [chunk.chunk_id, chunk.chunk_index, chunk.start_char, chunk.end_char];
        assert_eq!(rest, [json!("0_1"), json!(1), json!(0), json!(1)]);
    }

    #[test]
    fn bad_values_beside_the_text_cost_nothing() {
        let raw = r#"{"text": "a \ud835", "chunk_index": NaN, "score": Infinity, "text": "b \ud835", "chunk_id": 7}"#;
        let chunk = Chunk::read(raw.as_bytes()).unwrap();
        assert_eq!(
            (chunk.text.as_deref(), chunk.chunk_index, chunk.chunk_id),
            (Ok("b \u{fffd}"), json!(null), json!(7))
        );
    }

    #[test]
    fn what_stands_in_place_of_a_text_is_said() {
        for (raw, problem) in [
            (r#"{"text": null, "chunk_id": 1}"#, "`text` is null"),
            (r#"{"text": NaN}"#, "`text` is null"),
            (r#"{"text": 2024}"#, "`text` is the number 2024, no text"),
            (r#"{"text": ["a", "b"]}"#, "`text` is a list, no text"),
            (r#"{"text": {"a": 1}}"#, "`text` is an object, no text"),
            (r#"{"text": true}"#, "`text` is true, no text"),
            (r#"{"body": "a", "id": 1}"#, "it has no `text`, only `body`, `id`"),
            ("{}", "it has no `text`, and nothing else"),
            ("7", "it is the number 7, no object with a `text`"),
            (r#"["a"]"#, "it is a list, no object with a `text`"),
        ] {
            assert_eq!(text(raw), Err(problem.to_owned()), "{raw}");
        }
        assert!(Chunk::read(b"tru").is_err());
    }

    #[test]
    fn other_names_of_the_text_are_taken_where_it_is_clear_which_one_is_meant() {
        for (raw, expected) in [
            (r#"{"page_content": "a", "metadata": {"page": 1}}"#, Ok("a")),
            (r#"{"content": "a"}"#, Ok("a")),
            (r#"{"text": "a", "content": "b"}"#, Ok("a")),
            (r#"{"text": null, "content": "b"}"#, Ok("b")),
            (r#"{"page_content": "a", "content": "a"}"#, Ok("a")),
            (r#""a""#, Ok("a")),
            (
                r#"{"page_content": "a", "content": "b"}"#,
                Err("it has `page_content` and `content` and no `text`: which one is meant is not clear"),
            ),
            (r#"{"text": 1, "content": "b"}"#, Err("`text` is the number 1, no text")),
        ] {
            assert_eq!(text(raw), expected.map(str::to_owned).map_err(str::to_owned), "{raw}");
        }
    }

    #[test]
    fn a_chunk_without_text_is_not_taken_for_an_empty_one() {
        let hash = |raw: &str| Chunk::read(raw.as_bytes()).unwrap().text_hash();
        let hashes = [
            hash(r#"{"text": ""}"#),
            hash(r#"{"text": null}"#),
            hash(r#"{"text": 1}"#),
            hash(r#"{"text": 2}"#),
        ];
        for (index, hash) in hashes.iter().enumerate() {
            assert!(!hashes[..index].contains(hash), "{index}");
        }
    }
}
