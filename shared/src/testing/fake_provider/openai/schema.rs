//! OpenAI's rules for strict schemas.

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
    "$ref",
    "$defs",
    "definitions",
    "title",
    "description",
    "pattern",
    "format",
    "minimum",
    "maximum",
    "multipleOf",
    "minItems",
    "maxItems",
];
const FORMATS: &[&str] =
    &["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"];
const MOST_PROPERTIES: usize = 5000;
const MOST_LEVELS: usize = 10;
const MOST_CHOICES: usize = 1000;
const MOST_LETTERS: usize = 120_000;

/// What a strict schema breaks, in OpenAI's words.
pub(super) fn breach(root: &Value) -> Option<String> {
    if root.get("anyOf").is_some() || root["type"] != "object" {
        let kind = &root["type"];
        return Some(format!("schema must be a JSON Schema of 'type: \"object\"', got 'type: {kind}'."));
    }
    let nodes = nodes(root);
    nodes.iter().find_map(in_node).or_else(|| in_all(&nodes))
}

fn in_node(node: &Node<'_>) -> Option<String> {
    let said = |text: &str| Some(format!("In context=({}), {text}.", node.path.replace('.', ", ")));
    if let Some(keyword) = node.other_than(KEYWORDS) {
        return said(&format!("'{keyword}' is not permitted"));
    }
    if node.schema.contains_key("$ref") && node.schema.len() > 1 {
        return said("$ref cannot have keywords beside it");
    }
    match node.schema.get("format").and_then(Value::as_str) {
        Some(format) if !FORMATS.contains(&format) => {
            return said(&format!("'{format}' is not a valid format"));
        }
        _ => {}
    }
    if node.is("array") && !node.schema.contains_key("items") {
        return said("array schema missing items");
    }
    if !node.is("object") {
        return None;
    }
    if node.schema.get("additionalProperties") != Some(&Value::Bool(false)) {
        return said("'additionalProperties' is required to be supplied and to be false");
    }
    let properties = node.schema.get("properties").and_then(Value::as_object);
    let required = node.schema.get("required").and_then(Value::as_array);
    let is_required = |name: &String| required.is_some_and(|names| names.iter().any(|one| one == name));
    let missing = properties.into_iter().flat_map(|all| all.keys()).find(|name| !is_required(name));
    missing.and_then(|name| {
        said(&format!(
            "'required' is required to be supplied and to be an array including every key in properties. Missing \
             '{name}'"
        ))
    })
}

fn in_all(nodes: &[Node<'_>]) -> Option<String> {
    let names = || nodes.iter().filter_map(|node| node.schema.get("properties")?.as_object());
    let choices = || nodes.iter().filter_map(|node| node.schema.get("enum")?.as_array()).flatten();
    let letters = names().flat_map(|all| all.keys()).map(String::len).sum::<usize>()
        + choices().filter_map(Value::as_str).map(str::len).sum::<usize>();
    let counts = [
        ("properties", names().map(serde_json::Map::len).sum::<usize>(), MOST_PROPERTIES),
        ("levels of nesting", nodes.iter().map(|node| node.depth).max().unwrap_or(0), MOST_LEVELS),
        ("enum values", choices().count(), MOST_CHOICES),
        ("characters of names and enum values", letters, MOST_LETTERS),
    ];
    let (what, count, most) = counts.into_iter().find(|(_, count, most)| count > most)?;
    Some(format!("the schema has {count} {what}, which exceeds the limit of {most}."))
}
