//! Anthropic's rules for the schema of an answer.

use serde_json::Value;

use crate::testing::fake_provider::schema::{Node, nodes};

const KEYWORDS: &[&str] = &[
    "type",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "enum",
    "const",
    "anyOf",
    "allOf",
    "$ref",
    "$defs",
    "definitions",
    "title",
    "description",
    "default",
    "format",
    "minItems",
];
const FORMATS: &[&str] =
    &["date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"];
/// A schema with more of them makes a grammar that is too large. The real limit is about the grammar.
const MOST_SCHEMAS: usize = 2000;

/// What a schema breaks, in Anthropic's words.
pub(super) fn breach(root: &Value) -> Option<String> {
    let nodes = nodes(root);
    if nodes.len() > MOST_SCHEMAS {
        return Some("the compiled grammar is too large, simplify the schema".to_owned());
    }
    nodes.iter().find_map(|node| in_node(root, node))
}

fn in_node(root: &Value, node: &Node<'_>) -> Option<String> {
    let kind = node.schema.get("type").and_then(Value::as_str).unwrap_or("any");
    if let Some(keyword) = node.other_than(KEYWORDS) {
        return Some(format!("For '{kind}' type, property '{keyword}' is not supported"));
    }
    match node.schema.get("minItems") {
        Some(count) if !matches!(count.as_u64(), Some(0 | 1)) => {
            return Some(format!(
                "For 'array' type, 'minItems' values other than 0 or 1 are not supported ({count})"
            ));
        }
        _ => {}
    }
    match node.schema.get("format").and_then(Value::as_str) {
        Some(format) if !FORMATS.contains(&format) => {
            return Some(format!("For 'string' type, format '{format}' is not supported"));
        }
        _ => {}
    }
    if node.is("object") && node.schema.get("additionalProperties") != Some(&Value::Bool(false)) {
        return Some("For 'object' type, 'additionalProperties' must be explicitly set to false".to_owned());
    }
    let place = node.schema.get("$ref").and_then(Value::as_str)?;
    match place.strip_prefix('#').and_then(|place| root.pointer(place)) {
        None => Some(format!("$ref '{place}' points nowhere")),
        Some(_) if leads_back(root, place, place, &mut Vec::new()) => {
            Some(format!("Recursive definitions are not supported: '{place}'"))
        }
        Some(_) => None,
    }
}

/// Whether what stands at `from` refers, over whatever stations, to `to`.
fn leads_back<'a>(root: &'a Value, from: &'a str, to: &str, seen: &mut Vec<&'a str>) -> bool {
    if seen.contains(&from) {
        return false;
    }
    seen.push(from);
    let Some(schema) = from.strip_prefix('#').and_then(|place| root.pointer(place)) else { return false };
    let inner = nodes(schema);
    let places = inner.iter().filter_map(|node| node.schema.get("$ref")?.as_str());
    let places: Vec<&str> = places.collect();
    places.into_iter().any(|place| place == to || leads_back(root, place, to, seen))
}
