//! What llama.cpp cannot make a grammar of; LM Studio mostly has llama.cpp inside.

use serde_json::Value;

use crate::testing::fake_provider::schema::{Node, nodes};

/// From here on repetitions are refused.
const REPETITIONS: u64 = 2000;

/// What a schema breaks; keywords that are not known are skipped without a word.
pub(super) fn breach(root: &Value) -> Option<String> {
    nodes(root).iter().find_map(in_node)
}

fn in_node(node: &Node<'_>) -> Option<String> {
    let said = |text: &str| Some(format!("{text} at '{}'", node.path));
    let count = |name: &str| node.schema.get(name).and_then(Value::as_u64).unwrap_or(0);
    for name in ["minLength", "maxLength", "minItems", "maxItems"] {
        if count(name) >= REPETITIONS {
            return said(&format!("number of repetitions exceeds sane defaults ({name})"));
        }
    }
    match node.schema.get("pattern").and_then(Value::as_str) {
        Some(pattern) if !(pattern.starts_with('^') && pattern.ends_with('$')) => {
            return said("pattern must start with '^' and end with '$'");
        }
        _ => {}
    }
    let properties = node.schema.get("properties").and_then(Value::as_object);
    if properties.is_some_and(serde_json::Map::is_empty) {
        return said("empty properties");
    }
    let has_choices = node.schema.contains_key("anyOf") || node.schema.contains_key("oneOf");
    if properties.is_some() && has_choices {
        return said("properties beside anyOf or oneOf");
    }
    None
}
