//! JSON that is kept as text, which takes a tenth of the memory of the value: a job may have 100,000 documents,
//! and what each says about itself is needed only while its Q&A file is written.

use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use super::json_repair::Repairs;
use super::json_scan::{Piece, ScanError};

/// A JSON value as text.
#[derive(Debug, Clone)]
pub struct JsonText(Box<RawValue>);

impl JsonText {
    /// As it stands in a file: a number that goes through a value may lose its last digit. What is no JSON but
    /// can be read is repaired.
    pub fn read(piece: Piece<'_>) -> Result<(Self, Repairs), ScanError> {
        let (text, repairs) = piece.text()?;
        Ok((Self(text), repairs))
    }

    /// Of a value.
    pub fn of(value: &Value) -> Self {
        Self(to_raw_value(value).expect("a value has text keys"))
    }

    /// The value.
    pub fn value(&self) -> Value {
        serde_json::from_str(self.0.get()).expect("it was read as a value, or written from one")
    }
}

#[cfg(test)]
mod tests {
    use super::super::Span;
    use super::*;

    fn read(raw: &str) -> Result<JsonText, ScanError> {
        let span = Span { offset: 0, len: raw.len() as u64 };
        JsonText::read(Piece { span, raw: raw.as_bytes() }).map(|(text, _)| text)
    }

    #[test]
    fn a_file_s_text_is_kept_and_what_is_no_value_is_refused() {
        let text = "{ \"modified\": 1763900000.1234567,\n  \"x\": [1e2] }";
        assert_eq!(read(text).unwrap().0.get(), text);
        assert_eq!(read(text).unwrap().value(), serde_json::from_str::<Value>(text).unwrap());
        for broken in ["{", "1 2"] {
            assert!(matches!(read(broken), Err(ScanError::Piece { .. })), "{broken}");
        }
        assert_eq!(read(r#"["\ud800", 1e999, 1.50]"#).unwrap().0.get(), r#"["\ufffd", null, 1.50]"#);
    }

    #[test]
    fn a_value_is_what_it_was_with_its_keys_in_order() {
        let text = r#"{"z":1.5,"a":[null,"ü\n",1e300,18446744073709551615],"m":{}}"#;
        let value: Value = serde_json::from_str(text).unwrap();
        let again = JsonText::of(&value).value();
        assert_eq!(again, value);
        assert_eq!(again.to_string(), value.to_string());
    }
}
