//! Puts pairs into the form that a schema asks for, whatever its members are called, in the schema's order.

use serde_json::{Map, Value, json};

use super::request::Form;
use crate::model::Pair;
use crate::testing::fake_server::answer::as_json;

/// A schema that contains itself is followed this deep.
const DEEPEST: usize = 12;
/// Characters of the chunk that a quote takes.
const QUOTE: usize = 80;

/// The pairs in the form that is asked for.
pub(super) fn text(form: &Form, pairs: &[Pair], chunk: &str) -> String {
    match form {
        Form::Schema(schema) | Form::Tool(_, schema) => {
            let filler = Filler { root: schema, pairs, quote: chunk.chars().take(QUOTE).collect() };
            filler.fill(schema, "", None, 0).to_string()
        }
        Form::Free | Form::Unread | Form::Json => as_json(pairs),
    }
}

struct Filler<'a> {
    root: &'a Value,
    pairs: &'a [Pair],
    quote: String,
}

impl Filler<'_> {
    /// A value of a schema; within a pair's object, `pair` is that pair.
    fn fill(&self, schema: &Value, name: &str, pair: Option<&Pair>, depth: usize) -> Value {
        if depth > DEEPEST {
            return Value::Null;
        }
        let inner = |schema: &Value, name: &str, pair| self.fill(schema, name, pair, depth + 1);
        let schema = self.resolved(schema);
        if let Some(value) = schema.get("const") {
            return value.clone();
        }
        if let Some(value) = schema["enum"].get(0) {
            return value.clone();
        }
        for choices in ["anyOf", "oneOf", "allOf"] {
            let choices = schema[choices].as_array().into_iter().flatten();
            if let Some(choice) = choices.clone().find(|choice| choice["type"] != "null") {
                return inner(choice, name, pair);
            }
        }
        match kind_of(schema).as_str() {
            "object" => {
                let properties = schema["properties"].as_object();
                let members = properties.into_iter().flatten();
                let filled: Map<String, Value> =
                    members.map(|(name, schema)| (name.clone(), inner(schema, name, pair))).collect();
                Value::Object(filled)
            }
            "array" => {
                let item = &schema["items"];
                match pair {
                    Some(_) => json!([inner(item, name, pair)]),
                    None => self.pairs.iter().map(|pair| inner(item, name, Some(pair))).collect(),
                }
            }
            "integer" | "number" => schema.get("minimum").cloned().unwrap_or(json!(1)),
            "boolean" => json!(true),
            "null" => Value::Null,
            _ => json!(self.said(name, pair)),
        }
    }

    fn said(&self, name: &str, pair: Option<&Pair>) -> String {
        let name = name.to_ascii_lowercase();
        let is_like = |words: &[&str]| words.iter().any(|word| name.contains(word));
        match pair {
            Some(pair) if is_like(&["question", "instruction", "prompt"]) => pair.question.clone(),
            Some(pair) if is_like(&["response", "answer", "output"]) => pair.answer.clone(),
            _ if is_like(&["evidence", "quote", "citation"]) => self.quote.clone(),
            _ => "as the chunk says".to_owned(),
        }
    }

    fn resolved<'a>(&'a self, schema: &'a Value) -> &'a Value {
        let place = schema["$ref"].as_str().and_then(|place| place.strip_prefix('#'));
        place.and_then(|place| self.root.pointer(place)).unwrap_or(schema)
    }
}

/// The type's name in lower case; the first that is not null where there are several.
fn kind_of(schema: &Value) -> String {
    let kind = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().find(|kind| *kind != "null"),
        kind => Some(kind),
    };
    match kind.and_then(Value::as_str) {
        Some(kind) => kind.to_ascii_lowercase(),
        None if schema["properties"].is_object() => "object".to_owned(),
        None => "string".to_owned(),
    }
}
