//! JSON text as the Python program writes it: two spaces, raw non-ASCII, nested at a given depth.

use memchr::memchr_iter;
use serde::Serialize;

/// A value as indented JSON whose lines after the first are moved right by `depth` levels of two spaces.
pub(crate) fn pretty<T: Serialize + ?Sized>(value: &T, depth: usize) -> Result<Vec<u8>, serde_json::Error> {
    // As much as a pair usually takes: growing costs more than anything else here once memory is in small pieces.
    let mut flat = Vec::with_capacity(2048);
    serde_json::to_writer_pretty(&mut flat, value)?;
    let lines = memchr_iter(b'\n', &flat).count();
    let mut text = Vec::with_capacity(flat.len() + 2 * depth * lines);
    // A newline in a JSON string is written as \n, so every raw newline is one of the layout.
    for line in flat.split_inclusive(|byte| *byte == b'\n') {
        text.extend_from_slice(line);
        if line.ends_with(b"\n") {
            text.resize(text.len() + 2 * depth, b' ');
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn nested_values_look_as_python_writes_them() {
        let text = super::pretty(&json!({"a": [], "b": [1, "ü\n"], "c": {}}), 1).unwrap();
        let expected =
            "{\n    \"a\": [],\n    \"b\": [\n      1,\n      \"ü\\n\"\n    ],\n    \"c\": {}\n  }";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }
}
