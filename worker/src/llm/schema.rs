//! An answer's JSON schema with only those keywords that a service takes.
//!
//! PURE. It must not know what is asked for.

use serde_json::Value;

/// Which bounds a service takes; objects, arrays, texts, required and closed properties all do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Keywords(&'static [&'static str]);

impl Keywords {
    /// No bounds at all.
    pub(super) const NONE: Self = Self(&[]);
    /// How many items an array has.
    pub(super) const COUNTS: Self = Self(&["minItems", "maxItems"]);
    /// All that our schemas use.
    pub(super) const ALL: Self = Self(&BOUNDS);
}

const BOUNDS: [&str; 4] = ["minItems", "maxItems", "minLength", "maxLength"];

/// The schema without the bounds that are not in `keywords`.
pub(super) fn portable(schema: &Value, keywords: Keywords) -> Value {
    match schema {
        Value::Object(members) => members
            .iter()
            .filter(|(name, value)| {
                let is_bound = BOUNDS.contains(&name.as_str()) && value.is_number();
                !is_bound || keywords.0.contains(&name.as_str())
            })
            .map(|(name, value)| (name.clone(), portable(value, keywords)))
            .collect(),
        Value::Array(items) => items.iter().map(|item| portable(item, keywords)).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use crate::prompt::answer_schema;

    use super::*;

    #[test]
    fn bounds_that_are_not_taken_go_and_nothing_else() {
        let schema = answer_schema(3);
        let counts = portable(&schema, Keywords::COUNTS);
        assert_eq!(counts["properties"]["pairs"]["maxItems"], 3);
        let text = portable(&schema, Keywords::NONE).to_string();
        assert!(BOUNDS.iter().all(|bound| !text.contains(bound)), "{text}");
        assert!(text.contains("additionalProperties") && text.contains("required"), "{text}");
    }

    #[test]
    fn all_bounds_may_stay() {
        let schema = answer_schema(3);
        assert_eq!(portable(&schema, Keywords::ALL), schema);
    }

    #[test]
    fn a_property_with_a_bounds_name_stays() {
        let schema = serde_json::json!({"properties": {"minItems": {"type": "string"}}});
        assert_eq!(portable(&schema, Keywords::NONE), schema);
    }
}
