//! JSON that is kept as text, which takes a tenth of the memory of the value: a job may have 100,000 documents,
//! and what each says about itself is needed only while its Q&A file is written.

use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

/// A JSON value as text.
#[derive(Debug, Clone)]
pub struct JsonText(Box<RawValue>);

impl JsonText {
    /// Of a value.
    pub fn of(value: &Value) -> Self {
        Self(to_raw_value(value).expect("a value has text keys"))
    }

    /// The value.
    pub fn value(&self) -> Value {
        serde_json::from_str(self.0.get()).expect("it was written from a value")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_what_it_was_with_its_keys_in_order() {
        let text = r#"{"z":1.5,"a":[null,"ü\n",1e300,18446744073709551615],"m":{}}"#;
        let value: Value = serde_json::from_str(text).unwrap();
        let again = JsonText::of(&value).value();
        assert_eq!(again, value);
        assert_eq!(again.to_string(), value.to_string());
    }
}
